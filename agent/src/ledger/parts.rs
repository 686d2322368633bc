//! The files that make up a host's ledger: sealed segments, then what is not sealed yet, the last of them live.
//!
//! In the data directory: `segments/segment-N.db` (sealed), `ledger-N.db` (being written, or waiting to be sealed), and
//! `ledger.db`, a symbolic link to the one that is being written. N counts from 0, in ten digits. Where both kinds of a
//! number are there, the segment counts: it is put in its place whole, before the other is removed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, ffi::SQLITE_READONLY_ROLLBACK};

use super::{LedgerError, read};

/// The directory of sealed segments below the data directory.
const SEGMENTS: &str = "segments";

/// One file of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place among the parts, from 0.
    pub number: u64,
    /// The file.
    pub path: PathBuf,
    /// Whether it is a segment, which does not change any more but by purging.
    pub sealed: bool,
}

impl Part {
    /// A file by itself.
    pub(super) fn alone(path: &Path) -> Self {
        Self {
            number: 0,
            path: path.into(),
            sealed: true,
        }
    }

    /// Opens it for reading; the segment, if it has become one meanwhile.
    pub(super) fn open(&self) -> Result<Connection, LedgerError> {
        match read::open(&self.path) {
            // It may also go between two steps of opening it.
            Err(_) if !self.sealed && !self.path.exists() => {
                let dir = self.path.parent().unwrap_or(Path::new("."));
                read::open(&segment_path(dir, self.number))
            }
            other => other,
        }
    }
}

/// The file that is written while it has this number.
pub(super) fn live_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("ledger-{number:010}.db"))
}

/// The segment of this number.
#[must_use]
pub fn segment_path(dir: &Path, number: u64) -> PathBuf {
    segments_dir(dir).join(format!("segment-{number:010}.db"))
}

/// Where segments are.
#[must_use]
pub fn segments_dir(dir: &Path) -> PathBuf {
    dir.join(SEGMENTS)
}

/// The parts of the ledger in a data directory, in their order. Another process may seal one meanwhile: a file that is
/// not there any more when it is opened has become a segment. One that is made ready and has not begun is none.
///
/// # Errors
/// When the directory cannot be read.
pub fn parts(dir: &Path) -> Result<Vec<Part>, LedgerError> {
    let mut found = BTreeMap::new();
    // The live ones first: one that is sealed between the two looks is found as a segment.
    collect(dir, "ledger-", false, &mut found)?;
    if found.last_entry().is_some_and(|last| !begun(&last.get().path)) {
        found.pop_last();
    }
    let segments = segments_dir(dir);
    if segments.is_dir() {
        collect(&segments, "segment-", true, &mut found)?;
    }
    Ok(found.into_values().collect())
}

/// Whether the last part that is not sealed has begun. Before, it has no entries and does not say where it begins, and
/// may have no tables: taken for a part, it would pass for one from entry 0 on.
fn begun(path: &Path) -> bool {
    let look = || -> Result<bool, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags)?;
        conn.busy_timeout(std::time::Duration::from_secs(5))?;
        let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0))?;
        if tables == 0 {
            return Ok(false);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM frontier) OR EXISTS (SELECT 1 FROM entry)";
        conn.query_row(sql, [], |r| r.get(0))
    };
    match look() {
        Ok(begun) => begun,
        // Only the making of the file has a rollback journal; it ended in between.
        Err(rusqlite::Error::SqliteFailure(e, _)) if e.extended_code == SQLITE_READONLY_ROLLBACK => false,
        // Whoever opens it says what is wrong with it.
        Err(_) => true,
    }
}

fn collect(
    dir: &Path,
    prefix: &str,
    sealed: bool,
    found: &mut BTreeMap<u64, Part>,
) -> Result<(), LedgerError> {
    let error = |e: &std::io::Error| LedgerError::file(dir, e);
    for item in std::fs::read_dir(dir).map_err(|e| error(&e))? {
        let item = item.map_err(|e| error(&e))?;
        let name = item.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(prefix)?.strip_suffix(".db"))
            .filter(|digits| digits.len() == 10)
            .and_then(|digits| digits.parse().ok());
        if let Some(number) = number {
            let path = item.path();
            found.insert(number, Part { number, path, sealed });
        }
    }
    Ok(())
}
