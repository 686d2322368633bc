//! What attempts reach for on this host: a process, UNIX sockets, and somebody who hands out a socket; all outside of the
//! workload, and all this test's own.

use std::{
    fs,
    io::IoSlice,
    net::{Ipv4Addr, UdpSocket},
    os::{
        fd::AsRawFd as _,
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::{
    socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
    stat::{Mode, SFlag, makedev, mknod},
};

/// What is behind doors that are devices: an adapter of RDMA (the first one's `uverbs`), and two that Linux has itself.
const DEVICES: [(&str, (u64, u64)); 3] = [
    ("rdma", (231, 192)),
    ("tap", (10, 200)),
    ("vhost-vsock", (10, 241)),
];

/// They end with it.
pub(super) struct Outside {
    victim: Child,
    directory: tempfile::TempDir,
    devices: tempfile::TempDir,
    pub(super) hidden: String,
    _listeners: Vec<UnixListener>,
    _datagram: UnixDatagram,
}

impl Outside {
    pub(super) fn make() -> anyhow::Result<Self> {
        let victim = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .context("sleep(1)")?;
        let directory = tempfile::Builder::new()
            .prefix("portcullis-selftest-")
            .tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let hidden = format!("portcullis-selftest-{}", hex::encode(rand::random::<[u8; 8]>()));
        let name = SocketAddr::from_abstract_name(&hidden)?;
        let listeners = vec![
            UnixListener::bind(path("stream"))?,
            UnixListener::bind(path(".s.PGSQL.5432"))?,
            UnixListener::bind_addr(&name)?,
        ];
        let giver = UnixListener::bind(path("giver"))?;
        // Ends with the process: nobody waits for it.
        std::thread::spawn(move || give(&giver));
        let datagram = UnixDatagram::bind(path("datagram"))?;
        // Other places may be mounted with nodev.
        let devices = tempfile::Builder::new()
            .prefix("portcullis-selftest-")
            .tempdir_in("/dev")?;
        for (door, (major, minor)) in DEVICES {
            let path = devices.path().join(door);
            mknod(&path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(major, minor))
                .with_context(|| format!("mknod {}", path.display()))?;
        }
        Ok(Self {
            victim,
            devices,
            hidden,
            _listeners: listeners,
            _datagram: datagram,
            directory,
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where nodes of devices are, each called as its door.
    pub(super) fn devices(&self) -> PathBuf {
        self.devices.path().to_owned()
    }

    pub(super) fn victim(&self) -> i32 {
        i32::try_from(self.victim.id()).unwrap_or(0)
    }

    /// Where its first readable mapping begins.
    pub(super) fn victim_at(&self) -> anyhow::Result<usize> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.victim.id()))?;
        let line = maps
            .lines()
            .find(|line| line.split(' ').nth(1).is_some_and(|p| p.starts_with('r')));
        let start = line
            .and_then(|line| line.split('-').next())
            .context("the process has no memory")?;
        Ok(usize::from_str_radix(start, 16)?)
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _gone = self.victim.kill();
        let _reaped = self.victim.wait();
    }
}

/// A cgroup beside the workload's, which is tagged later; removed at the end.
pub(super) struct Later(PathBuf);

impl Later {
    /// `inside` is the workload's `cgroup.procs`.
    pub(super) fn make(inside: &Path) -> anyhow::Result<Self> {
        let parent = inside.parent().and_then(Path::parent);
        let name = format!("portcullis-selftest-{}", hex::encode(rand::random::<[u8; 4]>()));
        let directory = parent.context("the workload has no cgroup")?.join(name);
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        Ok(Self(directory))
    }

    pub(super) fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        // The last process of it is a zombie for a moment.
        let until = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Hands a UDP socket, made here, to whoever connects.
fn give(giver: &UnixListener) {
    for stream in giver.incoming().filter_map(Result::ok) {
        let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else {
            return;
        };
        let descriptors = [socket.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&descriptors)];
        let byte = [IoSlice::new(b"x")];
        let _gone = sendmsg::<UnixAddr>(stream.as_raw_fd(), &byte, &control, MsgFlags::MSG_NOSIGNAL, None);
    }
}
