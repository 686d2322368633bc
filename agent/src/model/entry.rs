//! One record of the ledger.

use uuid::Uuid;

use super::Rfc3339;

/// What an entry speaks of; the `kind` member of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// An operation and the decision on it, durable before any effect.
    Operation,
    /// How an allowed operation ended.
    Outcome,
    /// Approvers were asked, answered, or what they gave was used or ended.
    Approval,
    /// A connection opened or closed.
    Session,
    /// A workload's lifecycle: tagged, bound, refreshed, revoked, restored, expired, removed.
    Workload,
    /// A change of configuration, policy, tags or keys, and by whom.
    Change,
    /// The agent itself: started, stopped, recovered, exported.
    Agent,
    /// Something that could not be recorded when it happened, with counts.
    Gap,
    /// The ledger's own custody: segments sealed, exports made, keys rotated, checkpoints witnessed, data purged or held,
    /// what was shipped and what could not be.
    Ledger,
}

impl EntryKind {
    /// The word in the body.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operation => "operation",
            Self::Outcome => "outcome",
            Self::Approval => "approval",
            Self::Session => "session",
            Self::Workload => "workload",
            Self::Change => "change",
            Self::Agent => "agent",
            Self::Gap => "gap",
            Self::Ledger => "ledger",
        }
    }
}

/// An entry ready to be appended: its body is what is hashed, to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The `id` member of the body.
    pub id: Uuid,
    /// The `kind` member of the body.
    pub kind: EntryKind,
    /// Canonical JSON (RFC 8785 with integers only): keys sorted, no white space, members `at`, `id`, `kind`, `v`
    /// always there.
    pub body: String,
}

impl Entry {
    /// An entry with a new id, from members beside `at`, `id`, `kind` and `v`.
    #[must_use]
    pub fn of(kind: EntryKind, at_ns: i64, mut members: serde_json::Map<String, serde_json::Value>) -> Self {
        let id = Uuid::now_v7();
        members.insert("at".into(), Rfc3339(at_ns).to_string().into());
        members.insert("id".into(), id.to_string().into());
        members.insert("kind".into(), kind.as_str().into());
        members.insert("v".into(), 1.into());
        let mut body = serde_json::Value::Object(members);
        // A dependency may have switched serde_json to insertion order.
        body.sort_all_objects();
        Self {
            id,
            kind,
            body: body.to_string(),
        }
    }
}
