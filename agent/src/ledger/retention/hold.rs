//! Legal holds: what no purge may touch.
//!
//! The ledger's entries are what counts. The file `retention.holds` keeps a start short: it is a note of the host key
//! that says which holds stand after the first so many entries, and the entries since are read. Without the file, or
//! with one that this host did not sign, all entries are read. An older copy of the file does no harm.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{Ledger, LedgerError, Tail, note::HostKey},
    RetentionError, files,
};
use crate::model::Seq;

const FILE: &str = "retention.holds";
const TITLE: &str = "legal holds";

/// What a hold covers: what all of its members fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HoldScope {
    /// Of this workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Of this connection (UUID).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// From this time on, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Before this time, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

impl HoldScope {
    /// Whether something of a workload and session between two times may be covered. What is not known may be.
    #[must_use]
    pub fn covers(
        &self,
        workload: Option<&str>,
        session: Option<&str>,
        from: Option<&str>,
        to: Option<&str>,
    ) -> bool {
        let other = |wanted: &Option<String>, found: Option<&str>| {
            wanted
                .as_deref()
                .zip(found)
                .is_some_and(|(wanted, found)| wanted != found)
        };
        // Times of this form compare as text.
        let before = |a: Option<&str>, b: Option<&str>| a.zip(b).is_some_and(|(a, b)| a < b);
        let over = from
            .zip(self.until.as_deref())
            .is_some_and(|(from, until)| from >= until);
        !other(&self.workload, workload)
            && !other(&self.session, session)
            && !before(to, self.since.as_deref())
            && !over
    }
}

impl std::fmt::Display for HoldScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("workload", &self.workload),
            ("session", &self.session),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let said = parts
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let words: Vec<_> = said.map(|(name, value)| format!("{name} {value}")).collect();
        f.write_str(&words.join(", "))
    }
}

/// Which process of this host asked, as its control socket saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// Process id.
    pub pid: i32,
    /// User id.
    pub uid: u32,
}

/// One hold that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Id of the entry that set it.
    pub id: Uuid,
    /// That entry's place.
    pub entry: u64,
    /// What it covers.
    pub scope: HoldScope,
    /// Why.
    pub reason: String,
    /// When it was set, RFC 3339.
    pub set_at: String,
    /// Who asked.
    pub set_by: Option<By>,
}

/// The holds that stand after so many entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Holds {
    read_to: u64,
    standing: BTreeMap<Uuid, Hold>,
}

#[derive(Deserialize)]
struct HoldEntry {
    id: Uuid,
    kind: String,
    at: String,
    event: String,
    detail: Value,
    #[serde(default)]
    actor: Option<By>,
}

impl Holds {
    /// The holds that stand now. Blocks: reads the entries since the file was written.
    pub(super) fn load(dir: &Path, ledger: &Ledger, key: &HostKey) -> Result<Self, LedgerError> {
        let kept = files::get(&dir.join(FILE))?;
        let mut holds = match &kept {
            None => Self::default(),
            Some(note) => Self::open(note, key).unwrap_or_else(|| {
                tracing::warn!("{FILE} is not as this host signed it: the holds are read from all entries");
                Self::default()
            }),
        };
        if holds.read_to > ledger.size().0 {
            tracing::warn!("{FILE} is of a longer ledger: the holds are read from all entries");
            holds = Self::default();
        }
        holds.catch_up(dir, ledger)?;
        Ok(holds)
    }

    fn open(note: &str, key: &HostKey) -> Option<Self> {
        let text = key.verifier().open(note).ok()?;
        let rest = text.strip_prefix(&format!("{}\n{TITLE}\n", key.verifier().name()))?;
        serde_json::from_str(rest).ok()
    }

    /// Reads the entries that came since.
    pub(super) fn catch_up(&mut self, dir: &Path, ledger: &Ledger) -> Result<(), LedgerError> {
        let mut tail = Tail::new(dir, Seq(self.read_to));
        loop {
            let read = match tail.read(ledger.size(), 4096, 8 << 20) {
                // A segment with the entry of a hold that stands is not purged, so nothing is missed.
                Err(LedgerError::Purged { to, .. }) => {
                    tail = Tail::new(dir, Seq(to));
                    continue;
                }
                other => other?,
            };
            let Some(last) = read.last() else { break };
            self.read_to = last.seq.0 + 1;
            for entry in &read {
                self.apply(&entry.body, entry.seq.0);
            }
        }
        self.read_to = self.read_to.max(tail.next().0);
        Ok(())
    }

    fn apply(&mut self, body: &str, seq: u64) {
        if !body.contains("\"event\":\"hold_") {
            return;
        }
        let Ok(entry) = serde_json::from_str::<HoldEntry>(body) else {
            return;
        };
        if entry.kind != "ledger" {
            return;
        }
        match entry.event.as_str() {
            "hold_set" => {
                let scope = serde_json::from_value(entry.detail["scope"].clone());
                let hold = Hold {
                    id: entry.id,
                    entry: seq,
                    // What cannot be read covers everything.
                    scope: scope.unwrap_or_default(),
                    reason: entry.detail["reason"].as_str().unwrap_or_default().into(),
                    set_at: entry.at,
                    set_by: entry.actor,
                };
                self.standing.insert(hold.id, hold);
            }
            "hold_released" => {
                let id = entry.detail["hold"].as_str().and_then(|id| id.parse().ok());
                if let Some(id) = id {
                    self.standing.remove::<Uuid>(&id);
                }
            }
            _ => {}
        }
    }

    pub(super) fn save(&self, dir: &Path, key: &HostKey) -> Result<(), RetentionError> {
        let text = serde_json::to_string(self).map_err(|e| LedgerError::File {
            path: dir.join(FILE),
            why: e.to_string().into(),
        })?;
        let note = key.sign(&format!("{}\n{TITLE}\n{text}\n", key.verifier().name()));
        Ok(files::put(&dir.join(FILE), note.as_bytes())?)
    }

    pub(super) fn list(&self) -> Vec<Hold> {
        let mut all: Vec<_> = self.standing.values().cloned().collect();
        all.sort_by_key(|hold| hold.entry);
        all
    }

    pub(super) fn get(&self, id: &Uuid) -> Option<&Hold> {
        self.standing.get(id)
    }
}

/// The members of the entry that sets a hold.
pub(super) fn set(scope: &HoldScope, reason: &str, by: By) -> Value {
    json!({ "event": "hold_set", "actor": by, "detail": { "scope": scope, "reason": reason } })
}

/// The members of the entry that releases one.
pub(super) fn released(hold: &Hold, reason: &str, by: By) -> Value {
    json!({
        "event": "hold_released", "actor": by,
        "detail": { "hold": hold.id, "scope": hold.scope, "reason": reason },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_covers_what_all_its_members_fit() {
        let scope = HoldScope {
            workload: Some("bot".into()),
            since: Some("2026-01-01T00:00:00.000000000Z".into()),
            until: Some("2026-02-01T00:00:00.000000000Z".into()),
            ..HoldScope::default()
        };
        let at = |day: &str| format!("2026-{day}T12:00:00.000000000Z");
        for (workload, from, to, covered) in [
            ("bot", at("01-10"), at("01-10"), true),
            ("bot", at("01-31"), at("02-03"), true),
            ("other", at("01-10"), at("01-10"), false),
            ("bot", at("02-01"), at("02-01"), false),
            ("bot", "2025-12-01".into(), "2025-12-02".into(), false),
            ("bot", "2025-12-01".into(), at("06-01"), true),
        ] {
            let found = scope.covers(Some(workload), None, Some(&from), Some(&to));
            assert_eq!(found, covered, "{workload} {from} {to}");
        }
        assert!(scope.covers(None, None, None, None));
        assert!(HoldScope::default().covers(Some("x"), Some("y"), None, None));
    }
}
