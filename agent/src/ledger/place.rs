//! Which file is the live one when a ledger is opened, after whatever end the last run had.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    LedgerError,
    parts::{live_path, parts, segment_path},
    read, segment,
    store::{Handover, Store, int, remove, uint},
    succession::succession_notes,
    tree::CompactRange,
};

/// What was found.
pub(super) struct Found {
    /// The part to go on in.
    pub store: Store,
    /// Parts that have ended and are no segments yet, oldest first.
    pub ended: Vec<u64>,
}

/// A part's range: entries before its first, and up to its end.
struct Range {
    first: u64,
    end: u64,
}

/// Finds the part to go on in, or makes the first one. The caller holds the ledger's lock.
pub(super) fn find(dir: &Path, power: bool) -> Result<Found, LedgerError> {
    sweep(dir).map_err(|e| LedgerError::file(dir, &e))?;
    let mut lives = lives(dir)?;
    // From the newest on: what was made ready and never begun, or begun and given up, goes away.
    while let Some(number) = lives.last().copied() {
        let path = live_path(dir, number);
        let begun = range(&path)?.filter(|r| r.first < r.end || number == 0 || follows(dir, number, r.first));
        if begun.is_some() && !segment_path(dir, number).exists() {
            break;
        }
        tracing::info!(path = %path.display(), "removing a part of the ledger that was not begun, or is sealed already");
        remove(&path).map_err(|e| LedgerError::file(&path, &e))?;
        lives.pop();
    }
    let store = match lives.pop() {
        Some(number) => Store::open(&live_path(dir, number), number, power)?,
        None => make(dir, power)?,
    };
    segment::link(dir, store.number).map_err(|e| LedgerError::file(&dir.join("ledger.db"), &e))?;
    Ok(Found { store, ended: lives })
}

/// Removes side files of parts that are gone, and parts that were being made: a loss of power can keep the one half of a
/// removal and lose the other.
fn sweep(dir: &Path) -> std::io::Result<()> {
    for item in fs::read_dir(dir)? {
        let path = item?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some(rest) = name.strip_prefix("ledger-").and_then(|n| n.get(10..)) else {
            continue;
        };
        let orphan = ["-wal", "-shm"].iter().any(|side| {
            rest.strip_suffix(side) == Some(".db") && !path.with_file_name(name.replace(side, "")).exists()
        });
        if orphan || rest.starts_with(".partial") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

fn lives(dir: &Path) -> Result<Vec<u64>, LedgerError> {
    let mut numbers = Vec::new();
    for item in fs::read_dir(dir).map_err(|e| LedgerError::file(dir, &e))? {
        let name = item.map_err(|e| LedgerError::file(dir, &e))?.file_name();
        let digits = name
            .to_str()
            .and_then(|n| n.strip_prefix("ledger-")?.strip_suffix(".db"));
        if let Some(number) = digits.filter(|d| d.len() == 10).and_then(|d| d.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A part's range; `None` when it has not begun.
fn range(path: &Path) -> Result<Option<Range>, LedgerError> {
    // One that was being made when the process ended may have no tables yet. Made empty on purpose it would pass for
    // that as well; what is missing then shows by its size. Writable, because it may have to be rolled back.
    let raw = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if raw.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get::<_, i64>(0))? == 0 {
        return Ok(None);
    }
    drop(raw);
    let conn = read::open(path)?;
    // A segment whose entries were purged has both its ends.
    let sql = "SELECT min(size), coalesce((SELECT max(seq) + 1 FROM entry), max(size)) FROM frontier";
    let row: (Option<i64>, Option<i64>) = conn.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?)))?;
    Ok(row.0.map(uint).map(|first| Range {
        first,
        end: row.1.map_or(first, uint),
    }))
}

/// Whether the part before this one ends where this one begins.
fn follows(dir: &Path, number: u64, first: u64) -> bool {
    let before: Vec<PathBuf> = number
        .checked_sub(1)
        .map(|n| vec![segment_path(dir, n), live_path(dir, n)])
        .unwrap_or_default();
    before
        .iter()
        .find(|p| p.exists())
        .and_then(|p| range(p).ok().flatten())
        .is_some_and(|r| r.end == first)
}

/// A new part: the first, or one that goes on where the last segment ends.
fn make(dir: &Path, power: bool) -> Result<Store, LedgerError> {
    let last = parts(dir)?.pop();
    let mut from = Handover::default();
    let mut number = 0;
    if let Some(last) = last {
        let conn = read::open(&last.path)?;
        number = last.number + 1;
        from = Handover::after(&conn)?;
    }
    let mut store = Store::prepare(dir, number, power)?;
    store.begin(from).map_err(|e| LedgerError::Unavailable {
        why: e.to_string().into(),
    })?;
    Ok(store)
}

impl Handover {
    /// From a segment that nothing follows.
    fn after(conn: &Connection) -> Result<Self, LedgerError> {
        let sql = "SELECT size, nodes FROM frontier ORDER BY size DESC LIMIT 1";
        let (size, nodes): (i64, Vec<u8>) = conn.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?)))?;
        let mut tree = CompactRange::from_bytes(uint(size), &nodes).ok_or_else(|| LedgerError::Database {
            why: "the last segment's frontier is damaged; run verify".into(),
        })?;
        let mut statement = conn.prepare("SELECT leaf FROM entry WHERE seq >= ?1 ORDER BY seq")?;
        let mut rows = statement.query([size])?;
        while let Some(row) = rows.next()? {
            tree.append(&row.get(0)?);
        }
        let sql = "SELECT note FROM checkpoint WHERE size = ?1";
        let note = conn.query_row(sql, [int(tree.size())], |r| r.get(0))?;
        let mut statement = conn.prepare("SELECT vkey FROM key ORDER BY vkey")?;
        let keys = statement.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?;
        Ok(Self::new(tree, note, keys, succession_notes(conn)?))
    }
}
