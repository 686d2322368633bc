//! Sockets older than the tag: made in the cgroup before it, or brought by a process that comes in later.
//!
//! Servers are on loopback, where the guard under the hooks lets packets pass: what keeps bytes from them is that the
//! connection is destroyed.

use std::{collections::BTreeSet, io::ErrorKind, net::UdpSocket, path::Path, time::Instant};

use portcullis::{config::Brought, redirect::Outcome};
use portcullis_abi::{Tag, guard::flag};

use crate::{
    guard::{Cgroup, DEADLINE, Workload, count, healthy, isolated, next, uplink},
    older_rig::{Connected, Python, Rig, only},
};

#[test]
fn what_was_made_inside_is_destroyed_at_a_first_tag() {
    isolated(|| async {
        let mut rig = Rig::new();
        let mut workloads: Vec<Workload> = (0..3).map(|_| Workload::new(&rig.cgroup.0)).collect();
        let v4 = Connected::new(&mut workloads[0], "127.0.0.1:0");
        let v6 = Connected::new(&mut workloads[1], "[::1]:0");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = udp.local_addr().unwrap();
        assert_eq!(workloads[2].ask(&format!("udp-keep {to}")), "ok");
        assert_eq!(workloads[2].ask("udp-kept"), "ok 1");
        udp.recv(&mut [0; 8]).unwrap();
        // Somebody else's, whom no tag concerns.
        let mut other = Workload::outside();
        let mut free = Connected::new(&mut other, "127.0.0.1:0");

        let id = rig.control.tag(&rig.cgroup.0).unwrap();
        assert!(rig.control.is_new(id));
        let began = Instant::now();
        let looked = rig.control.settle_older(id, Brought::End).unwrap();
        println!(
            "three sockets of three processes were destroyed in {:?}",
            began.elapsed()
        );
        assert!(!rig.control.is_new(id) && looked.passing.is_empty());
        let pids: Vec<u32> = looked.processes.iter().map(|settled| settled.pid).collect();
        let mut expected: Vec<u32> = workloads.iter().map(Workload::pid).collect();
        expected.sort_unstable();
        assert_eq!(pids, expected);
        for settled in &looked.processes {
            assert_eq!(
                (settled.destroyed, settled.left, settled.ended),
                (1, 0, false),
                "{settled:?}"
            );
            assert_eq!(settled.command, "redirect-worklo");
            assert!(settled.exe.as_ref().unwrap().ends_with("redirect-workload"));
            assert_eq!(settled.parents[0].pid, std::process::id());
            assert_eq!(settled.sockets[0].made, "inside");
        }
        let all = looked.processes.iter().flat_map(|settled| &settled.sockets);
        let told: BTreeSet<&str> = all.filter_map(|socket| socket.remote.as_deref()).collect();
        let udp_address = to.to_string();
        assert_eq!(told, BTreeSet::from([v4.1.as_str(), v6.1.as_str(), &udp_address]));

        assert_eq!(workloads[0].ask("say after"), "err ECONNABORTED");
        assert_eq!(workloads[1].ask("say after"), "err ECONNABORTED");
        v4.ends_dead();
        v6.ends_dead();
        assert!(workloads[2].ask("udp-kept").starts_with("err"));
        udp.set_nonblocking(true).unwrap();
        assert_eq!(udp.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        free.lives(&mut other);
        // What they connect to next is decided.
        let answer = workloads[0].ask("tcp 203.0.113.9:80");
        assert!(answer.starts_with("ok 203.0.113.9:80"), "{answer}");
        assert_eq!(
            next(&mut rig.agent).await.original_dst.0.to_string(),
            "203.0.113.9:80"
        );
        healthy(&rig.control);
    });
}

#[test]
fn what_listens_stays_where_it_might_be_bound() {
    isolated(|| async {
        uplink();
        let rig = Rig::new();
        let mut listening: Vec<(&str, Workload)> = ["127.0.0.1:7001", "0.0.0.0:7002", "192.0.2.1:7003"]
            .into_iter()
            .map(|at| {
                let mut workload = Workload::new(&rig.cgroup.0);
                assert_eq!(workload.ask(&format!("listen {at}")), "ok");
                (at, workload)
            })
            .collect();
        let (_, looked) = rig.tag();
        let settled = only(&looked.processes);
        assert_eq!(
            (settled.pid, settled.destroyed, settled.ended),
            (listening[2].1.pid(), 1, false)
        );
        assert_eq!(settled.sockets[0].local.as_deref(), Some("192.0.2.1:7003"));
        for (at, workload) in &mut listening {
            let wanted = if *at == "192.0.2.1:7003" {
                "err EINVAL"
            } else {
                "err EAGAIN"
            };
            assert_eq!(workload.ask("accept"), wanted, "{at}");
        }
        healthy(&rig.control);
    });
}

#[test]
fn who_brings_a_connection_is_ended_and_it_is_dead() {
    isolated(|| async {
        let (rig, id) = Rig::tagged();
        let mut events = rig.control.guard_events().unwrap().unwrap();
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let mut workload = Workload::outside();
            let connected = Connected::new(&mut workload, at);
            assert!(workload.ask(&rig.join()).starts_with("ok"));
            let event = tokio::time::timeout(DEADLINE, events.next())
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                portcullis::redirect::guard::outcome(&event),
                Some(Outcome::ProcessArrived)
            );
            assert_eq!((event.tagged, event.pid), (id.0, workload.pid()));
            let began = Instant::now();
            let looked = rig.arrived(id, Brought::End);
            println!("from the kernel's word to the end: {:?}", began.elapsed());
            let settled = only(&looked.processes);
            assert_eq!(
                (settled.pid, settled.destroyed, settled.ended),
                (workload.pid(), 1, true)
            );
            assert_eq!(settled.sockets[0].made, "outside");
            connected.ends_dead();
            // Ended: it says nothing any more.
            assert_eq!(workload.answer(), "");
        }
        assert_eq!(count(&rig.control, id, Outcome::ProcessArrived), 2);
        healthy(&rig.control);
    });
}

#[test]
fn what_is_brought_is_reset_or_let_as_configured() {
    isolated(|| async {
        let (mut rig, id) = Rig::tagged();
        let mut workload = Workload::outside();
        let mut connected = Connected::new(&mut workload, "127.0.0.1:0");
        workload.ask(&rig.join());
        let looked = rig.arrived(id, Brought::Allow);
        let settled = only(&looked.processes);
        assert_eq!((settled.destroyed, settled.left, settled.ended), (0, 1, false));
        connected.lives(&mut workload);
        let looked = rig.arrived(id, Brought::Reset);
        let settled = only(&looked.processes);
        assert_eq!((settled.destroyed, settled.left, settled.ended), (1, 0, false));
        assert_eq!(workload.ask("say after"), "err ECONNABORTED");
        connected.ends_dead();
        let answer = workload.ask("tcp 203.0.113.9:80");
        assert!(answer.starts_with("ok"), "{answer}");
        next(&mut rig.agent).await;
        healthy(&rig.control);
    });
}

/// No list of the kernel's has a socket that is neither bound nor connected; the hooks tell the one from the other.
#[test]
fn a_socket_that_was_never_used_is_told_from_one_made_inside() {
    isolated(|| async {
        let (mut rig, id) = Rig::tagged();
        let join = rig.join();
        let mut inside = Workload::outside();
        inside.ask(&join);
        assert_eq!(inside.ask("tcp-keep"), "ok");
        let looked = rig.arrived(id, Brought::End);
        assert_eq!(looked.processes, []);
        // It has not been changed by being looked at.
        assert_eq!(inside.ask("tcp-kept 203.0.113.9:80"), "ok");
        next(&mut rig.agent).await;

        let mut brought = Workload::outside();
        assert_eq!(brought.ask("tcp-keep"), "ok");
        brought.ask(&join);
        let looked = rig.arrived(id, Brought::End);
        let settled = only(&looked.processes);
        assert_eq!(
            (settled.pid, settled.left, settled.ended),
            (brought.pid(), 1, true)
        );
        assert_eq!(brought.answer(), "");
        assert!(inside.ask("tcp-keep").starts_with("ok"), "it goes on");
        healthy(&rig.control);
    });
}

#[test]
fn another_network_namespace_is_looked_into() {
    isolated(|| async {
        let rig = Rig::new();
        let mut workload = Workload::new(&rig.cgroup.0);
        assert!(workload.ask("unshare").starts_with("ok"));
        assert_eq!(workload.ask("listen 127.0.0.1:7000"), "ok");
        assert!(workload.ask("tcp 127.0.0.1:7000").starts_with("ok"));
        assert_eq!(workload.ask("say before"), "ok");
        let (id, looked) = rig.tag();
        // The client, and what waits to be accepted, which no process has. Whichever is first resets the other.
        let own = looked
            .processes
            .iter()
            .find(|settled| settled.pid == workload.pid());
        assert_eq!(own.map(|settled| settled.ended), Some(false));
        let after = workload.ask("say after");
        assert!(
            after == "err ECONNABORTED" || after == "err ECONNRESET",
            "{after}"
        );

        let mut brought = Workload::outside();
        assert!(brought.ask("unshare").starts_with("ok"));
        assert_eq!(brought.ask("listen 127.0.0.1:7000"), "ok");
        brought.ask(&rig.join());
        let looked = rig.arrived(id, Brought::End);
        let settled = only(&looked.processes);
        assert_eq!(
            (settled.pid, settled.destroyed, settled.ended),
            (brought.pid(), 1, true)
        );
        healthy(&rig.control);
    });
}

#[test]
fn what_was_redirected_goes_on_through_tags_and_restarts() {
    isolated(|| async {
        let Rig {
            mut agent,
            control,
            cgroup,
            pins,
        } = Rig::new();
        let mut early = Workload::new(&cgroup.0);
        let older = Connected::new(&mut early, "127.0.0.1:0");
        let id = control.tag(&cgroup.0).unwrap();
        let mut late = Workload::new(&cgroup.0);
        assert!(late.ask("tcp 203.0.113.9:80").starts_with("ok"));
        let redirected = next(&mut agent).await;
        // The agent ends before it has dealt with what is older: the next one knows.
        drop((agent, control));
        let (_agent, control) = pins.start();
        assert!(control.is_new(id));
        control.tag(&cgroup.0).unwrap();
        let looked = control.settle_older(id, Brought::End).unwrap();
        assert_eq!(only(&looked.processes).pid, early.pid());
        assert_eq!(early.ask("say after"), "err ECONNABORTED");
        older.ends_dead();
        assert_eq!(late.ask("say on"), "ok");

        // Another tag of the same cgroup, below it, or a restart is no first one.
        control.tag(&cgroup.0).unwrap();
        assert!(!control.is_new(id));
        let inner = Cgroup::below(&cgroup.0, "inner");
        let below = control.tag(&inner.0).unwrap();
        assert!(!control.is_new(below));
        drop(control);
        drop(_agent);
        let (_agent, control) = pins.start();
        assert!(!control.is_new(id));
        let looked = control.settle_older(id, Brought::End).unwrap();
        assert_eq!(looked.processes, []);
        assert_eq!(late.ask("say on"), "ok");
        drop(redirected);
        // Taken away and tagged anew, it is one.
        control.untag(id).unwrap();
        assert!(!control.is_new(id));
        control.tag(&cgroup.0).unwrap();
        assert!(control.is_new(id));
        healthy(&control);
    });
}

/// Its child has its listener until it executes, as a service's process has those of the service manager.
const FORK: &str = "
import os, socket, sys
s = socket.create_server(('127.0.0.1', 0))
pid = os.fork()
if pid == 0:
    open(sys.argv[1] + '/cgroup.procs', 'w').write('0')
    print(os.getpid(), flush=True)
    sys.stdin.buffer.raw.read(1)
    os.execvp('sh', ['sh', '-c', 'echo executed; read line; echo ended'])
os.waitpid(pid, 0)
s.listen()
print('parent', flush=True)
";

#[test]
fn who_is_about_to_execute_is_waited_for_and_what_is_shared_is_left() {
    isolated(|| async {
        let (rig, id) = Rig::tagged();
        let mut python = Python::new(FORK, &[&rig.cgroup.0]);
        let pid: u32 = python.line().parse().unwrap();
        let looked = rig.arrived(id, Brought::End);
        assert_eq!(
            (looked.processes.len(), &looked.passing),
            (0, &BTreeSet::from([pid]))
        );
        python.go_on();
        assert_eq!(python.line(), "executed");
        let looked = rig.arrived(id, Brought::End);
        assert_eq!((looked.processes.len(), looked.passing.len()), (0, 0));
        python.go_on();
        assert_eq!(python.line(), "ended");

        let mut python = Python::new(FORK, &[&rig.cgroup.0]);
        let pid: u32 = python.line().parse().unwrap();
        let looked = rig.late(id, &[pid]);
        let settled = only(&looked.processes);
        assert_eq!(
            (settled.pid, settled.destroyed, settled.left, settled.ended),
            (pid, 0, 1, true)
        );
        // The listener is the parent's as well, and still listens.
        assert_eq!(python.line(), "parent");
        healthy(&rig.control);
    });
}

const PACKET: &str = "
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
open(sys.argv[1] + '/cgroup.procs', 'w').write('0')
print('ready', flush=True)
sys.stdin.read(1)
print('alive', flush=True)
";

#[test]
fn a_socket_that_no_hook_sees_ends_who_has_it() {
    isolated(|| async {
        let rig = Rig::new();
        let mut early = Python::new(PACKET, &[&rig.cgroup.0]);
        assert_eq!(early.line(), "ready");
        let (id, looked) = rig.tag();
        let settled = only(&looked.processes);
        assert_eq!((settled.pid, settled.ended), (early.pid(), true));
        assert_eq!(settled.sockets[0].kind, "packet");
        assert_eq!(early.line(), "");
        let flags = Tag {
            flags: flag::FAMILIES,
        };
        rig.control.tag_as(&rig.cgroup.0, flags).unwrap();
        let mut late = Python::new(PACKET, &[&rig.cgroup.0]);
        assert_eq!(late.line(), "ready");
        let looked = rig.arrived(id, Brought::End);
        assert_eq!(looked.processes, []);
        late.go_on();
        assert_eq!(late.line(), "alive");
        healthy(&rig.control);
    });
}

/// As systemd starts a service from version 254 on, where the kernel lets it.
#[test]
fn who_is_started_in_the_cgroup_from_outside_has_come_in() {
    isolated(|| async {
        let rig = Rig::new();
        let id = rig.control.tag(&rig.cgroup.0).unwrap();
        let mut events = rig.control.guard_events().unwrap().unwrap();
        let into = rig.cgroup.0.to_str().unwrap();
        let started = crate::escapes::attempt(Path::new(""), &["clone-into", into]);
        assert!(
            matches!(&started, crate::escapes::Attempt::Said(said) if said.contains("child runs")),
            "{started:?}"
        );
        let event = tokio::time::timeout(DEADLINE, events.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            portcullis::redirect::guard::outcome(&event),
            Some(Outcome::ProcessArrived)
        );
        assert_eq!(
            (event.tagged, count(&rig.control, id, Outcome::ProcessArrived)),
            (id.0, 1)
        );
        assert_ne!(event.pid, event.by);
        healthy(&rig.control);
    });
}
