//! No connection is ever taken for another, however hard ports are reused.

use std::{net::SocketAddr, time::Duration};

use portcullis::redirect::{Redirected, Redirector as _, bpf::Outcome};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::guard::{Cgroup, DEADLINE, Pins, Workload, count, healthy, isolated, next};

const CONNECTIONS: u64 = 20_000;

/// 150 source ports, every connection reset at once, and an agent that pauses while they pile up. The look-up by peer
/// address that this design avoids was wrong for nearly half of them.
#[test]
fn twenty_thousand_connections_from_150_ports_keep_their_destinations() {
    isolated(|| async {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 20149").unwrap();
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        let pid = workload.pid();
        let storm = tokio::task::spawn_blocking(move || workload.ask(&format!("storm {CONNECTIONS}")));
        let (mut right, mut empty, mut seen) = (0_u64, 0_u64, 0_u64);
        let mut expected = None;
        tokio::pin!(storm);
        while expected != Some(seen) {
            tokio::select! {
                redirected = next(&mut agent) => {
                    assert_eq!(redirected.origin.pid, pid);
                    match said(redirected).await {
                        Some((said, found)) => {
                            assert_eq!(said, found, "after {right} right ones");
                            right += 1;
                        }
                        None => empty += 1,
                    }
                    seen += 1;
                    if seen % 500 == 0 {
                        pause().await;
                    }
                }
                answer = &mut storm, if expected.is_none() => {
                    let answer = answer.unwrap();
                    let refused: u64 = answer.strip_prefix("ok ").unwrap().parse().unwrap();
                    expected = Some(CONNECTIONS - refused);
                }
            }
        }
        println!("{right} right, {empty} reset before they were read");
        assert!(
            right > CONNECTIONS / 2,
            "{right} right, {empty} reset before they were read"
        );
        assert_eq!(count(&control, id, Outcome::TcpRedirected), CONNECTIONS);
        healthy(&control);
    });
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
        let times = tokio::task::spawn_blocking(move || {
            let mut workloads = [Workload::new(&sibling.0), Workload::new(&cgroup.0)];
            let mut round = || workloads.each_mut().map(|w| w.ask("time 20000 127.0.0.1:8080"));
            [round(), round(), round()]
        });
        for [direct, tagged] in times.await.unwrap() {
            println!("median connect, ns: direct {direct}, tagged {tagged}");
        }
    });
}
