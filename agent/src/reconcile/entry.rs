//! What is recorded of a reconciliation: one entry, or several where there are many cgroups.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Difference, account::Account, run::Compared};
use crate::{
    clock::Clock,
    model::{CgroupId, Entry, EntryKind, Seq},
    redirect::{Outcome, Unanswered},
};

/// Cgroups in one entry: some 600 bytes each.
const CGROUPS: usize = 500;

/// The bodies. `sessions` says which entries of the ledger were counted since the last time: the first, and the one
/// behind the last. `unanswered` is of all cgroups and since the agent began.
pub(super) fn bodies(
    compared: &[Compared],
    accounts: &BTreeMap<CgroupId, Account>,
    found: &[Difference],
    sessions: (Seq, Seq),
    unanswered: Unanswered,
) -> Vec<Map<String, Value>> {
    let event = if found.is_empty() {
        "reconciled"
    } else {
        "reconciliation_failed"
    };
    let none = Account::default();
    let described: Vec<Value> = compared
        .iter()
        .map(|one| describe(one, accounts.get(&one.cgroup).unwrap_or(&none)))
        .collect();
    let mut chunks: Vec<&[Value]> = described.chunks(CGROUPS).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let parts = chunks.len();
    let body = |(i, cgroups): (usize, &[Value])| {
        // Each difference once: with the first.
        let differences: &[Difference] = if i == 0 {
            found.get(..CGROUPS).unwrap_or(found)
        } else {
            &[]
        };
        let detail = json!({
            "cgroups": cgroups,
            "differences": differences,
            "differences_found": found.len(),
            "part": i + 1,
            "parts": parts,
            "resolver": unanswered,
            "read": { "from": sessions.0.0, "to": sessions.1.0 },
        });
        let mut body = Map::new();
        body.insert("event".into(), event.into());
        body.insert("detail".into(), detail);
        body
    };
    chunks.into_iter().enumerate().map(body).collect()
}

pub(super) fn made(clock: &Clock, body: Map<String, Value>) -> Entry {
    Entry::of(EntryKind::Agent, clock.now_ns(), body)
}

fn describe(one: &Compared, account: &Account) -> Value {
    let counters = &one.counted.counters;
    let unsent = counters
        .get(Outcome::TcpRedirected)
        .saturating_sub(counters.get(Outcome::TcpSent));
    json!({
        "cgroup_id": one.cgroup.0,
        "closed": one.closed,
        "in_flight": one.counted.in_flight,
        "lost_at_restart": account.lost,
        "outcomes": account.outcomes,
        "sessions": account.recorded,
        "turned_away": account.refused,
        "unsent": unsent,
        "workload": account.workload,
    })
}
