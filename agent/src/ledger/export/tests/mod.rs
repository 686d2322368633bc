mod story;

use std::{collections::BTreeSet, path::PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    super::{
        LedgerError, VerifyError,
        controls::{Control, Query, controls},
        parts, read, segment_path, verify,
    },
    ExportOptions, export, questions,
};
const NOW: i64 = 1_795_242_600_123_456_789;
/// Nanoseconds between two entries of the story.
const STEP: i64 = 100_000_000_000;

async fn made(options: &ExportOptions) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    story::told(&dir, false).await.close();
    let out = dir.path().join("out.db");
    export(dir.path(), &out, options, &mut |_| {}).unwrap();
    verify(&out, None, &mut |_| {}).unwrap();
    (dir, out)
}

/// Names of views, or of tables.
fn names(conn: &Connection, kind: &str) -> Vec<String> {
    let sql = "SELECT name FROM sqlite_master WHERE type = ?1 AND name NOT LIKE 'sqlite%' ORDER BY name";
    let mut statement = conn.prepare(sql).unwrap();
    statement
        .query_map([kind], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// All rows, as text.
fn rows(conn: &Connection, sql: &str) -> Vec<Vec<String>> {
    let mut statement = conn.prepare(sql).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |r| {
        (0..width)
            .map(|i| Ok(format!("{:?}", r.get::<_, rusqlite::types::Value>(i)?)))
            .collect()
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn value(conn: &Connection, sql: &str) -> String {
    conn.query_row(sql, [], |r| r.get::<_, rusqlite::types::Value>(0))
        .map(|v| match v {
            rusqlite::types::Value::Text(t) => t,
            rusqlite::types::Value::Integer(n) => n.to_string(),
            other => format!("{other:?}"),
        })
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
}

#[tokio::test]
async fn every_table_and_view_is_explained_and_answers() {
    let (_dir, out) = made(&ExportOptions::default()).await;
    let conn = read::open(&out).unwrap();
    let views = names(&conn, "view");
    // What the index is made from is no question.
    let views: Vec<String> = views.into_iter().filter(|v| !v.ends_with("_text")).collect();
    let asked: BTreeSet<&str> = questions::QUESTIONS.iter().map(|q| q.view).collect();
    assert!(
        views.iter().map(String::as_str).eq(asked.iter().copied()),
        "{views:?}"
    );
    let mut explained = BTreeSet::new();
    for name in names(&conn, "view").iter().chain(&names(&conn, "table")) {
        let statement = conn.prepare(&format!("SELECT * FROM \"{name}\"")).unwrap();
        for column in statement.column_names() {
            explained.insert((name.clone(), column.to_owned()));
        }
    }
    let documented: BTreeSet<(String, String)> = super::super::schema::columns()
        .map(|(name, column, _)| (name.to_owned(), column.to_owned()))
        .collect();
    assert_eq!(explained, documented);
    for view in views.iter().filter(|v| *v != "payloads") {
        assert!(
            !rows(&conn, &format!("SELECT * FROM {view}")).is_empty(),
            "{view}"
        );
    }
    let about = value(&conn, "SELECT text FROM about WHERE topic = 'views'");
    assert!(views.iter().all(|v| about.contains(&format!("{v}: "))));
    // The queries of every control are there, and run.
    let mut queries = conn.prepare("SELECT sql FROM control_queries").unwrap();
    let queries: Vec<String> = queries
        .query_map([], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(queries.len() > 20);
    assert_eq!(
        value(&conn, "SELECT text FROM verifier"),
        include_str!("../../verify.py")
    );
    queries.iter().for_each(|sql| drop(rows(&conn, sql)));
}

#[tokio::test]
async fn views_answer_as_an_assessor_asks() {
    let (_dir, out) = made(&ExportOptions::default()).await;
    let conn = read::open(&out).unwrap();
    for (sql, expected) in [
        (
            "SELECT group_concat(policy || ':' || allowed || ':' || denied) FROM (SELECT * FROM who_may_do_what ORDER BY policy)",
            "reads:2:1,unused:0:0",
        ),
        (
            "SELECT workloads FROM who_may_do_what WHERE policy = 'reads'",
            "[\"bot-a\",\"bot-b\"]",
        ),
        (
            "SELECT count(*) FROM policies_in_force WHERE until_at IS NULL AND text IS NOT NULL",
            "1",
        ),
        (
            "SELECT allowed || ' ' || denied FROM access_used WHERE workload = 'bot-a'",
            "2 1",
        ),
        (
            "SELECT group_concat(outcome) FROM what_was_done",
            "upstream_unreachable,interrupted",
        ),
        (
            "SELECT what || ' ' || credential || ' ' || approver FROM what_was_done LIMIT 1",
            "select '[masked:name]' db-login alice",
        ),
        (
            "SELECT group_concat(reason || coalesce(' ' || message, '')) FROM what_was_denied",
            "policy_default_deny no,ledger_unavailable",
        ),
        (
            "SELECT approver || ' ' || answer || ' ' || operations_passed || ' ' || resource FROM who_approved_what",
            "alice approved 1 shop/orders",
        ),
        (
            "SELECT group_concat(class || ' ' || masked) FROM sensitive_data WHERE resource = 'shop/orders'",
            "email 3,us_ssn 1",
        ),
        (
            "SELECT group_concat(event) FROM identity_lifecycle WHERE workload = 'bot-a'",
            "tag asked for,bound,expired",
        ),
        (
            "SELECT before || ' ' || after FROM configuration_changes WHERE subject = 'config at start' AND before IS NOT NULL",
            "c1 c2",
        ),
        (
            "SELECT refused FROM configuration_changes WHERE refused IS NOT NULL",
            "line 3",
        ),
        ("SELECT count(*) FROM gaps_and_failures", "7"),
        (
            "SELECT lost FROM gaps_and_failures WHERE event = 'not recorded'",
            "2",
        ),
        (
            "SELECT state || ' ' || workload_version || ' ' || name FROM tls_state",
            "decrypted TLSv1.3 db.internal",
        ),
        (
            "SELECT sessions || ' ' || reasons FROM destinations",
            "1 [\"timeout\"]",
        ),
        (
            "SELECT credential || ' ' || version || ' ' || resource FROM credentials_used",
            "db-login v1 shop/orders",
        ),
        (
            "SELECT event || ' ' || after FROM credential_events",
            "obtained v1",
        ),
        (
            "SELECT actor_login || ' ' || sha256 || ' ' || controls || ' ' || tree_size FROM exports",
            "root aa [\"AU-2\"] 9",
        ),
    ] {
        assert_eq!(value(&conn, sql), expected, "{sql}");
    }
}

/// A control whose one query reads one view.
fn asking(view: &str) -> Control {
    Control {
        id: "X-1".into(),
        title: "t".into(),
        family: "f".into(),
        claim: "c".into(),
        not_shown: vec!["n".into()],
        queries: vec![Query {
            name: "q".into(),
            question: "?".into(),
            view: view.into(),
            sql: format!("SELECT * FROM {view}"),
            exception: false,
        }],
    }
}

#[tokio::test]
async fn an_export_for_a_control_has_what_its_views_need_and_no_more() {
    let (dir, out) = made(&ExportOptions::default()).await;
    let whole = read::open(&out).unwrap();
    for (n, question) in questions::QUESTIONS.iter().enumerate() {
        let options = ExportOptions {
            controls: vec![asking(question.view)],
            ..ExportOptions::default()
        };
        let part = dir.path().join(format!("part-{n}.db"));
        let done = export(dir.path(), &part, &options, &mut |_| {}).unwrap();
        verify(&part, None, &mut |_| {}).unwrap();
        let part = read::open(&part).unwrap();
        let sql = format!("SELECT * FROM {}", question.view);
        assert_eq!(rows(&part, &sql), rows(&whole, &sql), "{}", question.view);
        let kinds: BTreeSet<&str> = question.kinds.iter().map(|k| k.as_str()).chain(["gap"]).collect();
        let sql = "SELECT DISTINCT json_extract(body, '$.kind') FROM entry WHERE body IS NOT NULL";
        let found: BTreeSet<String> = rows(&part, sql)
            .into_iter()
            .map(|r| {
                r[0].trim_start_matches("Text(\"")
                    .trim_end_matches("\")")
                    .to_owned()
            })
            .collect();
        assert!(
            found.iter().map(String::as_str).eq(kinds.iter().copied()),
            "{}: {found:?}",
            question.view
        );
        assert_eq!(
            done.selected,
            value(&part, "SELECT count(body) FROM entry")
                .parse::<u64>()
                .unwrap()
        );
    }
    // Those built in name views that there are.
    for control in controls() {
        assert!(
            !questions::kinds([&control].into_iter()).is_empty()
                || control.queries.iter().all(|q| {
                    [
                        "checkpoint",
                        "key",
                        "statement",
                        "witness",
                        "timestamp",
                        "frontier",
                    ]
                    .contains(&&*q.view)
                }),
            "{}",
            control.id
        );
    }
}

#[tokio::test]
async fn an_export_spans_parts_and_reads_those_that_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = story::told(&dir, true).await;
    ledger.close();
    assert_eq!(parts(dir.path()).unwrap().len(), 3);
    let make = |name: &str, options: &ExportOptions| {
        let out = dir.path().join(name);
        let done = export(dir.path(), &out, options, &mut |_| {}).unwrap();
        verify(&out, None, &mut |_| {}).unwrap();
        (done, read::open(&out).unwrap())
    };
    let (all, whole) = make("whole.db", &ExportOptions::default());
    assert_eq!(
        (all.first, value(&whole, "SELECT count(*) FROM what_was_done")),
        (0, "2".into())
    );
    assert_eq!(
        value(
            &whole,
            "SELECT count(*) FROM ledger_events WHERE event = 'segment_sealed'"
        ),
        "2"
    );
    // What of the story is in the first part alone.
    let before = ExportOptions {
        until_ns: Some(NOW + 9 * STEP),
        ..ExportOptions::default()
    };
    let (done, until) = make("until.db", &before);
    assert_eq!((done.first, done.entries, done.selected), (0, 8, 8));
    assert_eq!(value(&until, "SELECT max(size) FROM checkpoint"), "8");
    // From the second part's time on: of the first nothing is read, though it be changed.
    let first = Connection::open(segment_path(dir.path(), 0)).unwrap();
    first
        .execute_batch("UPDATE entry SET leaf = zeroblob(32)")
        .unwrap();
    drop(first);
    let since = ExportOptions {
        since_ns: Some(NOW + 10 * STEP),
        ..ExportOptions::default()
    };
    let (done, later) = make("since.db", &since);
    assert_eq!((done.first, done.root), (8, all.root));
    assert_eq!(
        value(&later, "SELECT size || ' ' || length(nodes) FROM frontier"),
        "8 32"
    );
    assert_eq!(
        value(
            &later,
            "SELECT min(seq) || ' ' || (SELECT min(size) FROM checkpoint) FROM entry"
        ),
        "8 8"
    );
    let out = dir.path().join("broken.db");
    let error = export(dir.path(), &out, &ExportOptions::default(), &mut |_| {}).unwrap_err();
    assert!(
        matches!(&error, LedgerError::Database { why } if why.contains("from entry 8 on")),
        "{error}"
    );
    assert!(!out.exists());
    // A segment alone, and an export, are exported as well.
    let segment = dir.path().join("of-segment.db");
    export(
        &segment_path(dir.path(), 1),
        &segment,
        &ExportOptions::default(),
        &mut |_| {},
    )
    .unwrap();
    let again = dir.path().join("again.db");
    export(&segment, &again, &ExportOptions::default(), &mut |_| {}).unwrap();
    for file in [&segment, &again] {
        verify(file, None, &mut |_| {}).unwrap();
        assert_eq!(
            value(&read::open(file).unwrap(), "SELECT count(*) FROM what_was_denied"),
            "2"
        );
    }
}

#[tokio::test]
async fn words_are_found_and_an_export_without_an_index_is_one_too() {
    let (dir, out) = made(&ExportOptions::default()).await;
    let conn = read::open(&out).unwrap();
    for (words, found) in [
        ("masked", "4"),
        ("\"select masked\"", "4"),
        ("alice", "2"),
        ("upstream_unreachable", "1"),
        ("identity_expired", "1"),
        ("nowhere", "0"),
        // Hashes and ids are not words.
        ("v1 AND reads AND sub", "0"),
    ] {
        let sql = format!("SELECT count(*) FROM entry_search WHERE entry_search MATCH '{words}'");
        assert_eq!(value(&conn, &sql), found, "{words}");
    }
    let snippet = "SELECT snippet(entry_search, 0, '<', '>', '', 4) FROM entry_search WHERE entry_search MATCH 'alice' LIMIT 1";
    assert!(value(&conn, snippet).contains("<alice>"));
    drop(conn);
    // A damaged index is named.
    let conn = Connection::open(&out).unwrap();
    conn.execute_batch("DELETE FROM entry_search_data WHERE id > 10")
        .unwrap();
    drop(conn);
    assert!(matches!(
        verify(&out, None, &mut |_| {}),
        Err(VerifyError::Damaged { .. })
    ));
    let bare = dir.path().join("bare.db");
    let options = ExportOptions {
        without_search: true,
        ..ExportOptions::default()
    };
    export(dir.path(), &bare, &options, &mut |_| {}).unwrap();
    verify(&bare, None, &mut |_| {}).unwrap();
    let conn = read::open(&bare).unwrap();
    assert!(value(&conn, "SELECT text FROM about WHERE topic = 'search'").contains("without"));
}
