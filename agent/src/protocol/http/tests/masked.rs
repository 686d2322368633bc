//! Masking on the way down, and of what is stored.

use std::io::{Read as _, Write as _};

use super::*;
use crate::protocol::conformance::MASK;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip, br\r\nRange: bytes=0-9\r\nIf-Range: \"x\"\r\n\r\n";
const BODY: &str = r#"{"name":"A","email":"ann@example.com","n":1}"#;

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(content).unwrap();
    packer.finish().unwrap()
}

fn gunzip(content: &[u8]) -> String {
    let mut out = String::new();
    flate2::read::MultiGzDecoder::new(content)
        .read_to_string(&mut out)
        .unwrap();
    out
}

fn response(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut out = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    out.extend_from_slice(body);
    out
}

/// Head and content of a response, chunks taken off.
fn parts(down: &[u8]) -> (String, Vec<u8>) {
    let end = down.windows(4).position(|w| w == END).unwrap() + 4;
    let head = String::from_utf8(down[..end].to_vec()).unwrap();
    let mut rest = &down[end..];
    if !head.contains("ransfer-") {
        return (head, rest.to_vec());
    }
    let mut content = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return (head, content);
        }
        content.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
}

#[tokio::test]
async fn a_small_body_is_masked_and_its_length_is_right() {
    let answer = response(
        "Content-Type: application/json\r\nETag: \"x\"\r\nAccept-Ranges: bytes\r\n",
        BODY.as_bytes(),
    );
    for pieces in [
        vec![answer.clone()],
        answer.chunks(7).map(<[u8]>::to_vec).collect(),
    ] {
        let turn = Turn {
            say: pieces,
            ..Turn::new(END, b"")
        };
        let went = run(MASK, &[turn], &[GET]).await;
        let (head, content) = parts(&went.down);
        let content = String::from_utf8(content).unwrap();
        assert!(
            !content.contains("ann@example.com") && content.contains("masked"),
            "{content}"
        );
        serde_json::from_str::<serde_json::Value>(&content).unwrap();
        assert!(
            head.contains(&format!("\r\nContent-Length: {}\r\n", content.len())),
            "{head}"
        );
        assert!(
            !head.contains("ETag") && !head.contains("Accept-Ranges"),
            "{head}"
        );
        assert_eq!(
            text(&went.up),
            text(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: gzip\r\n\r\n"),
            "no ranges, and only what can be read"
        );
    }
}

#[tokio::test]
async fn what_needs_no_masking_stays_as_it_is() {
    let plain = response("Content-Type: application/json\r\nETag: \"x\"\r\n", b"{\"a\": 1}");
    let packed = response(
        "Content-Encoding: gzip\r\nContent-Type: text/plain\r\nETag: \"x\"\r\n",
        &gzip(b"nothing here"),
    );
    let image = response(
        "Content-Type: image/png\r\nETag: \"x\"\r\n",
        b"\x89PNG\0\x01ann@example.com",
    );
    for answer in [plain, packed, image] {
        let went = run(MASK, &[Turn::new(END, &answer)], &[GET]).await;
        assert_eq!(text(&went.down), text(&answer));
    }
}

#[tokio::test]
async fn gzip_is_read_and_written() {
    let answer = response(
        "Content-Encoding: gzip\r\nContent-Type: application/json\r\n",
        &gzip(BODY.as_bytes()),
    );
    let went = run(MASK, &[Turn::new(END, &answer)], &[GET]).await;
    let (head, content) = parts(&went.down);
    assert!(head.contains("Content-Encoding: gzip"));
    assert!(
        head.contains(&format!("Content-Length: {}\r\n", content.len())),
        "{head}"
    );
    let content = gunzip(&content);
    assert!(
        content.contains("masked") && !content.contains("ann@"),
        "{content}"
    );
}

#[tokio::test]
async fn large_and_chunked_bodies_stream_in_chunks() {
    let long = format!("{}{BODY}{}", "x y ".repeat(30_000), " z".repeat(30_000));
    let plain = response("Content-Type: text/plain\r\nDigest: a\r\n", long.as_bytes());
    let packed = response("Content-Type: text/plain\r\nContent-Encoding: gzip\r\n", &{
        // Random words, so that it stays above what is held.
        let noise: String = (0..200_000u32)
            .map(|n| format!("{:x} ", n.wrapping_mul(2_654_435_761)))
            .collect();
        gzip(format!("{noise}{BODY}").as_bytes())
    });
    let mut chunked =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for piece in BODY.as_bytes().chunks(3) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\nX-Note: bob@example.com\r\nDigest: x\r\n\r\n");
    for answer in [plain, packed, chunked] {
        let went = run(MASK, &[Turn::new(END, &answer)], &[GET]).await;
        let (head, content) = parts(&went.down);
        assert!(
            head.contains("Transfer-Encoding: chunked")
                && !head.contains("Content-Length")
                && !head.contains("Digest"),
            "{head}"
        );
        let content = if head.contains("gzip") {
            gunzip(&content)
        } else {
            String::from_utf8(content).unwrap()
        };
        assert!(
            content.contains("masked") && !content.contains("ann@"),
            "{}",
            &content[..content.len().min(300)]
        );
        assert!(!went.text().contains("bob@"), "trailers too");
        // An old client gets it up to the end of the connection.
        let went = run(
            MASK,
            &[Turn::new(END, &answer)],
            &[b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n\r\n"],
        )
        .await;
        let (head, content) = parts(&went.down);
        assert!(
            !head.contains("chunked")
                && !head.contains("Content-Length")
                && head.contains("Connection: close"),
            "{head}"
        );
        assert!(!text(&content).contains("ann@"));
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused() {
    for (answer, reason) in [
        (
            response("Content-Encoding: br\r\nContent-Type: text/plain\r\n", b"xxxx"),
            "encoding_unreadable",
        ),
        (
            response(
                "Content-Encoding: gzip, gzip\r\nContent-Type: text/plain\r\n",
                b"xxxx",
            ),
            "encoding_unreadable",
        ),
        (
            response(
                "Content-Encoding: gzip\r\nContent-Type: text/plain\r\n",
                b"not gzip",
            ),
            "encoding_unreadable",
        ),
        (
            response("Content-Type: text/plain; charset=utf-16\r\n", b"a\0b\0"),
            "encoding_unreadable",
        ),
        (
            b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/9\r\nContent-Length: 4\r\n\r\nabcd"
                .to_vec(),
            "upstream_protocol_error",
        ),
    ] {
        let went = run(MASK, &[Turn::new(END, &answer)], &[GET]).await;
        assert!(went.text().starts_with("HTTP/1.1 502 "), "{went:?}");
        assert!(went.text().contains(reason), "{went:?}");
    }
    let sent = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx";
    let went = run(MASK, &[], &[sent]).await;
    assert!(went.text().starts_with("HTTP/1.1 415 "), "{went:?}");
    assert_eq!(went.dials, 0);
}

#[tokio::test]
async fn what_is_stored_is_masked_and_what_goes_up_is_not() {
    let rig = Rig::new(MASK);
    let body = "email=ann%40example.com&note=hi";
    let sent = format!(
        "POST /u/ann@example.com?to=ann@example.com HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer sEcReT\r\nCookie: a=b\r\n\
         X-From: ann@example.com\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = response(
        "Content-Type: text/plain\r\nSet-Cookie: id=sEcReT\r\nX-To: ann@example.com\r\n",
        b"hello ann@example.com",
    );
    let upstream = Upstream::new(&[Turn::new(body.as_bytes(), &answer)]);
    let went = exchange(&rig, &Http, None, &upstream, &[sent.as_bytes()]).await;
    assert!(
        text(&went.up).contains("ann%40example.com") && text(&went.up).contains("X-From: ann@example.com")
    );
    assert!(went.text().contains("Set-Cookie: id=sEcReT"), "{}", went.text());
    assert!(!went.text().contains("ann@example"), "{}", went.text());
    rig.shared.ledger.close();
    let (stored, frames) = stored(rig.dir.path());
    assert_eq!(frames, 2, "one frame each way");
    for secret in ["ann@example", "ann%40example", "sEcReT"] {
        assert!(!stored.contains(secret), "{secret} is stored");
    }
    assert!(
        stored.contains("\"kind\":\"outcome\"") && stored.contains("\"email\":"),
        "counts are stored"
    );
}

/// Everything that the ledger stored, payloads unpacked, and how many of those there are.
pub(super) fn stored(dir: &std::path::Path) -> (String, usize) {
    let mut out = String::new();
    let db = rusqlite::Connection::open(dir.join("ledger.db")).unwrap();
    let mut rows = db.prepare("SELECT body FROM entry").unwrap();
    for body in rows.query_map([], |r| r.get::<_, Option<String>>(0)).unwrap() {
        out.push_str(&body.unwrap().unwrap_or_default());
    }
    let mut rows = db.prepare("SELECT codec, bytes FROM payload").unwrap();
    let payloads = rows
        .query_map([], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, Vec<u8>>(1)?)))
        .unwrap();
    let mut frames = 0;
    for payload in payloads {
        let (codec, bytes) = payload.unwrap();
        let bytes = if codec == 0 {
            bytes
        } else {
            zstd::decode_all(&bytes[..]).unwrap()
        };
        out.push_str(&String::from_utf8_lossy(&bytes));
        frames += 1;
    }
    (out, frames)
}

/// Whether the workload got to read the address, in any writing.
fn reveals(content: &[u8]) -> bool {
    let narrow: Vec<u8> = content.iter().copied().filter(|b| *b != 0).collect();
    text(&narrow).contains("ann@example.com")
}

#[tokio::test]
async fn a_binary_type_does_not_hide_what_is_encoded() {
    let answer = response(
        "Content-Encoding: gzip\r\nContent-Type: application/octet-stream\r\n",
        &gzip(BODY.as_bytes()),
    );
    let went = run(MASK, &[Turn::new(END, &answer)], &[GET]).await;
    let (_, content) = parts(&went.down);
    assert!(!reveals(gunzip(&content).as_bytes()));
    let answer = response("Content-Encoding: br\r\nContent-Type: image/png\r\n", b"xxxx");
    let went = run(MASK, &[Turn::new(END, &answer)], &[GET]).await;
    assert!(
        text(&went.down).starts_with("HTTP/1.1 502"),
        "{}",
        text(&went.down)
    );
}

#[tokio::test]
async fn encoded_content_that_is_binary_stays_as_it_is() {
    let answer = response(
        "Content-Encoding: gzip\r\nContent-Type: application/octet-stream\r\nETag: \"x\"\r\n",
        &gzip(b"\0\x01\x02ann@example.com"),
    );
    let went = run(MASK, &[Turn::new(END, &answer)], &[GET]).await;
    assert_eq!(text(&went.down), text(&answer));
}

#[tokio::test]
async fn trailers_of_binary_content_are_masked() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = format!("{head}3\r\n\0\x01\x02\r\n0\r\nX-Who: ann@example.com\r\n\r\n");
    let went = run(MASK, &[Turn::new(END, answer.as_bytes())], &[GET]).await;
    let down = text(&went.down);
    assert!(!reveals(&went.down) && down.contains("X-Who: "), "{down}");
    assert!(down.ends_with("\\r\\n\\r\\n"), "{down}");
}

#[tokio::test]
async fn utf_16_in_small_pieces_does_not_pass() {
    let wide: Vec<u8> = BODY.bytes().flat_map(|b| [b, 0]).collect();
    let mut answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for byte in wide {
        answer.extend_from_slice(b"1\r\n");
        answer.push(byte);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    let went = run(MASK, &[Turn::new(END, &answer)], &[GET]).await;
    let content: Vec<u8> = went
        .down
        .split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii_end)
        .filter(|l| l.len() == 1)
        .flatten()
        .copied()
        .collect();
    assert!(!reveals(&content) && content.len() < 12, "{}", text(&went.down));
}
