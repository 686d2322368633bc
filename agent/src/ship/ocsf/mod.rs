//! Entries as events of the Open Cybersecurity Schema Framework (OCSF, schema.ocsf.io), version 1.6.0: a year old,
//! so that receivers know it, and valid by every later 1.x, which only adds.
//!
//! | entry | event |
//! | --- | --- |
//! | operation, HTTP | HTTP Activity (4002) |
//! | operation, AWS and whatever else is a call | API Activity (6003) |
//! | operation, SQL | Datastore Activity (6005) |
//! | operation, TCP; session; outcome | Network Activity (4001) |
//! | operation, exec | Process Activity (1007) |
//! | workload: bound, refreshed, failed, expired; approvers who signed in or tried to | Authentication (3002) |
//! | approval | Authorize Session (3003) |
//! | workload: tagged, removed, revoked, restored; change | Entity Management (3004) |
//! | agent | Application Lifecycle (6002), Application Error (6008) |
//! | ledger | Event Log Activity (1008) |
//! | gap | Detection Finding (2004) |
//!
//! `metadata.uid` is the entry's id, the same in every copy; `metadata.sequence` its place in the ledger;
//! `metadata.correlation_uid` the operation, approval or session that it belongs to; `metadata.event_code` what happened.
//! What has no place in the class is in `unmapped`, under the entry's own names: nothing is dropped. Entries hold no
//! secret, and what is masked in them is masked here.

mod event;
mod manage;
mod network;
mod operation;
mod out;
mod people;

use serde_json::Value;

use super::view::{HostFacts, View};
use crate::ledger::Recorded;

/// The version that events are written in (`metadata.version`).
pub const VERSION: &str = "1.6.0";

/// An entry as an OCSF event, JSON text. Whatever the entry holds, this gives an event: of what is no entry, one that
/// says so.
#[must_use]
pub fn ocsf(entry: &Recorded, host: &HostFacts) -> String {
    let body = serde_json::from_str(&entry.body).unwrap_or_default();
    let view = View {
        seq: entry.seq.0,
        text: &entry.body,
        body: &body,
    };
    event(&view, host)
}

/// The same of an entry that was read already.
#[must_use]
pub fn event(view: &View<'_>, host: &HostFacts) -> String {
    match (view.kind(), view.event()) {
        ("operation", _) => operation::operation(view, host),
        ("outcome", _) => network::outcome(view, host),
        ("session", _) => network::session(view, host),
        ("approval", "signed_in" | "not_admitted" | "stranger") => people::sign_in(view, host),
        ("approval", _) => people::approval(view, host),
        ("workload", "bound" | "refreshed" | "failed" | "expired") => people::identity(view, host),
        ("workload", _) => manage::workload(view, host),
        ("change", _) => manage::change(view, host),
        ("agent", _) => manage::agent(view, host),
        ("gap", _) => manage::gap(view, host),
        _ => manage::ledger(view, host),
    }
}

/// A whole number that text says, e.g. a status code.
fn number(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Text of an array's first element, or the text itself.
fn first(value: &Value) -> &str {
    value.as_str().or_else(|| value[0].as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
