//! Why nothing was purged or held.

use super::super::LedgerError;

/// Why retention did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The ledger cannot be read, written or appended to. What was not recorded did not happen.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// The agent is stopping; what is on its way is done at the next pass.
    #[error("the agent is stopping: what is on its way is done at the next pass")]
    Stopping,
    /// A segment has something besides tables, indexes and views, which may hold copies of payload.
    #[error("the segment has something that may hold copies of payload, so nothing was purged: {sql}")]
    Derived {
        /// Its beginning.
        sql: String,
    },
    /// The segment is not what was signed: what is evidence of that is not purged.
    #[error("segment {segment} does not verify, so its entries are not purged: {what}; run verify")]
    Damaged {
        /// Its number.
        segment: u64,
        /// What is wrong.
        what: String,
    },
    /// A purge that was announced cannot be carried out, because the segment is another one by now.
    #[error("segment {segment} is not what it was when its purge was announced")]
    Changed {
        /// Its number.
        segment: u64,
    },
    /// A hold without anything that it covers.
    #[error("a hold names a workload, a session or a time")]
    HoldEmpty,
    /// There is no such hold.
    #[error("no legal hold of that id stands; `portcullis retention hold list` shows those that do")]
    HoldUnknown,
    /// No reason was given, or a long one.
    #[error("a reason of 1 to 1000 characters is required: say why, for whoever reads the record")]
    Reason,
    /// Nobody may have entries purged.
    #[error("entries are not purged on this host: set [retention] entries and purge_groups")]
    Off,
    /// The human is in none of the groups.
    #[error("you are in none of the groups that may have entries purged: {}", .groups.join(", "))]
    NotInGroup {
        /// Those groups.
        groups: Vec<String>,
    },
    /// The second person is the first.
    #[error("the second person must be somebody else")]
    SamePerson,
    /// There is no such request, or it is over.
    #[error(
        "no purge of that id waits for its second person; `portcullis retention status` shows those that do"
    )]
    RequestUnknown,
    /// Too many wait for their second person.
    #[error("too many purges wait for their second person")]
    TooMany,
    /// What was asked for cannot be purged.
    #[error("nothing can be purged before {before}: {why}")]
    Nothing {
        /// The time given, RFC 3339.
        before: String,
        /// What stands in the way.
        why: String,
    },
    /// What would be purged now is not what the first person asked for.
    #[error("what could be purged has changed since it was asked for ({why}): ask again")]
    Moved {
        /// What has changed.
        why: String,
    },
}

impl RetentionError {
    /// The word in entries about a refusal; `None` where nobody was refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Off => Some("off"),
            Self::NotInGroup { .. } => Some("not_in_group"),
            Self::SamePerson => Some("same_person"),
            Self::RequestUnknown => Some("request_unknown"),
            Self::Moved { .. } => Some("changed"),
            _ => None,
        }
    }
}

impl From<rusqlite::Error> for RetentionError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Ledger(error.into())
    }
}
