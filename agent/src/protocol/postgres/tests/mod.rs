//! What every protocol must keep, on whole connections; and a smoke run of the fuzz entry points.

mod fuzzed;

use bytes::BytesMut;

use super::{
    Postgres,
    frame::{put_cstr, write},
};
use crate::{
    gate::testing::Rig,
    protocol::conformance::{ALLOW, DENY, Sample, Turn, Upstream, exchange, taken_while_blocked},
};

/// A login with the server's consent: nothing of a key, which would be another one each time.
const STARTUP: &[u8] = b"\0\0\0\x1f\0\x03\0\0user\0ada\0database\0app\0\0";
const WELCOME: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0Z\0\0\0\x05I";
const COLUMN: &[u8] = b"T\0\0\0\x1a\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
const ROW: &[u8] = b"D\0\0\0\x0b\0\x01\0\0\0\x011";
const DONE: &[u8] = b"C\0\0\0\x0dSELECT 1\0";
const READY: &[u8] = b"Z\0\0\0\x05I";
const BATCH: &[u8] =
    b"P\0\0\0\x11s\0SELECT 2\0\0\0B\0\0\0\x0d\0s\0\0\0\0\0\0\0D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
const FLUSH: &[u8] = b"H\0\0\0\x04";
const END: &[u8] = b"X\0\0\0\x04";

fn query(text: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut out, b'Q', |out| put_cstr(out, text.as_bytes()));
    out.to_vec()
}

/// A login, a query string of two statements, a batch of the extended protocol, and the end.
fn sent() -> Vec<u8> {
    [STARTUP, &query("SELECT 1; SELECT 1"), BATCH, END].concat()
}

fn turns() -> [Turn; 3] {
    let answer = [COLUMN, ROW, DONE].concat();
    [
        Turn::new(STARTUP, WELCOME),
        Turn::new(&query("SELECT 1; SELECT 1"), &[&answer, &answer, READY].concat()),
        Turn::new(BATCH, &[b"1\0\0\0\x042\0\0\0\x04", &answer[..], READY].concat()),
    ]
}

/// Login, two statements, one execution.
const OPERATIONS: u64 = 4;

fn sample<'a>(protocol: &'a Postgres, sent: &'a [u8], turns: &'a [Turn]) -> Sample<'a> {
    Sample {
        protocol,
        sent,
        turns,
        operations: OPERATIONS,
        garbage: &[
            b"GET / HTTP/1.1\r\n\r\n",
            b"\xff\xff\xff\xff\0\x03\0\0",
            b"\0\0\0\x04\0\x03\0\0",
            b"\0\0\0\x10\0\x03\0\0user\0a\0x",
            b"\0\0\0\x09\0\x03\0\0\0Q\0\0\0\x0dSELECT 1\0",
            b"\0\0\0\x13\0\x02\0\0user\0ada\0\0\0",
        ],
        // It asks for the answers to what went up.
        farewell: &[FLUSH, END],
    }
}

#[tokio::test]
async fn conforms() {
    let protocol = Postgres::default();
    let (sent, turns) = (sent(), turns());
    let sample = sample(&protocol, &sent, &turns);
    let rig = Rig::new(ALLOW);
    sample.passes_unchanged(&rig, 1).await;
    sample.denied_stays_here(&Rig::new(DENY)).await;
    sample.bad_input_ends(&rig, 9).await;
    let taken = taken_while_blocked(&rig, &protocol, STARTUP, 10 << 20).await;
    assert!(taken < 512 * 1024, "{taken} bytes taken");
}

#[tokio::test]
async fn what_is_too_large_or_out_of_place_ends_after_the_login() {
    let mut rig = Rig::new(ALLOW);
    rig.limits.statement_bytes = 64;
    rig.limits.message_bytes = 256;
    let large = query(&"x".repeat(100));
    for bad in [
        &large[..],
        b"d\x7f\xff\xff\xff",
        b"B\0\0\x01\x01",
        b"p\0\0\0\x05\0",
        b"R\0\0\0\x08\0\0\0\0",
        STARTUP,
    ] {
        let upstream = Upstream::new(&turns()[..1]);
        let sent = [STARTUP, bad].concat();
        let went = exchange(&rig, &Postgres::default(), None, &upstream, &[&sent]).await;
        assert!(
            matches!(went.result, Some(Err(_))),
            "{}: {:?}",
            bad.escape_ascii(),
            went.result
        );
        assert!(
            went.up == STARTUP || went.up == [STARTUP, END].concat(),
            "{}",
            went.up.escape_ascii()
        );
        assert!(went.text().contains("FATAL"), "{}", went.text());
        assert_eq!(went.operations, 2, "{}", bad.escape_ascii());
    }
}

#[tokio::test]
async fn every_operation_has_one_entry_and_one_outcome() {
    let rig = Rig::new(ALLOW);
    let upstream = Upstream::new(&turns());
    let went = exchange(&rig, &Postgres::default(), None, &upstream, &[&sent()]).await;
    assert_eq!(went.operations, OPERATIONS);
    rig.shared.ledger.close();
    let db = rusqlite::Connection::open(rig.dir.path().join("ledger.db")).unwrap();
    for (kind, id) in [("operation", "$.id"), ("outcome", "$.operation")] {
        let counts: (i64, i64) = db
            .query_row(
                "SELECT count(*), count(DISTINCT json_extract(body, ?2)) FROM entry
                 WHERE json_extract(body, '$.kind') = ?1",
                [kind, id],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .unwrap();
        assert_eq!(counts, (4, 4), "{kind}");
    }
}
