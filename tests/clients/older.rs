//! Sockets older than a tag, with the real daemon: dead at once, on record, and told to whoever tags.

use std::{
    io::{BufRead as _, BufReader, Lines, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    child::Said,
    ledger::Reader,
    site::{Site, WORKLOAD},
    wait::wait_until,
    world::UPSTREAM,
};

use super::with_site;

/// Says what each connection said, and how it ended.
const SERVER: &str = "
import socket, sys, threading
def serve(c):
    try:
        while (said := c.recv(64)):
            print(said.decode(), flush=True)
        print('closed', flush=True)
    except OSError as e:
        print(type(e).__name__, flush=True)
s = socket.create_server((sys.argv[1], 7777))
print('listening', flush=True)
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
";

/// Connects, and says more when it is told to.
const CLIENT: &str = "
import errno, socket, sys
c = socket.create_connection((sys.argv[1], 7777), 10)
c.sendall(b'before')
print('ready', flush=True)
for line in sys.stdin:
    try: c.sendall(line.strip().encode()); print('sent', flush=True)
    except OSError as e: print(errno.errorcode[e.errno], flush=True)
";

const DEADLINE: Duration = Duration::from_secs(60);

/// A process that is talked to by lines.
struct Talking(Child, Lines<BufReader<ChildStdout>>);

impl Talking {
    fn new(mut command: Command, script: &str) -> Result<Self> {
        command.args(["-c", script, UPSTREAM]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        Ok(Self(child, lines))
    }

    fn line(&mut self) -> Result<String> {
        Ok(self.1.next().context("it has ended")??)
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.0.stdin.as_mut().context("its input")?, "{line}")?;
        self.line()
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// Pid, outcome, and whom its first socket was connected to, of each entry.
fn recorded(site: &Site<'_>) -> Result<Vec<Vec<String>>> {
    Reader::open(&site.daemon.ledger())?.rows(
        "SELECT json_extract(body, '$.detail.pid'), json_extract(body, '$.detail.outcome'), \
         json_extract(body, '$.detail.sockets[0].remote'), json_extract(body, '$.workload'), \
         json_extract(body, '$.detail.parents[0].pid') > 0, json_extract(body, '$.detail.exe') \
         FROM entry WHERE json_extract(body, '$.event') = 'older_sockets' ORDER BY seq",
    )
}

fn status(site: &Site<'_>) -> Result<serde_json::Value> {
    let said = Said::by(&mut site.daemon.command(&["status", "--json"])?)?;
    Ok(serde_json::from_str(&said.out)?)
}

#[test]
fn they_are_dead_on_record_and_told_of() {
    with_site("older", |site| {
        let mut server = Talking::new(site.world.upstream("python3"), SERVER)?;
        ensure!(server.line()? == "listening");
        // Made in the cgroup.
        let cgroup = site.cgroup().below("older")?;
        let mut inside = Talking::new(site.world.host_in(&cgroup, "python3"), CLIENT)?;
        ensure!(inside.line()? == "ready" && server.line()? == "before");
        ensure!(inside.ask("hello")? == "sent" && server.line()? == "hello");
        let path = format!("{}/older", site.cgroup().name());
        let tag = ["tag", path.as_str(), "--workload", WORKLOAD];
        let said = site.daemon.cli(&tag)?;
        let pid = inside.0.id();
        let told = format!("process {pid} (python3): tcp made inside to {UPSTREAM}:7777");
        ensure!(said.code == 0 && said.out.contains(&told), "{said:?}");
        ensure!(inside.ask("after")? == "ECONNABORTED");
        ensure!(inside.ask("after")? == "EPIPE");

        // Brought along.
        let mut brought = Talking::new(site.world.host("python3"), CLIENT)?;
        ensure!(
            brought.line()? == "ready" && server.line()? == "before",
            "something came after the tag"
        );
        std::fs::write(cgroup.join("cgroup.procs"), brought.0.id().to_string())?;
        ensure!(server.line()? == "ConnectionResetError");
        ensure!(brought.0.wait()?.signal() == Some(9));
        // Without sockets, one may come in.
        let mut plain = Talking::new(
            site.world.host_in(&cgroup, "python3"),
            "print(input(), flush=True)",
        )?;
        wait_until("both are on record", DEADLINE, || {
            recorded(site).is_ok_and(|all| all.len() == 2)
        })?;
        ensure!(plain.ask("alive")? == "alive");
        let to = format!("{UPSTREAM}:7777");
        for (row, (pid, outcome)) in recorded(site)?.into_iter().zip([
            (inside.0.id(), "sockets_destroyed"),
            (brought.0.id(), "process_ended"),
        ]) {
            ensure!(
                row[..5]
                    == [
                        pid.to_string(),
                        outcome.into(),
                        to.clone(),
                        WORKLOAD.into(),
                        "1".into()
                    ],
                "{row:?}"
            );
            ensure!(row[5].contains("python3"), "{row:?}");
        }

        let found = status(site)?;
        let tags = found["tags"].as_array().context("tags")?;
        let older = &tags
            .iter()
            .find(|tag| tag["cgroup"] == path.as_str())
            .context("tagged")?["older"];
        let counts = ["destroyed", "left", "ended"].map(|name| older[name].as_u64());
        ensure!(counts == [Some(2), Some(0), Some(1)], "{older}");
        let problems = found["problems"].to_string();
        ensure!(!problems.contains("older"), "{problems}");
        // Tagged again, and the daemon started again: nothing that was made since is older.
        let said = site.daemon.cli(&tag)?;
        ensure!(said.code == 0, "{said:?}");
        let curl = site
            .workload()
            .tagged("curl")
            .args(["-sS", "http://api.internal/customers"])
            .output()?;
        ensure!(
            String::from_utf8_lossy(&curl.stdout).contains("Ada Lovelace"),
            "{curl:?}"
        );
        site.daemon.stop()?;
        site.daemon.launch()?;
        ensure!(recorded(site)?.len() == 2);
        // What was recorded holds.
        let verified = site
            .daemon
            .cli(&["verify", &site.daemon.ledger().display().to_string()])?;
        ensure!(verified.code == 0, "{verified:?}");
        Ok(())
    });
}

/// Event, workload, pid, by whom, and to which cgroup.
fn left(site: &Site<'_>) -> Result<Vec<Vec<String>>> {
    Reader::open(&site.daemon.ledger())?.rows(
        "SELECT json_extract(body, '$.event'), json_extract(body, '$.workload'), json_extract(body, '$.detail.pid'), \
         json_extract(body, '$.detail.by_pid'), json_extract(body, '$.detail.to_cgroup_id') \
         FROM entry WHERE json_extract(body, '$.detail.outcome') = 'escape_moved'",
    )
}

#[test]
fn what_is_let_go_on_and_who_leaves_is_on_record() {
    with_site("older-left", |site| {
        let config = std::fs::read_to_string(site.daemon.config())?;
        let guarded = config.replacen("exec = ", "guard = { brought = \"allow\" }\nexec = ", 1);
        ensure!(guarded != config);
        std::fs::write(site.daemon.config(), guarded)?;
        site.daemon.stop()?;
        site.daemon.launch()?;
        let mut server = Talking::new(site.world.upstream("python3"), SERVER)?;
        ensure!(server.line()? == "listening");
        let (cgroup, outside) = (site.cgroup().below("let")?, site.cgroup().below("outside")?);
        let path = format!("{}/let", site.cgroup().name());
        let said = site.daemon.cli(&["tag", path.as_str(), "--workload", WORKLOAD])?;
        ensure!(said.code == 0, "{said:?}");
        let mut brought = Talking::new(site.world.host("python3"), CLIENT)?;
        ensure!(brought.line()? == "ready" && server.line()? == "before");
        let pid = brought.0.id().to_string();
        std::fs::write(cgroup.join("cgroup.procs"), &pid)?;
        wait_until("it is on record", DEADLINE, || {
            recorded(site).is_ok_and(|all| !all.is_empty())
        })?;
        let all = recorded(site)?;
        // No list was asked to end it: whom it is connected to is not told.
        ensure!(all[0][..2] == [pid.clone(), "sockets_left".into()], "{all:?}");
        ensure!(brought.ask("more")? == "sent" && server.line()? == "more");
        let found = status(site)?;
        let tags = found["tags"].as_array().context("tags")?;
        let tag = tags.iter().find(|tag| tag["cgroup"] == path.as_str());
        let older = &tag.context("tagged")?["older"];
        let counts = ["destroyed", "left", "ended"].map(|name| older[name].as_u64());
        ensure!(counts == [Some(0), Some(1), Some(0)], "{older}");
        let text = site.daemon.cli(&["status"])?.out;
        let told = format!("process {pid} (python3): tcp made outside, left: ");
        ensure!(text.contains(&told), "{text}");

        // Somebody moves it out.
        std::fs::write(outside.join("cgroup.procs"), &pid)?;
        wait_until("that it left is on record", DEADLINE, || {
            left(site).is_ok_and(|all| !all.is_empty())
        })?;
        let to = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&outside)?).to_string();
        let by = std::process::id().to_string();
        let all = left(site)?;
        ensure!(all == [["escaped", WORKLOAD, &pid, &by, &to]], "{all:?}");
        ensure!(brought.ask("outside")? == "sent" && server.line()? == "outside");
        Ok(())
    });
}
