//! Descriptors that the service manager kept for this process, or made for it (`sd_listen_fds(3)`, the file descriptor
//! store of `sd_notify(3)`).
//!
//! A listener is worth keeping only as long as the agent's program is on the cgroup that it was made in: accepted sockets
//! inherit that cgroup, and without the program nothing knows who connected. Its name therefore says which cgroup that
//! was; under another one a new listener is made. A service's own cgroup goes when the service stops. That is why the
//! program is on the slice, which stays, and reaches the sockets of a service's cgroup that is gone.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::sys::socket::{getsockopt, sockopt::AcceptConn};

use super::sys;
use crate::model::CgroupId;

/// What the names of listeners start with that workloads' connections are sent to.
const REDIRECT: &str = "redirect.";

/// The name under which a listener is kept: its port, and the cgroup that the agent's program is on.
#[must_use]
pub fn name(port: u16, agent: CgroupId) -> String {
    format!("{REDIRECT}{port}.{}", agent.0)
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
