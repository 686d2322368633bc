//! Whether what a segment or an export says of itself follows from the rest of it.

use rusqlite::Connection;

use super::{super::store::FORMAT, FileKind, VerifyError};

const EXPORT: [&str; 14] = [
    "search",
    "what",
    "file",
    "format",
    "exported_at",
    "version",
    "key",
    "first",
    "entries",
    "selected",
    "range",
    "root",
    "views",
    "verify",
];
const SEGMENT: [&str; 11] = [
    "what",
    "file",
    "format",
    "segment",
    "first",
    "entries",
    "root",
    "sealed_at",
    "key",
    "version",
    "verify",
];

/// Checks the rows of `about` but `entries` and `root`, which are held against the tree elsewhere. Words that follow from
/// nothing in the file (when it was made, by which version, what was asked for) are the maker's.
pub(super) fn check(conn: &Connection, kind: FileKind, first: u64, end: u64) -> Result<(), VerifyError> {
    let wrong = |row: &str| VerifyError::Explanation {
        table: "about",
        row: row.into(),
    };
    let topics: &[&str] = match kind {
        FileKind::Ledger => return Ok(()),
        FileKind::Segment => &SEGMENT,
        FileKind::Export => &EXPORT,
    };
    let mut statement = conn.prepare("SELECT topic, text FROM about ORDER BY topic")?;
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
    let rows: Vec<(String, String)> = rows.collect::<Result<_, _>>()?;
    if let Some((added, _)) = rows.iter().find(|(topic, _)| !topics.contains(&topic.as_str())) {
        return Err(wrong(added));
    }
    for topic in topics {
        let row = rows.iter().find(|(named, _)| named == topic);
        let text = row.map(|(_, text)| text.as_str()).ok_or_else(|| wrong(topic))?;
        let right = match *topic {
            "file" => {
                text == if kind == FileKind::Export {
                    "export"
                } else {
                    "segment"
                }
            }
            "format" => text == FORMAT.to_string(),
            "first" => text == first.to_string(),
            "key" => exists(conn, "SELECT 1 FROM key WHERE vkey = ?1", text)?,
            "segment" => {
                let sql =
                    "SELECT 1 FROM statement WHERE instr(note, char(10) || 'segment ' || ?1 || char(10)) > 0";
                exists(conn, sql, text)?
            }
            "selected" => {
                let bodies: i64 = conn.query_row("SELECT count(body) FROM entry", [], |r| r.get(0))?;
                text.starts_with(&format!("{bodies} of {} entries have ", end - first))
            }
            _ => true,
        };
        if !right {
            return Err(wrong(topic));
        }
    }
    Ok(())
}

fn exists(conn: &Connection, sql: &str, value: &str) -> Result<bool, VerifyError> {
    Ok(conn.prepare(sql)?.exists([value])?)
}
