//! Export: one SQLite file for an auditor, complete in itself, readable with any SQLite tool.
//!
//! It spans the parts of a ledger and begins with the first that can have what is asked for. It has the leaf hash of every
//! entry from there on, so that the signed root can be computed again, and the bodies and payloads of those selected. Payload
//! is stored uncompressed: then SQL shows it, and a short script can check it.

mod about;
mod copy;
mod file;
mod questions;
mod select;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::Value;
use uuid::Uuid;

use self::{copy::Copy, file::Partial};
use super::{LedgerError, controls::Control, pieces, segment::hash_file, verify::Progress};
use crate::model::Rfc3339;

/// Which entries' bodies and payloads an export has.
///
/// An operation brings its outcome and payload. With `workload` or `session`, only what names it is taken, and with
/// `workload` also what concerns the whole host: the agent's events, and changes of configuration and policy. Gaps within
/// the time asked for, and rotations of the host's key, are always there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportOptions {
    /// From this time on, nanoseconds since 1970 UTC.
    pub since_ns: Option<i64>,
    /// Before this time.
    pub until_ns: Option<i64>,
    /// Of this workload.
    pub workload: Option<String>,
    /// Of this session (UUID).
    pub session: Option<String>,
    /// Only the kinds of entries that the evidence for these controls is read from; all if there are none.
    pub controls: Vec<Control>,
    /// Without the index for full-text search.
    pub without_search: bool,
    /// Also the entries after the last checkpoint, which nothing signed covers yet.
    pub unsealed: bool,
    /// Now, for `about`; nanoseconds since 1970 UTC.
    pub now_ns: i64,
}

impl ExportOptions {
    fn control_ids(&self) -> Vec<&str> {
        self.controls.iter().map(|c| &*c.id).collect()
    }

    /// From which time on entries are wanted.
    fn oldest(&self) -> Option<String> {
        // A session's id has the time at which it began.
        let session = self.session.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        let ns = self.since_ns.max(session.and_then(pieces::made_at))?;
        Some(pieces::not_before(ns))
    }

    /// What was asked for, for the entry that records the export: `since`, `until`, `workload`,
    /// `session`, `search`, `controls`, each where it was.
    #[must_use]
    pub fn asked(&self) -> Value {
        let time = |ns: Option<i64>| ns.map(|ns| Rfc3339(ns).to_string().into());
        let text = |text: &Option<String>| text.clone().map(Value::from);
        let controls = self.control_ids();
        let members = [
            ("since", time(self.since_ns)),
            ("until", time(self.until_ns)),
            ("workload", text(&self.workload)),
            ("session", text(&self.session)),
            ("search", self.without_search.then(|| "no".into())),
            ("controls", (!controls.is_empty()).then(|| controls.into())),
        ];
        let members = members
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Value::Object(members.collect())
    }
}

/// What an export holds: for the entry that records it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    /// Entries before its first.
    pub first: u64,
    /// Entries in the tree at its end.
    pub entries: u64,
    /// Of those from `first` on, the ones with their body.
    pub selected: u64,
    /// Payload frames.
    pub frames: u64,
    /// The tree's root, hex.
    pub root: String,
    /// SHA-256 of the finished file, hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// Exports a ledger to `out`, which must not exist. `ledger` is a data directory, or one file: a part, a segment or
/// another export. Works beside a running daemon.
///
/// # Errors
/// When the ledger cannot be read or `out` not be written. Then `out` is not there.
pub fn export(
    ledger: &Path,
    out: &Path,
    options: &ExportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Exported, LedgerError> {
    if out.exists() {
        return Err(LedgerError::File {
            path: out.into(),
            why: "it exists already".into(),
        });
    }
    let partial = Partial::new(out)?;
    let mut copy = Copy::new(&partial.path, options)?;
    copy.all(&pieces::find(ledger, options.oldest().as_deref())?, progress)?;
    let mut done = copy.finish()?;
    (done.sha256, done.bytes) = hash_file(&partial.path).map_err(|e| LedgerError::file(&partial.path, &e))?;
    partial.keep(out)?;
    Ok(done)
}
