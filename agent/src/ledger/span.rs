//! All parts of a ledger as one database to read: each is attached, and `entry` and `payload` are views over all of
//! them, so that the documented views and every query work as on a single file.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, limits::Limit};

use super::{
    LedgerError,
    parts::{Part, parts, segment_path},
    read,
    store::VIEWS,
};
use crate::model::Rfc3339;

/// Clocks step, and queues hold: an entry's time may be so much older than its place says.
const SLACK_NS: i64 = 60_000_000_000;

/// The parts, opened for reading.
pub(super) struct Span {
    pub conn: Connection,
    /// Parts that were left out, because SQLite opens only so many at once.
    pub left_out: usize,
}

/// Which parts are left out where there are more than SQLite opens at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMany {
    /// The oldest: what is asked for is a list, newest first.
    LeaveOldest,
    /// The newest: what is asked for began at the time given.
    LeaveNewest,
}

/// Opens a file, or the ledger in a data directory: of that only the parts that have entries since `since_ns`.
pub(super) fn open(path: &Path, since_ns: Option<i64>, too_many: TooMany) -> Result<Span, LedgerError> {
    if !path.is_dir() {
        return Ok(Span {
            conn: read::open(path)?,
            left_out: 0,
        });
    }
    let mut wanted = since(with_entries(parts(path)?)?, since_ns)?;
    if wanted.is_empty() {
        return Err(LedgerError::File {
            path: path.into(),
            why: "there is no ledger in it".into(),
        });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_MEMORY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(":memory:", flags)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    let most = usize::try_from(conn.limit(Limit::SQLITE_LIMIT_ATTACHED)?).unwrap_or(1);
    let left_out = wanted.len().saturating_sub(most);
    match too_many {
        TooMany::LeaveOldest => drop(wanted.drain(..left_out)),
        TooMany::LeaveNewest => wanted.truncate(most),
    }
    for (i, part) in wanted.iter().enumerate() {
        attach(&conn, path, part, i)?;
    }
    let all = |table: &str, columns: &str| {
        let selects: Vec<String> = (0..wanted.len())
            .map(|i| format!("SELECT {columns} FROM p{i}.{table}"))
            .collect();
        format!("CREATE TEMP VIEW {table} AS {};\n", selects.join(" UNION ALL "))
    };
    let mut sql = all("entry", "seq, body, salt, leaf");
    sql += &all(
        "payload",
        "place, operation, direction, number, sha256, codec, size, bytes",
    );
    sql += &all("checkpoint", "size, note");
    // Each part has those that its own entries name: one may be in several.
    sql += &all("policy_set", "hash, text").replace("UNION ALL", "UNION");
    sql += &VIEWS.replace("CREATE VIEW", "CREATE TEMP VIEW");
    conn.execute_batch(&sql)?;
    conn.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA query_only=ON;")?;
    Ok(Span { conn, left_out })
}

/// Without the parts whose entries were purged.
fn with_entries(all: Vec<Part>) -> Result<Vec<Part>, LedgerError> {
    let mut left = Vec::new();
    for part in all {
        if !part.sealed || read::stub_end(&part.open()?)?.is_none() {
            left.push(part);
        }
    }
    Ok(left)
}

/// Without the parts at the beginning that end before a time.
fn since(all: Vec<Part>, since_ns: Option<i64>) -> Result<Vec<Part>, LedgerError> {
    let Some(since) = since_ns else { return Ok(all) };
    let bound = Rfc3339(since.saturating_sub(SLACK_NS)).to_string();
    let mut first = 0;
    for part in all.iter().take(all.len().saturating_sub(1)) {
        let conn = part.open()?;
        let sql = "SELECT json_extract(body, '$.at') FROM entry ORDER BY seq DESC LIMIT 1";
        let last: Option<Option<String>> = conn.query_row(sql, [], |r| r.get(0)).optional()?;
        if last.flatten().is_none_or(|at| at >= bound) {
            break;
        }
        first += 1;
    }
    Ok(all.into_iter().skip(first).collect())
}

fn attach(conn: &Connection, dir: &Path, part: &Part, i: usize) -> Result<(), LedgerError> {
    let sql = format!("ATTACH ?1 AS p{i}");
    let attach = |path: &Path| -> Result<(), rusqlite::Error> {
        conn.execute(&sql, [read::uri(path, "mode=ro")])?;
        // The first read shows whether its side files can be had.
        let count = format!("SELECT count(*) FROM p{i}.sqlite_master");
        let first = conn.query_row(&count, [], |_| Ok(()));
        if first.is_err() {
            conn.execute(&format!("DETACH p{i}"), [])?;
            conn.execute(&sql, [read::uri(path, "immutable=1")])?;
        }
        Ok(())
    };
    if part.path.exists() && attach(&part.path).is_ok() {
        return Ok(());
    }
    // It was sealed meanwhile, or it cannot be read.
    Ok(attach(&if part.sealed {
        part.path.clone()
    } else {
        segment_path(dir, part.number)
    })?)
}
