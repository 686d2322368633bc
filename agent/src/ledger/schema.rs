//! What tables, views and explanations a ledger and an export have, and whether a file has exactly those.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{
    store::{SCHEMA, TREE, VIEWS},
    tree::CompactRange,
    verify::VerifyError,
};

/// What an export has beside the tables and views of a ledger.
pub(super) const EXPORT: &str = include_str!("export.sql");
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

/// Compares every table, view, index and trigger with ours. True for an export, false for a ledger.
pub(super) fn check(conn: &Connection) -> Result<bool, VerifyError> {
    let found = objects(conn)?;
    let export = found.contains_key("about");
    let model = Connection::open_in_memory()?;
    model.execute_batch(SCHEMA)?;
    model.execute_batch(if export { EXPORT } else { TREE })?;
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
        None => Ok(export),
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
    for (name, column, description) in columns() {
        match found.remove(&(name.into(), column.into())) {
            Some(text) if text == description => {}
            _ => return Err(wrong("columns", &format!("{name}.{column}"))),
        }
    }
    if let Some((name, column)) = found.keys().next() {
        return Err(wrong("columns", &format!("{name}.{column}")));
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
