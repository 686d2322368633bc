//! Programs whose content and metadata the workload makes up itself: like no file that was seen before, and waited for by
//! nobody.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use portcullis::redirect::{EXEC_AUDIT, EXEC_ENFORCE, Executed, Found, Kind, Processes};

use crate::{
    escapes::built,
    execs::{Scratch, asking, executed, tag},
    guard::{Cgroup, DEADLINE, Pins, Workload, healthy, isolated},
};

/// The program of such a workload.
fn program() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    &BUILT.get_or_init(|| built("made_up")).1
}

/// A workload that makes up what it executes.
struct MadeUp {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl MadeUp {
    fn new(cgroup: &Path, directory: &Path, words: &[&str]) -> Self {
        let mut child = Command::new(program())
            .args([cgroup, directory])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn go_on(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }

    fn said(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for MadeUp {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

async fn look(processes: &Processes, executed: &Executed) -> Found {
    tokio::time::timeout(DEADLINE, processes.identify(executed, || {}))
        .await
        .expect("the agent waits")
}

#[test]
fn what_is_made_up_has_no_hash_and_is_not_opened() {
    isolated(|| async {
        let (pins, cgroup, scratch) = (Pins::new(), Cgroup::new(), Scratch::new());
        let (_agent, control) = pins.start();
        tag(&control, &cgroup.0, EXEC_AUDIT | EXEC_ENFORCE);
        let processes = control.processes();
        // By the workload's server, and through an overlay over what that serves.
        for (way, at) in [("serve", "program"), ("overlay", "whole/program")] {
            let directory = scratch.0.join(way);
            std::fs::create_dir(&directory).unwrap();
            let mut workload = MadeUp::new(&cgroup.0, &directory, &[way, "/bin/true"]);
            let executed = executed(&processes).await;
            assert!(executed.held && executed.file.made_up, "{way}: {executed:?}");
            let found = look(&processes, &executed).await;
            let program = &found.program;
            assert_eq!(program.path.as_deref(), Some(&directory.join(at)), "{way}");
            assert!(program.sha256.is_none() && !program.host, "{way}: {found:?}");
            assert_eq!((found.kind, found.unread), (Kind::Program, false), "{way}");
            assert!(processes.release(&executed));
            assert_eq!(workload.said(), "exit 0", "{way}");
        }
        healthy(&control);
    });
}

#[test]
fn a_file_that_claims_to_be_another_one_does_not_run_by_its_verdict() {
    isolated(|| async {
        let (pins, cgroup, scratch) = (Pins::new(), Cgroup::new(), Scratch::new());
        let (_agent, control) = pins.start();
        tag(&control, &cgroup.0, EXEC_AUDIT | EXEC_ENFORCE);
        let processes = control.processes();
        let directory = scratch.0.join("claimed");
        std::fs::create_dir(&directory).unwrap();
        let mut workload = MadeUp::new(&cgroup.0, &directory, &["claim", "/bin/true"]);
        assert_eq!(workload.said(), "ready");
        let file = directory.join("program");
        let file = file.strip_prefix("/").unwrap();
        Scratch::settle(&Path::new(&format!("/proc/{}/root", workload.child.id())).join(file));

        workload.go_on();
        let first = executed(&processes).await;
        assert!(
            first.held && !first.file.made_up,
            "what is in memory is nobody's: {first:?}"
        );
        let found = look(&processes, &first).await;
        assert!(found.program.sha256.is_some(), "{found:?}");
        let now = processes.generation();
        processes.remember(&first, &found.program, true, (now, DEADLINE * 10));
        assert!(processes.release(&first));
        assert_eq!(workload.said(), "exit 0");
        workload.go_on();
        let again = executed(&processes).await;
        assert!(again.remembered && !again.held, "{again:?}");
        assert_eq!(workload.said(), "exit 0");

        workload.go_on();
        let claims = executed(&processes).await;
        let of = |of: &Executed| (of.file.dev, of.file.ino, of.file.size, of.file.changed);
        assert_eq!(of(&claims), of(&first), "it claims to be the same");
        assert!(claims.held && !claims.remembered, "{claims:?}");
        // Neither does the agent take it for that, nor is it remembered itself.
        assert_eq!(look(&processes, &claims).await.program.sha256, None);
        assert!(processes.release(&claims));
        assert_eq!(workload.said(), "exit 0");
        healthy(&control);
    });
}

#[test]
fn who_serves_what_it_executes_and_answers_nobody_else_holds_up_nothing() {
    isolated(|| async {
        const ALL: usize = 100;
        let (pins, cgroup, other, scratch) = (Pins::new(), Cgroup::new(), Cgroup::new(), Scratch::new());
        let (agent, control) = pins.start();
        for cgroup in [&cgroup, &other] {
            tag(&control, &cgroup.0, EXEC_AUDIT | EXEC_ENFORCE);
        }
        let processes = control.processes();
        let directory = scratch.0.join("hangs");
        std::fs::create_dir(&directory).unwrap();
        let script = scratch.0.join("script");
        std::fs::write(&script, "#!/bin/sh\nexit 5\n").unwrap();
        let words = ["hang", script.to_str().unwrap(), &ALL.to_string()];
        let mut workload = MadeUp::new(&cgroup.0, &directory, &words);
        let mut held = Vec::new();
        while held.len() < ALL {
            let executed = executed(&processes).await;
            assert!(
                executed.held && !executed.file.made_up,
                "its interpreter: {executed:?}"
            );
            held.push(executed);
        }
        let looks = held.iter().map(|executed| look(&processes, executed));
        for found in futures_util::future::join_all(looks).await {
            assert_eq!((found.kind, found.unread), (Kind::Script, false), "{found:?}");
            assert!(
                found.program.sha256.is_some() && found.given.sha256.is_none(),
                "{found:?}"
            );
            assert_eq!(found.given.path.as_deref(), Some(&directory.join("program")));
        }
        // Of another workload all is known as ever.
        let asked = asking(Workload::new(&other.0), "run 1 /bin/true".into());
        let runs = executed(&processes).await;
        assert!(look(&processes, &runs).await.program.sha256.is_some());
        assert!(processes.release(&runs));
        assert_eq!(asked.await.unwrap().1, "ok 1xexit_status:_0");

        assert!(processes.kill(&held[0]));
        for executed in &held[1..] {
            assert!(processes.release(executed));
        }
        let mut said: Vec<String> = (0..ALL).map(|_| workload.said()).collect();
        said.sort();
        assert_eq!(said.pop().as_deref(), Some("signal 9"));
        assert!(said.iter().all(|said| said == "exit 5"), "{said:?}");
        healthy(&control);
        drop((agent, control, processes));
        // The next one finds its port.
        let (_agent, control) = pins.start();
        healthy(&control);
    });
}
