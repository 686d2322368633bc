//! How sinks fare, for `status`, `ship list` and metrics.

use serde::{Deserialize, Serialize};

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// The `[[ship]]`.
    pub name: String,
    /// `directory`, `s3`, `otlp`, `syslog`, `splunk_hec` or `jsonl`.
    pub kind: String,
    /// `waiting` (all was taken), `sending`, `failing`, or `stopped`.
    pub state: String,
    /// Whether nothing is purged that it did not take.
    pub required: bool,
    /// `entries` or `segments`: what the numbers count.
    pub unit: String,
    /// The first that it did not acknowledge.
    pub next: u64,
    /// How many it took, ever.
    pub taken: u64,
    /// Their bytes: of entries, or of segment files.
    pub taken_bytes: u64,
    /// When it took something last, RFC 3339.
    pub taken_at: Option<String>,
    /// How many wait for it; sealed segments only.
    pub waiting: u64,
    /// Their bytes; for entries reckoned by those before.
    pub waiting_bytes: u64,
    /// How old the oldest of them is, in seconds.
    pub waiting_seconds: u64,
    /// How many it rejected, ever.
    pub rejected: u64,
    /// How many entries were purged before they could be sent.
    pub purged: u64,
    /// Dead letters that an admin can have sent again.
    pub dead_letters: u64,
    /// How many rejected ones found no room there.
    pub not_kept: u64,
    /// What went wrong, while it fails.
    pub error: Option<SinkError>,
}

/// What went wrong with a sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkError {
    /// What kind of trouble.
    pub class: String,
    /// What happened.
    pub why: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// For how many seconds.
    pub seconds: u64,
    /// Failed tries in a row.
    pub tries: u64,
    /// When it is tried next, RFC 3339.
    pub next_try: Option<String>,
}

/// What sinks with `required = true` have not taken: it must not be purged yet. `None` where no such sink takes that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// Entries from this place on.
    pub entry: Option<u64>,
    /// Segments from this number on.
    pub segment: Option<u64>,
}
