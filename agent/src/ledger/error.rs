//! Why the ledger cannot do what it was asked.

use std::{path::PathBuf, sync::Arc};

use super::canonical::Flaw;
use crate::model::Reason;

/// Why an entry could not be recorded, or a ledger not be opened. Cheap to clone: one failure answers a whole batch.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk is full, read-only or broken; the ledger keeps retrying and records the gap when it succeeds.
    #[error("the ledger cannot be written: {why}")]
    Unavailable {
        /// What the disk or SQLite said.
        why: Arc<str>,
    },
    /// The ledger was closed.
    #[error("the ledger is closed")]
    Closed,
    /// One entry or frame is larger than the ledger takes.
    #[error("{bytes} bytes are more than the {limit} that one record may have")]
    TooLarge {
        /// Its size, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body is not canonical JSON, or lacks `at`, `id`, `kind` or `v`: it could never be verified.
    #[error("the entry's body is not canonical: {flaw}")]
    Malformed {
        /// What and where.
        flaw: Flaw,
    },
    /// The hash given for a policy set is not the hex SHA-256 of its text.
    #[error("'{hash}' is not the SHA-256 of the policy set's text")]
    PolicySetHash {
        /// The hash given.
        hash: Arc<str>,
    },
    /// Another process has this ledger open for writing.
    #[error("{path} is in use by another process")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// A file or directory of the ledger cannot be made, read or written.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        why: Arc<str>,
    },
    /// The host key's file does not hold a key in the C2SP signed-note form.
    #[error("{path} holds no host key: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: Arc<str>,
    },
    /// The file is not a ledger, or one of a version that this program does not know.
    #[error("{path} is not a ledger of a known version: {why}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: Arc<str>,
    },
    /// SQLite failed while reading or opening.
    #[error("the ledger's database: {why}")]
    Database {
        /// What SQLite said.
        why: Arc<str>,
    },
    /// The ledger is older than it was: someone put an earlier copy in its place.
    #[error(
        "the ledger has {size} entries and had {was}: this is an older copy of it. Put the newer one back; to go on \
         with this one, and so to fork the record, remove ledger.state"
    )]
    RolledBack {
        /// How many entries it has.
        size: u64,
        /// How many it had.
        was: u64,
    },
    /// Entries that were asked for have been purged.
    #[error("the entries from {from} on and before {to} have been purged")]
    Purged {
        /// The first.
        from: u64,
        /// The first that is there again.
        to: u64,
    },
    /// No checkpoint covers the entry yet.
    #[error("no checkpoint covers entry {seq} yet: the next one does, in a second or so")]
    Uncovered {
        /// Its place.
        seq: u64,
    },
    /// Nothing of that id is in the ledger.
    #[error("the ledger has no {what} '{id}'")]
    NotFound {
        /// `session` or `operation`.
        what: &'static str,
        /// The id asked for.
        id: Arc<str>,
    },
}

impl LedgerError {
    /// The reason for the workload and for metrics: whatever the cause, the ledger cannot record it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooLarge { .. } => Reason::TooLarge,
            _ => Reason::LedgerUnavailable,
        }
    }

    pub(super) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::File {
            path: path.into(),
            why: error.to_string().into(),
        }
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database {
            why: error.to_string().into(),
        }
    }
}
