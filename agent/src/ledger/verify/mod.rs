//! Verification: everything that is stored is computed again, and the first thing that is not what it should be is
//! named.
//!
//! What is trusted: the public key, if it is given. What a holder of the host key could still do: write another
//! history. What nobody can find in the file alone: that the newest entries were cut off together with the
//! checkpoints over them; keep a checkpoint elsewhere for that.

mod about;
mod chain;
mod claims;
mod disclosure;
mod evidence;
mod keys;
mod pass;
mod purged;
mod tables;
mod timestamps;

use std::path::{Path, PathBuf};

pub use self::{
    disclosure::{DISCLOSURE_MAX, Disclosed, DisclosureFlaw, verify_disclosure},
    evidence::Witnessed,
    timestamps::Stamp,
};
pub use super::schema::FileKind;
use super::{
    LedgerError,
    canonical::Flaw,
    note::{NoteError, VerifierKey},
    parts::Part,
    timestamp::{TokenFlaw, TsaRoots},
    witness::cosignature::WitnessKey,
};

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryFlaw {
    /// Entries before it are not there.
    #[error("the entries from {expected} on, before it, are missing")]
    Hole {
        /// The first that is missing.
        expected: u64,
    },
    /// A column has not the type or length that it should have.
    #[error("its column '{column}' does not have the form it should have")]
    Column {
        /// Which.
        column: &'static str,
    },
    /// Body and salt do not hash to the leaf.
    #[error("its body, salt and leaf hash do not belong together: one of them was changed")]
    Leaf,
    /// The body is not canonical JSON.
    #[error("its body is not canonical: {0}")]
    Canonical(Flaw),
    /// `at`, `id`, `kind` or `v` is missing or not well-formed.
    #[error("its member '{member}' is missing or not well-formed")]
    Member {
        /// Which.
        member: &'static str,
    },
    /// An outcome of an operation that is not there, or had one already.
    #[error("it is the outcome of operation {operation}, which is not there before it without an outcome")]
    Outcome {
        /// The operation's id.
        operation: String,
    },
    /// An entry by which another key takes over that does not show it.
    #[error("it says that another key signs from now on, and {what}")]
    Succession {
        /// What is wrong.
        what: &'static str,
    },
    /// A timestamp that the host got is not there.
    #[error("the timestamp over {size} entries that it speaks of is not in the file")]
    Timestamp {
        /// The size of the checkpoint.
        size: u64,
    },
    /// A cosignature that the host got is not there.
    #[error("the cosignature over {size} entries that it speaks of is not in the file")]
    Cosignature {
        /// The size of the checkpoint.
        size: u64,
    },
    /// The frames stored are not those that the outcome names.
    #[error(
        "the stored payload of operation {operation}, direction {direction}, is not the one that it names"
    )]
    Payload {
        /// The operation's id.
        operation: String,
        /// `up` or `down`.
        direction: &'static str,
    },
}

/// Why a file does not go with a checkpoint that was kept elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgainstFlaw {
    /// It is no checkpoint of this ledger.
    #[error("it is no checkpoint of this ledger: {0}")]
    Note(CheckpointFlaw),
    /// It covers more than there is.
    #[error(
        "there are only {entries} entries: this is an older copy (a rollback), or the newest were cut off; ask for \
         the file that goes on to there"
    )]
    Rollback {
        /// How many there are.
        entries: u64,
    },
    /// Its root is another.
    #[error(
        "the entries before it are others than those that it was signed over: there are two histories (a fork), or \
         one was rewritten and signed again"
    )]
    Fork,
    /// It is from before the first entry.
    #[error("the file begins with entry {first}, behind it: give the files before it, too")]
    Before {
        /// The first entry.
        first: u64,
    },
}

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFlaw {
    /// A column has not the type, length or value that it should have.
    #[error("its column '{column}' does not have the form it should have")]
    Column {
        /// Which.
        column: &'static str,
    },
    /// The bytes cannot be decompressed, or are not of the size given.
    #[error("its bytes cannot be read as its codec and size say")]
    Codec,
    /// The bytes do not hash to the hash.
    #[error("its bytes and its hash do not belong together: one of them was changed")]
    Hash,
    /// It does not follow the frame before it.
    #[error("its number is not the next of its operation and direction, {expected}")]
    Number {
        /// The number that would be.
        expected: u32,
    },
    /// Its bytes are gone, and nothing says that they were purged.
    #[error("its bytes are missing, and the host does not declare that they were purged")]
    Missing,
    /// Its bytes are said to be gone.
    #[error("the host declares that its bytes were purged, and there are bytes")]
    Returned,
    /// No operation of that id is open where it is.
    #[error("there is no such operation before it without an outcome")]
    Operation,
}

/// What is wrong with a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointFlaw {
    /// The note or its signature.
    #[error("{0}")]
    Note(#[from] NoteError),
    /// The size beside the note is another than in it.
    #[error("the note is one of {0} entries")]
    Size(u64),
    /// The root computed over the entries is another.
    #[error(
        "an entry from {since} on and before {size} was changed, removed, added or moved: the signed root is another"
    )]
    Root {
        /// The size of the checkpoint before it.
        since: u64,
        /// Its own size.
        size: u64,
    },
    /// It is by a key that had been replaced.
    #[error("it is signed by the key {key}, which was replaced {by}")]
    Retired {
        /// The key.
        key: String,
        /// By which entry, where it is there.
        by: String,
    },
    /// It is by a key that no statement puts in the place of the one before.
    #[error("it is signed by the key {key}, which did not follow the key that signed until then")]
    NotSucceeded {
        /// The key.
        key: String,
    },
    /// It covers entries that are not there.
    #[error("the entries from {entries} on, which it covers, are missing")]
    Truncated {
        /// How many there are.
        entries: u64,
    },
}

/// What is wrong between two files of one ledger.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFlaw {
    /// Entries between them are in no file.
    #[error("the entries from {from} on and before {to} are missing: a file between is not there")]
    Missing {
        /// The first.
        from: u64,
        /// The first that is there again.
        to: u64,
    },
    /// Both have the same entries.
    #[error("the entries from {from} on and before {to} are in the file before it as well")]
    Overlap {
        /// The first.
        from: u64,
        /// The first that only the later file has.
        to: u64,
    },
    /// The later one goes on from another history.
    #[error(
        "it goes on from other entries than those of the file before it: one of them was replaced, or the record forked"
    )]
    Fork,
    /// They are of two hosts.
    #[error("it is of {origin}, the file before it of {before}")]
    Origin {
        /// Its own.
        origin: String,
        /// That of the file before it.
        before: String,
    },
}

/// What is wrong with what the host declares of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementFlaw {
    /// The note or its signature.
    #[error("{0}")]
    Note(#[from] NoteError),
    /// There is none, or more than one.
    #[error("there are {0} of this segment, and not one")]
    Count(u64),
    /// It declares something else than what is there.
    #[error("{what} of the file are not those that it declares: some were changed, added or removed")]
    Differs {
        /// What.
        what: &'static str,
    },
    /// It declares something that this program does not know.
    #[error("it declares something unknown")]
    Unknown,
}

/// The first thing that is wrong, and in which file.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}{error}", .file.as_ref().map(|f| format!("{}: ", f.display())).unwrap_or_default())]
pub struct Finding {
    /// The file, where there are several.
    pub file: Option<PathBuf>,
    /// What is wrong.
    pub error: VerifyError,
}

/// The first thing that is wrong.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file cannot be opened as a ledger or export, or SQLite cannot read it to its end.
    #[error("{0}")]
    Read(#[from] LedgerError),
    /// A table, view, index or trigger is not as this program makes it.
    #[error("{name}: the table, view or index was {what}")]
    Schema {
        /// Its name.
        name: String,
        /// `changed`, `added` or `removed`.
        what: &'static str,
    },
    /// A row of the tables that explain the file is not as this program makes it.
    #[error("table {table}, row '{row}': it was changed, added or removed")]
    Explanation {
        /// `about` or `columns`.
        table: &'static str,
        /// Which row.
        row: String,
    },
    /// An entry.
    #[error("entry {seq}{}: {flaw}", .id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default())]
    Entry {
        /// Its place.
        seq: u64,
        /// Its id, where that can be read.
        id: Option<String>,
        /// What is wrong.
        flaw: EntryFlaw,
    },
    /// A frame.
    #[error("frame {number} ({direction}) of operation {operation}: {flaw}")]
    Frame {
        /// The operation's id, as stored.
        operation: String,
        /// The direction, as stored.
        direction: String,
        /// The number, as stored.
        number: i64,
        /// What is wrong.
        flaw: FrameFlaw,
    },
    /// A checkpoint.
    #[error("checkpoint of {size} entries: {flaw}")]
    Checkpoint {
        /// Its size, as stored beside it.
        size: u64,
        /// What is wrong.
        flaw: CheckpointFlaw,
    },
    /// What a segment or an export has after its last checkpoint.
    #[error(
        "the entries from {from} on: no checkpoint covers them, so that nothing shows them to be the host's"
    )]
    Unsigned {
        /// The first.
        from: u64,
    },
    /// A policy set whose text is not that of its hash.
    #[error("policy set {hash}: its text and its hash do not belong together")]
    PolicySet {
        /// The hash.
        hash: String,
    },
    /// A key in the file, or the absence of the one given.
    #[error("key '{key}': {what}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A checkpoint that was kept elsewhere does not go with the file.
    #[error("the kept checkpoint of {size} entries: {flaw}")]
    Against {
        /// Its size.
        size: u64,
        /// Why.
        flaw: AgainstFlaw,
    },
    /// A witness's cosignature.
    #[error("a witness's cosignature over {size} entries: {what}")]
    Witness {
        /// The size of the checkpoint.
        size: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A timestamp.
    #[error("a timestamp over {size} entries: {flaw}")]
    Timestamp {
        /// The size of the checkpoint.
        size: u64,
        /// What is wrong.
        flaw: TokenFlaw,
    },
    /// Roots were given, and there is no timestamp.
    #[error("there is no timestamp")]
    Untimed,
    /// A witness that was asked for has cosigned nothing.
    #[error("there is no cosignature by the witness {key}")]
    Unwitnessed {
        /// Its key.
        key: String,
    },
    /// A statement by which one key follows another.
    #[error("table statement, a statement of key succession: {what}")]
    Succession {
        /// What is wrong.
        what: &'static str,
    },
    /// The database file itself: an index that does not fit its table, a page used twice.
    #[error("the file is damaged: {what}")]
    Damaged {
        /// What SQLite's integrity check says.
        what: String,
    },
    /// Where the file begins.
    #[error("table frontier: {what}")]
    Frontier {
        /// What is wrong with it.
        what: &'static str,
    },
    /// What the host declares of the file.
    #[error("table statement: {flaw}")]
    Statement {
        /// What is wrong.
        flaw: StatementFlaw,
    },
    /// Two files of one ledger do not fit each other.
    #[error("{flaw}")]
    Chain {
        /// How.
        flaw: ChainFlaw,
    },
    /// The live ledger's cached tree.
    #[error("table tree: it is not the tree of the first {size} entries")]
    Tree {
        /// The size stored.
        size: u64,
    },
}

/// How far verification, or an export, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Entries done.
    pub done: u64,
    /// Entries in all.
    pub total: u64,
    /// Bytes of entries and payload read so far.
    pub bytes: u64,
}

/// What was found in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// What the file is; of several, what the last is.
    pub file: FileKind,
    /// How many files.
    pub files: u64,
    /// Entries before the first of the first file: their hashes are covered, and they are not here.
    pub first: u64,
    /// Bytes of entries and payload that were read.
    pub bytes: u64,
    /// The origin of the checkpoints.
    pub origin: String,
    /// Whether the key was given from outside; a key taken from the file proves only that the file fits itself.
    pub key_given: bool,
    /// Entries in the tree.
    pub entries: u64,
    /// Of them, those of which a filtered export has only the leaf hash.
    pub withheld: u64,
    /// Entries after the last checkpoint: intact, but not signed yet.
    pub unsealed: u64,
    /// Checkpoints, all of them right.
    pub checkpoints: u64,
    /// The root over all entries, hex.
    pub root: String,
    /// Payload frames.
    pub frames: u64,
    /// Their uncompressed bytes, also of those that were purged.
    pub frame_bytes: u64,
    /// Of the frames, those whose bytes were purged, as the host declares: their hashes are here.
    pub purged_frames: u64,
    /// Entries that were purged, as the host declares: the tree goes on over them, by its signed root.
    pub purged_entries: u64,
    /// Allowed operations without an outcome: they were running when the agent ended, or still run.
    pub open_operations: u64,
    /// Frames of such operations, which no outcome names: their hashes fit, and nothing signed speaks of them.
    pub unclaimed_frames: u64,
    /// Gap entries: what could not be recorded.
    pub gaps: u64,
    /// Entries by which another host key took over.
    pub rotations: u64,
    /// Witnesses with a cosignature, and how far these reach.
    pub witnesses: Vec<Witnessed>,
    /// Cosignatures that could not be checked: no key of theirs is known, or they are over what came before the file.
    pub unknown_cosignatures: u64,
    /// RFC 3161 timestamps, all of them right.
    pub timestamps: u64,
    /// The one over the largest checkpoint.
    pub timestamp: Option<Stamp>,
    /// Timestamps whose checkpoint is not in the files.
    pub unknown_timestamps: u64,
    /// The size of the kept checkpoint that the file goes with, if one was given.
    pub against: Option<u64>,
    /// Policy sets that entries name and whose text is not in the file.
    pub policy_sets_missing: u64,
}

/// What is asked of a verification besides.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// The host's public key, had by another way than from the files; one that was replaced, or that took over, does
    /// as well.
    pub key: Option<VerifierKey>,
    /// Witnesses whose cosignature is demanded.
    pub witnesses: Vec<WitnessKey>,
    /// A checkpoint of this ledger that was kept elsewhere: a whole signed note.
    pub against: Option<String>,
    /// The roots of a time-stamping authority, to which every timestamp has to chain; one is demanded.
    pub tsa: Option<TsaRoots>,
}

/// Verifies an export, a segment, or a ledger (also one that is being written).
///
/// # Errors
/// The first thing that is not in order.
pub fn verify(
    path: &Path,
    key: Option<&VerifierKey>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, VerifyError> {
    let checks = Checks {
        key: key.cloned(),
        ..Checks::default()
    };
    verify_files(&[path.into()], &checks, progress).map_err(|finding| finding.error)
}

/// Verifies several files of one ledger as one chain, whatever order they are given in; a directory stands for the
/// ledger in it.
///
/// # Errors
/// The first thing that is not in order, and in which file.
pub fn verify_files(
    files: &[PathBuf],
    checks: &Checks,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, Finding> {
    chain::run(files, checks, progress)
}

fn indexes_fit(part: &Part) -> Result<(), VerifyError> {
    let conn = part.open()?;
    let what: String = conn.query_row("PRAGMA integrity_check(1)", [], |r| r.get(0))?;
    if what == "ok" {
        Ok(())
    } else {
        Err(VerifyError::Damaged { what })
    }
}

impl From<rusqlite::Error> for VerifyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error.into())
    }
}
