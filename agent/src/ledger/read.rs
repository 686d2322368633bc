//! Reading a ledger or an export: own connections, read-only, beside a running daemon or without one.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{
    LedgerError,
    store::{APPLICATION_ID, FORMAT, uint},
};

/// Opens read-only. A ledger whose directory cannot be written to and that nobody has open is read as immutable: then
/// there is no other process whose changes could be missed.
pub(super) fn open(path: &Path) -> Result<Connection, LedgerError> {
    if let Err(error) = std::fs::metadata(path) {
        return Err(LedgerError::file(path, &error));
    }
    let conn = match connect(path, "mode=ro") {
        Ok(conn) => conn,
        Err(first) => {
            // The side files are beside the file itself, not beside a link to it.
            let real = path.canonicalize().unwrap_or_else(|_| path.into());
            let mut wal = real.into_os_string();
            wal.push("-wal");
            if std::fs::metadata(wal).is_ok_and(|m| m.len() > 0) {
                return Err(first.into());
            }
            connect(path, "immutable=1")?
        }
    };
    let id: i32 = conn.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let format: i32 = conn.pragma_query_value(None, "user_version", |r| r.get(0))?;
    if id != APPLICATION_ID || format != FORMAT {
        return Err(LedgerError::Foreign {
            path: path.into(),
            why: format!("application_id {id:#x}, format {format}").into(),
        });
    }
    Ok(conn)
}

/// How many entries came before this file's; `None` for a part that was made ready and has not begun.
pub(super) fn first(conn: &Connection) -> Result<Option<u64>, LedgerError> {
    let first: Option<i64> = conn.query_row("SELECT min(size) FROM frontier", [], |r| r.get(0))?;
    Ok(first.map(uint))
}

/// Where a segment ends whose entries were purged: such a one has both its ends in `frontier`, and no entries.
pub(super) fn stub_end(conn: &Connection) -> Result<Option<u64>, LedgerError> {
    let sql =
        "SELECT CASE WHEN count(*) > 1 AND NOT EXISTS (SELECT 1 FROM entry) THEN max(size) END FROM frontier";
    let end: Option<i64> = conn.query_row(sql, [], |r| r.get(0))?;
    Ok(end.map(uint))
}

fn connect(path: &Path, how: &str) -> Result<Connection, rusqlite::Error> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(uri(path, how), flags)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA query_only=ON; PRAGMA mmap_size=1073741824;")?;
    // The first read shows whether the side files can be had.
    conn.query_row("SELECT count(*) FROM sqlite_master", [], |_| Ok(()))?;
    Ok(conn)
}

/// A path as SQLite's URI form wants it.
pub(super) fn uri(path: &Path, how: &str) -> String {
    let text = path.to_string_lossy();
    let escaped = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{escaped}?{how}")
}
