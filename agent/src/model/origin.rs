//! Where a connection came from, as the kernel saw it.

use std::{path::PathBuf, sync::Arc};

use super::CgroupId;

/// What the connect hook stored with the workload's socket. Never from anything that the workload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The tagged cgroup whose hook ran (the workload's root, not the descendant that called).
    pub tagged: CgroupId,
    /// The calling task's own cgroup.
    pub cgroup: CgroupId,
    /// Process id (thread group id) in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// The process's start, nanoseconds since boot; with `pid` it names a process for ever.
    pub start_ns: u64,
    /// The kernel's cookie of the network namespace.
    pub netns: u64,
    /// The kernel's cookie of the workload's socket.
    pub socket: u64,
}

/// How a connection's bytes come from the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A TCP connection.
    #[default]
    Tcp,
    /// Datagrams of one UDP socket: each is preceded by its length, two bytes in network order, as DNS over TCP has it
    /// (RFC 1035 4.2.2), in both directions.
    Udp,
    /// A UNIX stream socket.
    Unix,
}

/// The process behind a connection, read from /proc while (pid, start) still matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Start, nanoseconds since boot.
    pub start_ns: u64,
    /// The executable's path; `None` when the process was gone before it could be read.
    pub exe: Option<Arc<PathBuf>>,
    /// The cgroup's path below the cgroup2 mount; `None` when it was gone.
    pub cgroup: Option<Arc<str>>,
    /// SHA-256 of the executable, hex; `None` where that could not be read.
    pub sha256: Option<Arc<str>>,
    /// What it comes from, nearest first, as far as is known; at most eight.
    pub parents: Vec<Ancestor>,
}

/// A process that another one comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Process id.
    pub pid: u32,
    /// Start, nanoseconds since boot.
    pub start_ns: u64,
    /// What it runs, or ran last.
    pub exe: Option<Arc<PathBuf>>,
    /// SHA-256 of that, hex.
    pub sha256: Option<Arc<str>>,
}
