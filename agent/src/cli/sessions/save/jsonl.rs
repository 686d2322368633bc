//! A session with a database as JSON lines: one object for each statement.

use std::io::Write;

use serde_json::{Value, json};

use super::{
    super::transcript,
    gather::{Exchange, each},
};

/// The most rows of one result; all are counted.
const ROWS: usize = 100_000;

/// Writes a line for each statement (or login); how many there were.
pub(super) fn write(replay: crate::ledger::replay::Replay, out: &mut impl Write) -> anyhow::Result<u64> {
    let mut count = 0;
    each(replay, |exchange| {
        anyhow::ensure!(
            exchange.operation["protocol"] == "postgres",
            "this session speaks {}: JSON lines are for databases, `--format har` is for HTTP",
            exchange.operation["protocol"]
        );
        serde_json::to_writer(&mut *out, &line(exchange))?;
        out.write_all(b"\n")?;
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

fn line(exchange: &Exchange) -> Value {
    let entry = &exchange.operation;
    let read = transcript::read(&exchange.up.bytes, &exchange.down.bytes, ROWS);
    let outcome = exchange.outcome.as_ref();
    let of_outcome = |name: &str| outcome.and_then(|o| o.get(name)).cloned().unwrap_or_default();
    json!({
        "action": entry["action"],
        "approval": entry["approval"],
        "at": entry["at"],
        "database": entry["context"]["sql"]["database"],
        "decision": entry["decision"],
        "duration_us": of_outcome("duration_us"),
        "ended_at": of_outcome("at"),
        "left_out_bytes": exchange.up.left_out + exchange.down.left_out,
        "masked": of_outcome("masked"),
        "operation": entry["id"],
        "outcome": of_outcome("reason"),
        "policies": entry["policies"],
        "reason": entry["reason"],
        "received": read.received,
        "resource": entry["resource"]["id"],
        "sent": read.sent,
        "session": entry["session"],
        "statement": entry["context"]["sql"]["text"],
        "status": of_outcome("status"),
        "subject": entry["identity"]["subject"],
        // The record ends in the middle: something was left out, or the operation was cut off.
        "truncated": read.cut,
        "workload": entry["workload"],
    })
}
