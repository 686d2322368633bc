//! What may not pass, and what the workload is told.

use super::*;
use crate::protocol::conformance::{ALLOW, DENY};

fn problem(text: &str) -> serde_json::Value {
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
#[allow(clippy::too_many_lines)] // a table
async fn every_trap_is_refused_with_one_entry_and_nothing_upstream() {
    let host = "Host: 127.0.0.1\r\n";
    for (request, status, reason) in [
        (
            format!("GET //x HTTP/1.1\r\n{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET /./x HTTP/1.1\r\n{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET /a/../x HTTP/1.1\r\n{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET /a/%2e%2e/x HTTP/1.1\r\n{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET /a;b=c HTTP/1.1\r\n{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET http://other/x HTTP/1.1\r\n{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET https://127.0.0.1/x HTTP/1.1\r\n{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET http://u:p@127.0.0.1/x HTTP/1.1\r\n{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("\r\nGET / HTTP/1.1\r\n{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (format!("GET / HTTP/1.1\n{host}\r\n"), 400, "protocol_ambiguous"),
        (
            format!("GET / HTTP/1.1\r\n{host}X: a\rb\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, "protocol_ambiguous"),
        (
            format!("POST / HTTP/1.1\r\n{host}X-HTTP-Method-Override: DELETE\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET /a HTTP/1.1\r\n{host}X_Original-URL: /admin\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            "GET / HTTP/1.1\r\nHost: \r\n\r\n".into(),
            400,
            "protocol_ambiguous",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1, 1\r\n\r\nx"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Length: +1\r\n\r\nx"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!(
                "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Transfer_Encoding: chunked\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding : chunked\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}X: a\r\n b\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}X(: a\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}Connection: close, Host\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}Connection: content-length\r\n\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (
            format!("GET /\u{e9} HTTP/1.1\r\n{host}\r\n"),
            400,
            "protocol_ambiguous",
        ),
        (format!("G(T / HTTP/1.1\r\n{host}\r\n"), 400, "protocol_ambiguous"),
        (format!("GET / HTTP/1.2\r\n{host}\r\n"), 505, "protocol_error"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, "protocol_error"),
        (
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".into(),
            501,
            "protocol_error",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
            501,
            "protocol_error",
        ),
        (
            format!("POST / HTTP/1.1\r\n{host}Expect: 200-ok\r\nContent-Length: 1\r\n\r\nx"),
            417,
            "protocol_error",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", "A: b\r\n".repeat(200)),
            431,
            "too_large",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}A: {}\r\n\r\n", "b".repeat(70_000)),
            431,
            "too_large",
        ),
        (
            format!("GET /{} HTTP/1.1\r\n", "a".repeat(70_000)),
            431,
            "too_large",
        ),
        ("GET / HT".into(), 400, "protocol_error"),
    ] {
        let went = run(ALLOW, &[], &[request.as_bytes()]).await;
        let shown = format!(
            "{}: {went:?}",
            text(&request.as_bytes()[..request.len().min(200)])
        );
        let answer = went.text();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}");
        assert!(
            answer.contains("\r\ncontent-type: application/problem+json\r\n"),
            "{shown}"
        );
        assert!(answer.contains("\r\nconnection: close\r\n"), "{shown}");
        let problem = problem(&answer);
        assert_eq!(
            (&problem["reason"], &problem["status"]),
            (&reason.into(), &status.into()),
            "{shown}"
        );
        assert_eq!((went.operations, went.dials), (1, 0), "{shown}");
        assert!(went.result.is_some_and(|r| r.is_err()), "refused");
    }
}

#[tokio::test]
async fn a_denial_explains_itself_and_the_connection_stays_usable() {
    let sent = b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello\
        POST /b HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
        HEAD /c HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n\
        GET /d HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    let went = run(DENY, &[], &[sent]).await;
    let answer = went.text();
    assert_eq!((went.operations, went.dials, went.up.len()), (4, 0, 0));
    assert_eq!(
        answer.matches("HTTP/1.1 403 Forbidden\r\n").count(),
        4,
        "{answer}"
    );
    assert_eq!(answer.matches("connection: close").count(), 1, "{answer}");
    let last = problem(&answer[answer.rfind("HTTP/1.1").unwrap()..]);
    assert_eq!(last["reason"], "policy_forbid");
    assert_eq!(last["policies"], serde_json::json!(["deny"]));
    assert_eq!(last["detail"], "not here");
    assert_eq!(last["title"], "Forbidden");
    assert!(last["entry"].as_str().is_some_and(|e| e.len() == 36));
    assert!(last["guidance"].as_str().is_some_and(|g| !g.is_empty()));
}

#[tokio::test]
async fn a_denied_body_that_is_too_long_closes() {
    let head = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 300000\r\n\r\n".to_vec();
    let went = run(DENY, &[], &[&head]).await;
    assert!(went.text().contains("connection: close"), "{}", went.text());
    let waits = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let went = run(DENY, &[], &[waits]).await;
    assert!(
        went.text().starts_with("HTTP/1.1 403"),
        "no 100 first: {}",
        went.text()
    );
    assert!(went.text().contains("connection: close"));
}

#[tokio::test]
async fn tls_requests_must_name_the_verified_server() {
    let rig = Rig::new(ALLOW);
    let turns = [Turn::new(END, b"HTTP/1.1 204 No Content\r\n\r\n")];
    let ask = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let upstream = Upstream::new(&turns);
    let went = exchange(
        &rig,
        &Http,
        Some("api.internal"),
        &upstream,
        &[&ask("other.internal"), &ask("API.internal:80")],
    )
    .await;
    assert!(
        went.text().starts_with("HTTP/1.1 421 Misdirected Request\r\n"),
        "{}",
        went.text()
    );
    assert!(
        went.text().contains("\"reason\":\"name_mismatch\""),
        "{}",
        went.text()
    );
    assert!(
        went.text().ends_with("HTTP/1.1 204 No Content\r\n\r\n"),
        "{}",
        went.text()
    );
    assert_eq!((went.operations, went.dials), (2, 1));
}

#[tokio::test]
async fn bad_responses_become_502_and_do_not_pass() {
    let get = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 999 What\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
    ] {
        let went = run(ALLOW, &[Turn::closing(END, bad.as_bytes())], &[get]).await;
        assert!(
            went.text().starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
            "{bad:?}: {went:?}"
        );
        assert!(
            went.text().contains("\"reason\":\"upstream_protocol_error\""),
            "{bad:?}: {went:?}"
        );
        assert_eq!(went.operations, 1);
    }
}

#[tokio::test]
async fn a_malformed_body_ends_the_exchange() {
    let head = "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, fault) in [
        ("5;a=b\r\nhello\r\n0\r\n\r\n", "chunk"),
        ("zz\r\n", "chunk"),
        ("0\r\nHost: a\r\n\r\n", "trailer"),
    ] {
        let went = run(
            ALLOW,
            &[Turn::new(b"never", b"")],
            &[format!("{head}{body}").as_bytes()],
        )
        .await;
        assert!(went.text().starts_with("HTTP/1.1 400 "), "{body}: {went:?}");
        assert!(went.text().contains(fault), "{went:?}");
        assert!(!text(&went.up).contains("hello"), "{went:?}");
    }
}
