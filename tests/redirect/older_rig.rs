//! What the tests of things older than a tag share: a tagged cgroup, connections, and processes that have something.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
};

use portcullis::{
    config::Brought,
    model::CgroupId,
    redirect::{
        BpfRedirector, Control,
        older::{Looked, Settled, Who},
    },
};

use crate::guard::{Cgroup, DEADLINE, Pins, Workload};

/// An agent, and a cgroup to tag.
pub struct Rig {
    pub agent: BpfRedirector,
    pub control: Control,
    pub cgroup: Cgroup,
    pub pins: Pins,
}

impl Rig {
    /// The cgroup is not tagged yet.
    pub fn new() -> Self {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (agent, control) = pins.start();
        Self {
            agent,
            control,
            cgroup,
            pins,
        }
    }

    /// The cgroup is tagged, and nobody was in it.
    pub fn tagged() -> (Self, CgroupId) {
        let rig = Self::new();
        let (id, looked) = rig.tag();
        assert_eq!(looked, Looked::default());
        (rig, id)
    }

    /// Tags the cgroup, and deals with what is older.
    pub fn tag(&self) -> (CgroupId, Looked) {
        let id = self.control.tag(&self.cgroup.0).unwrap();
        let looked = self.control.settle_older(id, Brought::End).unwrap();
        (id, looked)
    }

    /// Looks at who came in.
    pub fn arrived(&self, id: CgroupId, brought: Brought) -> Looked {
        self.control
            .settle_arrivals(id, brought, &Who::default())
            .unwrap()
    }

    /// Looks at these, who came in just now.
    pub fn came(&self, id: CgroupId, pids: &[u32]) -> Looked {
        let who = Who {
            came: pids.iter().copied().collect(),
            late: BTreeSet::new(),
        };
        self.control.settle_arrivals(id, Brought::End, &who).unwrap()
    }

    /// Looks at these, who have been waited for.
    pub fn late(&self, id: CgroupId, pids: &[u32]) -> Looked {
        let pids: BTreeSet<u32> = pids.iter().copied().collect();
        let who = Who {
            came: pids.clone(),
            late: pids,
        };
        self.control.settle_arrivals(id, Brought::End, &who).unwrap()
    }

    /// What a workload is told, that it may come in.
    pub fn join(&self) -> String {
        format!("join {}", self.cgroup.0.display())
    }

    /// Moves a process in.
    pub fn move_in(&self, pid: u32) {
        std::fs::write(self.cgroup.0.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

/// A server, and the workload's connection to it that works.
pub struct Connected(TcpStream, pub String);

impl Connected {
    pub fn new(workload: &mut Workload, at: &str) -> Self {
        let server = TcpListener::bind(at).unwrap();
        let address = server.local_addr().unwrap().to_string();
        let answer = workload.ask(&format!("tcp {address}"));
        assert!(answer.starts_with("ok"), "{answer}");
        let (mut peer, _) = server.accept().unwrap();
        assert_eq!(workload.ask("say before"), "ok");
        peer.set_read_timeout(Some(DEADLINE)).unwrap();
        peer.read_exact(&mut [0; 6]).unwrap();
        Self(peer, address)
    }

    /// No byte comes any more, and the peer was told.
    pub fn ends_dead(mut self) {
        let end = self.0.read(&mut [0; 64]).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }

    pub fn lives(&mut self, workload: &mut Workload) {
        assert_eq!(workload.ask("say after"), "ok");
        self.0.read_exact(&mut [0; 5]).unwrap();
    }
}

pub fn only(processes: &[Settled]) -> &Settled {
    let [one] = processes else { panic!("{processes:?}") };
    one
}

/// A python process, which says a line when it is ready.
pub struct Python(Child, BufReader<std::process::ChildStdout>);

impl Python {
    /// Runs a script with these arguments.
    pub fn new<A: AsRef<OsStr>>(script: &str, arguments: &[A]) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", script])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self(child, stdout)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Says a line; nothing to who has ended.
    pub fn say(&mut self, line: &str) {
        let _ended = writeln!(self.0.stdin.as_mut().unwrap(), "{line}");
    }

    pub fn go_on(&mut self) {
        self.say("");
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // Whatever it has started ends with its input.
        drop(self.0.stdin.take());
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}
