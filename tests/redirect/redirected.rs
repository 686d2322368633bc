//! A connect arrives, with who and where; and only then.

use std::sync::atomic::Ordering;

use portcullis::redirect::{
    BpfRedirector, Redirector as _,
    bpf::{Outcome, Site},
    process,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::guard::{Cgroup, DEADLINE, Pins, Workload, count, healthy, isolated, next, uplink};

#[test]
fn a_connect_arrives_with_who_and_where() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        for (asked, local, seen) in [
            ("127.5.6.7:443", "127.0.0.1:", "127.5.6.7:443"),
            ("203.0.113.9:80", "127.0.0.1:", "203.0.113.9:80"),
            ("[2001:db8::7]:443", "[::1]:", "[2001:db8::7]:443"),
            ("[::1]:8443", "[::1]:", "[::1]:8443"),
            // Asked for through an IPv6 socket; kept as what it is.
            (
                "[::ffff:203.0.113.9]:8444",
                "[::ffff:127.0.0.1]:",
                "203.0.113.9:8444",
            ),
            // Its own listener: not a way around; what to make of it is for the agent to say.
            ("127.0.0.1:15001", "127.0.0.1:", "127.0.0.1:15001"),
        ] {
            let answer = workload.ask(&format!("tcp {asked}"));
            assert!(
                answer.starts_with(&format!("ok {asked} {local}")),
                "getpeername, getsockname: {answer}"
            );
            let redirected = next(&mut agent).await;
            assert_eq!(redirected.original_dst.0.to_string(), seen);
            let origin = redirected.origin;
            assert_eq!((origin.tagged, origin.cgroup), (id, id));
            assert_eq!((origin.pid, origin.tid), (workload.pid(), workload.pid()));
            assert_eq!((origin.uid, origin.gid), (0, 0));
            let process = process::resolve(&origin);
            let exe = process.exe.expect("the process is still there");
            assert!(exe.ends_with("redirect-workload"), "{}", exe.display());
            let below = process.cgroup.expect("the process is still there");
            assert!(cgroup.0.ends_with(below.trim_start_matches('/')), "{below}");
        }
        assert_eq!(count(&control, id, Outcome::TcpRedirected), 6);
        healthy(&control);
    });
}

#[test]
fn a_source_address_of_its_own_choice_does_not_matter() {
    isolated(|| async {
        uplink();
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        for (source, address) in [
            ("0.0.0.0:0", "203.0.113.9:80"),
            ("127.0.0.3:15001", "203.0.113.9:81"),
            ("127.9.9.9:0", "203.0.113.9:82"),
            ("[::1]:0", "[2001:db8::7]:80"),
            ("[::]:0", "[2001:db8::7]:81"),
        ] {
            let answer = workload.ask(&format!("tcp-from {source} {address}"));
            assert_eq!(answer, "ok", "{source} {address}");
            assert_eq!(next(&mut agent).await.original_dst.0.to_string(), address);
        }
        // One that others could connect to.
        for (source, address) in [
            ("192.0.2.1:0", "203.0.113.9:80"),
            ("[2001:db8::1]:0", "[2001:db8::7]:80"),
        ] {
            assert_eq!(
                workload.ask(&format!("tcp-from {source} {address}")),
                "err EPERM",
                "{source}"
            );
        }
        healthy(&control);
    });
}

#[test]
fn bytes_pass_both_ways() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        workload.ask("tcp 203.0.113.9:80");
        assert_eq!(workload.ask("say hello"), "ok");
        let mut stream = next(&mut agent).await.stream;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        stream.write_all(b"world").await.unwrap();
        drop(stream);
        assert_eq!(workload.ask("hear"), "ok world");
    });
}

#[test]
fn an_untagged_sibling_is_untouched() {
    isolated(|| async {
        let (pins, cgroup, sibling) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        let listener = TcpListener::bind("127.0.0.1:8080").await.unwrap();
        let mut other = Workload::new(&sibling.0);
        let answer = other.ask("tcp 127.0.0.1:8080");
        assert!(answer.starts_with("ok 127.0.0.1:8080"), "{answer}");
        let accepted = tokio::time::timeout(DEADLINE, listener.accept()).await;
        assert!(accepted.is_ok_and(|accepted| accepted.is_ok()));
        assert_eq!(other.ask("udp-send 127.0.0.1:9999"), "ok 1");
        assert_eq!(other.ask("socket 2 3 1"), "ok");
    });
}

#[test]
fn descendants_belong_to_their_nearest_tag() {
    isolated(|| async {
        let (pins, top) = (Pins::new(), Cgroup::new());
        let middle = Cgroup::below(&top.0, "middle");
        let leaf = Cgroup::below(&middle.0, "leaf");
        let (mut agent, control) = pins.start();
        let top_id = control.tag(&top.0).unwrap();
        let mut workload = Workload::new(&leaf.0);
        let mut arrives = async |tagged| {
            let answer = workload.ask("tcp 203.0.113.9:80");
            assert!(answer.starts_with("ok 203.0.113.9:80"), "{answer}");
            let redirected = next(&mut agent).await;
            assert_eq!(redirected.origin.tagged, tagged);
            assert_ne!(redirected.origin.cgroup, tagged);
            assert_eq!(redirected.original_dst.0.to_string(), "203.0.113.9:80");
        };
        arrives(top_id).await;
        // Within a tag: its own from now on, redirected once and not twice.
        let middle_id = control.tag(&middle.0).unwrap();
        arrives(middle_id).await;
        assert_eq!(count(&control, top_id, Outcome::TcpRedirected), 1);
        // The outer one goes: its hooks pass to the inner.
        control.untag(top_id).unwrap();
        arrives(middle_id).await;
        // And comes back around it.
        let top_id = control.tag(&top.0).unwrap();
        arrives(middle_id).await;
        control.untag(middle_id).unwrap();
        arrives(top_id).await;
        assert!(control.attached().unwrap().iter().all(|program| program.ok));
        healthy(&control);
    });
}

#[test]
fn who_was_not_redirected_is_closed() {
    isolated(|| async {
        let pins = Pins::new();
        let (mut agent, _control) = pins.start();
        let mut outside = Workload::outside();
        let answer = outside.ask("tcp 127.0.0.1:15001");
        assert!(answer.starts_with("ok"), "{answer}");
        refuses_one(&mut agent).await;
        // Closed without a byte.
        assert_eq!(outside.ask("hear"), "ok");
    });
}

/// The next one on that port must not come in its name.
#[test]
fn a_refused_connect_leaves_nothing_behind() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        drop((agent, control));
        let mut workload = Workload::new(&cgroup.0);
        let refused = workload.ask("tcp-from 127.0.0.1:40000 203.0.113.9:80");
        assert_eq!(refused, "err ECONNREFUSED");
        let (mut agent, control) = pins.start();
        let mut outside = Workload::outside();
        assert_eq!(outside.ask("tcp-from 127.0.0.1:40000 127.0.0.1:15001"), "ok");
        refuses_one(&mut agent).await;
        healthy(&control);
    });
}

/// Runs the agent until it has closed a connection that was not redirected.
async fn refuses_one(agent: &mut BpfRedirector) {
    let refused = agent.refused();
    let refusal = async {
        tokio::select! {
            _ = agent.next_connection() => panic!("was taken for a workload's"),
            () = async { while refused.load(Ordering::Relaxed) == 0 { tokio::task::yield_now().await } } => {}
        }
    };
    tokio::time::timeout(DEADLINE, refusal)
        .await
        .expect("nothing came");
}

/// The socket is the workload's, and so are its hooks; the one who connects is nobody's.
#[test]
fn a_socket_used_outside_of_its_workload_is_denied_and_counted() {
    isolated(|| async {
        let (pins, cgroup, outside) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        assert_eq!(workload.ask("tcp-keep"), "ok");
        // Not by itself, which would end it.
        std::fs::write(outside.0.join("cgroup.procs"), workload.pid().to_string()).unwrap();
        assert_eq!(workload.ask("tcp-kept 203.0.113.9:80"), "err EPERM");
        let errors = control.errors().unwrap();
        assert!(errors.contains(&(Site::ConnectUntagged, 1)), "{errors:?}");
    });
}

#[test]
fn another_network_namespace_is_denied() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let path = cgroup.0.clone();
        isolated(move || async move {
            let mut elsewhere = Workload::new(&path);
            assert_eq!(elsewhere.ask("tcp 203.0.113.9:80"), "err ECONNREFUSED");
            assert_eq!(elsewhere.ask("udp-send 127.0.0.1:53"), "err ECONNREFUSED");
        });
        assert_eq!(count(&control, id, Outcome::NetnsUnknown), 2);
        healthy(&control);
    });
}
