//! What a statement's text alone says, as policy sees it: for `portcullis policy explain`, which has no database.
//!
//! Where a session would look names up, this takes the usual for granted: a relation without a schema is one of
//! `public`, or of `pg_catalog` when its name begins with `pg_`; a built-in function that is not qualified is one of
//! `pg_catalog`, any other is left as written. Columns, their classes, and what views are made of are not known.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    lineage::{Outputs, Resolved},
    operation,
    sql::{self, Name, NotUnderstood, Statement},
};
use crate::model::{ClassSet, ClassTable, Value};

/// What the records are short of, for whoever reads them.
pub const ASSUMED: &str = "Without the database: relations without a schema are taken as those of public (pg_... of pg_catalog), \
     functions that are not built in are shown as written, a view counts as itself alone, \
     and columns with their data classes are not known.";

/// The records of a text's statements, in order: `context.sql` of each, as a simple query outside a transaction.
///
/// # Errors
/// When the text is not understood; it is refused then, whatever policy says.
pub fn explain(text: &str, database: &str, role: &str) -> Result<Vec<Value>, NotUnderstood> {
    let statements = sql::understand(text)?;
    let count = i64::try_from(statements.len()).unwrap_or(i64::MAX);
    // Without columns there are no classes to name.
    let classes = ClassTable::default();
    let record = |statement: &Statement| {
        let text = text.get(statement.text.clone()).unwrap_or_default();
        let mut record =
            operation::meaning(&statement.facts, &resolved(statement), &classes, Arc::from(text));
        record.remove("text");
        record.extend([
            ("database", database.into()),
            ("phase", "simple".into()),
            ("role", role.into()),
            ("statements", count.into()),
            ("transaction", "idle".into()),
        ]);
        Value::Record(record)
    };
    Ok(statements.iter().map(record).collect())
}

fn resolved(statement: &Statement) -> Resolved {
    let facts = &statement.facts;
    let relations = |names: &BTreeSet<Name>| names.iter().map(relation).collect::<BTreeSet<Arc<str>>>();
    let schemas = |names: &BTreeSet<Name>| names.iter().map(|n| Arc::from(schema(n))).collect();
    Resolved {
        reads: relations(&facts.reads),
        writes: relations(&facts.writes),
        read_schemas: schemas(&facts.reads),
        write_schemas: schemas(&facts.writes),
        columns: BTreeSet::new(),
        sensitive: ClassSet::EMPTY,
        copied: ClassSet::EMPTY,
        touched: ClassSet::EMPTY,
        functions: facts.functions.iter().map(function).collect(),
        incomplete: facts.incomplete.clone(),
        outputs: Outputs::None,
    }
}

fn schema(name: &Name) -> &str {
    match &name.schema {
        Some(schema) => schema,
        None if name.name.starts_with("pg_") => "pg_catalog",
        None => "public",
    }
}

fn relation(name: &Name) -> Arc<str> {
    format!("{}.{}", schema(name), name.name).into()
}

fn function(name: &Name) -> Arc<str> {
    let bare = name.schema.is_none() && sql::is_pure(name);
    if bare {
        format!("pg_catalog.{name}").into()
    } else {
        name.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Vec<serde_json::Value> {
        let records = explain(text, "app", "svc").unwrap();
        records.iter().map(|r| serde_json::to_value(r).unwrap()).collect()
    }

    #[test]
    fn a_text_says_what_it_would_do() {
        let all = records("DELETE FROM t; SELECT lower(a), f(a) FROM app.t JOIN pg_class ON true");
        assert_eq!(all.len(), 2);
        let delete = &all[0];
        assert_eq!(delete["verbs"], serde_json::json!(["delete"]));
        assert_eq!(delete["writes"], serde_json::json!(["public.t"]));
        assert_eq!(delete["write_schemas"], serde_json::json!(["public"]));
        assert_eq!(
            (&delete["has_where"], &delete["access"]),
            (&false.into(), &"write".into())
        );
        assert_eq!(
            (&delete["database"], &delete["role"]),
            (&"app".into(), &"svc".into())
        );
        assert_eq!(
            (&delete["statements"], &delete["complete"]),
            (&2.into(), &true.into())
        );
        let select = &all[1];
        assert_eq!(
            select["reads"],
            serde_json::json!(["app.t", "pg_catalog.pg_class"])
        );
        assert_eq!(select["functions"], serde_json::json!(["f", "pg_catalog.lower"]));
        assert_eq!(select["incomplete"], serde_json::json!(["unknown_function"]));
        assert_eq!(select["access"], "write");
        assert!(select.get("text").is_none());
        assert!(explain("SELEC 1", "app", "svc").is_err());
    }

    /// Examples that leave `access` out mean what the codec says of such statements.
    #[test]
    fn examples_derive_the_class_of_access_as_the_codec_does() {
        for text in [
            "SELECT 1",
            "SHOW ALL",
            "SET work_mem = 1",
            "BEGIN",
            "COMMIT",
            "SAVEPOINT a",
            "DECLARE c CURSOR FOR SELECT 1",
            "PREPARE p AS SELECT 1",
            "EXPLAIN SELECT 1",
            "COPY t TO STDOUT",
            "COPY t FROM STDIN",
            "LISTEN a",
            "NOTIFY a",
            "INSERT INTO t VALUES (1)",
            "UPDATE t SET a = 1 WHERE b = 2",
            "DELETE FROM t",
            "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE",
            "WITH d AS (DELETE FROM t RETURNING a) SELECT a FROM d",
            "TRUNCATE t",
            "DROP TABLE t",
            "CREATE TABLE t (a int)",
            "ALTER TABLE t ADD b int",
            "GRANT SELECT ON t TO a",
            "VACUUM",
            "DO 'x'",
        ] {
            let record = &records(text)[0];
            let verbs = record["verbs"].as_array().unwrap();
            let derived = crate::policy::of_verbs(verbs.iter().filter_map(|v| v.as_str()));
            assert_eq!(record["access"], derived.as_str(), "{text}: {verbs:?}");
        }
    }
}
