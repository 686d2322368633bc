//! Descriptors that the service manager kept for this process, or made for it (`sd_listen_fds(3)`, the file descriptor
//! store of `sd_notify(3)`).
//!
//! A listener is worth keeping only as long as the agent's program is on the cgroup that it was made in: accepted sockets
//! inherit that cgroup, and without the program nothing knows who connected. Its name therefore says which cgroup that
//! was; under another one a new listener is made. A service's own cgroup goes when the service stops. That is why the
//! program is on the slice, which stays, and reaches the sockets of a service's cgroup that is gone.
//!
//! Those of other network namespaces have the namespace's cookie in their name, which no other namespace of this boot
//! has. What a socket itself says of its namespace is what counts.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

use super::sys;
use crate::model::CgroupId;

/// What the names of listeners start with that workloads' connections are sent to.
const REDIRECT: &str = "redirect.";
/// And those of other network namespaces.
const ELSEWHERE: &str = "netns.";
/// Descriptors that are kept of one network namespace: a listener and a resolver's socket, each on 127.0.0.1 and `::1`.
pub const OF_NAMESPACE: usize = 4;

/// The name under which a listener is kept: its port, and the cgroup that the agent's program is on.
#[must_use]
pub fn name(port: u16, agent: CgroupId) -> String {
    format!("{REDIRECT}{port}.{}", agent.0)
}

/// The same in another network namespace, by its cookie. Short, as all names come back in one variable of the
/// environment.
#[must_use]
pub fn name_in(port: u16, agent: CgroupId, cookie: u64) -> String {
    format!("{}{cookie}", elsewhere(port, agent))
}

fn elsewhere(port: u16, agent: CgroupId) -> String {
    format!("{ELSEWHERE}{port}.{}.", agent.0)
}

/// Who keeps descriptors while no agent runs.
pub trait Store: Send + Sync {
    /// Descriptors that there is room for.
    fn room(&self) -> usize;
    /// Keeps these under a name. The same descriptors twice are kept once.
    fn keep(&self, name: &str, descriptors: &[BorrowedFd<'_>]);
    /// Lets all of this name go.
    fn let_go(&self, name: &str);
}

/// Nobody: what is open goes with the process.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

impl Store for Nobody {
    fn room(&self) -> usize {
        0
    }

    fn keep(&self, _name: &str, _descriptors: &[BorrowedFd<'_>]) {}

    fn let_go(&self, _name: &str) {}
}

/// What has been kept and is not taken yet. What is left when it is dropped is closed.
#[derive(Debug, Default)]
pub struct Kept(Vec<(String, OwnedFd)>);

impl Kept {
    /// These, as if they had been inherited.
    #[must_use]
    pub fn of(all: Vec<(String, OwnedFd)>) -> Self {
        Self(all)
    }

    /// What this process was started with. The first call has it; later ones find nothing.
    #[must_use]
    pub fn inherited() -> Self {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Self::default();
        }
        let mut all = Vec::new();
        match sd_notify::listen_fds_with_names() {
            Ok(found) => {
                for (fd, name) in found {
                    match sys::adopt(fd) {
                        Ok(fd) => all.push((name, fd)),
                        Err(error) => tracing::warn!(fd, name, %error, "not a descriptor that was passed"),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "what the service manager kept cannot be used"),
        }
        Self(all)
    }

    /// Takes the listener on exactly this address that is kept under this name.
    pub fn tcp(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let found = self.0.iter().position(|(kept, fd)| {
            let is_there = || {
                let socket = socket2::SockRef::from(fd);
                let local = socket.local_addr().ok()?.as_socket()?;
                Some(local == address && getsockopt(fd, AcceptConn).ok()?)
            };
            kept == name && is_there().unwrap_or(false)
        })?;
        Some(self.0.swap_remove(found).1.into())
    }

    /// Takes the UDP socket that is bound to exactly this address and kept under this name.
    pub fn udp(&mut self, name: &str, address: SocketAddr) -> Option<UdpSocket> {
        let found = self.0.iter().position(|(kept, fd)| {
            let is_there = || {
                let socket = socket2::SockRef::from(fd);
                let local = socket.local_addr().ok()?.as_socket()?;
                Some(local == address && socket.r#type().ok()? == socket2::Type::DGRAM)
            };
            kept == name && is_there().unwrap_or(false)
        })?;
        Some(self.0.swap_remove(found).1.into())
    }

    /// Takes what is kept of other network namespaces under this port and cgroup, by the namespace's cookie. What turns
    /// out to be of another namespace than its name says is closed: nothing is left of a namespace then, at worst.
    pub(super) fn elsewhere(&mut self, port: u16, agent: CgroupId) -> BTreeMap<u64, Self> {
        let prefix = elsewhere(port, agent);
        let cookie = |name: &str| name.strip_prefix(&prefix)?.parse::<u64>().ok();
        let mut found = BTreeMap::<u64, Self>::new();
        for (name, fd) in self.0.extract_if(.., |(name, _)| cookie(name).is_some()) {
            let Some(cookie) = cookie(&name) else { continue };
            let of_namespace = found.entry(cookie).or_default();
            match sys::netns_cookie(&fd) {
                Ok(own) if own == cookie => of_namespace.0.push((name, fd)),
                _ => tracing::warn!(name, "what was kept is not of the namespace that its name says"),
            }
        }
        found
    }

    /// The network namespace that these sockets are in, which is kept alive by the file.
    pub(super) fn namespace(&self) -> io::Result<File> {
        let (_, socket) = self.0.first().ok_or(io::ErrorKind::NotFound)?;
        sys::netns_of(socket)
    }

    /// Whether connects wait in one of these.
    pub(super) fn listens(&self) -> bool {
        self.0
            .iter()
            .any(|(_, fd)| getsockopt(fd, AcceptConn).is_ok_and(|listens| listens))
    }

    /// Takes the listener on this path.
    pub fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        let found = self.0.iter().position(|(_, fd)| {
            let is_there = || {
                let socket = socket2::SockRef::from(fd);
                Some(socket.local_addr().ok()?.as_pathname()? == path && getsockopt(fd, AcceptConn).ok()?)
            };
            is_there().unwrap_or(false)
        })?;
        Some(self.0.swap_remove(found).1.into())
    }

    /// The names of what nobody took, once each.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, fd: impl Into<OwnedFd>) -> Kept {
        Kept::of(vec![(name.to_owned(), fd.into())])
    }

    #[test]
    fn only_the_very_listener_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let name = name(address.port(), CgroupId(7));
        let mut kept = kept(&name, listener);
        let other = SocketAddr::from(([127, 0, 0, 1], address.port().wrapping_add(1)));
        assert!(kept.tcp(&name, other).is_none());
        assert!(
            kept.tcp(&super::name(address.port(), CgroupId(8)), address)
                .is_none()
        );
        assert_eq!(kept.left(), std::slice::from_ref(&name));
        assert_eq!(kept.tcp(&name, address).unwrap().local_addr().unwrap(), address);
        assert!(kept.left().is_empty() && kept.tcp(&name, address).is_none());
    }

    #[test]
    fn sockets_of_other_namespaces_are_told_by_what_they_say_themselves() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cookie = sys::netns_cookie(&listener).unwrap();
        let socket = || OwnedFd::from(listener.try_clone().unwrap());
        let agent = CgroupId(7);
        let host = name(1, agent);
        let mut kept = Kept::of(vec![
            (host.clone(), socket()),
            (name_in(1, agent, cookie), socket()),
            (name_in(1, agent, cookie + 1), socket()),
            (name_in(1, agent, cookie), File::open("/dev/null").unwrap().into()),
            (name_in(2, agent, cookie), socket()),
            (name_in(1, CgroupId(8), cookie), socket()),
        ]);
        let found = kept.elsewhere(1, agent);
        let counts: Vec<_> = found
            .iter()
            .map(|(cookie, kept)| (*cookie, kept.0.len()))
            .collect();
        assert_eq!(counts, [(cookie, 1), (cookie + 1, 0)]);
        let own = super::super::netns::inode(Path::new("/proc/thread-self/ns/net")).unwrap();
        let file = found[&cookie].namespace().unwrap();
        assert_eq!(
            std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap()),
            own
        );
        assert!(found[&cookie].listens() && !found[&(cookie + 1)].listens());
        assert!(found[&(cookie + 1)].namespace().is_err());
        assert_eq!(kept.left().len(), 3, "{kept:?}");
    }

    /// sd_notify(3): at most 255 bytes; and all of them, as one variable, below the 128 KiB of execve(2).
    #[test]
    fn names_are_short_enough() {
        let longest = name_in(u16::MAX, CgroupId(u64::MAX), u64::MAX).len();
        assert!(longest <= 255);
        let all = (longest + 1) * OF_NAMESPACE * (crate::redirect::bpf::MAX_NAMESPACES + 1);
        assert!(all < 128 * 1024, "{all}");
    }

    #[test]
    fn what_does_not_listen_is_not_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connected = std::net::TcpStream::connect(address).unwrap();
        let own = connected.local_addr().unwrap();
        let mut kept = kept("redirect.1.1", connected);
        assert!(kept.tcp("redirect.1.1", own).is_none());
    }

    #[test]
    fn control_sockets_by_their_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let mut kept = kept("control", UnixListener::bind(&path).unwrap());
        assert!(kept.unix(Path::new("/elsewhere")).is_none());
        assert!(kept.unix(&path).is_some());
    }
}
