//! What the guard ends a process for: an error under `portcullis run`, the end elsewhere, and on record.

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{ledger::Reader, paths, site::Site, wait::wait_for};
use portcullis::redirect::bpf::MAX_NAMESPACES_EACH;

use super::{shown, with_site};

/// AF_PACKET, AF_VSOCK, AF_XDP, and io_uring_setup(2).
const REFUSED: &str = "import ctypes, errno, socket\n\
    def said(code): return errno.errorcode.get(code, 'made')\n\
    for family, kind in (17, 3), (40, 1), (44, 3):\n\
    \ttry: socket.socket(family, kind); print(family, 'made')\n\
    \texcept OSError as e: print(family, said(e.errno))\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    made = libc.syscall(425, 1, ctypes.create_string_buffer(256))\n\
    print('ring', said(ctypes.get_errno()) if made < 0 else 'made')\n\
    print([l.split()[1] for l in open('/proc/self/status') if l.startswith(('NoNewPrivs', 'Seccomp:'))])\n";

#[test]
fn run_refuses_what_the_guard_would_end_a_process_for() {
    with_site("guard-refused", |site| {
        let said = site.workload().python(REFUSED)?.ok()?;
        ensure!(
            said == "17 EPERM\n40 EPERM\n44 EPERM\nring EPERM\n['1', '2']\n",
            "{said}"
        );
        Ok(())
    });
}

#[test]
fn ordinary_programs_notice_nothing() {
    with_site("guard-ordinary", |site| {
        let workload = site.workload();
        let java = site.world.path("Get.java");
        std::fs::write(
            &java,
            "import java.net.*;\nimport java.net.http.*;\nclass Get { public static void main(String[] a) throws \
             Exception {\nvar request = HttpRequest.newBuilder(URI.create(a[0])).build();\n\
             System.out.println(HttpClient.newHttpClient().send(request, \
             HttpResponse.BodyHandlers.ofString()).body()); } }\n",
        )?;
        let java = java.to_string_lossy().into_owned();
        let (https, http) = ("https://api.internal/customers", "http://api.internal/customers");
        let node = format!("fetch('{https}').then(r => r.text()).then(t => console.log(t))");
        let python = format!(
            "import asyncio, multiprocessing, requests\n\
             if __name__ == '__main__':\n\
             \tasync def child(): return await (await asyncio.create_subprocess_exec('true')).wait()\n\
             \tassert asyncio.run(child()) == 0\n\
             \twith multiprocessing.Pool(2) as pool: assert pool.map(abs, [-1, -2]) == [1, 2]\n\
             \tprint(requests.get('{https}').text)\n"
        );
        for words in [
            ["curl", "-sS", https].as_slice(),
            &[paths::python(), "-c", &python],
            &["node", "-e", &node],
            // It trusts certificates of its own alone.
            &["java", &java, http],
        ] {
            let said = workload.run(words)?.ok()?;
            ensure!(said.contains("Ada Lovelace"), "{words:?}: {said}");
            ensure!(shown(&said).is_empty(), "{words:?}: {said}");
        }
        let git = site.world.path("repository");
        let git = git.display();
        let commit = "-c user.name=me -c user.email=me@example.com commit -qm first --allow-empty";
        let script = format!(
            "set -e; git init -q {git}; git -C {git} {commit}; git clone -q file://{git} {git}-clone; git -C {git}-clone \
             log --format=%s; ls /proc/self/fd | sort | head -n 1"
        );
        let said = workload.run(&["sh", "-c", &script])?.ok()?;
        ensure!(said == "first\n0\n", "{said}");
        Ok(())
    });
}

/// What the guard put on record, once there is something.
fn recorded(site: &Site<'_>, outcome: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT json_extract(body, '$.event'), json_extract(body, '$.workload'), json_extract(body, '$.detail.pid'), \
         json_extract(body, '$.detail.by_pid') FROM entry WHERE json_extract(body, '$.detail.outcome') = '{outcome}'"
    );
    let began = Instant::now();
    loop {
        let mut rows = Reader::open(&site.daemon.ledger())?.rows(&sql)?;
        ensure!(rows.len() < 2, "more than happened: {rows:?}");
        if let Some(row) = rows.pop() {
            return Ok(row);
        }
        ensure!(began.elapsed() < Duration::from_secs(20), "no entry of {outcome}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn who_is_ended_is_on_record() {
    with_site("guard-record", |site| {
        let outside = site.cgroup().below("outside")?;
        let script = format!("echo $$ > {}/cgroup.procs; echo alive", outside.display());
        let mut leaving = site.workload().tagged("sh");
        let child = leaving.args(["-c", &script]).stdout(Stdio::piped()).spawn()?;
        let pid = child.id().to_string();
        let output = child.wait_with_output()?;
        ensure!(
            output.status.signal() == Some(9) && output.stdout.is_empty(),
            "{output:?}"
        );
        ensure!(recorded(site, "escape_killed")? == ["escaped", "deploy-bot", &pid, &pid]);

        // Without the filter of `run`, as in a service: ended, or refused where the host has security hooks.
        let mut packets = site.workload().tagged(paths::python());
        let mut child = packets
            .args(["-c", "import socket; socket.socket(17, 3); print('made')"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = child.id().to_string();
        let status = child.wait()?;
        let output = child.wait_with_output()?;
        ensure!(!status.success() && output.stdout.is_empty(), "{output:?}");
        if status.signal() == Some(9) {
            ensure!(recorded(site, "family_denied")?[..3] == ["killed", "deploy-bot", &pid]);
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(said.contains("Operation not permitted"), "{said}");
        }
        Ok(())
    });
}

/// Children, each in a network namespace of its own with a socket there, until this one ends.
const CROWD: &str = "import ctypes, os, signal, socket, sys\n\
    libc = ctypes.CDLL(None)\n\
    for _ in range(int(sys.argv[1])):\n\
    \tif not os.fork():\n\
    \t\tlibc.prctl(1, 9)\n\
    \t\tif libc.unshare(0x40000000): sys.exit(1)\n\
    \t\ts = socket.socket()\n\
    \t\tsignal.pause()\n\
    print('ready', flush=True)\n\
    signal.pause()\n";

#[test]
fn who_takes_more_network_namespaces_than_a_share_is_on_record_and_a_problem() {
    with_site("guard-namespaces", |site| {
        let more = (MAX_NAMESPACES_EACH + 2).to_string();
        let mut crowd = site.workload().tagged(paths::python());
        let mut crowd = crowd.args(["-c", CROWD, &more]).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        let output = crowd.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut said)?;
        ensure!(said == "ready\n", "{said}");
        let patience = Duration::from_secs(60);
        let problem = || {
            let status = site.daemon.cli(&["status"]).ok()?;
            let told = status
                .out
                .contains("network namespaces, as many as one workload may, and 2 more");
            told.then_some(status.code)
        };
        let code = wait_for("the problem in status", patience, problem)?;
        ensure!(code != 0, "status is well all the same");
        let sql = "SELECT json_extract(body, '$.workload'), json_extract(body, '$.detail.share') FROM entry \
                   WHERE json_extract(body, '$.event') = 'namespaces_refused'";
        let entry = || Reader::open(&site.daemon.ledger()).ok()?.rows(sql).ok()?.pop();
        let entry = wait_for("the entry", patience, entry)?;
        ensure!(
            entry == ["deploy-bot", &MAX_NAMESPACES_EACH.to_string()],
            "{entry:?}"
        );
        crowd.kill()?;
        crowd.wait()?;
        wait_for("the end of it in status", patience, || {
            problem().is_none().then_some(())
        })
    });
}
