//! What an earlier run of the agent left open: nobody waits for it any more, and no answer reaches it.

use std::{collections::HashSet, path::Path, time::Duration};

use serde_json::Value as Json;

use super::{Approvals, entries, view::State};
use crate::{
    ledger::{self, LedgerError},
    model::{Entry, EntryKind},
};

/// Entries about approvals that are looked at.
const LOOKED_AT: usize = 100_000;

impl Approvals {
    /// Records for each request and grant of earlier runs that it has lapsed. Reads the ledger, which can take long:
    /// for a thread of its own.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn lapse_orphans(&self, path: &Path) -> Result<usize, LedgerError> {
        let inner = &self.0;
        let config = inner.config.load_full();
        if config.issuer.is_none() {
            // Nobody could be asked: hosts without approvers need not read their ledger for it.
            return Ok(0);
        }
        let longest = config
            .request_time
            .max(config.grant_time)
            .max(config.break_glass_time);
        let back = i64::try_from((longest * 2).max(Duration::from_secs(3600)).as_nanos()).unwrap_or(i64::MAX);
        let since = inner.now().saturating_sub(back);
        let found = ledger::approvals(path, since, LOOKED_AT)?;
        let mine: HashSet<String> = {
            let book = inner.book();
            let ids = book.requests.keys().chain(book.grants.keys());
            ids.map(ToString::to_string).collect()
        };
        let lapsed = orphans(&found, &mine);
        for orphan in &lapsed {
            inner.ledger.enqueue_now(orphan.entry(inner.now(), &inner.host));
        }
        Ok(lapsed.len())
    }
}

struct Orphan<'a> {
    body: &'a Json,
    grant: bool,
}

impl Orphan<'_> {
    fn entry(&self, now: i64, host: &str) -> Entry {
        let text = |member: &str| self.body[member].as_str().unwrap_or_default();
        if self.grant {
            let members = serde_json::json!({
                "approval": self.body["approval"],
                "event": "grant_ended",
                "host": host,
                "reason": "agent_restarted",
                "workload": self.body["workload"],
            });
            let members = members.as_object().cloned().unwrap_or_default();
            return Entry::of(EntryKind::Approval, now, members);
        }
        let id = text("approval").parse().unwrap_or_default();
        entries::ended(id, text("workload"), State::Lapsed, "agent_restarted", now, host)
    }
}

/// Requests without an end and grants without one; `found` is newest first.
fn orphans<'a>(found: &'a [Json], mine: &HashSet<String>) -> Vec<Orphan<'a>> {
    let (mut ended, mut grants_ended) = (HashSet::new(), HashSet::new());
    let mut orphans = Vec::new();
    for body in found {
        let id = body["approval"].as_str().unwrap_or_default();
        if mine.contains(id) {
            continue;
        }
        match body["event"].as_str().unwrap_or_default() {
            "grant_ended" => {
                grants_ended.insert(id);
            }
            "denied" | "expired" | "lapsed" => {
                ended.insert(id);
            }
            "approved" if body["complete"] == true => {
                ended.insert(id);
                if body["covers"].is_string() && !grants_ended.contains(id) {
                    orphans.push(Orphan { body, grant: true });
                }
            }
            "break_glass_given" if !grants_ended.contains(id) => orphans.push(Orphan { body, grant: true }),
            "requested" if !ended.contains(id) => orphans.push(Orphan { body, grant: false }),
            _ => {}
        }
    }
    orphans
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_no_end_is_found() {
        let found = [
            json!({"approval": "d", "event": "break_glass_given"}),
            json!({"approval": "c", "event": "approved", "complete": true, "covers": "any"}),
            json!({"approval": "c", "event": "requested"}),
            json!({"approval": "b", "event": "denied"}),
            json!({"approval": "b", "event": "requested"}),
            json!({"approval": "a", "event": "approved", "complete": false}),
            json!({"approval": "a", "event": "requested"}),
            json!({"approval": "e", "event": "requested"}),
        ];
        let mine = HashSet::from(["e".to_owned()]);
        let all = orphans(&found, &mine);
        let ids: Vec<_> = all
            .iter()
            .map(|o| (o.body["approval"].as_str().unwrap(), o.grant))
            .collect();
        assert_eq!(ids, [("d", true), ("c", true), ("a", false)]);
    }
}
