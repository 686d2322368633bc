//! The files to read a ledger from one after the other: its parts, or one file alone.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use uuid::Uuid;

use super::{
    LedgerError,
    parts::{Part, parts},
    read,
    store::{int, uint},
    tree::CompactRange,
};
use crate::model::Rfc3339;

/// An entry's `at` may be so much older than that of one before it: clocks step, and queues hold.
const SLACK_NS: i64 = 60_000_000_000;

/// One file.
pub(super) struct Piece {
    part: Part,
    /// The tree before its first entry.
    pub begin: CompactRange,
}

impl Piece {
    /// Opens it. A part may have been sealed since it was found.
    pub(super) fn open(&self) -> Result<Connection, LedgerError> {
        open(&self.part)
    }

    /// When its first entry was recorded, if it has one.
    pub(super) fn first_at(&self) -> Result<Option<String>, LedgerError> {
        at(&self.open()?, "ASC")
    }
}

/// A time as text, so much earlier that no entry recorded after it is older.
pub(super) fn not_before(ns: i64) -> String {
    Rfc3339(ns.saturating_sub(SLACK_NS)).to_string()
}

/// A time as text, so much later that no entry recorded before it is younger.
pub(super) fn not_after(ns: i64) -> String {
    Rfc3339(ns.saturating_add(SLACK_NS)).to_string()
}

/// When an id (UUID version 7) was made, nanoseconds since 1970 UTC.
pub(super) fn made_at(id: Uuid) -> Option<i64> {
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let ns = i64::try_from(seconds).ok()?.saturating_mul(1_000_000_000);
    Some(ns.saturating_add(i64::from(nanos)))
}

/// The files that can have entries recorded since a time (as [`not_before`] gives it), oldest first. Of those before them
/// not one entry is read.
pub(super) fn find(ledger: &Path, oldest: Option<&str>) -> Result<Vec<Piece>, LedgerError> {
    let all = if ledger.is_dir() {
        parts(ledger)?
    } else {
        vec![Part::alone(ledger)]
    };
    let mut found = Vec::new();
    for part in all.into_iter().rev() {
        let conn = open(&part)?;
        // What came before a segment whose entries were purged is purged, too.
        if read::stub_end(&conn)?.is_some() {
            break;
        }
        // A part that does not say where it begins has not begun.
        let Some(begin) = begin(&conn)? else { continue };
        let before = match oldest {
            Some(oldest) => at(&conn, "DESC")?.is_some_and(|last| *last < *oldest),
            None => false,
        };
        if before && !found.is_empty() {
            break;
        }
        found.push(Piece { part, begin });
        if before {
            break;
        }
    }
    found.reverse();
    Ok(found)
}

fn open(part: &Part) -> Result<Connection, LedgerError> {
    let conn = part.open()?;
    // One pass over what may be gigabytes: mapped, it would all count as this process's memory.
    conn.execute_batch("PRAGMA mmap_size=0")?;
    Ok(conn)
}

fn begin(conn: &Connection) -> Result<Option<CompactRange>, LedgerError> {
    let sql = "SELECT size, nodes FROM frontier ORDER BY size LIMIT 1";
    let row = conn.query_row(sql, [], |r| Ok((uint(r.get(0)?), r.get::<_, Vec<u8>>(1)?)));
    let Some((size, nodes)) = row.optional()? else {
        return Ok(None);
    };
    let range = CompactRange::from_bytes(size, &nodes);
    range.map(Some).ok_or_else(|| LedgerError::Database {
        why: "where the file begins cannot be read (table frontier); run verify".into(),
    })
}

/// The time of the first or last entry that has a body.
fn at(conn: &Connection, order: &str) -> Result<Option<String>, LedgerError> {
    let sql = format!(
        "SELECT json_extract(body, '$.at') FROM entry WHERE body IS NOT NULL ORDER BY seq {order} LIMIT 1"
    );
    Ok(conn.query_row(&sql, [], |r| r.get(0)).optional()?.flatten())
}

/// How many entries of the whole ledger are exported: up to the last checkpoint, or all.
pub(super) fn end(last: &Piece, unsealed: bool) -> Result<u64, LedgerError> {
    let sql = if unsealed {
        "SELECT max(seq) + 1 FROM entry"
    } else {
        "SELECT max(size) FROM checkpoint"
    };
    let first = last.begin.size();
    let end: Option<i64> = last.open()?.query_row(sql, [], |r| r.get(0))?;
    Ok(uint(end.unwrap_or(int(first))).max(first))
}
