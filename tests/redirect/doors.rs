//! The other doors: UDP, raw sockets, devices; and the guard under them.

use portcullis::redirect::bpf::Outcome;

use crate::guard::{Cgroup, Pins, Workload, count, healthy, isolated, next, uplink};

#[test]
fn udp_is_denied_and_quic_is_told_apart() {
    isolated(|| async {
        uplink();
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        let quic = [
            "udp-connect 192.0.2.254:443",
            "udp-send 192.0.2.254:443",
            "udp-connect [2001:db8::fe]:443",
            "udp-send [2001:db8::fe]:443",
            "udp-send [::ffff:192.0.2.254]:443",
        ];
        let denied = [
            "udp-connect 192.0.2.254:123",
            "udp-send [2001:db8::fe]:123",
            "udp-send 127.0.0.1:5353",
            "udp-send 127.0.0.1:15001",
            "udp-send [::1]:15001",
            "udp-device v0 192.0.2.254:53",
        ];
        for command in quic.iter().chain(&denied) {
            assert_eq!(workload.ask(command), "err EPERM", "{command}");
        }
        assert_eq!(count(&control, id, Outcome::QuicDenied), quic.len() as u64);
        assert_eq!(count(&control, id, Outcome::UdpDenied), denied.len() as u64);
        assert_eq!(count(&control, id, Outcome::DnsRedirected), 0);
        assert_eq!(count(&control, id, Outcome::EgressDropped), 0);
        healthy(&control);
    });
}

#[test]
fn without_the_hooks_the_guard_still_keeps_packets_in() {
    isolated(|| async {
        uplink();
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        for program in ["connect4", "connect6", "sendmsg4", "sendmsg6", "sock_create"] {
            std::fs::remove_file(pins.link(id, program)).unwrap();
        }
        let missing = control.attached().unwrap();
        assert_eq!(missing.iter().filter(|program| !program.ok).count(), 5);
        let mut workload = Workload::new(&cgroup.0);
        // A link that is unpinned is detached a little later.
        for (command, wanted) in [
            ("udp-send 127.0.0.1:9999", "ok 1"),
            ("udp-send [::1]:9999", "ok 1"),
            ("tcp 127.0.0.1:9999", "err ECONNREFUSED"),
            ("tcp [::1]:9999", "err ECONNREFUSED"),
            ("socket 2 3 1", "ok"),
        ] {
            workload.until(command, wanted);
        }
        for command in [
            "udp-send 192.0.2.254:443",
            "udp-send [2001:db8::fe]:443",
            "udp-send [::ffff:192.0.2.254]:5300",
            "ping 192.0.2.254:0",
        ] {
            assert_eq!(workload.ask(command), "err EPERM", "{command}");
        }
        assert_eq!(count(&control, id, Outcome::EgressDropped), 4);
        for command in ["tcp-brief 192.0.2.254:443", "tcp-brief [2001:db8::fe]:443"] {
            let before = count(&control, id, Outcome::EgressDropped);
            assert!(workload.ask(command).starts_with("err"), "{command}");
            assert!(count(&control, id, Outcome::EgressDropped) > before, "{command}");
        }
        // DNS, too.
        assert_eq!(workload.ask("udp-send 192.0.2.254:53"), "err EPERM");
        assert_eq!(workload.ask("udp-send [2001:db8::fe]:53"), "err EPERM");
        assert_eq!(workload.ask("udp-options 127.0.0.1:9999"), "err EPERM");
        // An address of loopback that would leave by a device.
        assert_eq!(workload.ask("udp-device v0 127.0.0.1:9999"), "err EPERM");
        // Loopback itself is not the guard's business.
        assert_eq!(workload.ask("udp-send 127.0.0.1:9999"), "ok 1");
        healthy(&control);
    });
}

#[test]
fn sockets_that_cannot_be_redirected_cannot_be_made() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        for (socket, what) in [
            ("2 3 1", "raw ICMP"),
            ("2 3 255", "raw IP"),
            ("10 3 58", "raw ICMPv6"),
            ("2 1 262", "MPTCP"),
            ("10 1 262", "MPTCP over IPv6"),
        ] {
            assert_eq!(workload.ask(&format!("socket {socket}")), "err EPERM", "{what}");
        }
        assert_eq!(count(&control, id, Outcome::SocketDenied), 5);
        // Not in every kernel, and ping not for everybody: refused in one way or another.
        for (socket, what) in [
            ("2 2 1", "ping"),
            ("2 2 136", "UDP-Lite"),
            ("2 1 132", "SCTP"),
            ("2 5 132", "SCTP"),
        ] {
            let answer = workload.ask(&format!("socket {socket}"));
            assert!(answer.starts_with("err"), "{what}: {answer}");
        }
        for (socket, what) in [
            ("2 1 0", "TCP"),
            ("10 1 6", "TCP"),
            ("2 2 0", "UDP"),
            ("10 2 17", "UDP"),
        ] {
            assert_eq!(workload.ask(&format!("socket {socket}")), "ok", "{what}");
        }
        healthy(&control);
    });
}

#[test]
fn a_socket_bound_to_a_device_is_redirected_all_the_same() {
    isolated(|| async {
        uplink();
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        for address in ["203.0.113.9:80", "[2001:db8::7]:80"] {
            let answer = workload.ask(&format!("tcp-device v0 {address}"));
            assert!(answer.starts_with("ok"), "{answer}");
            assert_eq!(next(&mut agent).await.original_dst.0.to_string(), address);
        }
        healthy(&control);
    });
}

#[test]
fn a_socket_older_than_the_tag_is_caught_too() {
    isolated(|| async {
        uplink();
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let mut workload = Workload::new(&cgroup.0);
        assert_eq!(workload.ask("udp-keep 192.0.2.254:443"), "ok");
        assert_eq!(workload.ask("udp-kept"), "ok 1");
        let id = control.tag(&cgroup.0).unwrap();
        // Connected before: no hook asks about it again, so it is the guard that answers.
        assert_eq!(workload.ask("udp-kept"), "err EPERM");
        assert_eq!(count(&control, id, Outcome::EgressDropped), 1);
    });
}
