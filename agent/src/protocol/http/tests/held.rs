//! Requests that wait for a human.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::{
    approval::{Answer, Scope},
    gate::Gate,
    model::Approver,
    protocol::{Protocol as _, conformance::DESTINATION},
};

const HELD: &str = r#"
@id("all") permit (principal, action, resource);
@id("ask") @approval("leads") forbid (principal, action == Action::"http:request", resource)
when { context.http.method == "POST" } unless { context has approval };
"#;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn post(lines: &str, body: &str) -> String {
    format!(
        "POST /pay HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n{lines}\r\n{body}",
        body.len()
    )
}

struct Talk {
    rig: Rig,
    gate: Gate,
    upstream: Upstream,
}

impl Talk {
    fn new(turns: &[Turn]) -> Self {
        let rig = Rig::new(HELD);
        let gate = rig.gate(DESTINATION, None);
        Self {
            rig,
            gate,
            upstream: Upstream::new(turns),
        }
    }

    /// Lets `workload` talk over a connection until it is through.
    async fn with<T>(&self, workload: impl AsyncFnOnce(&mut DuplexStream) -> T) -> T {
        let (near, mut far) = tokio::io::duplex(64 * 1024);
        let served = Http.serve(Box::new(near), &self.upstream, &self.gate);
        let workload = async {
            let said = workload(&mut far).await;
            drop(far);
            said
        };
        let (said, _how_it_ended) = tokio::join!(workload, served);
        said
    }

    fn up(&self) -> String {
        String::from_utf8_lossy(&self.upstream.received.lock().unwrap()).into_owned()
    }

    /// Waits until a request is open.
    async fn asked(&self) -> std::sync::Arc<crate::approval::View> {
        loop {
            if let Some(view) = self.rig.shared.approvals.overview().open.first() {
                return std::sync::Arc::clone(view);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn answer(&self, id: uuid::Uuid, yes: bool) {
        let human = Approver {
            issuer: "people".into(),
            subject: "ada".into(),
            name: "Ada".into(),
            groups: ["leads".into()].into(),
            token_id: "t".into(),
            via: "cli",
            authenticated_at: 0,
            expires_at: i64::MAX,
        };
        let answer = Answer {
            approve: yes,
            reason: "because".into(),
            scope: Scope::Once,
        };
        self.rig
            .shared
            .approvals
            .answer(id, &human, answer)
            .await
            .unwrap();
    }
}

async fn read(stream: &mut DuplexStream, until: &str) -> String {
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains(until) {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await.unwrap() {
            0 => break,
            n => seen.extend_from_slice(&buffer[..n]),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

#[tokio::test]
async fn a_yes_sends_exactly_what_was_shown() {
    let talk = Talk::new(&[Turn::new(b"{\"n\":1}", OK), Turn::new(b"GET ", OK)]);
    talk.with(async |far| {
        let get = "GET /next HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        far.write_all(format!("{}{get}", post("", "{\"n\":1}")).as_bytes())
            .await
            .unwrap();
        let view = talk.asked().await;
        assert!(talk.up().is_empty(), "nothing goes before the answer");
        assert!(
            serde_json::to_string(&view).unwrap().contains(r#"{\"n\":1}"#),
            "{view:?}"
        );
        talk.answer(view.id, true).await;
        let down = read(far, "okHTTP/1.1 200").await;
        assert_eq!(down.matches("200 OK").count(), 2, "{down}");
        assert!(talk.up().contains("\r\n\r\n{\"n\":1}GET /next"), "{}", talk.up());
    })
    .await;
}

#[tokio::test]
async fn a_no_is_an_answer_that_the_library_understands() {
    let talk = Talk::new(&[Turn::new(END, OK)]);
    talk.with(async |far| {
        far.write_all(post("", "x").as_bytes()).await.unwrap();
        let view = talk.asked().await;
        talk.answer(view.id, false).await;
        let down = read(far, "\"retry\"").await;
        assert!(
            down.starts_with("HTTP/1.1 403") && down.contains("approval_denied"),
            "{down}"
        );
        assert!(down.contains(&format!("\"request\":\"{}\"", view.id)), "{down}");
        assert!(down.contains("\"groups\":[\"leads\"]"), "{down}");
        far.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            .await
            .unwrap();
        assert!(
            read(far, "ok").await.contains("200 OK"),
            "the connection is usable"
        );
    })
    .await;
    assert!(!talk.up().contains("POST"), "{}", talk.up());
}

#[tokio::test]
async fn an_answer_is_for_one_body_and_serves_the_retry_of_it() {
    let talk = Talk::new(&[Turn::new(END, OK), Turn::new(END, OK)]);
    let asked = talk
        .with(async |far| {
            far.write_all(post("Date: today\r\n", "one").as_bytes())
                .await
                .unwrap();
            talk.asked().await
        })
        .await;
    // The workload went away; the answer comes later.
    talk.answer(asked.id, true).await;
    for (lines, body) in [
        ("", "two"),
        ("X-Amount: 2\r\n", "one"),
        ("Content-Type: a/b\r\n", "one"),
    ] {
        talk.with(async |far| {
            far.write_all(post(lines, body).as_bytes()).await.unwrap();
            let other = talk.asked().await;
            assert_ne!(other.id, asked.id);
            talk.answer(other.id, false).await;
            assert!(read(far, "\"retry\"").await.contains("approval_denied"));
        })
        .await;
    }
    assert!(talk.up().is_empty(), "{}", talk.up());
    talk.with(async |far| {
        far.write_all(post("Date: tomorrow\r\n", "one").as_bytes())
            .await
            .unwrap();
        assert!(read(far, "ok").await.contains("200 OK"));
        far.write_all(post("", "one").as_bytes()).await.unwrap();
        let again = talk.asked().await;
        assert_ne!(again.id, asked.id, "once is once");
    })
    .await;
    assert_eq!(talk.up().matches("POST").count(), 1);
}

#[tokio::test]
async fn a_body_is_asked_for_and_bounded() {
    let talk = Talk::new(&[Turn::new(b"abc", OK)]);
    talk.with(async |far| {
        let head =
            "POST /pay HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
        far.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(read(far, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        far.write_all(b"abc").await.unwrap();
        talk.answer(talk.asked().await.id, true).await;
        assert!(read(far, "ok").await.starts_with("HTTP/1.1 200"));
    })
    .await;
    assert!(!talk.up().contains("Expect"), "{}", talk.up());
    let talk = Talk::new(&[]);
    for request in [
        "POST /pay HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\nx".to_owned(),
        format!(
            "POST /pay HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            format!("f000\r\n{}\r\n", "x".repeat(0xf000)).repeat(20)
        ),
    ] {
        let down = talk
            .with(async |far| {
                let (mut from, mut to) = tokio::io::split(far);
                let (_closed_meanwhile, down) = tokio::join!(to.write_all(request.as_bytes()), async {
                    let mut down = Vec::new();
                    let mut buffer = [0; 1024];
                    while let Ok(n @ 1..) = from.read(&mut buffer).await {
                        down.extend_from_slice(&buffer[..n]);
                    }
                    String::from_utf8_lossy(&down).into_owned()
                });
                down
            })
            .await;
        assert!(down.starts_with("HTTP/1.1 413"), "{down}");
    }
    assert!(talk.rig.shared.approvals.overview().open.is_empty());
}

#[tokio::test]
async fn what_is_asked_holds_no_secret() {
    use crate::model::SecretSink as _;
    let talk = Talk::new(&[]);
    talk.rig.shared.secrets.replace("a", &[b"the-secret-value"]);
    let down = talk
        .with(async |far| {
            far.write_all(post("", "a the-secret-value b").as_bytes())
                .await
                .unwrap();
            read(far, "}").await
        })
        .await;
    assert!(
        down.starts_with("HTTP/1.1 403") && down.contains("secret_leak"),
        "{down}"
    );
    assert!(
        talk.rig.shared.approvals.overview().open.is_empty()
            && talk.upstream.dials.load(std::sync::atomic::Ordering::Relaxed) == 0
    );
}
