//! Tests of the ledger as a whole.

mod basic;
mod disclosed;
mod reading;
mod replay;
mod rotation;
mod script;
mod segments;
mod stamped;
mod tamper;
mod trouble;
mod vouched;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::model::EntryKind;

pub(super) const NOW: i64 = 1_795_242_600_123_456_789;

pub(super) fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(super) fn open(dir: &TempDir, durability: Durability) -> Ledger {
    Ledger::open(dir.path(), options(durability)).unwrap()
}

/// The tests' entries are older than a segment gets by itself.
pub(super) fn options(durability: Durability) -> Options {
    Options {
        segment_age: Duration::from_secs(100 * 365 * 24 * 3600),
        ..Options::new("host-1", durability)
    }
}

pub(super) fn db(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("ledger.db")
}

pub(super) fn agent(event: &str) -> Entry {
    entry(EntryKind::Agent, NOW, json!({ "event": event, "detail": {} }))
}

pub(super) fn check_all(dir: &TempDir) -> Report {
    verify(&db(dir), None, &mut |_| {}).unwrap()
}

/// An operation with its frames and its outcome.
pub(super) struct Told {
    pub id: OperationId,
    pub operation: Entry,
    pub frames: Vec<Frame>,
    pub outcome: Entry,
}

pub(super) fn told(workload: &str, session: &str, at: i64, payload: &[(Direction, Vec<u8>)]) -> Told {
    let operation = entry(
        EntryKind::Operation,
        at,
        json!({
            "action": "http:request", "context": {"method": "GET", "path": "/a\"b\u{1}é"}, "controls": [], "decision": "allow",
            "destination": {"address": "192.0.2.7", "name": "api.internal", "name_verified": true, "port": 443},
            "host": "host-1", "identity": {"expires_at": 1, "groups": ["g"], "issuer": "i", "key_id": "k",
            "subject": "sub-1", "token_id": "t"}, "mask": ["email"], "message": "", "policies": ["p1"],
            "policy_set": "", "process": {"exe": "/usr/bin/curl", "pid": 7}, "protocol": "http",
            "reason": "policy_permit", "resource": {"id": "api.internal/a", "type": "HttpEndpoint"},
            "session": session, "workload": workload,
        }),
    );
    let id = OperationId(operation.id);
    let mut digests = [FrameDigest::new(), FrameDigest::new()];
    let mut frames = Vec::new();
    for (direction, bytes) in payload {
        let digest = &mut digests[usize::from(*direction == Direction::Down)];
        let number = digest.frames();
        digest.push(bytes);
        frames.push(Frame {
            operation: id,
            direction: *direction,
            number,
            bytes: bytes.clone().into(),
        });
    }
    let [up, down] = digests.map(FrameDigest::finish);
    let outcome = entry(
        EntryKind::Outcome,
        at + 1_000_000,
        json!({
            "bytes_down": down.bytes, "bytes_up": up.bytes, "duration_us": 1000, "masked": {"email": 3},
            "operation": id.to_string(), "payload": {"down": down, "up": up}, "reason": "completed", "status": "200",
            "workload": workload,
        }),
    );
    Told {
        id,
        operation,
        frames,
        outcome,
    }
}

pub(super) async fn tell(ledger: &Ledger, told: &Told) {
    ledger.append(told.operation.clone()).await.unwrap();
    for frame in &told.frames {
        ledger.frame(frame.clone()).await.unwrap();
    }
    ledger.enqueue(told.outcome.clone()).await.unwrap();
}

pub(super) fn session(workload: &str, id: &str, event: &str) -> Entry {
    let mut members: Value = json!({
        "event": event, "session": id, "workload": workload, "protocol": "http",
        "process": {"exe": "/usr/bin/curl", "pid": 7}, "destination": {"address": "192.0.2.7", "port": 443},
    });
    if event == "close" {
        members["operations"] = 2.into();
        members["reason"] = "completed".into();
    }
    entry(EntryKind::Session, NOW, members)
}

pub(super) async fn sample(ledger: &Ledger) {
    let big = b"{\"name\":\"[masked:name]\"},".repeat(200);
    let text = "permit(principal, action, resource);";
    ledger
        .policy_set(&hex::encode(tree::sha256(&[text.as_bytes()])), text)
        .await
        .unwrap();
    for (n, workload) in ["bot-a", "bot-b"].into_iter().enumerate() {
        let id = uuid::Uuid::now_v7().to_string();
        ledger.append(session(workload, &id, "open")).await.unwrap();
        for i in 0..3 {
            let payload = [
                (Direction::Up, b"GET /a".to_vec()),
                (Direction::Down, big.clone()),
                (Direction::Down, format!("end {n} {i}").into_bytes()),
            ];
            tell(ledger, &told(workload, &id, NOW + i, &payload)).await;
        }
        ledger.append(session(workload, &id, "close")).await.unwrap();
    }
    let change = json!({ "actor": {"uid": 0, "pid": 9}, "before": "x", "after": "y", "detail": {}, "subject": "policy" });
    ledger
        .append(entry(EntryKind::Change, NOW, change))
        .await
        .unwrap();
    let event = json!({ "detail": {}, "event": "bound", "reason": "", "workload": "bot-a" });
    ledger
        .append(entry(EntryKind::Workload, NOW, event))
        .await
        .unwrap();
}
