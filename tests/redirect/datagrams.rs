//! DNS goes to the agent's resolver: each datagram with who sent it and whom it asked.

use std::{collections::BTreeMap, net::SocketAddr};

use portcullis::{
    model::Transport,
    redirect::{BpfRedirector, Redirected, Redirector as _, Unanswered, bpf::Outcome},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::guard::{Cgroup, DEADLINE, Pins, Workload, ask, count, healthy, isolated, next, uplink};

/// The next message of a flow.
async fn message(redirected: &mut Redirected) -> String {
    tokio::time::timeout(DEADLINE, async {
        let length = redirected.stream.read_u16().await.unwrap();
        let mut text = vec![0; length.into()];
        redirected.stream.read_exact(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    })
    .await
    .expect("no message came")
}

async fn reply(redirected: &mut Redirected, text: &str) {
    let length = u16::try_from(text.len()).unwrap();
    redirected.stream.write_u16(length).await.unwrap();
    redirected.stream.write_all(text.as_bytes()).await.unwrap();
}

/// Lets `agent` take datagrams for the flows that it has until `done`.
async fn meanwhile<T>(agent: &mut BpfRedirector, done: impl Future<Output = T>) -> T {
    tokio::select! {
        done = done => done,
        _ = agent.next_connection() => panic!("a flow that was not expected"),
    }
}

#[test]
fn a_question_arrives_with_who_and_whom_and_the_answer_is_from_there() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        // (asked, as the agent sees it); the last is asked by an IPv6 socket.
        for (asked, seen) in [
            ("192.0.2.53:53", "192.0.2.53:53"),
            ("127.0.0.53:53", "127.0.0.53:53"),
            ("[2001:db8::53]:53", "[2001:db8::53]:53"),
            ("[::1]:53", "[::1]:53"),
            ("[::ffff:192.0.2.53]:53", "192.0.2.53:53"),
        ] {
            for connected in [false, true] {
                let what = format!("{asked}, connected: {connected}");
                if connected {
                    assert_eq!(workload.ask(&format!("udp-keep {asked}")), "ok", "{what}");
                    assert_eq!(workload.ask("udp-say question"), "ok 8", "{what}");
                } else {
                    let answer = workload.ask(&format!("udp-ask {asked} question"));
                    healthy(&control);
                    assert_eq!(answer, "ok 8", "{what}");
                }
                let mut redirected = next(&mut agent).await;
                assert_eq!(redirected.transport, Transport::Udp);
                assert_eq!(redirected.original_dst.0.to_string(), seen);
                let origin = &redirected.origin;
                assert_eq!((origin.tagged, origin.pid), (id, workload.pid()));
                assert_eq!(message(&mut redirected).await, "question");
                reply(&mut redirected, "answer").await;
                let (back, answer) = meanwhile(&mut agent, ask(workload, "udp-hear")).await;
                assert_eq!(answer, format!("ok answer {asked}"), "{what}");
                workload = back;
                // A second one comes by the same flow.
                let again = if connected {
                    "udp-say again".into()
                } else {
                    format!("udp-ask {asked} again")
                };
                assert_eq!(workload.ask(&again), "ok 5");
                assert_eq!(meanwhile(&mut agent, message(&mut redirected)).await, "again");
                workload.ask("udp-drop");
            }
        }
        assert_eq!(workload.ask("udp-connect 192.0.2.53:53"), "ok 192.0.2.53:53");
        assert_eq!(count(&control, id, Outcome::DnsRedirected), 16);
        assert_eq!(control.unanswered(), Unanswered::default());
        healthy(&control);
    });
}

/// Whom a datagram asked goes with the datagram: not with the socket, which all four threads use at once. Nobody reads
/// meanwhile, so that a round must fit into the agent's socket.
#[test]
fn threads_on_one_socket_are_told_apart() {
    const EACH: u8 = 40;
    const ROUNDS: u32 = 4;
    const ROUND: u32 = 4 * EACH as u32;
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let id = control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        for _ in 0..ROUNDS {
            let (back, answer) = ask(workload, &format!("udp-threads {EACH}")).await;
            workload = back;
            assert_eq!(answer, "ok");
            for n in 0..ROUND {
                let arrived = tokio::time::timeout(DEADLINE, agent.next_connection()).await;
                let Ok(Ok(mut redirected)) = arrived else {
                    panic!("{n} of {ROUND} arrived, {:?} dropped", control.unanswered());
                };
                let said = message(&mut redirected).await;
                assert_eq!(said, redirected.original_dst.0.to_string());
                assert_eq!(redirected.origin.pid, workload.pid());
            }
        }
        let all = u64::from(ROUNDS * ROUND);
        assert_eq!(count(&control, id, Outcome::DnsRedirected), all);
        assert_eq!(control.unanswered(), Unanswered::default());
        healthy(&control);
    });
}

/// Two workloads on thirty source ports, every socket gone before the agent looks: by source address nearly all would
/// be taken for another's.
#[test]
fn datagrams_of_sockets_that_are_gone_are_still_whose_they_were() {
    const EACH: u32 = 60;
    isolated(|| async {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "20000 20029").unwrap();
        let (pins, first, second) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        let ids = [control.tag(&first.0).unwrap(), control.tag(&second.0).unwrap()];
        let mut workloads = [Workload::new(&first.0), Workload::new(&second.0)];
        let mut seen = BTreeMap::<u32, u32>::new();
        for _ in 0..EACH / 10 {
            for workload in &mut workloads {
                assert_eq!(workload.ask("udp-many 10 192.0.2.53:53"), "ok");
            }
            for _ in 0..20 {
                let mut redirected = next(&mut agent).await;
                let said: u32 = message(&mut redirected).await.parse().unwrap();
                assert_eq!(redirected.origin.pid, said);
                let whose = workloads.iter().position(|w| w.pid() == said).unwrap();
                assert_eq!(redirected.origin.tagged, ids[whose]);
                *seen.entry(said).or_default() += 1;
            }
        }
        assert!(seen.values().all(|n| *n == EACH), "{seen:?}");
        healthy(&control);
    });
}

/// A burst that nobody reads: what the socket has no room for is counted, and so is what does not wait for the protocol.
#[test]
fn every_question_is_read_or_counted() {
    const BURST: u64 = 3000;
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        let mut workload = Workload::new(&cgroup.0);
        assert_eq!(workload.ask("udp-keep 192.0.2.53:53"), "ok");
        for _ in 0..BURST {
            assert_eq!(workload.ask("udp-say question"), "ok 8");
        }
        let mut redirected = next(&mut agent).await;
        let (start, mut sent, mut read) = (std::time::Instant::now(), BURST, 0);
        loop {
            let quiet = std::time::Duration::from_millis(20);
            let heard = meanwhile(&mut agent, message(&mut redirected));
            if let Ok(said) = tokio::time::timeout(quiet, heard).await {
                assert_eq!(said, "question");
                read += 1;
                continue;
            }
            let Unanswered {
                refused,
                overloaded,
                unread,
            } = control.unanswered();
            if unread > 0 && read + overloaded + unread == sent {
                assert_eq!(refused, 0);
                break;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{read} of {sent}, {:?}",
                control.unanswered()
            );
            // The next one tells of those before it.
            assert_eq!(workload.ask("udp-say question"), "ok 8");
            sent += 1;
        }
        healthy(&control);
    });
}

/// A mark is not believed, and nor is a datagram from outside.
#[test]
fn no_datagram_is_taken_without_its_token() {
    isolated(|| async {
        uplink();
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        let mut outside = Workload::outside();
        for command in [
            "udp-send 127.0.0.1:15001",
            "udp-send [::1]:15001",
            "udp-mark 4711 127.0.0.1:15001",
        ] {
            assert!(outside.ask(command).starts_with("ok"), "{command}");
        }
        // A workload's own mark is replaced.
        let mut workload = Workload::new(&cgroup.0);
        assert_eq!(workload.ask("udp-mark 4711 192.0.2.53:53"), "ok 6");
        let mut redirected = next(&mut agent).await;
        assert_eq!(redirected.origin.pid, workload.pid());
        assert_eq!(message(&mut redirected).await, "marked");
        // Both sockets are read in turn, so the others may come after it.
        let start = std::time::Instant::now();
        while control.unanswered().refused < 3 {
            assert!(start.elapsed() < DEADLINE, "{:?}", control.unanswered());
            let more = tokio::time::timeout(std::time::Duration::from_millis(10), agent.next_connection());
            assert!(more.await.is_err(), "taken");
        }
        let refused = Unanswered {
            refused: 3,
            ..Unanswered::default()
        };
        assert_eq!(control.unanswered(), refused);
        healthy(&control);
    });
}

/// A workload with a socket for each question does not take what others need.
#[test]
fn flows_are_bounded_for_each_workload() {
    isolated(|| async {
        let (pins, greedy, modest) = (Pins::new(), Cgroup::new(), Cgroup::new());
        let (mut agent, control) = pins.start();
        control.tag(&greedy.0).unwrap();
        control.tag(&modest.0).unwrap();
        let (mut many, mut one) = (Workload::new(&greedy.0), Workload::new(&modest.0));
        // None is answered, so none can end.
        let mut flows = Vec::new();
        for _ in 0..10 {
            assert_eq!(many.ask("udp-many 40 192.0.2.53:53"), "ok");
            assert_eq!(one.ask("udp-ask 192.0.2.53:53 please"), "ok 6");
            loop {
                let more = tokio::time::timeout(DEADLINE, agent.next_connection()).await;
                let Ok(Ok(mut redirected)) = more else {
                    panic!("{} flows, {:?} dropped", flows.len(), control.unanswered());
                };
                let modest = redirected.origin.pid == one.pid();
                if modest {
                    assert_eq!(message(&mut redirected).await, "please");
                    one.ask("udp-drop");
                    break;
                }
                flows.push(redirected);
            }
        }
        assert_eq!(flows.len(), 256);
        let overloaded = Unanswered {
            overloaded: 400 - 256,
            ..Unanswered::default()
        };
        assert_eq!(control.unanswered(), overloaded);
        // Those that were quiet the longest were told that no more will come; when they are over, there is room.
        let mut oldest = flows.remove(0);
        assert_eq!(message(&mut oldest).await, many.pid().to_string());
        assert_eq!(oldest.stream.read(&mut [0]).await.unwrap(), 0, "the end");
        drop((oldest, flows));
        // Those flows end while the agent waits.
        let start = std::time::Instant::now();
        let mut redirected = loop {
            assert!(start.elapsed() < DEADLINE, "no room: {:?}", control.unanswered());
            assert_eq!(many.ask("udp-ask 192.0.2.53:53 again"), "ok 5");
            let more = tokio::time::timeout(std::time::Duration::from_millis(20), agent.next_connection());
            if let Ok(redirected) = more.await {
                break redirected.unwrap();
            }
        };
        assert_eq!(message(&mut redirected).await, "again");
        let asked: SocketAddr = "192.0.2.53:53".parse().unwrap();
        assert_eq!(redirected.original_dst.0, asked);
        healthy(&control);
    });
}

#[test]
fn without_an_agent_a_question_is_refused() {
    isolated(|| async {
        let (pins, cgroup) = (Pins::new(), Cgroup::new());
        let (agent, control) = pins.start();
        control.tag(&cgroup.0).unwrap();
        drop((agent, control));
        let mut workload = Workload::new(&cgroup.0);
        assert_eq!(workload.ask("udp-keep 192.0.2.53:53"), "ok");
        assert_eq!(workload.ask("udp-say question"), "ok 8");
        workload.until("udp-say question", "err ECONNREFUSED");
    });
}
