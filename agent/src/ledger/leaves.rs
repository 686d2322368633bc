//! Leaf hashes over all parts, in order, and what proofs begin from.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _};

use super::{
    LedgerError,
    parts::parts,
    read,
    store::{int, uint},
    tree::{CompactRange, Hash},
};

/// The tree that a file begins with.
pub(super) fn frontier(conn: &Connection) -> Result<CompactRange, LedgerError> {
    let row = conn
        .query_row(
            "SELECT size, nodes FROM frontier ORDER BY size LIMIT 1",
            [],
            |r| Ok((uint(r.get(0)?), r.get::<_, Vec<u8>>(1)?)),
        )
        .optional()?;
    match row {
        None => Ok(CompactRange::default()),
        Some((size, nodes)) => CompactRange::from_bytes(size, &nodes).ok_or_else(|| LedgerError::Database {
            why: "table frontier: the nodes do not fit the size; run verify".into(),
        }),
    }
}

/// The parts from the one on that has entry `seq`, with their connections; the first begins at or before it.
pub(super) fn from_entry(dir: &Path, seq: u64) -> Result<Vec<Connection>, LedgerError> {
    let mut opened = Vec::new();
    for part in parts(dir)?.iter().rev() {
        let conn = part.open()?;
        // One that was made ready and has not begun is none yet.
        let Some(first) = read::first(&conn)? else {
            continue;
        };
        if let Some(to) = read::stub_end(&conn)?.filter(|end| *end > seq) {
            return Err(LedgerError::Purged { from: seq, to });
        }
        opened.push(conn);
        if first <= seq {
            opened.reverse();
            return Ok(opened);
        }
    }
    let oldest = opened.last().map(read::first).transpose()?;
    Err(LedgerError::Purged {
        from: seq,
        to: oldest.flatten().unwrap_or(0),
    })
}

/// The leaves from `from` on and before `to`, which must all be there.
pub(super) fn leaves(
    conns: &[Connection],
    from: u64,
    to: u64,
    mut each: impl FnMut(&Hash),
) -> Result<(), LedgerError> {
    let mut next = from;
    for conn in conns {
        let mut statement =
            conn.prepare_cached("SELECT seq, leaf FROM entry WHERE seq >= ?1 AND seq < ?2 ORDER BY seq")?;
        let mut rows = statement.query([int(next), int(to)])?;
        while let Some(row) = rows.next()? {
            let seq = uint(row.get(0)?);
            if seq != next {
                return Err(LedgerError::Purged { from: next, to: seq });
            }
            each(&row.get(1)?);
            next += 1;
        }
    }
    if next == to {
        return Ok(());
    }
    Err(LedgerError::Database {
        why: format!("entry {next} is missing; run verify").into(),
    })
}

/// The tree of the first `size` entries, from the beginning of the part where it ends.
pub(super) fn tree_at(dir: &Path, size: u64) -> Result<CompactRange, LedgerError> {
    let conns = from_entry(dir, size)?;
    let mut range = conns
        .first()
        .map_or_else(|| Ok(CompactRange::default()), frontier)?;
    leaves(&conns, range.size(), size, |leaf| range.append(leaf))?;
    Ok(range)
}
