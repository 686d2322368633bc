//! Asking the records: SQL that may come from an organisation's own files, so it can only read, and only so long.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::{
    Connection,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
    types::ValueRef,
};

use super::{Answer, Cell};
use crate::ledger::{LedgerError, controls::Query, read};

/// Rows are counted up to here.
pub const ROWS_MAX: u64 = 1_000_000;
/// The most characters of one value that are shown.
const CELL_MAX: usize = 1_000;
/// The most bytes that a value may have, and an SQL text.
const VALUE_MAX: i32 = 16 << 20;
const SQL_MAX: i32 = 256 << 10;
/// The most columns.
const COLUMNS_MAX: i32 = 200;
/// Between two looks at the clock, in steps of SQLite's virtual machine.
const STEPS: i32 = 10_000;
/// From so many questions to one view on, it is worked out once and kept.
const KEEP_FROM: usize = 2;

/// The file that is asked.
pub(super) struct Asker {
    conn: Connection,
    /// When the question being asked has to be answered.
    deadline: Arc<Mutex<Option<Instant>>>,
    limit: Duration,
    samples: usize,
}

impl Asker {
    /// Opens a file of records to be asked `questions`; each may take `limit`, and shows `samples` rows.
    pub(super) fn open(
        path: &Path,
        questions: &[&Query],
        limit: Duration,
        samples: usize,
    ) -> Result<Self, LedgerError> {
        let mut conn = read::open(path)?;
        let deadline = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&deadline);
        let late = move || {
            let deadline = seen.lock().unwrap_or_else(PoisonError::into_inner);
            deadline.is_some_and(|d: Instant| Instant::now() >= d)
        };
        conn.progress_handler(STEPS, Some(late))?;
        conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_MAX)?;
        conn.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, SQL_MAX)?;
        conn.set_limit(Limit::SQLITE_LIMIT_COLUMN, COLUMNS_MAX)?;
        conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        let mut asker = Self {
            conn,
            deadline,
            limit,
            samples,
        };
        asker.keep_views(questions)?;
        asker.conn.authorizer(Some(only_reads))?;
        Ok(asker)
    }

    /// Works out once what several questions are asked of. A view over a million records takes seconds.
    fn keep_views(&self, questions: &[&Query]) -> Result<(), LedgerError> {
        let mut views: Vec<String> = {
            let mut names = self
                .conn
                .prepare("SELECT name FROM sqlite_master WHERE type = 'view'")?;
            names.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?
        };
        views.retain(|v| questions.iter().filter(|q| &q.view == v).count() >= KEEP_FROM);
        // A table of the same name in `temp` is found first. The file itself stays as it is: it is open for reading.
        self.conn.execute_batch("PRAGMA query_only=OFF")?;
        for view in views {
            let name = view.replace('"', "\"\"");
            let sql = format!("CREATE TEMP TABLE \"{name}\" AS SELECT * FROM main.\"{name}\"");
            // Where that takes too long or finds no room, each question works it out for itself.
            let _ = self.in_time(|conn| conn.execute_batch(&sql));
        }
        self.conn.execute_batch("PRAGMA query_only=ON")?;
        Ok(())
    }

    fn in_time<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
    ) -> Result<T, rusqlite::Error> {
        let set = |at| *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = at;
        set(Instant::now().checked_add(self.limit));
        let done = work(&self.conn);
        set(None);
        done
    }

    /// Asks one question.
    pub(super) fn ask(&self, query: &Query) -> Answer {
        let mut answer = Answer::of(query);
        if let Err(error) = self.in_time(|conn| fill(conn, query, self.samples, &mut answer)) {
            answer.error = Some(self.said(&error));
        }
        answer
    }

    fn said(&self, error: &rusqlite::Error) -> String {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::OperationInterrupted) => {
                format!("it was not answered within {} s", self.limit.as_secs())
            }
            Some(rusqlite::ErrorCode::AuthorizationForStatementDenied) => {
                "it does something else than read the records".into()
            }
            _ => error.to_string(),
        }
    }

    /// One text from the file itself.
    pub(super) fn text(&self, sql: &str) -> Option<String> {
        self.conn.query_row(sql, [], |r| r.get(0)).ok()
    }
}

fn only_reads(context: AuthContext<'_>) -> Authorization {
    match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => Authorization::Allow,
        AuthAction::Function { function_name } if !function_name.eq_ignore_ascii_case("load_extension") => {
            Authorization::Allow
        }
        _ => Authorization::Deny,
    }
}

fn fill(
    conn: &Connection,
    query: &Query,
    samples: usize,
    answer: &mut Answer,
) -> Result<(), rusqlite::Error> {
    let mut statement = conn.prepare(&query.sql)?;
    answer.columns = statement.column_names().map(String::from).collect();
    let width = answer.columns.len();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if answer.rows == ROWS_MAX {
            answer.more = true;
            break;
        }
        answer.rows += 1;
        if answer.samples.len() < samples {
            let cells = (0..width).map(|i| row.get_ref(i).map(cell));
            answer.samples.push(cells.collect::<Result<_, _>>()?);
        }
    }
    Ok(())
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(n) => Cell::Integer(n),
        ValueRef::Real(n) => Cell::Real(n),
        ValueRef::Text(text) => Cell::Text(cut(&String::from_utf8_lossy(text))),
        ValueRef::Blob(bytes) => {
            let shown = bytes.len().min(32);
            let rest = if bytes.len() > shown { "…" } else { "" };
            Cell::Text(format!(
                "{} bytes: {}{rest}",
                bytes.len(),
                hex::encode(&bytes[..shown])
            ))
        }
    }
}

/// A long text's beginning, and how much is left out.
fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL_MAX) {
        None => text.into(),
        Some((at, _)) => format!(
            "{}… ({} more characters)",
            &text[..at],
            text[at..].chars().count()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(sql: &str) -> Query {
        Query {
            name: "q".into(),
            question: "?".into(),
            view: "operations".into(),
            sql: sql.into(),
            exception: false,
        }
    }

    fn asker(limit: Duration) -> (tempfile::TempDir, Asker) {
        let dir = tempfile::tempdir().unwrap();
        let options = crate::ledger::Options::new("host-1", crate::config::Durability::Process);
        crate::ledger::Ledger::open(dir.path(), options).unwrap().close();
        let asker = Asker::open(&dir.path().join("ledger.db"), &[], limit, 2).unwrap();
        (dir, asker)
    }

    #[test]
    fn a_question_can_only_read() {
        let (_dir, asker) = asker(Duration::from_secs(60));
        for (sql, says) in [
            ("DELETE FROM entry", "something else than read"),
            ("ATTACH 'x.db' AS x", "something else than read"),
            ("PRAGMA query_only=OFF", "something else than read"),
            ("CREATE TEMP TABLE x (y)", "something else than read"),
            ("SELECT load_extension('x')", "not authorized"),
            ("SELECT 1; SELECT 2", "Multiple statements"),
            ("SELECT 1; DELETE FROM entry", "something else than read"),
            ("SELECT FROM", "syntax error"),
            ("SELECT nonsense FROM entry", "no such column"),
            ("SELECT zeroblob(20000000)", "too big"),
        ] {
            let answer = asker.ask(&query(sql));
            let error = answer.error.unwrap_or_default();
            assert!(error.contains(says), "{sql}: {error}");
        }
        let answer = asker.ask(&query(
            "SELECT 1 AS a, 'x' AS b, NULL AS c, 1.5 AS d, x'00ff' AS e",
        ));
        assert_eq!((answer.error, answer.rows, answer.more), (None, 1, false));
        assert_eq!(answer.columns, ["a", "b", "c", "d", "e"]);
        let shown = [
            Cell::Integer(1),
            Cell::Text("x".into()),
            Cell::Null,
            Cell::Real(1.5),
            Cell::Text("2 bytes: 00ff".into()),
        ];
        assert_eq!(answer.samples, [shown]);
    }

    const COUNT: &str = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";

    #[test]
    fn a_question_ends_in_time_and_counts_so_far() {
        let (_dir, asker) = asker(Duration::from_secs(60));
        let answer = asker.ask(&query(COUNT));
        assert_eq!(
            (answer.rows, answer.more, answer.samples.len()),
            (ROWS_MAX, true, 2)
        );
        let text = asker.ask(&query("SELECT replace(hex(zeroblob(1000)), '00', 'é')"));
        assert_eq!(text.samples[0][0], Cell::Text("é".repeat(1000)));
        let text = asker.ask(&query("SELECT replace(hex(zeroblob(1007)), '00', 'é')"));
        let Cell::Text(text) = &text.samples[0][0] else {
            panic!()
        };
        assert!(text.ends_with("é… (7 more characters)"));
        let (_dir, hasty) = self::asker(Duration::from_millis(50));
        let answer = hasty.ask(&query(&format!("SELECT count(*) FROM ({COUNT})")));
        assert_eq!(answer.error.as_deref(), Some("it was not answered within 0 s"));
        // The next one has its time again.
        assert_eq!(hasty.ask(&query("SELECT 1")).rows, 1);
    }
}
