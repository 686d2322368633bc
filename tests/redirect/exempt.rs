//! What passes by exemption, what others begin, and where a workload may listen.

use std::{
    io::ErrorKind,
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use portcullis::redirect::bpf::{Exempt, Outcome};

use crate::guard::{Cgroup, Netns, Pins, Workload, count, healthy, ip, isolated};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Another host: a namespace at the other end of a cable, 192.0.2.254 and 2001:db8::fe to the test's 192.0.2.1 and
/// 2001:db8::1.
fn neighbour() -> Netns {
    let there = Netns::new();
    ip(&format!("link add v0 type veth peer name v1 netns {}", there.0));
    ip("link set v0 up");
    ip("addr add 192.0.2.1/24 dev v0");
    ip("addr add 2001:db8::1/64 dev v0 nodad");
    for command in [
        "link set lo up",
        "link set v1 up",
        "addr add 192.0.2.254/24 dev v1",
        "addr add 2001:db8::fe/64 dev v1 nodad",
    ] {
        ip(&format!("-n {} {command}", there.0));
    }
    there
}

/// Does something in another namespace.
fn inside<T: Send + 'static>(netns: &Netns, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = std::fs::File::open(format!("/run/netns/{}", netns.0)).unwrap();
    let thread = std::thread::spawn(move || {
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// Nanoseconds since boot, so many seconds from now.
fn in_seconds(seconds: u64) -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
    let seconds = u64::try_from(now.tv_sec()).unwrap() + seconds;
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

fn words(address: &str) -> [u32; 4] {
    let address: std::net::IpAddr = address.parse().unwrap();
    let v6 = match address {
        std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        std::net::IpAddr::V6(v6) => v6,
    };
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(v6.octets().chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().unwrap());
    }
    words
}

fn rule(protocol: u8, address: &str, (first, last): (u16, u16)) -> Exempt {
    Exempt {
        until_ns: in_seconds(60),
        addr: words(address),
        mask: [u32::MAX; 4],
        first,
        last,
        protocol,
        ..Exempt::default()
    }
}

#[test]
fn what_is_exempt_passes_and_nothing_beside_it() {
    isolated(|| async {
        let there = neighbour();
        let (pins, cgroup, other) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let (id, other_id) = (control.tag(&cgroup.0).unwrap(), control.tag(&other.0).unwrap());
        let echo = inside(&there, || {
            let echo = UdpSocket::bind("192.0.2.254:5001").unwrap();
            let server = TcpListener::bind("[2001:db8::fe]:5432").unwrap();
            (echo, server)
        });
        let rules = [
            rule(UDP, "192.0.2.254", (5000, 5001)),
            rule(TCP, "2001:db8::fe", (5432, 5432)),
        ];
        control.set_exemptions(&rules).unwrap();
        control.exempt(id, 0b11).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        assert_eq!(workload.ask("udp-ask 192.0.2.254:5001 hello"), "ok 5");
        let mut buffer = [0; 16];
        let (length, from) = echo.0.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello");
        echo.0.send_to(b"back", from).unwrap();
        assert_eq!(workload.ask("udp-hear"), "ok back 192.0.2.254:5001");
        assert!(workload.ask("tcp [2001:db8::fe]:5432").starts_with("ok"));
        assert_eq!(workload.ask("say hello"), "ok");
        let (_stream, from) = echo.1.accept().unwrap();
        assert_eq!(from.ip().to_string(), "2001:db8::1");
        for command in [
            "udp-send 192.0.2.254:5002",
            "udp-send 192.0.2.253:5001",
            "udp-send [2001:db8::fe]:5001",
        ] {
            assert_eq!(workload.ask(command), "err EPERM", "{command}");
        }
        assert_eq!(count(&control, id, Outcome::Exempt), 2);
        let used = control.exemptions_used(2).unwrap();
        assert!(used.iter().all(|used| *used > 2), "{used:?}");
        assert_eq!(count(&control, id, Outcome::IngressDropped), 0);
        // It is one workload's.
        let mut stranger = Workload::new(&other.0);
        assert_eq!(stranger.ask("udp-send 192.0.2.254:5001"), "err EPERM");
        assert_eq!(count(&control, other_id, Outcome::Exempt), 0);
        // And it ends by itself, for what is open, too.
        let ended = rules.map(|rule| Exempt {
            until_ns: in_seconds(0),
            ..rule
        });
        control.set_exemptions(&ended).unwrap();
        control.exempt(id, 0b11).unwrap();
        assert_eq!(workload.ask("udp-ask 192.0.2.254:5001 hello"), "err EPERM");
        assert_eq!(workload.ask("say again"), "ok");
        let before = count(&control, id, Outcome::EgressDropped);
        crate::guard::until("the packet is dropped", || {
            count(&control, id, Outcome::EgressDropped) > before || before > 0
        })
        .await;
        assert_eq!(control.exemptions_used(2).unwrap(), [0, 0]);
        healthy(&control);
    });
}

#[test]
fn a_workload_listens_for_this_host_alone() {
    isolated(|| async {
        let there = neighbour();
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        for (command, wanted) in [
            ("bind tcp 192.0.2.1:8080", "err EPERM"),
            ("bind udp 192.0.2.1:8080", "err EPERM"),
            ("bind tcp [2001:db8::1]:8080", "err EPERM"),
            ("bind udp [::ffff:192.0.2.1]:8080", "err EPERM"),
            ("bind tcp 127.0.0.2:8081", "ok"),
            ("bind udp [::1]:8081", "ok"),
            ("bind tcp [::ffff:127.0.0.1]:8082", "ok"),
            ("bind udp 0.0.0.0:8083", "ok"),
        ] {
            assert_eq!(workload.ask(command), wanted, "{command}");
        }
        assert_eq!(count(&control, id, Outcome::BindDenied), 4);
        assert_eq!(workload.ask("listen [::]:8080"), "ok");
        let connect = |to: &'static str| {
            inside(&there, move || {
                TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_millis(300)).map(drop)
            })
        };
        for to in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
            let before = count(&control, id, Outcome::IngressDropped);
            assert_eq!(connect(to).unwrap_err().kind(), ErrorKind::TimedOut, "{to}");
            assert!(count(&control, id, Outcome::IngressDropped) > before, "{to}");
        }
        assert!(workload.ask("accept").starts_with("err"), "nobody came");
        TcpStream::connect("127.0.0.1:8080").unwrap();
        assert!(workload.ask("accept").starts_with("ok"), "this host came");
        // By a rule, for one neighbour.
        let listen = Exempt {
            listen: 1,
            ..rule(TCP, "192.0.2.254", (8080, 8080))
        };
        control.set_exemptions(&[listen]).unwrap();
        control.exempt(id, 1).unwrap();
        connect("192.0.2.1:8080").unwrap();
        assert_eq!(workload.ask("accept").split(':').nth(3), Some("192.0.2.254]"));
        assert!(connect("[2001:db8::1]:8080").is_err());
        assert_eq!(workload.ask("bind tcp 192.0.2.1:8080"), "err EADDRINUSE");
        assert_eq!(workload.ask("bind tcp 192.0.2.1:8081"), "err EPERM");
        healthy(&control);
    });
}
