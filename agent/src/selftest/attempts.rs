//! What a hostile process would do, door by door. Each attempt runs in a process of its own, as root, inside of the
//! throw-away workload; whether anything came of it is judged outside.

use std::{
    fs::File,
    io::{self, IoSliceMut, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
    sys::{
        ptrace,
        socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use super::{address, setuid, sys};

/// What is sent, so that it is known again.
pub(super) const WORDS: &[u8] = b"portcullis selftest";
/// An EtherType for local experiments (IEEE 802), for frames of AF_PACKET.
pub(super) const ETHERTYPE: u16 = 0x88b5;

/// The other half of the door `older-sockets`.
pub(super) const MADE: &str = "older-sockets made in the cgroup";
/// How long the agent may take to deal with older sockets.
const LOOKED: Duration = Duration::from_secs(5);

/// What there is to reach.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Targets {
    /// Behind the device, in the other namespace.
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub device: String,
    pub index: u32,
    /// An address of this host on the device.
    pub here: Ipv4Addr,
    /// For servers of the attempts.
    pub port: u16,
    /// The workload's `cgroup.procs`, and that of a cgroup outside.
    pub inside: PathBuf,
    pub outside: PathBuf,
    /// A process outside.
    pub victim: i32,
    /// Its first readable mapping.
    pub victim_at: usize,
    /// The other namespace.
    pub netns: PathBuf,
    /// A listening UNIX socket outside by path, one with a database's name, a datagram one, and an abstract name.
    pub stream: PathBuf,
    pub known: PathBuf,
    pub datagram: PathBuf,
    pub hidden: String,
    /// One that hands a socket made outside to whoever connects.
    pub giver: PathBuf,
    /// This program once more, set-user-id.
    pub helper: PathBuf,
    /// Where a server listens behind the device.
    pub served: u16,
    /// Where nodes of devices are, by their doors.
    pub devices: PathBuf,
    /// `cgroup.procs` of a cgroup that is tagged while an attempt is in it.
    pub later: PathBuf,
}

/// What one attempt came to, as its process saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Seen {
    /// No call was refused.
    Done,
    /// One was, with this errno.
    Refused(i32),
}

/// Tries a door, from inside the workload.
pub(super) fn attempt(door: &str, targets: &Targets) -> Seen {
    match try_door(door, targets) {
        Ok(()) => Seen::Done,
        Err(error) => Seen::Refused(error.raw_os_error().unwrap_or(0)),
    }
}

fn enter(targets: &Targets) -> io::Result<()> {
    File::options().write(true).open(&targets.inside)?.write_all(b"0")
}

fn try_door(door: &str, t: &Targets) -> io::Result<()> {
    match door {
        "older-sockets" => return brought(t),
        MADE => return made(t),
        _ => {}
    }
    if let setuid::AS_ROOT | setuid::AS_NOBODY = door {
        return setuid::helped(door, t);
    }
    enter(t)?;
    match door {
        "tcp" => each(t, 80, |to| stream(to).map(drop)),
        "tcp-fastopen" => each(t, 81, |to| {
            sys::send(tcp(to)?.as_fd(), WORDS, libc::MSG_FASTOPEN, &address::inet(to))
        }),
        "tcp-repair" => tcp_repair((t.v4, 82).into()),
        "tcp-reconnect" => tcp_reconnect((t.v4, 83).into()),
        "tcp-bind-device" => bind_device(t),
        "ip-transparent" => transparent(t),
        "udp" => each(t, 5000, |to| {
            sys::send(udp(to)?.as_fd(), WORDS, 0, &address::inet(to))
        }),
        "udp-connected" => each(t, 5001, |to| {
            let socket = udp(to)?;
            sys::connect(socket.as_fd(), &address::inet(to))?;
            sys::send(socket.as_fd(), WORDS, 0, &[])
        }),
        "quic" => each(t, 443, |to| {
            sys::send(udp(to)?.as_fd(), WORDS, 0, &address::inet(to))
        }),
        "dns" => each(t, 53, |to| {
            sys::send(udp(to)?.as_fd(), QUESTION, 0, &address::inet(to))
        }),
        "raw" => raw(t),
        "ping" => {
            let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
            sys::send(
                socket.as_fd(),
                &[8, 0, 0, 0, 0, 0, 0, 1],
                0,
                &address::inet((t.v4, 0).into()),
            )
        }
        "mptcp" => connected(libc::SOCK_STREAM, libc::IPPROTO_MPTCP, (t.v4, 84).into()),
        "sctp" => connected(libc::SOCK_STREAM, libc::IPPROTO_SCTP, (t.v4, 85).into()),
        "udplite" => {
            let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE)?;
            sys::send(socket.as_fd(), WORDS, 0, &address::inet((t.v4, 86).into()))
        }
        "packet" => frame(
            &sys::socket(libc::AF_PACKET, libc::SOCK_RAW, 3_i32.to_be() >> 16)?,
            t,
        ),
        "vsock" => sys::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0).map(drop),
        "xdp" => sys::socket(libc::AF_XDP, libc::SOCK_RAW, 0).map(drop),
        "other-family" => other_family(),
        "rdma" | "tap" | "vhost-vsock" => File::open(t.devices.join(door)).map(drop),
        "listen-tcp" => listen_tcp(t),
        "listen-udp" => listen_udp(t),
        "io-uring-connect" => {
            let to = SocketAddr::from((t.v4, 87));
            sys::uring_connect(tcp(to)?.as_fd(), &address::inet(to), 0)
        }
        "io-uring-send" => {
            let to = SocketAddr::from((t.v4, 88));
            let sent = sys::uring_send(udp(to)?.as_fd(), WORDS, &address::inet(to), 0);
            let polled = sys::uring_send(udp(to)?.as_fd(), WORDS, &address::inet(to), sys::SQPOLL);
            sent.or(polled)
        }
        "io-uring-socket" => frame(
            &sys::uring_socket(libc::AF_PACKET, libc::SOCK_RAW, 3_i32.to_be() >> 16)?,
            t,
        ),
        _ => local(door, t),
    }
}

/// The doors that lead to other processes of this host, or to other rights.
fn local(door: &str, t: &Targets) -> io::Result<()> {
    match door {
        "unix-path" => unix(t.stream.as_os_str().as_encoded_bytes()),
        "unix-known" => unix(t.known.as_os_str().as_encoded_bytes()),
        "unix-abstract" => unix(format!("\0{}", t.hidden).as_bytes()),
        "unix-dgram" => {
            let socket = sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
            sys::send(
                socket.as_fd(),
                WORDS,
                0,
                &address::unix(t.datagram.as_os_str().as_encoded_bytes()),
            )
        }
        "fd-passing" => sys::send(given(t)?.as_fd(), WORDS, 0, &address::inet((t.v4, 5002).into())),
        "ptrace" => Ok(ptrace::seize(Pid::from_raw(t.victim), ptrace::Options::empty())?),
        "process-vm" => sys::peek(t.victim, t.victim_at),
        "pidfd-getfd" => sys::take_descriptor(t.victim, 0).map(drop),
        "leave-cgroup" => {
            File::options().write(true).open(&t.outside)?.write_all(b"0")?;
            send_udp((t.v4, 5003).into())
        }
        "moved-out" => {
            // The test moves this process out when it has heard of it.
            heard()?;
            send_udp((t.v4, 5004).into())
        }
        "user-namespace" => {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            raw(t).and_then(|()| send_udp((t.v4, 5005).into()))
        }
        "network-namespace" => {
            setns(File::open(&t.netns)?, CloneFlags::CLONE_NEWNET)?;
            let sent = send_udp((t.here, 5006).into());
            stream((t.here, 89).into()).map(drop).and(sent)
        }
        "mount-namespace" => mounted(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS),
        "mount-root" => mounted(CloneFlags::CLONE_NEWNS),
        "setuid" => setuid::through_helper(t),
        "bpf" => sys::bpf_maps(),
        "host-network" => {
            // To the address that it has: nothing changes.
            let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
            sys::send(socket.as_fd(), &set_link(t.index), 0, &[])?;
            acknowledged(&socket)
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// A question for the name "a", type A (RFC 1035).
const QUESTION: &[u8] = &[0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 0, 0, 1, 0, 1];

/// Every address of the target: one that is refused does not keep the next from being tried; the first refusal counts.
fn each(t: &Targets, port: u16, mut send: impl FnMut(SocketAddr) -> io::Result<()>) -> io::Result<()> {
    let v4 = send((t.v4, port).into());
    let v6 = send((t.v6, port).into());
    let mapped = send(address::mapped(t.v4, port));
    v4.and(v6).and(mapped)
}

fn domain(to: SocketAddr) -> i32 {
    if to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    }
}

fn tcp(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = sys::socket(domain(to), libc::SOCK_STREAM, 0)?;
    // What gets no answer must not wait for minutes: seconds, as struct timeval.
    let mut second = [0; 16];
    second[0] = 1;
    sys::set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, &second)?;
    Ok(socket)
}

fn udp(to: SocketAddr) -> io::Result<OwnedFd> {
    sys::socket(domain(to), libc::SOCK_DGRAM, 0)
}

pub(super) fn send_udp(to: SocketAddr) -> io::Result<()> {
    sys::send(udp(to)?.as_fd(), WORDS, 0, &address::inet(to))
}

pub(super) fn stream(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp(to)?;
    sys::connect(socket.as_fd(), &address::inet(to))?;
    Ok(socket)
}

fn connected(kind: i32, protocol: i32, to: SocketAddr) -> io::Result<()> {
    let socket = sys::socket(domain(to), kind, protocol)?;
    sys::connect(socket.as_fd(), &address::inet(to))
}

/// Brought along: connected by TCP and UDP, and a socket that was never used. By TCP it is seen when the agent has looked.
fn brought(t: &Targets) -> io::Result<()> {
    let (early, late) = (udp((t.v4, 0).into())?, udp((t.v4, 0).into())?);
    let connection = stream((t.v4, t.served).into())?;
    sys::connect(early.as_fd(), &address::inet((t.v4, 5007).into()))?;
    // What came so far does not count.
    heard()?;
    enter(t)?;
    wait_for_end(&connection);
    let said = sys::send(connection.as_fd(), WORDS, libc::MSG_NOSIGNAL, &[]);
    let kept = sys::send(early.as_fd(), WORDS, 0, &[]);
    let sent = sys::send(late.as_fd(), WORDS, 0, &address::inet((t.v4, 5008).into()));
    said.and(kept).and(sent)
}

/// Made in the cgroup before it is tagged. The guard keeps its packets, so what is tried is whether the connection lives.
fn made(t: &Targets) -> io::Result<()> {
    File::options().write(true).open(&t.later)?.write_all(b"0")?;
    let connection = stream((t.v4, t.served).into())?;
    let datagrams = udp((t.v4, 0).into())?;
    sys::connect(datagrams.as_fd(), &address::inet((t.v4, 5009).into()))?;
    // It is tagged now.
    heard()?;
    wait_for_end(&connection);
    let _refused = sys::send(datagrams.as_fd(), WORDS, 0, &[]);
    sys::send(connection.as_fd(), WORDS, libc::MSG_NOSIGNAL, &[])
}

/// Until a connection that nobody says anything on is dead, or the agent has had time enough.
fn wait_for_end(connection: &OwnedFd) {
    let until = Instant::now() + LOOKED;
    let mut wanted = [PollFd::new(connection.as_fd(), PollFlags::POLLIN)];
    while Instant::now() < until {
        let left = PollTimeout::try_from(until.saturating_duration_since(Instant::now()));
        match poll(&mut wanted, left.unwrap_or(PollTimeout::ZERO)) {
            Err(Errno::EINTR) => {}
            _ => return,
        }
    }
}

/// `TCP_REPAIR`: a connection without a handshake; switched off again, it sends a probe of its window.
fn tcp_repair(to: SocketAddr) -> io::Result<()> {
    let socket = tcp(to)?;
    let repair = |on: i32| {
        sys::set(
            socket.as_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            &on.to_ne_bytes(),
        )
    };
    repair(1)?;
    sys::connect(socket.as_fd(), &address::inet(to))?;
    repair(0)?;
    sys::send(socket.as_fd(), WORDS, libc::MSG_NOSIGNAL, &[])
}

fn tcp_reconnect(to: SocketAddr) -> io::Result<()> {
    let socket = stream(to)?;
    sys::connect(socket.as_fd(), &address::none())?;
    sys::connect(socket.as_fd(), &address::inet(to))
}

fn bind_device(t: &Targets) -> io::Result<()> {
    let to = SocketAddr::from((t.v4, 90));
    let bind = |socket: &OwnedFd| {
        sys::set(
            socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            t.device.as_bytes(),
        )
    };
    let socket = tcp(to)?;
    bind(&socket)?;
    sys::connect(socket.as_fd(), &address::inet(to))?;
    // After the connect: what is sent to the agent's address would go out by the device.
    bind(&socket)?;
    let _refused = sys::send(socket.as_fd(), WORDS, libc::MSG_NOSIGNAL, &[]);
    let datagram = udp(to)?;
    bind(&datagram)?;
    sys::send(datagram.as_fd(), WORDS, 0, &address::inet(to))
}

fn transparent(t: &Targets) -> io::Result<()> {
    let (to, source) = (
        SocketAddr::from((t.v4, 91)),
        SocketAddr::from(([203, 0, 113, 77], 0)),
    );
    let bound = |socket: OwnedFd| {
        sys::set(
            socket.as_fd(),
            libc::IPPROTO_IP,
            libc::IP_TRANSPARENT,
            &1_i32.to_ne_bytes(),
        )?;
        sys::bind(socket.as_fd(), &address::inet(source))?;
        Ok::<_, io::Error>(socket)
    };
    let sent = bound(udp(to)?).and_then(|s| sys::send(s.as_fd(), WORDS, 0, &address::inet(to)));
    bound(tcp(to)?)
        .and_then(|s| sys::connect(s.as_fd(), &address::inet(to)))
        .and(sent)
}

pub(super) fn raw(t: &Targets) -> io::Result<()> {
    let to = address::inet((t.v4, 0).into());
    let icmp = sys::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
        .and_then(|s| sys::send(s.as_fd(), &[8, 0, 0xf7, 0xfe, 0, 0, 0, 1], 0, &to));
    let own_header = sys::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW).and_then(|s| {
        let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 17, 0, 0];
        packet.extend(t.here.octets());
        packet.extend(t.v4.octets());
        packet.extend([0x13, 0x88, 0x13, 0x88, 0, 8, 0, 0]);
        sys::send(s.as_fd(), &packet, 0, &to)
    });
    icmp.and(own_header)
}

/// Writes a frame to the device.
fn frame(socket: &OwnedFd, t: &Targets) -> io::Result<()> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ETHERTYPE.to_be_bytes());
    frame.extend(WORDS);
    frame.resize(64, 0);
    sys::send(socket.as_fd(), &frame, 0, &address::link(t.index))
}

/// Those families that a kernel may have beside the ones that are doors of their own: made, one is open.
fn other_family() -> io::Result<()> {
    const FAMILIES: [i32; 14] = [3, 4, 5, 9, 21, 24, 26, 29, 30, 31, 36, 38, 41, 43];
    let mut refused = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
    for family in FAMILIES {
        for kind in [
            libc::SOCK_SEQPACKET,
            libc::SOCK_DGRAM,
            libc::SOCK_RAW,
            libc::SOCK_STREAM,
        ] {
            match sys::socket(family, kind, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => refused = error,
                Err(_) => {}
            }
        }
    }
    Err(refused)
}

/// Says on standard output that it is ready, and waits for the test's word.
fn heard() -> io::Result<()> {
    println!("\"Ready\"");
    io::stdout().flush()?;
    let mut word = [0];
    io::stdin().read_exact(&mut word)
}

/// Whether somebody in the other namespace gets an answer.
fn listen_tcp(t: &Targets) -> io::Result<()> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, t.port))?;
    heard()?;
    listener.set_nonblocking(true)?;
    listener.accept().map(drop)
}

fn listen_udp(t: &Targets) -> io::Result<()> {
    let socket = udp((t.v4, 0).into())?;
    sys::bind(
        socket.as_fd(),
        &address::inet(address::any(IpAddr::V4(t.v4), t.port)),
    )?;
    heard()?;
    sys::receive(socket.as_fd(), &mut [0; 64]).map(drop)
}

fn unix(name: &[u8]) -> io::Result<()> {
    let socket = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    sys::connect(socket.as_fd(), &address::unix(name))
}

/// A file system where nobody outside sees it.
fn mounted(namespaces: CloneFlags) -> io::Result<()> {
    unshare(namespaces)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    Ok(mount(
        Some("none"),
        "/mnt",
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )?)
}

/// A socket that was made outside, received.
fn given(t: &Targets) -> io::Result<OwnedFd> {
    let socket = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    sys::connect(
        socket.as_fd(),
        &address::unix(t.giver.as_os_str().as_encoded_bytes()),
    )?;
    let mut byte = [0];
    let mut vectors = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message = recvmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &mut vectors,
        Some(&mut space),
        MsgFlags::empty(),
    )?;
    let found = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(all) => all.first().copied(),
        _ => None,
    });
    let fd = found.ok_or(io::ErrorKind::NotFound)?;
    Ok(sys::adopt(fd))
}

/// RTM_SETLINK for a device, changing nothing, with an answer asked for (rtnetlink(7)).
fn set_link(index: u32) -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend(32_u32.to_ne_bytes());
    message.extend(19_u16.to_ne_bytes());
    message.extend(5_u16.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]);
    message
}

/// The answer's errno (struct nlmsgerr).
fn acknowledged(socket: &OwnedFd) -> io::Result<()> {
    let mut answer = [0; 256];
    let n = sys::receive(socket.as_fd(), &mut answer)?;
    let code = answer
        .get(16..20)
        .filter(|_| n >= 20)
        .and_then(|b| b.try_into().ok());
    match code.map_or(0, i32::from_ne_bytes) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(-errno)),
    }
}
