//! Where attempts are aimed: a network namespace of the test's own at the end of a device, and a capture in it that sees
//! each frame that arrives; and what there is to reach on this host.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
};

use super::{address, attempts::ETHERTYPE, sys};

/// RFC 5737, RFC 3849: addresses that are nobody's.
pub(super) const HERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(super) const THERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(super) const THERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x5e1f, 0, 0, 0, 0, 2);
/// The host's end, and the other.
pub(super) const DEVICE: &str = "pcst0";
const PEER: &str = "pcst1";
/// The discard port: for the frames by which the capture knows that it has seen all before them.
const MARK: u16 = 9;
/// The flag of TCP's header.
const RST: u8 = 4;
/// Where somebody listens in the namespace, for connections that are made before they may not be.
pub(super) const SERVED: u16 = 7;
/// How long a mark may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The namespace, as long as it is needed.
pub(super) struct Range {
    capture: OwnedFd,
    /// A TCP and a UDP socket in it, for attempts that listen.
    tcp: OwnedFd,
    udp: OwnedFd,
    _server: TcpListener,
    pub(super) netns: OwnedFd,
    pub(super) index: u32,
}

struct There {
    capture: OwnedFd,
    tcp: OwnedFd,
    udp: OwnedFd,
    server: TcpListener,
    netns: OwnedFd,
}

fn ip(line: &str) -> anyhow::Result<()> {
    let said = Command::new("ip").args(line.split(' ')).output();
    let said = said.context("ip(8) is needed (package iproute2)")?;
    if !said.status.success() {
        bail!("ip {line}: {}", String::from_utf8_lossy(&said.stderr).trim());
    }
    Ok(())
}

impl Range {
    /// Makes it. Needs root.
    pub(super) fn make() -> anyhow::Result<Self> {
        let _left_by_one_that_was_killed = ip(&format!("link del {DEVICE}"));
        let host = std::process::id();
        let there = std::thread::spawn(move || there(host));
        let there = there
            .join()
            .map_err(|_| anyhow::anyhow!("the thread in the namespace ended"))??;
        let index = if_nametoindex(DEVICE)?;
        let range = Self {
            capture: there.capture,
            tcp: there.tcp,
            udp: there.udp,
            _server: there.server,
            netns: there.netns,
            index,
        };
        ip(&format!("addr add {HERE}/30 dev {DEVICE}"))?;
        ip(&format!("link set {DEVICE} up"))?;
        ip(&format!(
            "neigh replace {THERE} lladdr 02:00:00:00:00:01 dev {DEVICE} nud permanent"
        ))?;
        // A host without IPv6 has no such way out.
        let v6 = ip(&format!("-6 addr add 2001:db8:5e1f::1/64 dev {DEVICE} nodad")).and_then(|()| {
            ip(&format!(
                "-6 neigh replace {THERE6} lladdr 02:00:00:00:00:01 dev {DEVICE} nud permanent"
            ))
        });
        if let Err(error) = v6 {
            tracing::debug!("without IPv6: {error:#}");
        }
        range
            .frames()
            .context("a frame from outside of the workload did not arrive")?;
        Ok(range)
    }

    /// How many frames to the target or from it have arrived since the last time. All that were sent before are seen:
    /// a frame of this process's own, sent now, comes after them.
    pub(super) fn frames(&self) -> anyhow::Result<usize> {
        let mark: [u8; 16] = rand::random();
        UdpSocket::bind((HERE, 0))?.send_to(&mark, (THERE, MARK))?;
        let until = Instant::now() + PATIENCE;
        let (mut count, mut buffer) = (0, vec![0; 65536]);
        loop {
            match sys::receive(self.capture.as_fd(), &mut buffer) {
                Ok(n) => {
                    let frame = buffer.get(..n).unwrap_or_default();
                    if frame.ends_with(&mark) {
                        return Ok(count);
                    }
                    count += usize::from(counts(frame));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = until.saturating_duration_since(Instant::now());
                    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                    let mut wanted = [PollFd::new(self.capture.as_fd(), PollFlags::POLLIN)];
                    if left.is_zero() || poll(&mut wanted, timeout)? == 0 {
                        bail!("the capture does not see this test's own frames");
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Connects from there to here, and does not wait long.
    pub(super) fn knock(&self, port: u16) {
        let to = address::inet(SocketAddr::from((HERE, port)));
        // 300 ms, as struct timeval.
        let mut brief = [0; 16];
        brief[8..].copy_from_slice(&300_000_i64.to_ne_bytes());
        let _best_effort = sys::set(self.tcp.as_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, &brief);
        let _no_answer = sys::connect(self.tcp.as_fd(), &to);
        // What it still repeats would be taken for a later attempt's.
        let _dissolved = sys::connect(self.tcp.as_fd(), &address::none());
    }

    /// Sends a datagram from there to here.
    pub(super) fn drop_in(&self, port: u16) {
        let to = address::inet(SocketAddr::from((HERE, port)));
        let _refused = sys::send(self.udp.as_fd(), super::attempts::WORDS, 0, &to);
    }

    /// The namespace, as a path that another process of root's can open.
    pub(super) fn path(&self) -> std::path::PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_raw_fd()).into()
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        let _gone = ip(&format!("link del {DEVICE}"));
    }
}

/// On a thread that ends with this: the namespace lives as long as its sockets.
fn there(host: u32) -> anyhow::Result<There> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace cannot be made; this needs root")?;
    ip("link set lo up")?;
    ip(&format!(
        "link add {PEER} address 02:00:00:00:00:01 type veth peer name {DEVICE} address 02:00:00:00:00:02 netns {host}"
    ))?;
    ip(&format!("addr add {THERE}/30 dev {PEER}"))?;
    ip(&format!("link set {PEER} up"))?;
    ip(&format!(
        "neigh replace {HERE} lladdr 02:00:00:00:00:02 dev {PEER} nud permanent"
    ))?;
    let _without_ipv6 = ip(&format!("-6 addr add {THERE6}/64 dev {PEER} nodad"));
    let all = 3_u16.to_be();
    let capture = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, all.into())?;
    sys::bind(capture.as_fd(), &address::link(if_nametoindex(PEER)?))?;
    Ok(There {
        capture,
        tcp: sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?,
        udp: sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?,
        server: TcpListener::bind((THERE, SERVED))?,
        netns: File::open("/proc/thread-self/ns/net")?.into(),
    })
}

/// Whether a frame is an attempt's: of AF_PACKET, or IP to either end. What a host sends by any new device (multicast,
/// neighbour discovery) is not; nor is a reset of TCP, which carries nothing and ends what there was.
fn counts(frame: &[u8]) -> bool {
    let word = |at: usize| {
        frame
            .get(at..at + 2)
            .and_then(|b| b.try_into().ok())
            .map(u16::from_be_bytes)
    };
    match word(12) {
        Some(ETHERTYPE) => true,
        Some(0x0800) => {
            let to = frame.get(30..34);
            let is_mark = frame.get(23) == Some(&17) && word(36) == Some(MARK);
            // What the target's kernel says of a mark: that nobody listens.
            let is_answer = frame.get(23) == Some(&1) && frame.get(26..30) == Some(&THERE.octets());
            let header = frame.get(14).map_or(0, |first| usize::from(first & 0xf) * 4);
            let flags = frame.get(14 + header + 13).copied().unwrap_or(0);
            let is_reset = frame.get(23) == Some(&6) && flags & RST != 0;
            (to == Some(&THERE.octets()) || to == Some(&HERE.octets())) && !is_mark && !is_answer && !is_reset
        }
        Some(0x86dd) => frame.get(38..54) == Some(&THERE6.octets()) && frame.get(20) != Some(&58),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_attempts_count_and_others_do_not() {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
        frame.extend(HERE.octets());
        frame.extend(THERE.octets());
        frame.extend([0x13, 0x88, 0x13, 0x88, 0, 8, 0, 0]);
        assert!(counts(&frame));
        let mut mark = frame.clone();
        mark[36..38].copy_from_slice(&MARK.to_be_bytes());
        assert!(!counts(&mark));
        let mut multicast = frame.clone();
        multicast[30..34].copy_from_slice(&[224, 0, 0, 251]);
        assert!(!counts(&multicast));
        let mut reset = frame.clone();
        reset.resize(54, 0);
        reset[23] = 6;
        reset[47] = 0x10;
        assert!(counts(&reset), "an acknowledgement");
        reset[47] = RST;
        assert!(!counts(&reset));
        let mut raw = frame;
        raw[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
        assert!(counts(&raw));
        assert!(!counts(&[]) && !counts(&[0; 14]));
    }
}
