//! No connection is ever taken for another, however hard ports are reused.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering,
    time::Duration,
};

use portcullis::redirect::{Redirected, Redirector as _, bpf::Outcome};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::guard::{Cgroup, DEADLINE, Pins, Workload, count, healthy, isolated, times};

const WORKLOADS: u32 = 4;
/// All workloads are through, and nothing comes any more.
const QUIET: Duration = Duration::from_secs(2);

/// Connections of one workload.
fn each() -> u32 {
    times(5_000)
}

/// Four processes on 150 source ports, every connection reset at once, and an agent that pauses while they pile up. The
/// look-up by peer address that this design avoids was wrong for nearly half of them.
#[test]
fn twenty_thousand_connections_from_150_ports_keep_their_destinations() {
    isolated(|| async {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 20149").unwrap();
        let all = u64::from(WORKLOADS * each());
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let workloads: Vec<_> = (0..WORKLOADS).map(|_| Workload::new(&cgroup.0)).collect();
        let pids: Vec<u32> = workloads.iter().map(Workload::pid).collect();
        let storm = tokio::task::spawn_blocking(move || storm(workloads));
        let (mut right, mut empty, mut seen) = (0_u64, 0_u64, 0_u64);
        let mut expected = None;
        tokio::pin!(storm);
        while expected != Some(seen) {
            tokio::select! {
                redirected = agent.next_connection() => {
                    let redirected = redirected.unwrap();
                    let pid = redirected.origin.pid;
                    match said(redirected).await {
                        Some((said, found)) => {
                            assert_eq!((said, pid), (found, pids[whose(said)]), "after {right} right ones");
                            right += 1;
                        }
                        None => empty += 1,
                    }
                    seen += 1;
                    if seen % 500 == 0 {
                        pause().await;
                    }
                }
                refused = &mut storm, if expected.is_none() => expected = Some(all - refused.unwrap()),
                // One whose reset came before the listener took the handshake's last packet is never accepted.
                () = tokio::time::sleep(QUIET), if expected.is_some() => break,
            }
        }
        let lost = expected.unwrap() - seen;
        let unknown = agent.refused().load(Ordering::Relaxed);
        let story = format!(
            "{right} right, {empty} reset before they were read, {lost} never handed on ({unknown} without a record)"
        );
        println!("{story}");
        assert!(right > all / 2 && lost < all / 100, "{story}");
        assert_eq!(count(&control, id, Outcome::TcpRedirected), all);
        healthy(&control);
    });
}

/// Tells all to go, and waits for all: how many connects found every port in use.
fn storm(mut workloads: Vec<Workload>) -> u64 {
    for (i, workload) in (0..).zip(&mut workloads) {
        workload.tell(&format!("storm {} {}", i * each(), each()));
    }
    let refused = workloads.iter_mut().map(|workload| {
        let answer = workload.answer();
        let refused = answer.strip_prefix("ok ").map(str::parse::<u64>);
        refused.unwrap_or_else(|| panic!("{answer}")).unwrap()
    });
    refused.sum()
}

/// Which workload asks for this destination.
fn whose(address: SocketAddr) -> usize {
    let IpAddr::V4(ip) = address.ip() else {
        panic!("{address}")
    };
    let [_, a, b, c] = ip.octets();
    (u32::from_be_bytes([0, a - 1, b, c]) / each()) as usize
}

/// The agent under load: what the kernel queues meanwhile is what this test is about.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(40)).await;
}

/// What the workload said it asked for, and what the record says; `None` when the reset came first.
async fn said(mut redirected: Redirected) -> Option<(SocketAddr, SocketAddr)> {
    let mut words = [0; 6];
    let read = tokio::time::timeout(DEADLINE, redirected.stream.read_exact(&mut words));
    read.await.unwrap().ok()?;
    let [a, b, c, d, high, low] = words;
    let said = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
    Some((said, redirected.original_dst.0))
}

/// Not a test but a measurement: `cargo test -p e2e --test redirect --release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn what_a_connect_costs() {
    isolated(|| async {
        let (pins, cgroup, sibling) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        tokio::spawn(async move { while agent.next_connection().await.is_ok() {} });
        let listener = TcpListener::bind("127.0.0.1:8080").await.unwrap();
        tokio::spawn(async move { while listener.accept().await.is_ok() {} });
        let before = fs::read_to_string(STATISTICS).unwrap();
        fs::write(STATISTICS, "1").unwrap();
        let times = tokio::task::spawn_blocking(move || {
            let mut workloads = [Workload::new(&sibling.0), Workload::new(&cgroup.0)];
            let mut round = || workloads.each_mut().map(|w| w.ask("time 5000 127.0.0.1:8080"));
            [round(), round(), round()]
        });
        for [direct, tagged] in times.await.unwrap() {
            println!("median connect, ns: direct {direct}, tagged {tagged}");
        }
        for program in control.attached().unwrap() {
            println!("{}: {}", program.program, mean_run(program.program_id));
        }
        fs::write(STATISTICS, before).unwrap();
    });
}

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// What the kernel says of a program that this process has loaded: runs, and nanoseconds each.
fn mean_run(program: u32) -> String {
    let field = |info: &str, name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse::<u64>().ok()
    };
    let entries = fs::read_dir("/proc/self/fdinfo").unwrap();
    let found = entries.filter_map(Result::ok).find_map(|entry| {
        let info = fs::read_to_string(entry.path()).ok()?;
        (field(&info, "prog_id:")? == u64::from(program)).then_some(info)
    });
    let info = found.expect("this process has it");
    let (time, runs) = (
        field(&info, "run_time_ns:").unwrap(),
        field(&info, "run_cnt:").unwrap(),
    );
    format!("{runs} runs, {} ns each", time / runs.max(1))
}
