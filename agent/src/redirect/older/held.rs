//! The sockets that a process has open, each looked at by a descriptor of the agent's own (pidfd_getfd(2)), and what it has
//! beside them.
//!
//! Whether a socket meets the hooks of a workload is asked of the hooks themselves: a bind to an address that nobody has
//! is denied by them (EPERM) and fails without them (EADDRNOTAVAIL), and changes nothing either way. So it is known of
//! sockets that no list of the kernel's has, too: those that are neither bound nor connected.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd as _, OwnedFd, RawFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use nix::{errno::Errno, sys::stat::fstat};
use portcullis_abi::guard::{NOBODY4, NOBODY6};
use socket2::SockRef;

use super::{
    Parent,
    beside::{self, Owner, Thing},
};
use crate::redirect::{process, sys};

/// Descriptors of one process that are looked at: as many as it can have, unless fs.nr_open was raised. One that has more
/// counts as one that has a socket made outside.
const DESCRIPTORS: usize = 1 << 20;
/// Ancestors that are told of a process.
const ANCESTORS: usize = 8;

/// Where a socket was made, as the hooks see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// Where the hooks are.
    Inside,
    /// Elsewhere.
    Outside,
    /// No hook can be asked: of a thread's own, raw, or of ICMP.
    Unknown,
}

/// What a socket is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// AF_INET, AF_INET6: the protocol's name.
    Inet(&'static str),
    /// AF_UNIX, AF_NETLINK: decided, or of no use, elsewhere.
    Local,
    /// A family that no hook of a cgroup sees.
    Unseen(String),
}

/// A socket that a process has.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) kind: Kind,
    pub(super) made: Made,
    pub(super) inode: u64,
    /// 0 where the socket could not be had.
    pub(super) cookie: u64,
    /// Whether an exec of the process closes it, as far as every one of its descriptors goes.
    pub(super) passing: bool,
}

impl Held {
    /// One that could not be had.
    fn unseen(kind: &'static str, inode: u64) -> Self {
        Self {
            kind: Kind::Inet(kind),
            made: Made::Unknown,
            inode,
            cookie: 0,
            passing: false,
        }
    }
}

/// A process, for as long as it is looked at.
pub(super) struct Process {
    pub(super) pid: u32,
    /// Nanoseconds since boot, to a clock tick.
    pub(super) start_ns: u64,
    pub(super) command: String,
    pub(super) sockets: Vec<Held>,
    /// What it has beside sockets that it must not have.
    pub(super) beside: Vec<Thing>,
    /// Its threads.
    pub(super) threads: BTreeSet<u32>,
    /// Why it could not be looked at whole.
    pub(super) unread: Option<String>,
    pidfd: OwnedFd,
}

/// What is looked for in a process.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// What the guard of its tag allows.
    pub(super) flags: u64,
    /// Whether it may have been sent something before the tag, or outside.
    pub(super) in_flight: bool,
}

/// The network namespaces of sockets and processes, by inode.
pub(super) type Namespaces = BTreeMap<u64, OwnedFd>;

/// Keeps a namespace once.
pub(super) fn keep(namespaces: &mut Namespaces, namespace: OwnedFd) {
    if let Ok(stat) = fstat(&namespace) {
        namespaces.entry(stat.st_ino).or_insert(namespace);
    }
}

impl Process {
    /// Looks at a process; `None` when it is gone.
    pub(super) fn look(pid: u32, wanted: Wanted, namespaces: &mut Namespaces) -> Option<Self> {
        let pidfd = sys::process::open(pid).ok()?;
        let (_, start_ns) = process::of_thread(pid)?;
        let command = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let mut process = Self {
            pid,
            start_ns,
            command: command.trim_end().to_owned(),
            sockets: Vec::new(),
            beside: Vec::new(),
            threads: BTreeSet::new(),
            unread: None,
            pidfd,
        };
        let owner = Owner {
            pid,
            parent: parent(pid),
            flags: wanted.flags,
        };
        // The rings of which it has a descriptor, which says more.
        let mut rings = BTreeSet::new();
        match process.read(&owner, wanted, &mut rings, namespaces) {
            Err(error) if !is_gone(&error) => process.unread = Some(error.to_string()),
            _ => {}
        }
        process.look_at_threads(&owner, wanted, &mut rings, namespaces);
        process.beside.extend(owner.mapped(&rings));
        Some(process)
    }

    /// Keeps it from doing anything more.
    pub(super) fn stop(&self) -> io::Result<()> {
        sys::process::signal(&self.pidfd, libc::SIGSTOP)
    }

    /// Ends it.
    pub(super) fn kill(&self) -> io::Result<()> {
        sys::process::signal(&self.pidfd, libc::SIGKILL)
    }

    fn read(
        &mut self,
        owner: &Owner,
        wanted: Wanted,
        rings: &mut BTreeSet<u64>,
        namespaces: &mut Namespaces,
    ) -> io::Result<()> {
        let place = Path::new("/proc").join(self.pid.to_string());
        let mut found: BTreeMap<u64, Held> = BTreeMap::new();
        let result = (|| {
            let (all, whole) = descriptors(&place)?;
            if !whole {
                self.sockets.push(Held::unseen("more than can be looked at", 0));
            }
            for (fd, link) in all {
                let inode = match link {
                    Link::Socket(inode) => inode,
                    Link::Other(link) => {
                        self.beside.extend(owner.thing(&place, fd, &link));
                        rings.extend(beside::ring_inode(&place, fd, &link));
                        continue;
                    }
                };
                if found.get(&inode).is_some_and(|held| held.made == Made::Inside) {
                    continue;
                }
                let socket = match sys::process::descriptor(&self.pidfd, fd) {
                    Ok(socket) => socket,
                    // Closed meanwhile.
                    Err(error) if error.raw_os_error() == Some(libc::EBADF) => continue,
                    Err(error) => return Err(error),
                };
                let info = beside::info(&place, fd);
                let Some(held) = held(&socket, beside::closed_on_exec(&info)) else {
                    continue;
                };
                if wanted.in_flight && held.kind == Kind::Local && beside::has_in_flight(&info) {
                    self.beside.push(Thing::in_flight(inode));
                }
                if matches!(held.kind, Kind::Inet(_)) && held.made != Made::Inside {
                    keep(namespaces, sys::process::namespace(socket.as_fd())?);
                }
                let passing = held.passing;
                found.entry(held.inode).or_insert(held).passing &= passing;
            }
            Ok(())
        })();
        self.sockets.extend(found.into_values());
        result
    }

    /// A thread may have descriptors of its own (unshare(2), CLONE_FILES), which cannot be had from outside; or be the
    /// kernel's.
    fn look_at_threads(
        &mut self,
        owner: &Owner,
        wanted: Wanted,
        rings: &mut BTreeSet<u64>,
        namespaces: &mut Namespaces,
    ) {
        let known: BTreeSet<u64> = self.sockets.iter().map(|held| held.inode).collect();
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid));
        let ids = tasks.into_iter().flatten().filter_map(Result::ok);
        for tid in ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            self.threads.insert(tid);
            if tid == self.pid {
                continue;
            }
            self.beside.extend(owner.worker(tid));
            if sys::process::share_descriptors(self.pid, tid) {
                continue;
            }
            let place = format!("/proc/{}/task/{tid}", self.pid);
            let place = Path::new(&place);
            let (own, _) = descriptors(place).unwrap_or_default();
            for (fd, link) in own {
                let inode = match link {
                    Link::Socket(inode) if known.contains(&inode) => continue,
                    Link::Socket(inode) => inode,
                    Link::Other(link) => {
                        self.beside.extend(owner.thing(place, fd, &link));
                        rings.extend(beside::ring_inode(place, fd, &link));
                        continue;
                    }
                };
                if wanted.in_flight && beside::has_in_flight(&beside::info(place, fd)) {
                    self.beside.push(Thing::in_flight(inode));
                }
                if let Ok(file) = fs::File::open(place.join("ns/net")) {
                    keep(namespaces, file.into());
                }
                self.sockets.push(Held::unseen("a thread's own", inode));
            }
        }
    }
}

/// What a process runs.
pub(super) fn exe(pid: u32) -> Option<String> {
    let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(exe.to_string_lossy().into_owned())
}

/// Whom a process was forked from, or who has it now.
fn parent(of: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{of}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse::<u32>().ok().filter(|pid| *pid > 0)
}

/// Whom a process comes from.
pub(super) fn parents(of: u32) -> Vec<Parent> {
    std::iter::successors(parent(of), |pid| parent(*pid))
        .take(ANCESTORS)
        .map(|pid| Parent {
            pid,
            start_ns: process::of_thread(pid).map_or(0, |(_, start_ns)| start_ns),
            exe: exe(pid),
        })
        .collect()
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// What a descriptor is of.
pub(super) enum Link {
    /// A socket, by its inode.
    Socket(u64),
    /// Anything else, as proc_pid_fd(5) has it.
    Other(String),
}

/// Descriptors, below /proc/PID or /proc/PID/task/TID; and whether these are all.
fn descriptors(of: &Path) -> io::Result<(Vec<(RawFd, Link)>, bool)> {
    let mut found = Vec::new();
    for (n, entry) in fs::read_dir(of.join("fd"))?.enumerate() {
        if n >= DESCRIPTORS {
            return Ok((found, false));
        }
        let entry = entry?;
        let Ok(link) = fs::read_link(entry.path()) else {
            continue;
        };
        let link = link.to_string_lossy();
        let inode = link
            .strip_prefix("socket:[")
            .and_then(|inode| inode.strip_suffix(']')?.parse().ok());
        let link = match inode {
            Some(inode) => Link::Socket(inode),
            // A file of a name that says nothing here.
            None if !beside::is_of_interest(&link) => continue,
            None => Link::Other(link.into_owned()),
        };
        let fd = entry.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(fd.map(|fd| (fd, link)));
    }
    Ok((found, true))
}

/// The inodes of a process's sockets, below /proc/PID.
pub(super) fn sockets(of: &Path) -> impl Iterator<Item = u64> + use<> {
    let all = descriptors(of).unwrap_or_default().0.into_iter();
    all.filter_map(|(_, link)| match link {
        Link::Socket(inode) => Some(inode),
        Link::Other(_) => None,
    })
}

/// `None` when it is no socket.
fn held(socket: &OwnedFd, passing: bool) -> Option<Held> {
    let asked = SockRef::from(socket);
    let domain = i32::from(asked.domain().ok()?);
    let kind = i32::from(asked.r#type().ok()?);
    let protocol = asked.protocol().ok().flatten().map_or(0, i32::from);
    let kind = what(domain, kind, protocol);
    let made = match kind {
        Kind::Inet("raw" | "icmp") => Made::Unknown,
        Kind::Inet(_) => made(&asked, domain),
        Kind::Local | Kind::Unseen(_) => Made::Unknown,
    };
    Some(Held {
        kind,
        made,
        inode: fs::File::from(socket.try_clone().ok()?).metadata().ok()?.ino(),
        cookie: asked.cookie().unwrap_or(0),
        passing,
    })
}

fn what(domain: i32, kind: i32, protocol: i32) -> Kind {
    match (domain, kind, protocol) {
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_RAW, _) => Kind::Inet("raw"),
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_TCP) => Kind::Inet("tcp"),
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_UDP) => Kind::Inet("udp"),
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_UDPLITE) => Kind::Inet("udplite"),
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_MPTCP) => Kind::Inet("mptcp"),
        (libc::AF_INET | libc::AF_INET6, _, libc::IPPROTO_SCTP) => Kind::Inet("sctp"),
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM, _) => Kind::Inet("icmp"),
        (libc::AF_INET | libc::AF_INET6, ..) => Kind::Inet("inet"),
        (libc::AF_UNIX | libc::AF_NETLINK, ..) => Kind::Local,
        (libc::AF_PACKET, ..) => Kind::Unseen("packet".into()),
        (libc::AF_VSOCK, ..) => Kind::Unseen("vsock".into()),
        (libc::AF_XDP, ..) => Kind::Unseen("xdp".into()),
        _ => Kind::Unseen(format!("family {domain}")),
    }
}

/// Asks the hooks.
fn made(socket: &SockRef<'_>, domain: i32) -> Made {
    let nobody = match domain {
        libc::AF_INET6 => SocketAddr::from((Ipv6Addr::from(octets(NOBODY6)), 0)),
        _ => SocketAddr::from((v4(NOBODY4), 0)),
    };
    match socket.bind(&nobody.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => Made::Inside,
        _ => Made::Outside,
    }
}

fn octets(words: [u32; 4]) -> [u8; 16] {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    octets
}

fn v4(words: [u32; 4]) -> Ipv4Addr {
    let [.., a, b, c, d] = octets(words);
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobodys_addresses_are_those() {
        assert_eq!(v4(NOBODY4), Ipv4Addr::new(240, 0, 0, 1));
        assert_eq!(
            Ipv6Addr::from(octets(NOBODY6)),
            "100::1".parse::<Ipv6Addr>().unwrap()
        );
    }

    #[test]
    fn asking_changes_nothing() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let before = socket.local_addr().unwrap();
        let fresh = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        for asked in [SockRef::from(&socket), SockRef::from(&fresh)] {
            assert_eq!(made(&asked, libc::AF_INET), Made::Outside);
        }
        assert_eq!(socket.local_addr().unwrap(), before);
        assert_eq!(fresh.local_addr().unwrap().as_socket().unwrap().port(), 0);
        fresh.bind(&before.into()).unwrap();
    }

    #[test]
    fn what_a_process_has_is_found() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = fstat(&udp).unwrap().st_ino;
        let wanted = Wanted {
            flags: 0,
            in_flight: true,
        };
        let process = Process::look(std::process::id(), wanted, &mut Namespaces::new()).unwrap();
        let held = process.sockets.iter().find(|held| held.inode == inode).unwrap();
        assert_eq!((&held.kind, held.made), (&Kind::Inet("udp"), Made::Outside));
        assert!(held.passing, "std closes on exec");
        assert!(Process::look(u32::MAX >> 2, wanted, &mut Namespaces::new()).is_none());
    }
}
