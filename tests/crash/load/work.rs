//! What the tasks do.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use portcullis::{
    clock::Clock,
    ledger::{FRAME_MAX, Frame, FrameDigest, Ledger, LedgerError, Tail, entry},
    model::{Direction, Entry, EntryKind, OperationId, Seq},
};
use rand::{Rng as _, rngs::StdRng};
use serde_json::json;

use super::say;

/// An operation with its payload and how it ended, again and again; some have no end, as if they still ran.
pub async fn write(ledger: Ledger, task: u64, mut random: StdRng) -> Result<()> {
    let workload = format!("bot-{task}");
    for round in 0u64.. {
        // A part that grows faster than it can be sealed would see few segments.
        tokio::time::sleep(Duration::from_micros(random.random_range(0..6_000))).await;
        let policy_set = if round.is_multiple_of(16) {
            let text = format!("permit (principal, action, resource); // {task} {round}");
            let hash = hex::encode(aws_lc_rs::digest::digest(
                &aws_lc_rs::digest::SHA256,
                text.as_bytes(),
            ));
            match ledger.policy_set(&hash, &text).await {
                Err(LedgerError::Closed) => return closed().await,
                other => other?,
            }
            hash
        } else {
            String::new()
        };
        let operation = operation(&workload, &policy_set);
        let id = OperationId(operation.id);
        if append(&ledger, task, operation).await?.is_none() {
            return closed().await;
        }
        let Some(outcome) = payload(&ledger, id, &workload, &mut random).await? else {
            return closed().await;
        };
        let end = random.random_range(0..8);
        if end < 5 {
            say(&format!("will {task} {}", outcome.id))?;
            match ledger.enqueue(outcome).await {
                Err(LedgerError::Closed) => return closed().await,
                other => other?,
            }
        } else if end < 7 && append(&ledger, task, outcome).await?.is_none() {
            return closed().await;
        }
    }
    Ok(())
}

/// The ledger was closed under a task: it has nothing to say any more, and is no error.
async fn closed() -> Result<()> {
    std::future::pending().await
}

/// Appends, and says so before and after; `None` when the ledger was closed.
async fn append(ledger: &Ledger, task: u64, entry: Entry) -> Result<Option<Seq>> {
    let id = entry.id;
    say(&format!("will {task} {id}"))?;
    match ledger.append(entry).await {
        Ok(seq) => {
            say(&format!("ack {task} {id} {}", seq.0))?;
            Ok(Some(seq))
        }
        Err(LedgerError::Closed) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

fn operation(workload: &str, policy_set: &str) -> Entry {
    let members = json!({
        "action": "http:request", "context": {"method": "GET", "path": "/"}, "controls": [], "decision": "allow",
        "destination": {"address": "192.0.2.7", "name": "api.internal", "name_verified": true, "port": 443},
        "host": "crash", "identity": {"expires_at": 1, "groups": [], "issuer": "i", "key_id": "k", "subject": "s",
        "token_id": "t"}, "mask": [], "message": "", "policies": ["p"], "policy_set": policy_set,
        "process": {"exe": "/usr/bin/curl", "pid": 7}, "protocol": "http", "reason": "policy_permit",
        "resource": {"id": "api.internal/", "type": "HttpEndpoint"}, "session": "s", "workload": workload,
    });
    entry(EntryKind::Operation, Clock::System.now_ns(), members)
}

/// Frames of an operation, and the outcome that names them; `None` when the ledger was closed.
async fn payload(
    ledger: &Ledger,
    operation: OperationId,
    workload: &str,
    random: &mut StdRng,
) -> Result<Option<Entry>> {
    let [mut up, mut down] = [FrameDigest::new(), FrameDigest::new()];
    for _ in 0..random.random_range(0..4) {
        let size = match random.random_range(0..40) {
            0 => random.random_range(20_000..FRAME_MAX),
            1..10 => random.random_range(1_000..9_000),
            _ => random.random_range(0..600),
        };
        // Half of a frame does not compress.
        let mut bytes = vec![b'x'; size];
        random.fill(&mut bytes[..size / 2]);
        let (digest, direction) = if random.random() {
            (&mut up, Direction::Up)
        } else {
            (&mut down, Direction::Down)
        };
        let frame = Frame {
            operation,
            direction,
            number: digest.frames(),
            bytes: bytes.clone().into(),
        };
        digest.push(&bytes);
        match ledger.frame(frame).await {
            Err(LedgerError::Closed) => return Ok(None),
            other => other?,
        }
    }
    let (up, down) = (up.finish(), down.finish());
    let members = json!({
        "bytes_down": down.bytes, "bytes_up": up.bytes, "duration_us": 1000, "masked": {},
        "operation": operation.to_string(), "payload": {"down": down, "up": up}, "reason": "completed",
        "status": "200", "workload": workload,
    });
    Ok(Some(entry(EntryKind::Outcome, Clock::System.now_ns(), members)))
}

/// Asks for a segment, again and again.
pub async fn seal(ledger: Ledger, mut random: StdRng) -> Result<()> {
    loop {
        match ledger.seal().await {
            Ok(Some(sealed)) => say(&format!(
                "sealed {} {} {} {}",
                sealed.number, sealed.first, sealed.end, sealed.sha256
            ))?,
            Ok(None) => {}
            Err(LedgerError::Closed) => return closed().await,
            Err(other) => return Err(other.into()),
        }
        tokio::time::sleep(Duration::from_micros(random.random_range(0..8_000))).await;
    }
}

/// Replaces the key, again and again.
pub fn rotate(ledger: &Ledger, random: &mut StdRng) -> Result<()> {
    loop {
        std::thread::sleep(Duration::from_micros(random.random_range(0..80_000)));
        match ledger.rotate_key(&json!({ "pid": 1, "uid": 0 })) {
            Ok(rotated) => say(&format!("key {}", rotated.new))?,
            // It is being closed: there is nobody to say it to.
            Err(LedgerError::Closed) => loop {
                std::thread::park();
            },
            Err(other) => return Err(other.into()),
        }
    }
}

/// Reads what was recorded while it is written and sealed: every entry once, in order.
pub fn read(ledger: &Ledger, dir: &Path) -> Result<()> {
    let mut tail = Tail::new(dir, ledger.size());
    let mut next = tail.next();
    loop {
        let found = tail.read(ledger.size(), 100, 1 << 20)?;
        for recorded in &found {
            ensure!(
                recorded.seq == next && !recorded.body.is_empty(),
                "entry {} was read where {} follows",
                recorded.seq.0,
                next.0
            );
            next = Seq(next.0 + 1);
        }
        if found.is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
