//! The daemon under a service manager, which keeps its listeners: stopped, started, upgraded and killed under a workload
//! that connects without a pause.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    child::{Process, Said},
    site::Site,
    wait::{DEADLINE, wait_until},
};

use super::with_site;

/// One connection after another until the file is there, each for one request; a line for each: its outcome.
const WORKLOAD: &str = r#"
import os, socket, sys
while not os.path.exists(sys.argv[1]):
    try:
        s = socket.create_connection(("192.0.2.2", 80), timeout=60)
    except OSError as e:
        print("refused", e, flush=True)
        continue
    try:
        s.sendall(b"GET /customers HTTP/1.1\r\nHost: api.internal\r\nConnection: close\r\n\r\n")
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
        print("ok" if answer.startswith(b"HTTP/1.1 200 ") else "broken " + repr(answer[:80]), flush=True)
    except OSError as e:
        print("broken", e, flush=True)
    s.close()
"#;

struct Outcomes {
    ok: usize,
    refused: usize,
    broken: usize,
}

fn outcomes(workload: &Process) -> Outcomes {
    let log = workload.log();
    let count = |what: &str| log.lines().filter(|line| line.starts_with(what)).count();
    Outcomes {
        ok: count("ok"),
        refused: count("refused"),
        broken: count("broken"),
    }
}

/// As many more are served.
fn served(workload: &Process, more: usize) -> Result<()> {
    let before = outcomes(workload).ok;
    wait_until("connections to be served", DEADLINE, || {
        outcomes(workload).ok >= before + more
    })
    .with_context(|| workload.log())
}

/// Stopped and started, and nobody has noticed.
fn restarts(site: &mut Site<'_>, workload: &Process) -> Result<()> {
    for _ in 0..3 {
        site.daemon.stop()?;
        site.daemon.launch()?;
        served(workload, 20)?;
    }
    let now = outcomes(workload);
    ensure!((now.refused, now.broken) == (0, 0), "{}", workload.log());
    Ok(())
}

/// Ends the workload. What was live when the daemon was killed, three times, went with it; what came then waited.
fn none_was_refused(over: &Path, mut workload: Process) -> Result<()> {
    fs::write(over, "")?;
    workload.wait(DEADLINE)?;
    let now = outcomes(&workload);
    ensure!(now.refused == 0 && now.broken <= 3, "{}", workload.log());
    println!("{} served, {} cut by kill -9", now.ok, now.broken);
    Ok(())
}

fn managed(site: &mut Site<'_>) -> Result<()> {
    site.daemon.stop()?;
    // Below the agent's cgroup, as a service is in its slice.
    let slice = site.cgroup().below("agent")?;
    site.daemon
        .manage(&slice.join("portcullis.service"), Duration::from_secs(3))?;
    site.daemon.launch()
}

#[test]
fn not_one_connection_is_refused_over_stop_start_and_kill() {
    with_site("handover", |site| {
        managed(site)?;
        let kept = site.daemon.manager()?.kept().len();
        assert_eq!(
            kept, 4,
            "a listener and a resolver's socket each on 127.0.0.1 and ::1"
        );

        let over = site.world.path("over");
        let mut python = site.workload().tagged("python3");
        python.args(["-c", WORKLOAD]).arg(&over);
        let workload = Process::start("workload", site.world.dir(), &mut python)?;
        served(&workload, 20)?;
        restarts(site, &workload)?;
        for _ in 0..3 {
            site.daemon.kill9();
            site.daemon.launch()?;
            served(&workload, 20)?;
        }
        none_was_refused(&over, workload)?;

        // Nobody was taken for somebody else, or for nobody: each is a session of this workload.
        let listed = site.daemon.cli(&["sessions", "list", "--json"])?.ok()?;
        ensure!(listed.contains("deploy-bot"), "{listed}");
        let kept = site.daemon.manager()?.kept().len();
        assert_eq!(kept, 4, "the same ones, and no more with each start");
        Ok(())
    });
}

/// A network namespace of the workload's own that nothing names but the process in it, as a container's is, with a device
/// to the upstream.
struct Container(Process);

impl Container {
    fn start(site: &Site<'_>) -> Result<Self> {
        let mut command = site.workload().tagged("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec sleep infinity"]);
        let process = Process::start("container", site.world.dir(), &mut command)?;
        let container = Self(process);
        let comm = format!("/proc/{}/comm", container.0.pid());
        wait_until("the container to be up", DEADLINE, || {
            fs::read_to_string(&comm).is_ok_and(|comm| comm.trim() == "sleep")
        })?;
        let peer = format!("link add c0 type veth peer name eth0 netns {}", container.0.pid());
        for (inside, line) in [
            (false, peer.as_str()),
            (false, "link set c0 up"),
            (false, "route add 192.0.2.9 dev c0"),
            (true, "addr add 192.0.2.9/24 dev eth0"),
            (true, "link set eth0 up"),
        ] {
            let mut ip = if inside {
                let mut enter = site.world.host("nsenter");
                enter.arg(container.netns()).arg("ip");
                enter
            } else {
                site.world.upstream("ip")
            };
            Said::by(ip.args(line.split(' ')))?.ok()?;
        }
        Ok(container)
    }

    fn netns(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.0.pid())
    }

    fn python(&self, site: &Site<'_>, name: &str, script: &str, argument: &Path) -> Result<Process> {
        let mut command = site.workload().tagged("nsenter");
        command
            .arg(self.netns())
            .args(["python3", "-c", script])
            .arg(argument);
        Process::start(name, site.world.dir(), &mut command)
    }
}

/// One question, and a word when it is out and when it is answered.
const QUESTION: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(60)
s.sendto(b"\0\7\1\0\0\1\0\0\0\0\0\0\4name\7example\0\0\1\0\1", ("192.0.2.53", 53))
print("sent", flush=True)
answer, source = s.recvfrom(4096)
print("answered", answer[:2] == b"\0\7", source, flush=True)
"#;

fn kept(site: &mut Site<'_>, count: usize) -> Result<()> {
    wait_until("as many descriptors to be kept", DEADLINE, || {
        site.daemon
            .manager()
            .is_ok_and(|manager| manager.kept().len() == count)
    })
}

#[test]
fn not_one_connection_of_a_container_is_refused_either() {
    with_site("containers", |site| {
        managed(site)?;
        let mut container = Container::start(site)?;
        kept(site, 8).context("the host's, and as many in the container")?;
        let over = site.world.path("over");
        let workload = container.python(site, "workload", WORKLOAD, &over)?;
        served(&workload, 20)?;
        restarts(site, &workload)?;
        for round in 0..3 {
            site.daemon.kill9();
            let name = format!("question-{round}");
            let question = container.python(site, &name, QUESTION, &over)?;
            wait_until("the question to be asked", DEADLINE, || {
                question.log().contains("sent")
            })?;
            ensure!(!question.log().contains("answered"), "by whom?");
            site.daemon.launch()?;
            served(&workload, 20)?;
            wait_until("the question to be answered", DEADLINE, || {
                question.log().contains("answered True ('192.0.2.53', 53)")
            })
            .with_context(|| question.log())?;
            kept(site, 8)?;
        }
        none_was_refused(&over, workload)?;
        // With the container goes what was kept of it, also by a daemon that did not make it.
        container.0.kill9();
        kept(site, 4)
    });
}

/// What there is no room for is served all the same, and the log says what that means.
#[test]
fn a_store_that_is_full_keeps_the_hosts_listeners_alone() {
    with_site("full", |site| {
        managed(site)?;
        site.daemon.stop()?;
        site.daemon.limit_store(7)?;
        site.daemon.launch()?;
        let container = Container::start(site)?;
        let over = site.world.path("over");
        let mut workload = container.python(site, "workload", WORKLOAD, &over)?;
        served(&workload, 5)?;
        let said = |site: &Site<'_>| {
            site.daemon
                .log()
                .matches("no room to keep the listeners of a network namespace")
                .count()
        };
        assert_eq!(said(site), 1);
        kept(site, 4)?;
        site.daemon.stop()?;
        site.daemon.limit_store(8)?;
        site.daemon.launch()?;
        served(&workload, 5)?;
        assert_eq!(said(site), 1);
        kept(site, 8)?;
        fs::write(&over, "")?;
        workload.wait(DEADLINE)?;
        Ok(())
    });
}

/// The manager's socket is used as it is, so that commands of a moment without a daemon wait for the next one.
#[test]
fn commands_wait_for_the_next_daemon() {
    with_site("activated", |site| {
        managed(site)?;
        site.daemon.cli(&["status"])?;
        site.daemon.stop()?;
        let mut command = site.daemon.command(&["workload", "list"])?;
        let mut waiting = Process::start("list", site.world.dir(), &mut command)?;
        ensure!(waiting.ended().is_none(), "{}", waiting.log());
        site.daemon.launch()?;
        let status = waiting.wait(DEADLINE)?;
        ensure!(
            status.success() && waiting.log().contains("deploy-bot"),
            "{}",
            waiting.log()
        );
        Ok(())
    });
}

/// While one part does not answer (here the control socket, which cannot be reached), the manager hears nothing; once it
/// does again, it does.
#[test]
fn a_daemon_that_hangs_does_not_say_that_it_lives() {
    with_site("watchdog", |site| {
        managed(site)?;
        let beats = |site: &mut Site<'_>| -> Result<usize> { Ok(site.daemon.manager()?.heard("WATCHDOG=1")) };
        let silences = |site: &Site<'_>| site.daemon.log().matches("no answer").count();
        let more_than = |site: &mut Site<'_>, before: usize| {
            wait_until("the manager to be told", DEADLINE, || {
                beats(site).is_ok_and(|n| n > before)
            })
        };
        more_than(site, 1)?;
        let (socket, aside) = (site.daemon.control(), site.world.path("aside.sock"));
        fs::rename(&socket, &aside)?;
        wait_until("the silence to be said", DEADLINE, || silences(site) > 0)?;
        let before = beats(site)?;
        wait_until("the next look", DEADLINE, || silences(site) > 2)?;
        assert_eq!(beats(site)?, before);
        fs::rename(&aside, &socket)?;
        more_than(site, before)
    });
}

/// `tag --here`: what a unit's drop-in calls first, in the unit's own cgroup.
#[test]
fn a_unit_tags_itself_or_fails() {
    with_site("here", |site| {
        let unit = site.cgroup().below("w2/x.service")?;
        let here = |site: &Site<'_>| -> Result<Said> {
            let mut command = site.world.host_in(&unit, e2e::paths::portcullis()?);
            command.arg("--config").arg(site.daemon.config());
            Said::by(command.args([
                "tag",
                "--here",
                "--trust",
                "x.service",
                "--workload",
                "deploy-bot",
            ]))
        };
        here(site)?.ok()?;
        // Started again in a cgroup that is tagged still, it is a member of the workload itself by then.
        here(site)?.ok()?;
        let mut curl = site.world.host_in(&unit, "curl");
        let said = Said::by(
            curl.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "DELETE"])
                .arg("http://api.internal/customers/1"),
        )?;
        assert_eq!(said.ok()?, "403");
        // Another workload's it cannot become.
        let mut other = site.world.host_in(&unit, e2e::paths::portcullis()?);
        other.arg("--config").arg(site.daemon.config());
        let said = Said::by(other.args(["tag", "--here", "--workload", "other"]))?;
        assert_eq!(said.code, 255, "{said:?}");
        let bundle = site.world.path("run/units/x.service/ca-bundle.pem");
        let ca = fs::read_to_string(site.daemon.data_dir().join("ca.pem"))?;
        ensure!(
            fs::read_to_string(&bundle)?.contains(ca.trim()),
            "{}",
            bundle.display()
        );

        site.daemon.stop()?;
        let fresh = site.cgroup().below("w2/y.service")?;
        let mut command = site.world.host_in(&fresh, e2e::paths::portcullis()?);
        command.arg("--config").arg(site.daemon.config());
        let said = Said::by(command.args(["tag", "--here", "--workload", "deploy-bot"]))?;
        assert_eq!(said.code, 255, "without a daemon the unit fails: {said:?}");
        site.daemon.launch()
    });
}
