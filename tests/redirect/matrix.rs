//! The door matrix: a hostile program tries every way out, as root, while a capture behind the only device counts what
//! arrives there. It is made by this test, outside of the workload, and sees a frame of its own before it is believed.

use std::{
    fs::Permissions,
    net::UdpSocket,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, socket},
};
use portcullis::redirect::bpf::Outcome;
use tempfile::TempDir;

use crate::guard::{Cgroup, DEADLINE, Pins, count, healthy, isolated, uplink};

/// The attempts; what each answers while its hooks are there, or nothing where that depends on the kernel; what counts it.
const ATTEMPTS: &[(&str, Option<&str>, Option<Outcome>)] = &[
    ("tcp4", None, Some(Outcome::TcpRedirected)),
    ("tcp6", None, Some(Outcome::TcpRedirected)),
    ("tcp-mapped", None, Some(Outcome::TcpRedirected)),
    ("fastopen", None, Some(Outcome::TcpRedirected)),
    ("repair", None, Some(Outcome::TcpRedirected)),
    ("reconnect", None, Some(Outcome::TcpRedirected)),
    ("device-tcp", None, Some(Outcome::TcpRedirected)),
    ("device-tcp-late", None, Some(Outcome::TcpRedirected)),
    ("device-udp", Some("err EPERM"), Some(Outcome::UdpDenied)),
    ("transparent-tcp", Some("err EPERM"), Some(Outcome::BindDenied)),
    ("transparent-udp", Some("err EPERM"), Some(Outcome::BindDenied)),
    ("udp4", Some("err EPERM"), Some(Outcome::UdpDenied)),
    ("udp6", Some("err EPERM"), Some(Outcome::UdpDenied)),
    ("udp-mapped", Some("err EPERM"), Some(Outcome::UdpDenied)),
    ("udp-connected4", Some("err EPERM"), Some(Outcome::UdpDenied)),
    ("udp-connected6", Some("err EPERM"), Some(Outcome::UdpDenied)),
    ("udp-cork", Some("err EPERM"), Some(Outcome::UdpDenied)),
    ("quic4", Some("err EPERM"), Some(Outcome::QuicDenied)),
    ("quic6", Some("err EPERM"), Some(Outcome::QuicDenied)),
    ("raw-icmp", Some("err EPERM"), Some(Outcome::SocketDenied)),
    ("raw-own-header", Some("err EPERM"), Some(Outcome::SocketDenied)),
    ("raw6", Some("err EPERM"), Some(Outcome::SocketDenied)),
    ("ping", None, None),
    ("mptcp", Some("err EPERM"), Some(Outcome::SocketDenied)),
    ("sctp", None, None),
    ("udplite", None, None),
    ("io-uring-connect", None, None),
    ("io-uring-send", None, None),
    ("io-uring-send-polled", None, None),
    ("io-uring-raw", None, None),
    ("user-namespace", None, None),
    // Killed, or refused where the host takes LSM programs.
    ("mount-namespace", None, Some(Outcome::MountDenied)),
    // Run by nobody. The helper says so if it does not run as it should: as root, or as nobody all the same.
    ("setuid:tcp4", None, Some(Outcome::TcpRedirected)),
    ("setuid:udp4", Some("err EPERM"), Some(Outcome::UdpDenied)),
    ("setuid:raw-icmp", Some("err EPERM"), Some(Outcome::SocketDenied)),
    (
        "setuid:raw-own-header",
        Some("err EPERM"),
        Some(Outcome::SocketDenied),
    ),
    ("setuid:packet", None, Some(Outcome::FamilyDenied)),
    ("setuid-nnp:tcp4", None, Some(Outcome::TcpRedirected)),
    ("setuid-nnp:udp4", Some("err EPERM"), Some(Outcome::UdpDenied)),
    ("setuid-nnp:raw-icmp", Some("err EPERM"), None),
    ("setuid-nnp:packet", None, Some(Outcome::FamilyDenied)),
];

/// The program, built by the host's compiler.
struct Hostile {
    _directory: TempDir,
    program: PathBuf,
}

impl Hostile {
    fn build() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("hostile");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("redirect/hostile/hostile.c");
        let built = Command::new("cc")
            .args(["-O1", "-Wall", "-Werror", "-o"])
            .arg(&program)
            .arg(source)
            .output()
            .expect("these tests need a C compiler");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        // For anybody to run, and once more as a set-user-id helper is.
        let mode = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        mode(directory.path(), 0o755);
        let helper = directory.path().join("hostile-setuid");
        std::fs::copy(&program, &helper).unwrap();
        mode(&helper, 0o4755);
        Self {
            _directory: directory,
            program,
        }
    }

    /// `ok`, `err NAME`, or `killed`.
    fn try_it(&self, cgroup: &Path, attempt: &str) -> String {
        let said = Command::new(&self.program)
            .arg(cgroup)
            .arg(attempt)
            .output()
            .unwrap();
        match said.status.code() {
            Some(0) => String::from_utf8(said.stdout).unwrap().trim_end().to_owned(),
            Some(code) => panic!("{attempt}: exit {code}"),
            None => "killed".into(),
        }
    }
}

/// What arrives at the other end of the device.
struct Capture {
    socket: OwnedFd,
    index: usize,
}

impl Capture {
    fn start() -> Self {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
        .unwrap();
        // It hears loopback, too: nothing may be dropped for want of room.
        let room = 128_usize << 20;
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &room).unwrap();
        let index = usize::try_from(if_nametoindex("v1").unwrap()).unwrap();
        let capture = Self { socket, index };
        // It sees what passes: a frame of this test's own.
        let outside = UdpSocket::bind("192.0.2.1:0").unwrap();
        outside.send_to(b"x", "192.0.2.254:5000").unwrap();
        assert_eq!(capture.frames(), 1, "the capture sees nothing");
        capture
    }

    /// Frames since the last time: all that were sent before, as a mark that is sent now comes after them. What any device
    /// sends by itself (multicast) is not counted.
    fn frames(&self) -> usize {
        let mark: [u8; 16] = rand::random();
        let outside = UdpSocket::bind("192.0.2.1:0").unwrap();
        outside.send_to(&mark, "192.0.2.254:9").unwrap();
        let (start, mut count, mut buffer) = (Instant::now(), 0, [0; 65536]);
        while start.elapsed() < DEADLINE {
            let Ok((n, from)) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) else {
                std::thread::yield_now();
                continue;
            };
            // Sent by v0, received by v1: seen at both.
            if from.map(|from| from.ifindex()) != Some(self.index) {
                continue;
            }
            let frame = &buffer[..n];
            if frame.ends_with(&mark) {
                return count;
            }
            let multicast = frame[0] & 1 == 1;
            let to_mark = frame.get(36..38) == Some(&[0, 9]) && frame.get(23) == Some(&17);
            count += usize::from(!multicast && !to_mark);
        }
        panic!("the mark did not arrive");
    }
}

#[test]
fn not_one_packet_leaves_by_any_door() {
    isolated(|| async {
        uplink();
        let (hostile, capture) = (Hostile::build(), Capture::start());
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        for (attempt, answer, outcome) in ATTEMPTS {
            let before = outcome.map(|outcome| count(&control, id, outcome));
            let said = hostile.try_it(&cgroup.0, attempt);
            if let Some(answer) = answer {
                assert_eq!(said, *answer, "{attempt}");
            }
            if let (Some(outcome), Some(before)) = (outcome, before) {
                assert!(
                    count(&control, id, *outcome) > before,
                    "{attempt}: {said}, not counted"
                );
            }
            assert_eq!(capture.frames(), 0, "{attempt}: {said}");
        }
        healthy(&control);
        // The daemon is gone: what it attached is not.
        drop((agent, control));
        for (attempt, ..) in ATTEMPTS {
            let said = hostile.try_it(&cgroup.0, attempt);
            assert_eq!(capture.frames(), 0, "{attempt}: {said}");
        }
    });
}

/// Links are updated, listeners and agents end and begin again, and other cgroups are tagged and removed, while the program
/// tries one door after the other.
#[test]
fn not_one_packet_leaves_while_agents_and_a_hundred_cgroups_come_and_go() {
    isolated(|| async {
        uplink();
        let (hostile, capture) = (Hostile::build(), Capture::start());
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        drop((agent, control));
        let done = Arc::new(AtomicBool::new(false));
        let (over, path) = (Arc::clone(&done), cgroup.0.clone());
        // Started here: a thread has the network namespace of the one that starts it.
        let trying = std::thread::spawn(move || {
            let mut tried = 0_u64;
            while !over.load(Ordering::Relaxed) {
                for (attempt, ..) in ATTEMPTS {
                    hostile.try_it(&path, attempt);
                    tried += 1;
                }
            }
            tried
        });
        for _ in 0..10 {
            let (_agent, control) = pins.start();
            for _ in 0..10 {
                let other = Cgroup::new();
                let other_id = control.tag(&other.0).unwrap();
                drop(other);
                control.untag(other_id).unwrap();
                assert_eq!(capture.frames(), 0);
            }
            assert!(control.attached().unwrap().iter().all(|program| program.ok));
        }
        done.store(true, Ordering::Relaxed);
        let tried = trying.join().unwrap();
        assert!(tried >= ATTEMPTS.len() as u64);
        assert_eq!(capture.frames(), 0, "after {tried} attempts");
        let (_agent, control) = pins.start();
        let counted = &control.counted().unwrap()[&id];
        let get = |outcome| counted.counters.get(outcome);
        assert!(get(Outcome::TcpSent) <= get(Outcome::TcpRedirected));
        assert_eq!(
            get(Outcome::TcpSent),
            get(Outcome::TcpAccepted) + get(Outcome::TcpAbandoned) + counted.in_flight
        );
    });
}
