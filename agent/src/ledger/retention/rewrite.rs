//! A segment written anew without what was purged, and put in the place of the old one.
//!
//! The new file is made row by row: what is purged is never written to it, so that no freed page can hold it. Nothing is
//! changed in place. Until the rename the old file stands; after it, the new one does, whole.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::{
    super::{LedgerError, parts::segment_path, read, store::int, tree::CompactRange},
    RetentionError,
    pace::Pace,
    survey::Survey,
};

/// Rows that are copied at a time.
const ROWS: i64 = 1_000;

/// What is left of a segment.
pub(super) enum Left<'a> {
    /// All but the bytes of the frames in the survey's `purge`.
    WithoutPayload,
    /// The two ends of its entries' range alone.
    Stub {
        /// Where it begins.
        first: u64,
        /// Where it ends.
        end: &'a CompactRange,
    },
}

/// What the new file says besides: the statement of the purge, and what shows that the key that signed it, which may have
/// taken over since the segment was sealed, is the host's.
pub(super) struct Declared {
    pub note: String,
    pub keys: Vec<String>,
    pub successions: Vec<String>,
}

/// The file that is being written for a segment; none of the names that are read as parts of the ledger.
pub(super) fn work_path(dir: &Path, segment: u64) -> PathBuf {
    segment_path(dir, segment).with_extension("purging")
}

/// Takes away what a pass that was killed left half written.
pub(super) fn sweep(dir: &Path) -> std::io::Result<()> {
    let items = match std::fs::read_dir(super::super::segments_dir(dir)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for item in items {
        let path = item?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with("segment-") && (name.ends_with(".purging") || name.contains(".purging-")) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Writes the new file, durably, beside the old one.
pub(super) fn write(
    dir: &Path,
    segment: u64,
    survey: &Survey,
    left: &Left<'_>,
    declared: &Declared,
    pace: &mut Pace,
) -> Result<PathBuf, RetentionError> {
    let work = work_path(dir, segment);
    match std::fs::remove_file(&work) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(LedgerError::file(&work, &e).into()),
        _ => {}
    }
    make(&work)?;
    let conn = &survey.conn;
    let page: i64 = conn.query_row("PRAGMA old.page_size", [], |r| r.get(0))?;
    conn.execute("ATTACH ?1 AS new", [read::uri(&work, "mode=rwc")])?;
    let copied = copy(conn, page, left, declared, pace);
    conn.execute_batch("DETACH new")?;
    copied?;
    let sync = || std::fs::File::open(&work)?.sync_all();
    sync().map_err(|e| LedgerError::file(&work, &e))?;
    Ok(work)
}

/// Puts the new file in the place of the old one.
pub(super) fn put_in_place(dir: &Path, segment: u64) -> Result<(), RetentionError> {
    let (work, path) = (work_path(dir, segment), segment_path(dir, segment));
    let rename = || -> std::io::Result<()> {
        std::fs::rename(&work, &path)?;
        std::fs::File::open(super::super::segments_dir(dir))?.sync_all()
    };
    Ok(rename().map_err(|e| LedgerError::file(&path, &e))?)
}

fn make(path: &Path) -> Result<(), RetentionError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).map_err(|e| LedgerError::file(path, &e))?;
    Ok(())
}

fn copy(
    conn: &Connection,
    page: i64,
    left: &Left<'_>,
    declared: &Declared,
    pace: &mut Pace,
) -> Result<(), RetentionError> {
    conn.execute_batch(&format!(
        "PRAGMA new.page_size={page}; PRAGMA new.journal_mode=OFF; PRAGMA new.synchronous=OFF;"
    ))?;
    for name in ["application_id", "user_version"] {
        let value: i64 = conn.query_row(&format!("PRAGMA old.{name}"), [], |r| r.get(0))?;
        conn.execute_batch(&format!("PRAGMA new.{name}={value}"))?;
    }
    let objects = objects(conn)?;
    for object in objects.iter().filter(|o| o.kind == "table") {
        conn.execute_batch(&in_new(&object.sql)?)?;
        let name = object.name.replace('"', "\"\"");
        match (object.name.as_str(), left) {
            ("payload", Left::WithoutPayload) => payload(conn, pace)?,
            ("entry", Left::WithoutPayload) => entries(conn, pace)?,
            ("payload" | "entry", Left::Stub { .. }) => {}
            ("checkpoint" | "witness" | "timestamp", Left::Stub { first, end }) => {
                let sql =
                    format!("INSERT INTO new.\"{name}\" SELECT * FROM old.\"{name}\" WHERE size IN (?1, ?2)");
                conn.execute(&sql, [int(*first), int(end.size())])?;
            }
            ("frontier", Left::Stub { first, end }) => {
                let sql = "INSERT INTO new.frontier SELECT * FROM old.frontier WHERE size = ?1";
                conn.execute(sql, [int(*first)])?;
                let sql = "INSERT OR REPLACE INTO new.frontier (size, nodes) VALUES (?1, ?2)";
                conn.execute(sql, params![int(end.size()), end.to_bytes()])?;
            }
            _ => {
                let sql = format!("INSERT INTO new.\"{name}\" SELECT * FROM old.\"{name}\"");
                conn.execute(&sql, [])?;
            }
        }
    }
    conn.execute("INSERT INTO new.statement (note) VALUES (?1)", [&declared.note])?;
    for note in &declared.successions {
        conn.execute("INSERT OR IGNORE INTO new.statement (note) VALUES (?1)", [note])?;
    }
    for key in &declared.keys {
        conn.execute("INSERT OR IGNORE INTO new.key (vkey) VALUES (?1)", [key])?;
    }
    for object in objects.iter().filter(|o| o.kind != "table") {
        conn.execute_batch(&in_new(&object.sql)?)?;
    }
    Ok(())
}

struct Object {
    kind: String,
    name: String,
    sql: String,
}

/// The segment's tables, indexes and views in the order in which they were made.
fn objects(conn: &Connection) -> Result<Vec<Object>, RetentionError> {
    let sql = "SELECT type, name, sql FROM old.sqlite_master WHERE sql IS NOT NULL
               AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY rowid";
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([], |r| {
        Ok(Object {
            kind: r.get(0)?,
            name: r.get(1)?,
            sql: r.get(2)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The statement that makes an object, in the new file: its text is kept to the byte behind the first two words.
/// Refuses what may hold copies of payload that a copy of rows would not leave out.
fn in_new(sql: &str) -> Result<String, RetentionError> {
    for words in ["CREATE TABLE ", "CREATE INDEX ", "CREATE VIEW "] {
        if let Some(rest) = sql.strip_prefix(words) {
            return Ok(format!("{words}new.{rest}"));
        }
    }
    let shown: String = sql.chars().take(60).collect();
    Err(RetentionError::Derived { sql: shown })
}

fn entries(conn: &Connection, pace: &mut Pace) -> Result<(), RetentionError> {
    let mut next = i64::MIN;
    let sql = "INSERT INTO new.entry SELECT * FROM old.entry WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
    let mut copy = conn.prepare(sql)?;
    let mut last = conn.prepare("SELECT max(seq) FROM new.entry")?;
    let sql = "SELECT coalesce(sum(length(body)), 0) FROM new.entry WHERE seq >= ?1";
    let mut bytes = conn.prepare(sql)?;
    while copy.execute([next, ROWS])? > 0 {
        let copied: i64 = bytes.query_row([next], |r| r.get(0))?;
        pace.done(copied.unsigned_abs())?;
        next = last.query_row([], |r| r.get::<_, i64>(0))? + 1;
    }
    Ok(())
}

fn payload(conn: &Connection, pace: &mut Pace) -> Result<(), RetentionError> {
    let mut next = i64::MIN;
    let mut copy = conn.prepare(
        "INSERT INTO new.payload (place, operation, direction, number, sha256, codec, size, bytes)
         SELECT place, operation, direction, number, sha256, codec, size,
           CASE WHEN place IN (SELECT place FROM main.purge) THEN NULL ELSE bytes END
         FROM old.payload WHERE place >= ?1 ORDER BY place LIMIT ?2",
    )?;
    let mut last = conn.prepare("SELECT max(place) FROM new.payload")?;
    let sql = "SELECT coalesce(sum(length(bytes)), 0) FROM new.payload WHERE place >= ?1";
    let mut bytes = conn.prepare(sql)?;
    while copy.execute([next, ROWS])? > 0 {
        let copied: i64 = bytes.query_row([next], |r| r.get(0))?;
        pace.done(copied.unsigned_abs())?;
        next = last.query_row([], |r| r.get::<_, i64>(0))? + 1;
    }
    Ok(())
}
