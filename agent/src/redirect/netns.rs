//! Network namespaces: which there are, which a workload's processes are in, and sockets made inside them.
//!
//! A socket belongs to the namespace in which it was made, whoever uses it. So one thread stays in each namespace and
//! makes there what the rest of the agent uses.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::mpsc,
};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpSocket, sync::oneshot};

use super::cgroup;

/// Sockets that may be waited for at once; more are refused.
const WAITING: usize = 1024;

struct Ask {
    domain: Domain,
    answer: oneshot::Sender<io::Result<Socket>>,
}

/// A network namespace other than the agent's own, for as long as this or a clone of its sender lives.
pub struct Namespace {
    cookie: u64,
    ask: mpsc::SyncSender<Ask>,
}

impl Namespace {
    /// Starts the thread that enters the namespace of `file` (namespaces(7)), and has it do `first` there.
    ///
    /// # Errors
    /// When it cannot be entered; `first`'s own.
    pub(super) async fn enter<T, F>(file: File, first: F) -> io::Result<(Self, T)>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<(u64, T)> + Send + 'static,
    {
        let (ask, asked) = mpsc::sync_channel(WAITING);
        let (send, entered) = oneshot::channel();
        std::thread::Builder::new().name("netns".into()).spawn(move || {
            let done = setns(file, CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| first());
            let inside = done.is_ok();
            // Without one that waits, there will be no one that asks.
            let _gone = send.send(done);
            if inside {
                serve(&asked);
            }
        })?;
        let (cookie, made) = entered.await.map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok((Self { cookie, ask }, made))
    }

    /// The kernel's cookie of it, as in [`Origin::netns`](crate::model::Origin).
    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// A TCP socket inside, to connect to `to`.
    ///
    /// # Errors
    /// When it cannot be made, or too many are waited for.
    pub async fn socket(&self, to: SocketAddr) -> io::Result<TcpSocket> {
        let (answer, made) = oneshot::channel();
        let domain = Domain::for_address(to);
        self.ask
            .try_send(Ask { domain, answer })
            .map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
        let socket = made.await.map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok(TcpSocket::from_std_stream(socket.into()))
    }
}

fn serve(asked: &mpsc::Receiver<Ask>) {
    while let Ok(Ask { domain, answer }) = asked.recv() {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
            .and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
        // Who waited for it has gone.
        let _gone = answer.send(socket);
    }
}

/// The inode number of the namespace that a link of /proc names, by which two can be compared while both exist.
///
/// # Errors
/// When the process is gone.
pub(super) fn inode(link: &Path) -> io::Result<u64> {
    fs::metadata(link).map(|found| found.ino())
}

/// The network namespaces that a file system's mount keeps, as `ip netns` and container runtimes make them: inode and
/// where.
pub(super) fn mounted() -> Vec<(u64, String)> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(mounted_by).collect()
}

/// proc_pid_mountinfo(5): the fourth field is the root within the file system, the fifth where it is mounted.
fn mounted_by(line: &str) -> Option<(u64, String)> {
    let mut fields = line.split(' ').skip(3);
    let root = fields.next()?.strip_prefix("net:[")?.strip_suffix(']')?;
    Some((root.parse().ok()?, fields.next()?.to_owned()))
}

/// The network namespaces of the processes below a cgroup: inode, and the link of one process.
pub(super) fn of_cgroup(directory: &Path) -> Vec<(u64, String)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (_, directory) in cgroup::tree(directory) {
        let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for process in processes.lines() {
            let link = format!("/proc/{process}/ns/net");
            // Gone meanwhile, or without a network any more.
            let Ok(inode) = inode(Path::new(&link)) else {
                continue;
            };
            if seen.insert(inode) {
                found.push((inode, link));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_found_among_mounts() {
        let line = "410 25 0:4 net:[4026532281] /run/netns/blue rw shared:217 - nsfs nsfs rw";
        assert_eq!(mounted_by(line), Some((4_026_532_281, "/run/netns/blue".into())));
        for other in [
            "36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw",
            "411 25 0:4 mnt:[4026532282] /run/snapd/ns/x rw - nsfs nsfs rw",
            "410 25 0:4 net:[x] /run/netns/blue rw - nsfs nsfs rw",
            "410 25 0:4",
            "",
        ] {
            assert_eq!(mounted_by(other), None, "{other}");
        }
    }
}
