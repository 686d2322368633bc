//! What a process may have beside sockets by which it gets around the hooks, or at processes outside: what the guard denies
//! to make, and what only who is privileged over the host can make.
//!
//! * A ring of io_uring keeps sockets that were registered with it, though no descriptor is left of them; and the kernel's
//!   own thread (SQPOLL) does what is asked of it without a system call, as whoever made the ring. That thread lives as
//!   long as the ring is mapped, and is in the cgroup of its process.
//! * A perf event, a userfaultfd, a listener of seccomp and `/proc/PID/mem` are of a process that the kernel asked about when
//!   they were made, and not again.
//! * Maps, programs and links of eBPF may be those of the guard. A tap puts packets on a device, of no socket.
//! * A descriptor that was sent and not received yet (SCM_RIGHTS) is nobody's: what it is of shows when it is received.
//!
//! Not here: a pidfd, as whatever is done by it is asked about when it is done.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    os::{
        fd::{AsFd as _, RawFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use nix::sys::stat::fstat;
use portcullis_abi::guard::flag;

use crate::redirect::sys;

/// `O_CLOEXEC`, as proc_pid_fdinfo(5) has it.
const CLOSED_ON_EXEC: u32 = 0o2_000_000;
/// Major and minor numbers of what is made of them (Documentation/admin-guide/devices.txt).
const TUN: (u32, u32) = (10, 200);
const VHOST: [(u32, u32); 2] = [(10, 238), (10, 241)];
/// The major number of all adapters of RDMA.
const INFINIBAND: u32 = 231;
/// `CAP_NET_ADMIN`, `CAP_SYS_ADMIN`, `CAP_BPF`
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const BPF: u64 = 1 << 39;
/// `PROC_USER_INIT_INO` (linux/proc_ns.h)
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;
/// `PF_IO_WORKER`: a thread that io_uring made within a process. Its name can be changed, this cannot.
const IO_WORKER: u64 = 0x10;
/// Tries to be told of a ring that is in use meanwhile.
const TRIES: usize = 1000;
const RING: &str = "anon_inode:[io_uring]";

/// Something that is no socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Thing {
    /// `io_uring`, `perf_event` and the like.
    pub(super) kind: &'static str,
    /// What is wrong with it.
    pub(super) why: &'static str,
    /// Tells it from others of its kind in the process.
    number: u64,
    /// What makes it harmless after all.
    pub(super) unless: Unless,
    /// Whether it may be gone soon, by an exec or for another reason.
    pub(super) passing: bool,
}

/// When a thing is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unless {
    /// Never.
    Never,
    /// When this is the inode of `/proc/PID/mem` of a process of the workload.
    Memory(u64),
    /// When this is a thread of the workload.
    Thread(u32),
}

impl Thing {
    fn new(kind: &'static str, number: u64, why: &'static str) -> Self {
        Self {
            kind,
            why,
            number,
            unless: Unless::Never,
            passing: false,
        }
    }

    /// One that was sent and not received yet.
    pub(super) fn in_flight(socket: u64) -> Self {
        Self {
            passing: true,
            ..Self::new(
                "in flight",
                socket,
                "a descriptor was sent to it that it has not received yet",
            )
        }
    }

    /// A process outside that it traces.
    pub(super) fn traced(thread: u32) -> Self {
        Self::new("ptrace", thread.into(), "it traces a process outside")
    }

    /// Whether it is the same as at another look.
    pub(super) fn id(&self) -> (&'static str, u64) {
        (self.kind, self.number)
    }
}

/// A process whose things are looked for.
pub(super) struct Owner {
    pub(super) pid: u32,
    /// Whom it was forked from, as far as known.
    pub(super) parent: Option<u32>,
    /// What its tag's guard allows ([`flag`]).
    pub(super) flags: u64,
}

impl Owner {
    /// What a descriptor is that is no socket, if it is one of those. `place` is /proc/PID or /proc/PID/task/TID, which have
    /// the descriptor as `link`.
    pub(super) fn thing(&self, place: &Path, fd: RawFd, link: &str) -> Option<Thing> {
        let thing = match link.strip_prefix("anon_inode:") {
            Some(name) => self.anonymous(place, fd, name.trim_matches(['[', ']'])),
            None if link.starts_with("/dev/") => self.device(place, fd, link),
            None if is_memory(link) => self.memory(place, fd),
            None => None,
        }?;
        Some(Thing {
            passing: self.is_passing(place, fd),
            ..thing
        })
    }

    fn allows(&self, door: u64) -> bool {
        self.flags & door != 0
    }

    fn anonymous(&self, place: &Path, fd: RawFd, name: &str) -> Option<Thing> {
        let of = |kind, why| Some(Thing::new(kind, number(fd), why));
        match name {
            "io_uring" if self.allows(flag::IO_URING) => ring(&info(place, fd), || info(place, fd)),
            "io_uring" => of("io_uring", "it keeps sockets, and makes some, unseen"),
            "perf_event" if !self.allows(flag::TRACE) => of("perf_event", "it may be of a process outside"),
            "userfaultfd" if !self.allows(flag::TRACE) => {
                of("userfaultfd", "it may be of the memory of a process outside")
            }
            "seccomp notify" if !self.allows(flag::TRACE) => of(
                "seccomp notify",
                "it may answer the system calls of a process outside",
            ),
            _ if name.starts_with("bpf") && !self.may(SYS_ADMIN | BPF) => of(
                "bpf",
                "it may be of the guard, and its holder could not have made it",
            ),
            _ => None,
        }
    }

    fn memory(&self, place: &Path, fd: RawFd) -> Option<Thing> {
        if self.allows(flag::TRACE) {
            return None;
        }
        let inode = field(&info(place, fd), "ino:").unwrap_or(0);
        Some(Thing {
            unless: Unless::Memory(inode),
            ..Thing::new("mem", number(fd), "it is the memory of a process outside")
        })
    }

    fn device(&self, place: &Path, fd: RawFd, link: &str) -> Option<Thing> {
        let is_tap = || {
            let number = link.strip_prefix("/dev/tap").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        };
        let device = sys::process::device(&place.join(format!("fd/{fd}")))?;
        if self.allows(flag::DEVICES) {
            return None;
        }
        if device.0 == INFINIBAND {
            return Some(Thing::new("rdma", number(fd), "its messages are of no socket"));
        }
        if device != TUN && !VHOST.contains(&device) && !is_tap() || self.may(NET_ADMIN) {
            return None;
        }
        if device == TUN && self.is_of_its_own_making(fd) {
            return None;
        }
        let why = "packets that it puts on a device are of no socket, and its holder could not have made it";
        Some(Thing::new(
            if device == TUN { "tun" } else { "vhost or tap" },
            number(fd),
            why,
        ))
    }

    /// Whether a device is in a network namespace that needs no privilege over the host to be made.
    fn is_of_its_own_making(&self, fd: RawFd) -> bool {
        let owner = || {
            let process = sys::process::open(self.pid)?;
            let namespace = sys::process::namespace_of_tun(sys::process::descriptor(&process, fd)?.as_fd())?;
            let user = sys::process::user_namespace(namespace.as_fd())?;
            std::io::Result::Ok(fstat(&user)?.st_ino)
        };
        owner().is_ok_and(|inode| inode != FIRST_USER_NAMESPACE)
    }

    /// Whether it has one of these capabilities over the host.
    fn may(&self, capabilities: u64) -> bool {
        let place = Path::new("/proc").join(self.pid.to_string());
        let user = fs::metadata(place.join("ns/user")).map_or(0, |found| found.ino());
        let status = fs::read_to_string(place.join("status")).unwrap_or_default();
        let has = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let has = has.and_then(|has| u64::from_str_radix(has.trim(), 16).ok());
        user == FIRST_USER_NAMESPACE && has.unwrap_or(0) & capabilities != 0
    }

    /// Whether it is its parent's as well, and closed by the exec that is to come.
    fn is_passing(&self, place: &Path, fd: RawFd) -> bool {
        let same = |parent| sys::process::same_file((self.pid, fd), (parent, fd));
        self.parent.is_some_and(same) && closed_on_exec(&info(place, fd))
    }

    /// Rings that are mapped and of which no descriptor is left. `known` are those that have one.
    pub(super) fn mapped(&self, known: &BTreeSet<u64>) -> Vec<Thing> {
        let all = mapped(self.pid);
        if all.is_empty() {
            return Vec::new();
        }
        let parent = self.parent.map(mapped).unwrap_or_default();
        let all = all.difference(known).map(|ring| Thing {
            // By an exec everything is unmapped.
            passing: parent.contains(ring),
            ..Thing::new(
                "io_uring",
                *ring,
                "it is mapped: what makes use of it is outside, or not seen",
            )
        });
        all.collect()
    }

    /// A thread that io_uring made, whose ring is nowhere to be seen.
    pub(super) fn worker(&self, thread: u32) -> Option<Thing> {
        let stat = fs::read_to_string(format!("/proc/{}/task/{thread}/stat", self.pid)).ok()?;
        let (_, fields) = stat.rsplit_once(')')?;
        let flags: u64 = fields.split_ascii_whitespace().nth(6)?.parse().ok()?;
        let unseen = flags & IO_WORKER != 0 && !self.allows(flag::IO_URING);
        unseen.then(|| Thing::new("io_uring", thread.into(), "a thread of the kernel's works for it"))
    }
}

/// A descriptor's number.
fn number(fd: RawFd) -> u64 {
    u64::try_from(fd).unwrap_or(0)
}

/// What the kernel tells of a descriptor.
pub(super) fn info(place: &Path, fd: RawFd) -> String {
    fs::read_to_string(place.join(format!("fdinfo/{fd}"))).unwrap_or_default()
}

fn field(info: &str, name: &str) -> Option<u64> {
    let value = info.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().parse().ok()
}

/// Whether an exec closes it.
pub(super) fn closed_on_exec(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & CLOSED_ON_EXEC != 0)
}

/// Whether descriptors wait in a UNIX socket, or in one that waits to be accepted.
pub(super) fn has_in_flight(info: &str) -> bool {
    field(info, "scm_fds:").is_some_and(|count| count > 0)
}

/// The inode of a ring, if it is one.
pub(super) fn ring_inode(place: &Path, fd: RawFd, link: &str) -> Option<u64> {
    (link == RING).then(|| field(&info(place, fd), "ino:"))?
}

/// Whether a descriptor may be one of those, by the name that it has.
pub(super) fn is_of_interest(link: &str) -> bool {
    link.starts_with("anon_inode:") || link.starts_with("/dev/") || is_memory(link)
}

/// `/proc/PID/mem`, `/proc/PID/task/TID/mem`, by whatever name that is mounted.
fn is_memory(link: &str) -> bool {
    let link = link.strip_suffix(" (deleted)").unwrap_or(link);
    let mut parts = link.rsplit('/');
    let of = |part: Option<&str>| part.is_some_and(|part| part.parse::<u32>().is_ok());
    parts.next() == Some("mem") && of(parts.next())
}

/// A ring where io_uring is allowed: wrong where it keeps sockets, or works as somebody outside.
fn ring(first: &str, again: impl Fn() -> String) -> Option<Thing> {
    let mut info = first.to_owned();
    // Not told while it is in use.
    for _ in 0..TRIES {
        if field(&info, "UserFiles:").is_some() {
            break;
        }
        std::thread::yield_now();
        info = again();
    }
    let number = field(&info, "ino:").unwrap_or(0);
    if field(&info, "UserFiles:").is_none() || info.lines().any(is_socket) {
        return Some(Thing::new(
            "io_uring",
            number,
            "it keeps sockets that nobody can look at",
        ));
    }
    let thread = info.lines().find_map(|line| line.strip_prefix("SqThread:"));
    let thread = thread.and_then(|thread| thread.trim().parse::<u32>().ok())?;
    Some(Thing {
        unless: Unless::Thread(thread),
        ..Thing::new("io_uring", number, "it works as a process outside")
    })
}

/// Whether a line may tell of a socket that a ring keeps. Until Linux 6.7 files are told by their last names, and sockets by
/// that of their protocol (`TCP`, `UNIX`, `AF_VSOCK`), which a file may have, too; later by paths.
fn is_socket(line: &str) -> bool {
    let (place, name) = line.split_once(':').unwrap_or_default();
    let (place, name) = (place.trim(), name.trim());
    let is_file = !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_digit());
    let of_older = name.is_empty() || name.starts_with(|first: char| first.is_ascii_uppercase());
    is_file && (of_older || name.starts_with("socket:["))
}

/// The rings that a process has mapped.
fn mapped(pid: u32) -> BTreeSet<u64> {
    let Ok(maps) = fs::File::open(format!("/proc/{pid}/maps")) else {
        return BTreeSet::new();
    };
    let lines = BufReader::new(maps).split(b'\n').map_while(Result::ok);
    lines
        .filter(|line| line.ends_with(RING.as_bytes()))
        .filter_map(|line| {
            let line = String::from_utf8_lossy(&line).into_owned();
            line.split_ascii_whitespace().nth(4)?.parse().ok()
        })
        .collect()
}

/// Threads of the host that these threads trace, and by which of them: those of processes that are not these.
///
/// Some 20 us for each thread of the host: what no hook is asked about any more is not told of in any other way.
pub(super) fn traced(processes: &BTreeSet<u32>, threads: &BTreeSet<u32>) -> Vec<(u32, u32)> {
    let numbers = |directory: &Path| {
        let entries = fs::read_dir(directory)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
    };
    let outside = numbers(Path::new("/proc")).filter(|pid| !processes.contains(pid));
    outside
        .flat_map(|pid| numbers(Path::new(&format!("/proc/{pid}/task"))))
        .filter_map(|thread| {
            let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
            let tracer: u32 = tracer.trim().parse().ok()?;
            threads.contains(&tracer).then_some((tracer, thread))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_known_by_its_name() {
        for memory in [
            "/proc/1/mem",
            "/x/12/task/13/mem",
            "(unreachable)/7/mem",
            "/proc/1/mem (deleted)",
        ] {
            assert!(is_memory(memory), "{memory}");
        }
        for other in ["/proc/1/maps", "/dev/mem", "/tmp/mem", "mem", "/proc/self/mem"] {
            assert!(!is_memory(other), "{other}");
        }
    }

    const INFO: &str =
        "pos:\t0\nflags:\t02000002\nino:\t77\nSqThread:\t4242\nUserFiles:\t1\n    0: /dev/null\n";

    #[test]
    fn a_ring_that_is_allowed_keeps_no_sockets_and_works_for_no_other() {
        let told = |info: &str| ring(info, || info.to_owned());
        assert_eq!(told(INFO).unwrap().unless, Unless::Thread(4242));
        assert_eq!(told(&INFO.replace("4242", "-1")), None);
        let keeps = told(&INFO.replace("/dev/null", "socket:[9]")).unwrap();
        assert_eq!((keeps.unless, keeps.id()), (Unless::Never, ("io_uring", 77)));
        let keeps = |name: &str| told(&INFO.replace("/dev/null", name)).unwrap().unless == Unless::Never;
        assert!(keeps("TCP") && keeps("AF_VSOCK") && keeps(""), "of older kernels");
        assert!(!keeps("null") && !keeps("<none>") && !keeps("/TCP"));
        // In use, it is not told.
        let untold = "pos:\t0\nflags:\t02000002\nino:\t77\n";
        assert_eq!(told(untold).unwrap().unless, Unless::Never);
        assert_eq!(
            ring(untold, || INFO.to_owned()).unwrap().unless,
            Unless::Thread(4242)
        );
    }

    #[test]
    fn what_is_said_of_a_descriptor_is_read() {
        assert!(closed_on_exec(INFO) && !closed_on_exec("flags:\t02\n") && !closed_on_exec(""));
        assert!(has_in_flight("scm_fds: 2\n") && !has_in_flight("scm_fds: 0\n") && !has_in_flight(""));
    }
}
