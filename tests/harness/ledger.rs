//! Reading the ledger as an auditor does: with SQL, through its views.

use std::path::Path;

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OpenFlags, types::ValueRef};

/// A ledger or an export, opened for reading; a live one may be written meanwhile.
pub struct Reader(Connection);

impl Reader {
    /// Opens it.
    ///
    /// # Errors
    /// When it is not there or not SQLite.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(path, flags).with_context(|| path.display().to_string())?;
        connection.busy_timeout(crate::wait::DEADLINE)?;
        Ok(Self(connection))
    }

    /// All rows of a query, each value as text; NULL is empty.
    ///
    /// # Errors
    /// When the query is wrong.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let mut statement = self.0.prepare(sql).with_context(|| sql.to_owned())?;
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| (0..columns).map(|i| row.get_ref(i).map(text)).collect())?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    /// The names of a query's columns.
    ///
    /// # Errors
    /// When the query is wrong.
    pub fn columns(&self, sql: &str) -> Result<Vec<String>> {
        Ok(self.0.prepare(sql)?.column_names().map(str::to_owned).collect())
    }

    /// The first column of a query's rows.
    ///
    /// # Errors
    /// When the query is wrong.
    pub fn column(&self, sql: &str) -> Result<Vec<String>> {
        Ok(self
            .rows(sql)?
            .into_iter()
            .filter_map(|row| row.into_iter().next())
            .collect())
    }

    /// The only number of a query.
    ///
    /// # Errors
    /// When there is none.
    pub fn number(&self, sql: &str) -> Result<i64> {
        self.0
            .query_row(sql, [], |row| row.get(0))
            .with_context(|| sql.to_owned())
    }
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(n) => n.to_string(),
        ValueRef::Real(x) => x.to_string(),
        ValueRef::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        ValueRef::Blob(bytes) => hex::encode(bytes),
    }
}
