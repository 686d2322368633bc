use std::io::Write as _;

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{
    config::Durability,
    ledger::{Frame, FrameDigest, Ledger, Options, entry},
    model::{Direction, EntryKind, OperationId},
};

const NOW: i64 = 1_795_242_600_000_000_000;
const MS: i64 = 1_000_000;

/// A session that is recorded as it goes.
struct Told {
    dir: TempDir,
    ledger: Ledger,
    id: Uuid,
    at: i64,
    protocol: &'static str,
}

impl Told {
    async fn open(protocol: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), Options::new("host-1", Durability::Process)).unwrap();
        let mut told = Self {
            dir,
            ledger,
            id: Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, 1_795_242_600, 0)),
            at: NOW,
            protocol,
        };
        told.session("open").await;
        told
    }

    async fn session(&mut self, event: &str) {
        let members = json!({
            "destination": {"address": "192.0.2.7", "port": 443}, "event": event, "reason": "completed",
            "process": {"exe": "/usr/bin/\u{1b}[2Jx", "pid": 7}, "session": self.id.to_string(), "workload": "bot-a",
        });
        self.entry(EntryKind::Session, members).await;
    }

    async fn entry(&mut self, kind: EntryKind, members: Value) -> Uuid {
        self.at += 10 * MS;
        let entry = entry(kind, self.at, members);
        let id = entry.id;
        self.ledger.append(entry).await.unwrap();
        id
    }

    /// An operation; with its payload and outcome where it was allowed and has ended.
    async fn operation(&mut self, decision: &str, context: Value, payload: Option<(&[u8], &[u8])>) {
        let members = json!({
            "action": if self.protocol == "http" { "http:request" } else { "sql:statement" }, "context": context,
            "decision": decision, "destination": {"address": "192.0.2.7", "port": 443},
            "identity": {"subject": "sub-1"}, "policies": ["p1"], "protocol": self.protocol,
            "reason": if decision == "allow" { "policy_permit" } else { "policy_forbid" },
            "resource": {"id": "api.internal/a"}, "session": self.id.to_string(), "workload": "bot-a",
        });
        let id = self.entry(EntryKind::Operation, members).await;
        let Some((up, down)) = payload else { return };
        let mut digests = [FrameDigest::new(), FrameDigest::new()];
        for (n, (direction, bytes)) in [(Direction::Up, up), (Direction::Down, down)]
            .into_iter()
            .enumerate()
        {
            // In two pieces, cut in the middle of whatever is there.
            for piece in [&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]] {
                let number = digests[n].frames();
                digests[n].push(piece);
                let frame = Frame {
                    operation: OperationId(id),
                    direction,
                    number,
                    bytes: piece.to_vec().into(),
                };
                self.ledger.frame(frame).await.unwrap();
            }
        }
        let [up, down] = digests.map(FrameDigest::finish);
        let members = json!({
            "bytes_down": down.bytes, "bytes_up": up.bytes, "duration_us": 10_000, "masked": {"email": 1},
            "operation": id.to_string(), "payload": {"down": down, "up": up}, "reason": "completed", "status": "200",
            "workload": "bot-a",
        });
        self.entry(EntryKind::Outcome, members).await;
    }

    fn replay(&self) -> Replay {
        Replay::open(self.dir.path(), SessionId(self.id)).unwrap()
    }
}

async fn web() -> Told {
    let mut told = Told::open("http").await;
    let http = |method: &str, path: &str| json!({"http": {"method": method, "path": path, "scheme": "https", "host": "api.internal"}});
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all("{\"to\": \"[masked:email] é\"}".as_bytes()).unwrap();
    let down = [
        &b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\
           Set-Cookie: sid=x; Path=/\r\n\r\n"[..],
        &gz.finish().unwrap(),
    ]
    .concat();
    let up = b"GET /a?x=1%202&y HTTP/1.1\r\nHost: api.internal\r\nCookie: a=b; c=d\r\n\r\n";
    told.operation("allow", http("GET", "/a"), Some((up, &down)))
        .await;
    let up = "POST /b HTTP/1.1\r\nHost: api.internal\r\nContent-Type: text/plain\r\n\r\né\u{1b}]0;owned\u{7}\u{202e}".as_bytes();
    told.operation(
        "allow",
        http("POST", "/b"),
        Some((up, b"HTTP/1.1 204 No Content\r\n\r\n")),
    )
    .await;
    told.operation("deny", http("DELETE", "/c"), None).await;
    // The part that is being written ends here.
    told.ledger.seal().await.unwrap();
    told.operation("allow", http("GET", "/d"), None).await;
    told.session("close").await;
    told
}

#[tokio::test]
async fn har_is_what_readers_of_har_expect() {
    let told = web().await;
    let mut out = Vec::new();
    assert_eq!(har::write(told.replay(), &mut out).unwrap(), 4);
    let read = ::har::from_slice(&out).unwrap();
    let ::har::Spec::V1_2(log) = read.log else {
        panic!("another version")
    };
    let [first, second, denied, running] = &log.entries[..] else {
        panic!("{} entries", log.entries.len())
    };
    assert_eq!(first.started_date_time, "2026-11-21T06:30:00.020000000Z");
    assert_eq!(first.request.url, "https://api.internal/a?x=1%202&y");
    let query: Vec<_> = first
        .request
        .query_string
        .iter()
        .map(|q| (&*q.name, &*q.value))
        .collect();
    assert_eq!(query, [("x", "1 2"), ("y", "")]);
    assert_eq!(first.request.cookies.len(), 2);
    assert_eq!(
        (first.response.status, &*first.response.cookies[0].value),
        (200, "x")
    );
    let content = &first.response.content;
    assert_eq!(content.text.as_deref(), Some("{\"to\": \"[masked:email] é\"}"));
    assert_eq!(content.size, 27);
    assert!((first.time - 10.0).abs() < 1e-9);
    let timings = &first.timings;
    let sum = timings.send + timings.wait + timings.receive;
    assert!((sum - 10.0).abs() < 1e-9 && timings.send > 0.0 && timings.receive > 0.0);
    let posted = second.request.post_data.as_ref().unwrap();
    assert!(posted.text.as_ref().unwrap().starts_with("é\u{1b}"));
    assert_eq!((second.response.status, second.response.content.size), (204, 0));
    assert_eq!(
        (denied.response.status, &*denied.request.url),
        (0, "https://api.internal/c")
    );
    assert_eq!(denied.comment.as_deref(), Some("deny: policy_forbid"));
    assert!(running.comment.as_ref().unwrap().ends_with("no end is on record"));
    assert!(
        jsonl::write(told.replay(), &mut Vec::new())
            .unwrap_err()
            .to_string()
            .contains("--format har")
    );
}

#[tokio::test]
async fn asciicast_is_what_readers_of_asciicast_expect() {
    let told = web().await;
    let mut out = Vec::new();
    let steps = asciicast::write(told.replay(), &told.id, &mut out).unwrap();
    // Open, four operations, two outcomes, eight frames, close.
    assert_eq!(steps, 16);
    let cast = asciicast_rs::Asciicast::<asciicast_rs::V3>::from_slice(&out).unwrap();
    assert_eq!(
        (cast.header.version, cast.header.timestamp),
        (3, Some(NOW / 1_000_000_000))
    );
    let shown: String = cast.events.iter().filter_map(|e| e.as_output()).collect();
    assert!(shown.chars().all(|c| !c.is_control() || c == '\r' || c == '\n') && !shown.contains('\u{202e}'));
    for line in [
        "      0.000   opened by bot-a, /usr/bin/.[2Jx (pid 7), to 192.0.2.7:443",
        "      0.010   allow http:request api.internal/a (policy_permit by policies [p1])",
        "> é.]0;owned..",
        "bytes that are no text)",
        "   completed 200: ",
        "; masked email 1",
        "deny http:request",
        "closed: completed",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let whole: f64 = cast.events.iter().map(|e| e.interval).sum();
    assert!((whole - 0.070).abs() < 1e-6 || whole > 0.0, "{whole}");
}

#[tokio::test]
async fn json_lines_have_statements_and_their_rows() {
    let mut told = Told::open("postgres").await;
    let message = |tag: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[tag], &length[..], body].concat()
    };
    let columns = [
        &[0, 1][..],
        b"email\0",
        &[0; 6],
        &25_u32.to_be_bytes(),
        &[0; 6],
        &[0, 0],
    ]
    .concat();
    let row = [&[0, 1][..], &14_u32.to_be_bytes(), b"[masked:email]"].concat();
    let down = [
        message(b'T', &columns),
        message(b'D', &row),
        message(b'C', b"SELECT 1\0"),
    ]
    .concat();
    let sql = json!({"sql": {"text": "SELECT email FROM people", "database": "shop"}});
    told.operation(
        "allow",
        sql.clone(),
        Some((&message(b'Q', b"SELECT email FROM people\0"), &down)),
    )
    .await;
    told.operation("deny", sql, None).await;
    told.session("close").await;
    let mut out = Vec::new();
    assert_eq!(jsonl::write(told.replay(), &mut out).unwrap(), 2);
    let lines: Vec<Value> = out
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!(lines[0]["statement"], "SELECT email FROM people");
    assert_eq!(lines[0]["received"][0]["rows"], json!([["[masked:email]"]]));
    assert_eq!(lines[0]["received"][1]["tag"], "SELECT 1");
    assert_eq!(
        (&lines[0]["truncated"], &lines[0]["database"]),
        (&json!(false), &json!("shop"))
    );
    assert_eq!(
        (&lines[1]["decision"], &lines[1]["received"]),
        (&json!("deny"), &json!([]))
    );
    assert!(har::write(told.replay(), &mut Vec::new()).is_err());
    // The same on the screen: the result as a table, when the statement has ended.
    let mut screen = super::super::screen::Screen::new(10);
    let mut replay = told.replay();
    let mut shown = String::new();
    while let Some(step) = replay.next_step().unwrap() {
        shown += &screen.show(&step);
    }
    assert!(
        shown.contains("> SELECT email FROM people") && shown.contains("| [masked:email] |"),
        "{shown}"
    );
}
