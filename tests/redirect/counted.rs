//! What is sent is accepted, abandoned or in flight, and counted once as each.

use std::fs;

use portcullis::redirect::{Control, bpf::Outcome};

use crate::guard::{Cgroup, DEADLINE, Pins, Workload, healthy, isolated, next};

/// `(redirected, sent, accepted, abandoned, in flight)`
fn counted(control: &Control, cgroup: portcullis::model::CgroupId) -> (u64, u64, u64, u64, u64) {
    let all = control.counted().unwrap();
    let counted = all[&cgroup];
    let get = |outcome| counted.counters.get(outcome);
    (
        get(Outcome::TcpRedirected),
        get(Outcome::TcpSent),
        get(Outcome::TcpAccepted),
        get(Outcome::TcpAbandoned),
        counted.in_flight,
    )
}

#[test]
fn each_connection_is_counted_once_at_every_step() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        for address in ["203.0.113.9:80", "[2001:db8::7]:80", "[::ffff:203.0.113.9]:81"] {
            assert!(workload.ask(&format!("tcp {address}")).starts_with("ok"));
            next(&mut agent).await;
        }
        assert_eq!(counted(&control, id), (3, 3, 3, 0, 0));
        // One port for all: the second connect finds none, and sends nothing.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 20000").unwrap();
        assert!(workload.ask("tcp 203.0.113.9:80").starts_with("ok"));
        assert_eq!(workload.ask("tcp 203.0.113.10:80"), "err EADDRNOTAVAIL");
        assert_eq!(counted(&control, id), (5, 4, 4, 0, 0));
        // Nobody listens: sent, and refused.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 29999").unwrap();
        drop((agent, control));
        assert_eq!(workload.ask("tcp 203.0.113.9:80"), "err ECONNREFUSED");
        let (_agent, control) = pins.start();
        assert_eq!(counted(&control, id), (6, 5, 4, 1, 0));
        healthy(&control);
    });
}

/// An agent that does not accept: its queue fills, and what is not in it is in flight until the workload gives up.
#[test]
fn what_waits_for_a_full_queue_is_in_flight_and_then_abandoned() {
    isolated(|| async {
        fs::write("/proc/sys/net/core/somaxconn", "1").unwrap();
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        for i in 0..6 {
            // Those that get no answer give up after 200 ms, and those that do are reset.
            workload.ask(&format!("tcp-brief 203.0.113.9:{}", 80 + i));
        }
        let start = std::time::Instant::now();
        loop {
            let now = counted(&control, id);
            let (redirected, sent, accepted, abandoned, in_flight) = now;
            assert_eq!((redirected, sent), (6, 6), "{now:?}");
            assert_eq!(sent, accepted + abandoned + in_flight, "{now:?}");
            if in_flight == 0 {
                assert!(accepted >= 1 && abandoned >= 1, "{now:?}");
                break;
            }
            assert!(start.elapsed() < DEADLINE, "{now:?}");
            std::thread::yield_now();
        }
        healthy(&control);
    });
}
