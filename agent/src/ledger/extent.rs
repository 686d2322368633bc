//! Which entries a file holds.

use std::{ops::Range, path::Path};

use super::{LedgerError, read, store::uint};

/// The places of the entries that a ledger's part has, from its frontier to its end. Blocks on the disk.
///
/// # Errors
/// When the file is not there or is no ledger.
pub fn extent(path: &Path) -> Result<Range<u64>, LedgerError> {
    let conn = read::open(path)?;
    let first = read::first(&conn)?.unwrap_or(0);
    // The checkpoints tell where it ended where its entries were purged.
    let sql = "SELECT max((SELECT coalesce(max(seq) + 1, 0) FROM entry), (SELECT coalesce(max(size), 0) FROM checkpoint))";
    let end = uint(conn.query_row(sql, [], |row| row.get(0))?);
    Ok(first..end.max(first))
}
