//! The entries that shipping makes.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{
    super::{
        Receipt,
        state::{Failing, State},
    },
    Parts,
    core::short,
};
use crate::{
    clock::Clock,
    config::Ship,
    ledger::{self, Ledger},
    model::{Entry, EntryKind, Rfc3339},
};

/// More than this many do not wait for a ledger that cannot be written.
const WAITING: usize = 64;

/// Records what becomes of shipping. What the ledger does not take now waits, within bounds.
pub(super) struct Notes {
    name: String,
    kind: &'static str,
    ledger: Ledger,
    clock: Clock,
    waiting: VecDeque<Entry>,
    /// When a failure was last told, nanoseconds since 1970 UTC.
    pub failing_at: i64,
}

impl Notes {
    pub(super) fn new(ship: &Ship, parts: &Parts) -> Self {
        Self {
            name: ship.name.clone(),
            kind: ship.to.kind(),
            ledger: parts.ledger.clone(),
            clock: parts.context.clock.clone(),
            waiting: VecDeque::new(),
            failing_at: 0,
        }
    }

    async fn note(&mut self, event: &str, detail: Value) {
        let Value::Object(mut members) = detail else {
            return;
        };
        members.insert("sink".into(), self.name.as_str().into());
        members.insert("kind".into(), self.kind.into());
        let body = json!({ "event": event, "detail": members });
        let entry = ledger::entry(EntryKind::Ledger, self.clock.now_ns(), body);
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
            tracing::error!(sink = %self.name, "a record about shipping is lost: the ledger cannot be written");
        }
        self.waiting.push_back(entry);
        self.flush().await;
    }

    /// Hands over what waits, in its order.
    pub(super) async fn flush(&mut self) {
        while let Some(entry) = self.waiting.front() {
            if let Err(e) = self.ledger.enqueue(entry.clone()).await {
                tracing::debug!(sink = %self.name, "a record about shipping waits: {e}");
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Entries or a segment were acknowledged.
    pub(super) async fn shipped(&mut self, detail: Value) {
        self.note("shipped", detail).await;
    }

    pub(super) async fn failing(&mut self, state: &State, size: u64) {
        let Some(failing) = &state.failing else { return };
        let detail = json!({
            "class": failing.class.as_str(),
            "why": failing.why,
            "since": Rfc3339(failing.since).to_string(),
            "tries": failing.tries,
            "next": state.next,
            "entries_waiting": size.saturating_sub(state.end.max(entries(state))),
        });
        self.note("ship_failing", detail).await;
    }

    pub(super) async fn recovered(&mut self, state: &State, failing: &Failing) {
        let seconds = self.clock.now_ns().saturating_sub(failing.since) / 1_000_000_000;
        let detail = json!({
            "class": failing.class.as_str(),
            "why": failing.why,
            "since": Rfc3339(failing.since).to_string(),
            "seconds": seconds,
            "tries": failing.tries,
            "next": state.next,
        });
        self.note("ship_recovered", detail).await;
    }

    pub(super) async fn rejected(&mut self, state: &State) {
        let open = &state.open;
        let count: u64 = open.rejected.values().sum();
        let mut detail = json!({ "count": count, "classes": open.rejected, "not_kept": open.not_kept });
        if let (Some((from, to)), Some(map)) = (open.rejected_range, detail.as_object_mut()) {
            map.insert("from".into(), from.into());
            map.insert("to".into(), to.into());
        }
        self.note("ship_rejected", detail).await;
    }

    /// Entries, or whole segments, were purged before their turn.
    pub(super) async fn purged(&mut self, count: u64, detail: Value) {
        let Value::Object(mut members) = detail else {
            return;
        };
        members.insert("count".into(), count.into());
        members.insert("classes".into(), json!({ "purged": count }));
        members.insert("not_kept".into(), count.into());
        self.note("ship_rejected", Value::Object(members)).await;
    }

    pub(super) async fn rolled_back(&mut self, state: &State, size: u64, why: &str) {
        let now = Rfc3339(self.clock.now_ns()).to_string();
        let detail = json!({
            "class": "rolled_back", "why": why, "since": now, "tries": 0, "next": state.next, "entries": size,
        });
        self.note("ship_failing", detail).await;
    }
}

/// The place up to which entries were taken, for sinks of entries.
fn entries(state: &State) -> u64 {
    match state.unit {
        super::super::state::Unit::Entries => state.next,
        super::super::state::Unit::Segments => 0,
    }
}

/// A receipt as it goes into an entry: canonical JSON takes no fractions, and what a receiver says is not for ever.
pub(super) fn receipt(receipt: &Receipt) -> Value {
    let mut detail = serde_json::Map::new();
    for (key, value) in receipt.detail.iter().take(16) {
        let value = match value {
            Value::String(text) => short(text).into(),
            Value::Bool(_) => value.clone(),
            Value::Number(n) if n.is_i64() || n.as_u64().is_some_and(|n| n < 1 << 53) => value.clone(),
            other => short(&other.to_string()).into(),
        };
        detail.insert(short(key), value);
    }
    json!({ "place": short(&receipt.place), "detail": detail })
}
