//! One record of the ledger.

use uuid::Uuid;

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
