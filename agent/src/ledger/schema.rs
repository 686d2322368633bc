//! What tables, views and explanations a ledger and an export have, and whether a file has exactly those.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::{
    controls::controls,
    store::{SCHEMA, TREE, VIEWS},
    tree::CompactRange,
    verify::VerifyError,
};

/// The tables that explain a segment or an export.
pub(super) const EXPLAIN: &str = include_str!("explain.sql");
/// What an export has besides.
pub(super) const EXPORT: &str = include_str!("export.sql");
/// And what it has where it can be searched for words.
pub(super) const SEARCH: &str = include_str!("search.sql");
/// What checks a file without this program.
const VERIFIER: &str = include_str!("verify.py");
const COLUMNS: &str = include_str!("columns.tsv");

/// Table or view, column, description.
pub(super) fn columns() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    COLUMNS.lines().filter_map(|line| {
        let (name, rest) = line.split_once('\t')?;
        let (column, description) = rest.split_once('\t')?;
        Some((name, column, description))
    })
}

fn objects(conn: &Connection) -> Result<BTreeMap<String, String>, rusqlite::Error> {
    let sql = "SELECT name, type || ' ' || tbl_name || ' ' || coalesce(sql, '') FROM sqlite_master
               WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
    rows.collect()
}

/// Those of the tables and views that a file has.
fn columns_of(conn: &Connection) -> Result<Vec<(&'static str, &'static str, &'static str)>, rusqlite::Error> {
    let has = objects(conn)?;
    Ok(columns().filter(|(name, _, _)| has.contains_key(*name)).collect())
}

/// What a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A part that is being written, or waits to be sealed.
    #[default]
    Ledger,
    /// A sealed segment.
    Segment,
    /// An export for an auditor.
    Export,
}

/// Fills the tables that explain a file.
pub(super) fn explain(conn: &Connection, about: &[(&'static str, String)]) -> Result<(), rusqlite::Error> {
    let mut statement = conn.prepare("INSERT INTO about (topic, text) VALUES (?1, ?2)")?;
    for (topic, text) in about {
        statement.execute([*topic, text])?;
    }
    let mut statement =
        conn.prepare("INSERT INTO columns (name, column, description) VALUES (?1, ?2, ?3)")?;
    for (name, of, description) in columns_of(conn)? {
        statement.execute([name, of, description])?;
    }
    conn.execute(
        "INSERT INTO verifier (name, text) VALUES ('verify.py', ?1)",
        [VERIFIER],
    )?;
    let mut control = conn.prepare("INSERT INTO controls VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    let mut query = conn.prepare("INSERT INTO control_queries VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for c in controls() {
        let views: BTreeSet<&str> = c.queries.iter().map(|q| &*q.view).collect();
        let views = views.into_iter().collect::<Vec<_>>().join(", ");
        control.execute([
            &c.id,
            &c.title,
            &c.family,
            &c.claim,
            &views,
            &c.not_shown.join("\n"),
        ])?;
        for q in &c.queries {
            let speaks = if q.exception { "against" } else { "for" };
            query.execute([&*c.id, &q.name, &q.question, &q.view, &q.sql, speaks])?;
        }
    }
    Ok(())
}

/// Compares every table, view, index and trigger with ours.
pub(super) fn check(conn: &Connection) -> Result<FileKind, VerifyError> {
    let found = objects(conn)?;
    let kind = if !found.contains_key("about") {
        FileKind::Ledger
    } else if found.contains_key("payload_operation") {
        FileKind::Export
    } else {
        FileKind::Segment
    };
    let model = Connection::open_in_memory()?;
    model.execute_batch(SCHEMA)?;
    match kind {
        FileKind::Ledger => model.execute_batch(TREE)?,
        FileKind::Segment => model.execute_batch(EXPLAIN)?,
        FileKind::Export => {
            model.execute_batch(EXPLAIN)?;
            model.execute_batch(EXPORT)?;
            if found.contains_key("entry_search") {
                model.execute_batch(SEARCH)?;
            }
        }
    }
    model.execute_batch(VIEWS)?;
    let expected = objects(&model)?;
    for (name, sql) in &expected {
        let what = match found.get(name) {
            Some(other) if other == sql => continue,
            Some(_) => "changed",
            None => "removed",
        };
        return Err(VerifyError::Schema {
            name: name.clone(),
            what,
        });
    }
    match found.keys().find(|name| !expected.contains_key(*name)) {
        Some(name) => Err(VerifyError::Schema {
            name: name.clone(),
            what: "added",
        }),
        None => Ok(kind),
    }
}

/// Compares `columns` with ours, and what `about` says of the tree with the tree.
pub(super) fn check_explanations(conn: &Connection, tree: &CompactRange) -> Result<(), VerifyError> {
    let wrong = |table, row: &str| VerifyError::Explanation {
        table,
        row: row.into(),
    };
    let mut statement = conn.prepare("SELECT name, column, description FROM columns")?;
    let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?;
    let mut found: BTreeMap<(String, String), String> = BTreeMap::new();
    for row in rows {
        let (name, column, description) = row?;
        found.insert((name, column), description);
    }
    for (name, column, description) in columns_of(conn)? {
        match found.remove(&(name.into(), column.into())) {
            Some(text) if text == description => {}
            _ => return Err(wrong("columns", &format!("{name}.{column}"))),
        }
    }
    if let Some((name, column)) = found.keys().next() {
        return Err(wrong("columns", &format!("{name}.{column}")));
    }
    let model = Connection::open_in_memory()?;
    model.execute_batch(EXPLAIN)?;
    explain(&model, &[])?;
    for (table, sql) in [
        ("controls", "SELECT * FROM controls ORDER BY control"),
        (
            "control_queries",
            "SELECT * FROM control_queries ORDER BY control, name",
        ),
        ("verifier", "SELECT name, text FROM verifier ORDER BY name"),
    ] {
        if let Some(row) = difference(conn, &model, sql)? {
            return Err(wrong(table, &row));
        }
    }
    let mut statement = conn.prepare("SELECT text FROM about WHERE topic = ?1")?;
    for (topic, expected) in [
        ("entries", tree.size().to_string()),
        ("root", hex::encode(tree.root())),
    ] {
        let text: Result<String, _> = statement.query_row([topic], |r| r.get(0));
        if text.ok().as_ref() != Some(&expected) {
            return Err(wrong("about", topic));
        }
    }
    Ok(())
}

/// The first column of the first row in which the answers differ.
fn difference(conn: &Connection, model: &Connection, sql: &str) -> Result<Option<String>, rusqlite::Error> {
    let rows = |conn: &Connection| -> Result<Vec<Vec<String>>, rusqlite::Error> {
        let mut statement = conn.prepare(sql)?;
        let width = statement.column_count();
        let rows = statement.query_map([], |r| (0..width).map(|i| r.get(i)).collect())?;
        rows.collect()
    };
    let (found, expected) = (rows(conn)?, rows(model)?);
    let differs = (0..found.len().max(expected.len())).find(|i| found.get(*i) != expected.get(*i));
    Ok(differs.map(|i| {
        let row = found.get(i).or_else(|| expected.get(i));
        row.and_then(|r| r.first()).cloned().unwrap_or_default()
    }))
}
