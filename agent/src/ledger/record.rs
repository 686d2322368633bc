//! The entries that the ledger itself makes: `agent` recovered, and `gap`.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{canonical, queue::Sealed, tree::leaf_hash};
use crate::model::{Entry, EntryKind, Reason, Rfc3339};

/// What could not be recorded, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Losses {
    /// Entries that nobody waited for, and that found the queue full or the ledger failed.
    pub entries: u64,
    /// Frames, likewise.
    pub frames: u64,
    /// Entries and frames whose caller was told so, and did not go on.
    pub refused: u64,
    /// Operations that were denied because the room for the ledger was used up.
    pub operations: u64,
    /// Frames of requests that were not recorded, for the same reason, as configured.
    pub payloads_up: u64,
    /// Frames of answers, likewise.
    pub payloads_down: u64,
    /// Bytes of payload that were not recorded, for the same reason.
    pub payload_bytes: u64,
    /// The first, nanoseconds since 1970 UTC.
    pub from_ns: i64,
    /// The last, nanoseconds since 1970 UTC.
    pub to_ns: i64,
}

impl Losses {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count() == 0 && self.payload_bytes == 0 && self.to_ns == 0
    }

    /// Everything that is counted one by one.
    fn count(&self) -> u64 {
        self.entries + self.frames + self.refused + self.operations + self.payloads_up + self.payloads_down
    }

    /// Whether some of it was lost for want of room.
    fn is_for_room(&self) -> bool {
        self.operations + self.payloads_up + self.payloads_down + self.payload_bytes > 0
    }

    /// Adds another's counts and range.
    pub(super) fn merge(&mut self, other: &Self) {
        self.entries += other.entries;
        self.frames += other.frames;
        self.refused += other.refused;
        self.operations += other.operations;
        self.payloads_up += other.payloads_up;
        self.payloads_down += other.payloads_down;
        self.payload_bytes += other.payload_bytes;
        if other.to_ns != 0 {
            self.at(other.from_ns);
            self.at(other.to_ns);
        }
    }

    /// Widens the time range.
    pub(super) fn at(&mut self, now_ns: i64) {
        if self.to_ns == 0 {
            self.from_ns = now_ns;
        }
        self.from_ns = self.from_ns.min(now_ns);
        self.to_ns = self.to_ns.max(now_ns);
    }
}

/// Salts and hashes a body, on the caller's thread.
pub(super) fn seal(body: String) -> Sealed {
    let mut salt = [0; 16];
    rand::Rng::fill(&mut rand::rng(), &mut salt);
    let leaf = leaf_hash(&salt, body.as_bytes());
    Sealed {
        body,
        salt,
        leaf,
        done: None,
        beside: None,
    }
}

/// An entry of `kind` from `members`, to which `at`, `id`, `kind` and `v` are added.
#[must_use]
pub fn entry(kind: EntryKind, now_ns: i64, members: Value) -> Entry {
    let id = Uuid::now_v7();
    let mut members = match members {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    };
    members.insert("at".into(), Rfc3339(now_ns).to_string().into());
    members.insert("id".into(), id.to_string().into());
    members.insert("kind".into(), kind.as_str().into());
    members.insert("v".into(), 1.into());
    Entry {
        id,
        kind,
        body: canonical::to_string(&Value::Object(members)),
    }
}

pub(super) fn gap(now_ns: i64, losses: &Losses, reason: Reason, why: Option<&str>) -> Sealed {
    let mut detail = json!({
        "count": losses.count(),
        "entries": losses.entries,
        "frames": losses.frames,
        "refused": losses.refused,
    });
    let (mut reason, mut why) = (reason, why);
    if losses.is_for_room()
        && let Some(map) = detail.as_object_mut()
    {
        map.insert("operations".into(), losses.operations.into());
        map.insert("payloads_up".into(), losses.payloads_up.into());
        map.insert("payloads_down".into(), losses.payloads_down.into());
        map.insert("payload_bytes".into(), losses.payload_bytes.into());
        if reason == Reason::Overloaded {
            reason = Reason::LedgerUnavailable;
            why = why.or(Some("the room for the ledger was used up ([retention])"));
        }
    }
    if let (Some(why), Some(map)) = (why, detail.as_object_mut()) {
        map.insert("why".into(), why.into());
    }
    let body = json!({
        "detail": detail,
        "from": Rfc3339(losses.from_ns).to_string(),
        "reason": reason.as_str(),
        "to": Rfc3339(losses.to_ns).to_string(),
    });
    seal(entry(EntryKind::Gap, now_ns, body).body)
}

pub(super) fn recovered(now_ns: i64, size: u64) -> Sealed {
    let body = json!({ "detail": { "entries": size }, "event": "recovered" });
    seal(entry(EntryKind::Agent, now_ns, body).body)
}
