//! Workloads in network namespaces other than the agent's.

use std::{fs, path::Path, process::Command};

use e2e::container::Bundle;
use nix::sched::{CloneFlags, setns};
use portcullis::redirect::{
    BpfRedirector, Control, Redirector as _,
    bpf::{MAX_NAMESPACES_EACH, Outcome},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    guard::{Cgroup, DEADLINE, Netns, Pins, Workload, ask, count, healthy, ip, isolated, next, until},
    older_rig::Python,
};

/// A listener in a named namespace.
fn listener_in(netns: &Netns, address: &'static str) -> std::net::TcpListener {
    let file = fs::File::open(Path::new("/run/netns").join(&netns.0)).unwrap();
    let thread = std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        std::net::TcpListener::bind(address).unwrap()
    });
    thread.join().unwrap()
}

#[test]
fn the_first_connect_in_a_named_namespace_is_redirected_and_goes_on_from_there() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let netns = Netns::new();
        // Loopback is down until now, and the agent listens all the same.
        until("prepared", || !control.namespaces().is_empty()).await;
        ip(&format!("-n {} link set lo up", netns.0));
        let mut workload = Workload::by(&cgroup.0, &format!("ip netns exec {}", netns.0));
        for (asked, seen) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[2001:db8::7]:443", "[2001:db8::7]:443"),
            ("[::ffff:203.0.113.9]:443", "203.0.113.9:443"),
        ] {
            let answer = workload.ask(&format!("tcp {asked}"));
            assert!(answer.starts_with(&format!("ok {asked}")), "{answer}");
            let redirected = next(&mut agent).await;
            assert_eq!(redirected.original_dst.0.to_string(), seen);
            assert_eq!(
                (redirected.origin.tagged, redirected.origin.pid),
                (id, workload.pid())
            );
            let namespace = redirected.namespace.expect("another namespace");
            assert_eq!(namespace.cookie(), redirected.origin.netns);
            assert!(control.namespaces().contains(&namespace.cookie()));
        }
        // Upstream, from inside.
        let server = listener_in(&netns, "127.0.0.1:8080");
        assert!(
            tokio::net::TcpStream::connect("127.0.0.1:8080").await.is_err(),
            "not here"
        );
        assert!(workload.ask("tcp 127.0.0.1:8080").starts_with("ok"));
        let mut redirected = next(&mut agent).await;
        let to = redirected.original_dst.0;
        let socket = redirected.namespace.as_ref().unwrap().socket(to).await.unwrap();
        let mut upstream = socket.connect(to).await.unwrap();
        upstream.write_all(b"hello").await.unwrap();
        drop(upstream);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut server.accept().unwrap().0, &mut text).unwrap();
        assert_eq!(text, "hello");
        // Back to the workload.
        redirected.stream.write_all(text.as_bytes()).await.unwrap();
        drop(redirected);
        assert_eq!(workload.ask("hear"), "ok hello");
        // DNS.
        assert_eq!(workload.ask("udp-ask 192.0.2.53:53 question"), "ok 8");
        let mut redirected = next(&mut agent).await;
        assert_eq!(redirected.original_dst.0.to_string(), "192.0.2.53:53");
        assert!(redirected.namespace.is_some());
        assert_eq!(redirected.stream.read_u16().await.unwrap(), 8);
        redirected.stream.read_exact(&mut [0; 8]).await.unwrap();
        redirected.stream.write_all(b"\0\x06answer").await.unwrap();
        let (workload, answer) = ask(workload, "udp-hear").await;
        assert_eq!(answer, "ok answer 192.0.2.53:53");
        assert_eq!(count(&control, id, Outcome::NetnsUnknown), 0);
        drop(workload);
        healthy(&control);
    });
}

/// The agent's own descriptors do not keep a namespace alive: a device in it goes, and so does its peer here.
#[test]
fn a_namespace_that_nobody_needs_is_let_go() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (_agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        let netns = Netns::new();
        ip(&format!(
            "link add here type veth peer name there netns {}",
            netns.0
        ));
        until("prepared", || !control.namespaces().is_empty()).await;
        let workload = Workload::by(&cgroup.0, &format!("ip netns exec {}", netns.0));
        // Once it answers, it is inside.
        let (workload, answer) = ask(workload, "socket 2 1 0").await;
        assert_eq!(answer, "ok");
        drop(netns);
        // A process of a workload still has it.
        tokio::time::timeout(std::time::Duration::from_secs(6), async {
            until("never", || control.namespaces().is_empty()).await;
        })
        .await
        .expect_err("let go too early");
        drop(workload);
        until("let go", || control.namespaces().is_empty()).await;
        until("gone", || {
            let found = Command::new("ip")
                .args(["link", "show", "here"])
                .output()
                .unwrap();
            !found.status.success()
        })
        .await;
    });
}

/// What no mount names is known when a socket is made there: what comes before that is known to the agent is denied.
#[test]
fn a_namespace_of_a_workloads_own_making_is_denied_until_it_is_prepared() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        assert!(workload.ask("unshare").starts_with("ok"));
        // This thread runs the agent, which so cannot be quick.
        assert_eq!(workload.ask("tcp 203.0.113.9:80"), "err ECONNREFUSED");
        assert_eq!(workload.ask("udp-ask 192.0.2.53:53 question"), "err ECONNREFUSED");
        assert_eq!(count(&control, id, Outcome::NetnsUnknown), 2);
        until("prepared", || !control.namespaces().is_empty()).await;
        assert!(workload.ask("tcp 203.0.113.9:80").starts_with("ok"));
        let redirected = next(&mut agent).await;
        assert_eq!(redirected.origin.pid, workload.pid());
        assert!(redirected.namespace.is_some());
        healthy(&control);
    });
}

/// Programs that are executed in a namespace of their own, each of which then connects at once: how many were refused.
async fn refused(cgroup: &Path, agent: &mut BpfRedirector, control: &Control, rounds: usize) -> usize {
    let (mut refused, mut inside) = (0, Vec::new());
    for _ in 0..rounds {
        let before = control.namespaces();
        let workload = Workload::by(cgroup, "unshare -n sh -c 'ip link set lo up; exec \"$0\"'");
        let (mut workload, answer) = ask(workload, "tcp 203.0.113.9:80").await;
        if answer == "err ECONNREFUSED" {
            refused += 1;
            until("prepared", || {
                control.namespaces().iter().any(|one| !before.contains(one))
            })
            .await;
            let (again, answer) = ask(workload, "tcp 203.0.113.9:80").await;
            assert!(answer.starts_with("ok"), "{answer}");
            workload = again;
        }
        let redirected = next(agent).await;
        assert_eq!(redirected.origin.pid, workload.pid());
        inside.push(workload);
    }
    refused
}

/// Nothing names these but the processes in them, and the first program there makes no socket that a cgroup's hook sees:
/// that it is executed is what tells. This thread runs the agent, on a machine that may be busy: one or the other first
/// connect may still be too early.
#[test]
fn the_first_connect_in_a_namespace_without_a_name_is_redirected() {
    const ROUNDS: usize = 20;
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let with = refused(&cgroup.0, &mut agent, &control, ROUNDS).await;
        assert_eq!(count(&control, id, Outcome::NetnsUnknown), with as u64);
        healthy(&control);
        for program in ["task_forked", "task_executed"] {
            fs::remove_file(pins.host_link(program)).unwrap();
        }
        let without = refused(&cgroup.0, &mut agent, &control, ROUNDS).await;
        println!("{with} of {ROUNDS} first connects refused, {without} without being told at exec");
        assert!(with < without);
    });
}

/// crun(1) as root, on a root directory made of busybox: a container's own namespace.
#[test]
fn a_container_is_redirected() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        let bundle = Bundle::busybox("until busybox wget -q -O - http://203.0.113.9/; do :; done").unwrap();
        let container = bundle.run(&cgroup.0).unwrap();
        let mut redirected = tokio::time::timeout(DEADLINE, agent.next_connection())
            .await
            .expect("no connection arrived")
            .unwrap();
        assert_eq!(redirected.original_dst.0.to_string(), "203.0.113.9:80");
        assert!(redirected.namespace.is_some());
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nmasked";
        redirected.stream.write_all(answer.as_bytes()).await.unwrap();
        redirected.stream.shutdown().await.unwrap();
        let done = tokio::task::spawn_blocking(move || container.wait_with_output().unwrap());
        let done = done.await.unwrap();
        assert!(done.status.success(), "{done:?}");
        assert_eq!(String::from_utf8_lossy(&done.stdout), "masked");
        healthy(&control);
    });
}

/// Children, each in a network namespace of its own, and with a socket there.
const CROWD: &str = "
import ctypes, os, signal, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
open(sys.argv[1] + '/cgroup.procs', 'w').write('0')
libc.prctl(1, 9)
for _ in range(int(sys.argv[2])):
    if not os.fork():
        libc.prctl(1, 9)
        if libc.unshare(0x40000000): sys.exit(1)
        s = socket.socket()
        while True: signal.pause()
print('ready', flush=True)
signal.pause()
";

/// One workload makes as many as it can, and another one's first is served all the same.
#[test]
fn a_workload_has_no_more_than_its_share() {
    isolated(|| async {
        const MORE: usize = 8;
        let (pins, hostile, other) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&hostile.0).unwrap();
        control.tag(&other.0).unwrap();
        let crowd = (MAX_NAMESPACES_EACH + MORE).to_string();
        let mut crowd = Python::new(CROWD, &[hostile.0.to_str().unwrap(), &crowd]);
        assert_eq!(crowd.line(), "ready");
        let refused = || control.namespaces_refused();
        until("all of them are seen", || refused() == [(id, MORE as u64)]).await;
        assert_eq!(control.namespaces().len(), MAX_NAMESPACES_EACH);
        let workload = Workload::by(&other.0, "unshare -n sh -c 'ip link set lo up; exec \"$0\"'");
        until("another one's is prepared", || {
            control.namespaces().len() == MAX_NAMESPACES_EACH + 1
        })
        .await;
        let (workload, answer) = ask(workload, "tcp 203.0.113.9:80").await;
        assert!(answer.starts_with("ok"), "{answer}");
        assert_eq!(next(&mut agent).await.origin.pid, workload.pid());
        // What has gone makes room for what comes.
        drop(crowd);
        until("the share is free again", || {
            refused().is_empty() && control.namespaces().len() == 1
        })
        .await;
        healthy(&control);
    });
}
