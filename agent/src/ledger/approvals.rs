//! Entries about approvals, newest first: for the page's history, and for what an earlier run left open.

use std::path::Path;

use rusqlite::Connection;
use serde_json::Value as Json;

use super::{LedgerError, parts::parts};
use crate::model::Rfc3339;

/// The bodies of entries about approvals since a time (nanoseconds since 1970 UTC), newest first, at most `limit`, in the
/// ledger of a data directory. Reads backwards through everything in between, so this is for a thread of its own.
///
/// # Errors
/// When the ledger cannot be read.
pub fn approvals(dir: &Path, since_ns: i64, limit: usize) -> Result<Vec<Json>, LedgerError> {
    let since = Rfc3339(since_ns).to_string();
    let mut found = Vec::new();
    for part in parts(dir)?.iter().rev() {
        let conn = part.open()?;
        // One pass over what may be gigabytes: mapped, it would all count as this process's memory.
        conn.execute_batch("PRAGMA mmap_size=0")?;
        if !backwards(&conn, &since, limit, &mut found)? {
            break;
        }
    }
    Ok(found)
}

/// Reads one part; whether the one before it is wanted, too.
fn backwards(
    conn: &Connection,
    since: &str,
    limit: usize,
    found: &mut Vec<Json>,
) -> Result<bool, LedgerError> {
    let mut statement = conn.prepare("SELECT body FROM entry ORDER BY seq DESC")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let Ok(body) = row.get_ref(0)?.as_str() else {
            continue;
        };
        // Members stand in the order of their names, so that `at` is found without reading the whole body.
        if let Some(at) = member(body, "\"at\":\"")
            && at < since
        {
            return Ok(false);
        }
        if body.contains("\"kind\":\"approval\"")
            && let Ok(body) = serde_json::from_str::<Json>(body)
            // A text inside another entry may look the same.
            && body["kind"] == "approval"
        {
            found.push(body);
            if found.len() >= limit {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn member<'a>(body: &'a str, key: &str) -> Option<&'a str> {
    let rest = &body[body.find(key)? + key.len()..];
    rest.split('"').next()
}
