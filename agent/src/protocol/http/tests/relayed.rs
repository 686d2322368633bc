//! What passes, and that it passes unchanged.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::protocol::{
    Protocol as _,
    conformance::{ALLOW, DENY, DESTINATION, Sample, taken_while_blocked},
};

const GET: &[u8] = b"GET /a?b=c HTTP/1.1\r\nhOST: 127.0.0.1\r\nx-Odd:  v \r\nConnection: keep-alive\r\nAccept-Encoding: br\r\n\r\n";
const POST: &[u8] = b"POST /p HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: close\r\n\r\n5\r\nhello\r\n01\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n";
const OK: &[u8] =
    b"HTTP/1.1 200 Fine\r\nContent-Type: text/plain\r\nETag: \"x\"\r\ncontent-LENGTH: 5\r\n\r\nhello";
const CHUNKED: &[u8] =
    b"HTTP/1.1 201 \r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n4\r\nwiki\r\n0\r\nX-Sum: 2\r\n\r\n";

fn sample<'a>(sent: &'a [u8], turns: &'a [Turn], garbage: &'a [&'a [u8]]) -> Sample<'a> {
    Sample {
        protocol: &Http,
        sent,
        turns,
        operations: 2,
        garbage,
        farewell: &[],
    }
}

#[tokio::test]
async fn conforms() {
    let sent = [GET, POST].concat();
    let turns = [Turn::new(END, OK), Turn::new(b"X-Sum: 1\r\n\r\n", CHUNKED)];
    let garbage: [&[u8]; 4] = [
        b"\0\0\0\x01\xff\xff\r\n\r\n",
        &[b'x'; 100_000],
        b"\r\n\r\n\r\n",
        b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    ];
    let sample = sample(&sent, &turns, &garbage);
    let rig = Rig::new(ALLOW);
    sample.passes_unchanged(&rig, 1).await;
    sample.bad_input_ends(&rig, 3).await;
    sample.denied_stays_here(&Rig::new(DENY)).await;
    let head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000000\r\n\r\n";
    let taken = taken_while_blocked(&rig, &Http, head, 10 << 20).await;
    assert!((1..512 * 1024).contains(&taken), "{taken} bytes taken");
}

#[tokio::test]
async fn responses_without_a_body_and_interim_ones() {
    let ask = |method: &str| format!("{method} / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes();
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\nETag: \"a\"\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ];
    let turns = answers.map(|a| Turn::new(END, a));
    let sent = [ask("HEAD"), ask("GET"), ask("GET"), ask("OPTIONS")].concat();
    let went = run(ALLOW, &turns, &[&sent]).await;
    assert_eq!(text(&went.down), text(&answers.concat()));
    assert_eq!((went.operations, went.dials), (4, 1));
}

#[tokio::test]
async fn a_stopping_agent_answers_the_request_that_a_connection_was_made_for() {
    let rig = Rig::new(ALLOW);
    assert_eq!(rig.shared.drain.stop(Duration::ZERO).await, 0);
    let (head, rest) = GET.split_at(9);
    let upstream = Upstream::new(&[Turn::new(END, OK)]);
    let went = exchange(&rig, &Http, None, &upstream, &[head, rest]).await;
    assert_eq!(text(&went.down), text(OK));
    assert_eq!((went.operations, went.dials), (1, 1));
}

#[tokio::test]
async fn one_form_goes_upstream_and_hop_by_hop_fields_do_not() {
    let sent = b"GET http://127.0.0.1:80/%7ea/%61?q=%7e HTTP/1.1\r\nHost: 127.0.0.1:80\r\nConnection: Upgrade, HTTP2-Settings, X-Mine, keep-alive\r\n\
        Upgrade: h2c\r\nHTTP2-Settings: AAA\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nX-Yours: 2\r\n\r\n";
    let went = run(ALLOW, &[Turn::new(END, OK)], &[sent]).await;
    assert_eq!(
        text(&went.up),
        text(
            b"GET /~a/a?q=%7e HTTP/1.1\r\nHost: 127.0.0.1:80\r\nX-Yours: 2\r\nConnection: keep-alive\r\n\r\n"
        )
    );
    assert_eq!(text(&went.down), text(OK));
}

#[tokio::test]
async fn old_clients_and_old_servers() {
    let turns = [Turn::closing(END, b"HTTP/1.0 200 OK\r\n\r\nuntil the end")];
    let went = run(ALLOW, &turns, &[b"GET / HTTP/1.0\r\n\r\n"]).await;
    assert_eq!(went.text(), "HTTP/1.0 200 OK\r\n\r\nuntil the end");
    assert_eq!(text(&went.up), text(b"GET / HTTP/1.0\r\n\r\n"));
    // A server that answers 1.0 in chunks: they are taken off.
    let turns = [Turn::new(
        END,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    )];
    let went = run(
        ALLOW,
        &turns,
        &[b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"],
    )
    .await;
    assert_eq!(went.text(), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhi");
}

#[tokio::test]
async fn continue_is_relayed() {
    let head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let rig = Rig::new(ALLOW);
    live(&rig, async |mut down, mut called| {
        down.write_all(head).await.unwrap();
        let mut up = called.recv().await.unwrap();
        assert_eq!(text(&read(&mut up).await), text(head));
        up.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        assert_eq!(
            text(&read(&mut down).await),
            text(b"HTTP/1.1 100 Continue\r\n\r\n")
        );
        down.write_all(b"abc").await.unwrap();
        assert_eq!(read(&mut up).await, b"abc");
        up.write_all(OK).await.unwrap();
        assert_eq!(text(&read(&mut down).await), text(OK));
    })
    .await;
    // A final answer instead: whether the body still comes is anyone's guess, so the connection ends.
    let went = run(ALLOW, &[Turn::new(END, OK)], &[head]).await;
    assert!(
        went.text().contains("\r\nConnection: close\r\n\r\nhello"),
        "{}",
        went.text()
    );
    assert!(went.result.unwrap().is_ok());
}

#[tokio::test]
async fn upstream_that_closed_while_idle_is_connected_anew() {
    let turns = [Turn::closing(END, OK), Turn::closing(END, OK), Turn::new(END, OK)];
    let went = run(ALLOW, &turns, &[GET, GET, GET]).await;
    assert_eq!(text(&went.down), text(&[OK, OK, OK].concat()));
    assert_eq!((went.operations, went.dials), (3, 3));
}

#[tokio::test]
async fn an_early_answer_passes_while_the_body_is_sent() {
    let head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 6\r\n\r\n";
    let rig = Rig::new(ALLOW);
    live(&rig, async |mut down, mut called| {
        down.write_all(head).await.unwrap();
        let mut up = called.recv().await.unwrap();
        assert_eq!(text(&read(&mut up).await), text(head));
        up.write_all(OK).await.unwrap();
        assert_eq!(text(&read(&mut down).await), text(OK));
        for piece in [b"abc", b"def"] {
            down.write_all(piece).await.unwrap();
            assert_eq!(read(&mut up).await, piece);
        }
        down.write_all(GET).await.unwrap();
        assert_eq!(text(&read(&mut up).await), text(GET));
        up.write_all(OK).await.unwrap();
        assert_eq!(text(&read(&mut down).await), text(OK));
    })
    .await;
}

/// The two ends of a connection that is being served.
async fn live<T>(
    rig: &Rig,
    talk: impl AsyncFnOnce(
        tokio::io::DuplexStream,
        tokio::sync::mpsc::UnboundedReceiver<tokio::io::DuplexStream>,
    ) -> T,
) -> (T, u64) {
    struct Calls(tokio::sync::mpsc::UnboundedSender<tokio::io::DuplexStream>);
    impl crate::gate::Dial for Calls {
        fn connect<'a>(
            &'a self,
            _: &'a crate::gate::Permit,
        ) -> futures_util::future::BoxFuture<'a, Result<crate::io::BoxStream, crate::gate::DialError>>
        {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let _ = self.0.send(far);
            Box::pin(std::future::ready(Ok(Box::new(near) as crate::io::BoxStream)))
        }
    }
    let gate = rig.gate(DESTINATION, None);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (calls, called) = tokio::sync::mpsc::unbounded_channel();
    let dial = Calls(calls);
    let served = Http.serve(Box::new(near), &dial, &gate);
    let (said, _) = tokio::join!(talk(far, called), served);
    (said, gate.operations())
}

async fn read(stream: &mut tokio::io::DuplexStream) -> Vec<u8> {
    let mut buffer = vec![0; 64 * 1024];
    let n = stream.read(&mut buffer).await.unwrap();
    buffer.truncate(n);
    buffer
}

#[tokio::test]
async fn large_bodies_flow_both_ways_in_bounded_memory() {
    let size = 20 << 20;
    let rig = Rig::new(ALLOW);
    live(&rig, async |down, mut called| {
        let (mut from, mut to) = tokio::io::split(down);
        let send = async {
            let head = format!(
                "PUT / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
            );
            to.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..size / 65_536 {
                to.write_all(&[b'u'; 65_536]).await.unwrap();
            }
        };
        let hear = async {
            let mut all = Vec::new();
            from.read_to_end(&mut all).await.unwrap();
            assert!(all.ends_with(b"0\r\n\r\n") && all.len() > size);
        };
        let echo = async {
            let mut up = called.recv().await.unwrap();
            let head = read(&mut up).await;
            let mut left = size - (head.len() - head.windows(4).position(|w| w == END).unwrap() - 4);
            up.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
                .await
                .unwrap();
            let (mut r, mut w) = tokio::io::split(up);
            let back = async {
                for _ in 0..size / 65_536 {
                    w.write_all(b"10000\r\n").await.unwrap();
                    w.write_all(&[b'd'; 65_536]).await.unwrap();
                    w.write_all(b"\r\n").await.unwrap();
                }
                w.write_all(b"0\r\n\r\n").await.unwrap();
            };
            let sink = async {
                let mut buffer = vec![0; 65_536];
                while left > 0 {
                    left -= r.read(&mut buffer).await.unwrap();
                }
            };
            tokio::join!(back, sink);
        };
        tokio::join!(send, hear, echo);
    })
    .await;
}

#[tokio::test]
async fn events_are_not_delayed() {
    for policy in [ALLOW, crate::protocol::conformance::MASK] {
        let rig = Rig::new(policy);
        live(&rig, async |mut down, mut called| {
            down.write_all(GET).await.unwrap();
            let mut up = called.recv().await.unwrap();
            read(&mut up).await;
            up.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
            )
            .await
            .unwrap();
            let head = tokio::time::timeout(Duration::from_secs(2), read(&mut down))
                .await
                .expect("the head at once");
            assert!(head.ends_with(END));
            for n in 0..3 {
                let event = format!("data: event {n}\n\n");
                up.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
                    .await
                    .unwrap();
                let got = tokio::time::timeout(Duration::from_secs(2), read(&mut down))
                    .await
                    .expect("at once");
                assert!(text(&got).contains(&format!("event {n}")), "{}", text(&got));
            }
            drop(down);
            // The next write shows that the workload has gone; upstream is let go.
            let _ = up.write_all(b"5\r\nhello\r\n").await;
            assert_eq!(up.read(&mut [0; 10]).await.unwrap(), 0);
        })
        .await;
    }
}

#[tokio::test]
async fn a_workload_that_goes_while_waiting_lets_upstream_go() {
    let mut rig = Rig::new(ALLOW);
    rig.limits.idle_timeout = Duration::from_millis(300);
    live(&rig, async |mut down, mut called| {
        down.write_all(GET).await.unwrap();
        let mut up = called.recv().await.unwrap();
        read(&mut up).await;
        drop(down);
        let gone = tokio::time::timeout(Duration::from_secs(6), up.read(&mut [0; 10]))
            .await
            .expect("let go");
        assert_eq!(gone.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_half_closed_workload_gets_its_answer() {
    let rig = Rig::new(ALLOW);
    live(&rig, async |mut down, mut called| {
        down.write_all(GET).await.unwrap();
        down.shutdown().await.unwrap();
        let mut up = called.recv().await.unwrap();
        read(&mut up).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        up.write_all(OK).await.unwrap();
        let mut all = Vec::new();
        down.read_to_end(&mut all).await.unwrap();
        assert_eq!(text(&all), text(OK));
    })
    .await;
}

#[tokio::test]
async fn slow_heads_and_idle_connections_end() {
    let mut rig = Rig::new(ALLOW);
    rig.limits.idle_timeout = Duration::from_millis(300);
    rig.limits.handshake_timeout = Duration::from_millis(200);
    let (all, operations) = live(&rig, async |mut down, _| {
        down.write_all(b"GET / HTT").await.unwrap();
        let mut all = Vec::new();
        down.read_to_end(&mut all).await.unwrap();
        all
    })
    .await;
    assert!(
        text(&all).starts_with("HTTP/1.1 408 Request Timeout"),
        "{}",
        text(&all)
    );
    assert_eq!(operations, 1);
    let (all, operations) = live(&rig, async |mut down, _| {
        let mut all = Vec::new();
        down.read_to_end(&mut all).await.unwrap();
        all
    })
    .await;
    assert_eq!((all.len(), operations), (0, 0));
    let (all, operations) = live(&rig, async |mut down, mut called| {
        down.write_all(GET).await.unwrap();
        let up = called.recv().await.unwrap();
        let all = read(&mut down).await;
        drop(up);
        all
    })
    .await;
    assert!(
        text(&all).starts_with("HTTP/1.1 504 Gateway Timeout"),
        "{}",
        text(&all)
    );
    assert_eq!(operations, 1);
}
