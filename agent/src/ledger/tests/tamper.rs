//! Whatever single byte of the evidence is changed, verification finds it.

mod bench;
mod entries;
mod files;
mod frames;
mod others;
mod tables;
mod vouchers;

use proptest::prelude::*;
use rusqlite::{Connection, types::Value as Sql};

use super::*;

/// A closed ledger with all kinds of rows, and an export of it, made once.
fn samples() -> (TempDir, [std::path::PathBuf; 3]) {
    let dir = dir();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let ledger = open(&dir, Durability::Process);
        sample(&ledger).await;
        ledger.close();
        // A second checkpoint, and entries after the first.
        let ledger = open(&dir, Durability::Process);
        sample(&ledger).await;
        ledger.close();
    });
    let whole = dir.path().join("whole.db");
    export(
        &db(&dir),
        &whole,
        &ExportOptions {
            now_ns: NOW,
            ..Default::default()
        },
        &mut |_| {},
    )
    .unwrap();
    let part = dir.path().join("part.db");
    let options = ExportOptions {
        workload: Some("bot-a".into()),
        now_ns: NOW,
        ..Default::default()
    };
    export(&db(&dir), &part, &options, &mut |_| {}).unwrap();
    let paths = [db(&dir), whole, part];
    for path in &paths {
        verify(path, None, &mut |_| {}).unwrap();
    }
    (dir, paths)
}

/// Every column of the evidence, with its table.
const COLUMNS: [(&str, &str); 16] = [
    ("entry", "seq"),
    ("entry", "body"),
    ("entry", "salt"),
    ("entry", "leaf"),
    ("payload", "operation"),
    ("payload", "direction"),
    ("payload", "number"),
    ("payload", "sha256"),
    ("payload", "codec"),
    ("payload", "size"),
    ("payload", "bytes"),
    ("checkpoint", "size"),
    ("checkpoint", "note"),
    ("policy_set", "hash"),
    ("policy_set", "text"),
    ("key", "vkey"),
];

/// The value with one byte, or one bit of a number, changed; `None` when it would stay or not be text any more.
fn flip(value: Sql, pick: u64, mask: u8) -> Option<Sql> {
    if mask == 0x80 && matches!(value, Sql::Text(_)) {
        return None;
    }
    let at = |len: usize| (pick % len as u64) as usize;
    Some(match value {
        Sql::Integer(n) => Sql::Integer(n ^ (1 << (pick % 40))),
        Sql::Text(t) if !t.is_empty() => {
            let mut bytes = t.into_bytes();
            let i = at(bytes.len());
            // Stays text: what is not is found by its type.
            bytes[i] = if bytes[i].is_ascii() {
                bytes[i] ^ (mask & 0x7f)
            } else {
                return None;
            };
            if bytes[i] == 0 {
                return None;
            }
            Sql::Text(String::from_utf8(bytes).ok()?)
        }
        Sql::Blob(mut b) if !b.is_empty() => {
            let i = at(b.len());
            b[i] ^= mask;
            Sql::Blob(b)
        }
        _ => return None,
    })
}

/// Changes one byte of one value in a copy; what verification says, or `None` when nothing was changed.
fn tampered(
    source: &std::path::Path,
    column: usize,
    row: u64,
    pick: u64,
    mask: u8,
) -> Option<Result<Report, VerifyError>> {
    let dir = dir();
    let copy = dir.path().join("copy.db");
    std::fs::copy(source, &copy).unwrap();
    let (table, column) = COLUMNS[column];
    let conn = Connection::open(&copy).unwrap();
    let count: u64 = conn
        .query_row(&format!("SELECT count(*) FROM {table}"), [], |r| {
            r.get::<_, i64>(0)
        })
        .unwrap() as u64;
    let key = match table {
        "entry" => "seq",
        "payload" => "place",
        "checkpoint" => "size",
        "policy_set" => "hash",
        _ => "vkey",
    };
    let sql = format!(
        "SELECT {key}, {column} FROM {table} ORDER BY {key} LIMIT 1 OFFSET {}",
        row % count
    );
    let (id, value): (Sql, Sql) = conn.query_row(&sql, [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    let old = match &value {
        Sql::Text(t) => t.as_bytes().to_vec(),
        Sql::Blob(b) => b.clone(),
        _ => Vec::new(),
    };
    let new = flip(value, pick, mask)?;
    if table == "entry" && column != "seq" {
        // In the file itself: SQL would stumble over the export's indexes on members of the body.
        drop(conn);
        let mut file = std::fs::read(&copy).unwrap();
        // Everywhere: a page that SQLite has freed may hold an old copy.
        let found: Vec<usize> = memchr::memmem::find_iter(&file, &old).collect();
        let new = match new {
            Sql::Text(t) => t.into_bytes(),
            Sql::Blob(b) => b,
            _ => return None,
        };
        for at in found {
            file[at..at + new.len()].copy_from_slice(&new);
        }
        std::fs::write(&copy, file).unwrap();
        return Some(verify(&copy, None, &mut |_| {}));
    }
    let sql = format!("UPDATE OR IGNORE {table} SET {column} = ?1 WHERE {key} = ?2");
    if conn.execute(&sql, rusqlite::params![new, id]).unwrap() == 0 {
        return None;
    }
    drop(conn);
    Some(verify(&copy, None, &mut |_| {}))
}

#[test]
fn any_changed_byte_is_found() {
    let (_dir, paths) = samples();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(600));
    let case = (
        0..paths.len(),
        0..COLUMNS.len(),
        any::<u64>(),
        any::<u64>(),
        1u8..=255,
    );
    let result = runner.run(&case, |(file, column, row, pick, mask)| {
        if let Some(verdict) = tampered(&paths[file], column, row, pick, mask) {
            let Err(error) = verdict else {
                return Err(TestCaseError::fail(format!(
                    "{:?} of file {file} changed unseen",
                    COLUMNS[column]
                )));
            };
            let right = match COLUMNS[column].0 {
                "entry" => matches!(
                    error,
                    VerifyError::Entry { .. } | VerifyError::Checkpoint { .. } | VerifyError::Frame { .. }
                ),
                "payload" => matches!(error, VerifyError::Frame { .. } | VerifyError::Entry { .. }),
                "checkpoint" => matches!(error, VerifyError::Checkpoint { .. }),
                "policy_set" => matches!(error, VerifyError::PolicySet { .. }),
                _ => matches!(error, VerifyError::Key { .. }),
            };
            prop_assert!(right, "{:?}: {error}", COLUMNS[column]);
        }
        Ok(())
    });
    result.unwrap();
}

fn after(source: &std::path::Path, sql: &str) -> Result<Report, VerifyError> {
    let dir = dir();
    let copy = dir.path().join("copy.db");
    std::fs::copy(source, &copy).unwrap();
    Connection::open(&copy).unwrap().execute_batch(sql).unwrap();
    verify(&copy, None, &mut |_| {})
}

#[test]
fn edits_are_named() {
    let (_dir, [live, whole, _]) = samples();
    for file in [&live, &whole] {
        match after(
            file,
            "UPDATE entry SET body = replace(body, 'bot-a', 'bot-c') WHERE seq = 3",
        ) {
            Err(VerifyError::Entry {
                seq: 3,
                id: Some(_),
                flaw: verify::EntryFlaw::Leaf,
            }) => {}
            other => panic!("{other:?}"),
        }
        match after(file, "DELETE FROM entry WHERE seq = 5") {
            Err(VerifyError::Entry {
                seq: 6,
                flaw: verify::EntryFlaw::Hole { expected: 5 },
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
        match after(file, "DELETE FROM entry WHERE seq >= 30") {
            Err(
                VerifyError::Checkpoint {
                    flaw: verify::CheckpointFlaw::Truncated { entries: 30 },
                    ..
                }
                | VerifyError::Entry { .. },
            ) => {}
            other => panic!("{other:?}"),
        }
        // Two entries change places, salts and leaves with them.
        let swap = "UPDATE entry SET seq = -1 WHERE seq = 0; UPDATE entry SET seq = 0 WHERE seq = 16; UPDATE entry SET seq = 16 WHERE seq = -1";
        match after(file, swap) {
            Err(VerifyError::Checkpoint {
                size,
                flaw: verify::CheckpointFlaw::Root { since: 0, .. },
            }) => assert!(size >= 17),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            after(file, "DELETE FROM payload WHERE number = 1"),
            Err(VerifyError::Entry {
                flaw: verify::EntryFlaw::Payload {
                    direction: "down",
                    ..
                },
                ..
            })
        ));
        assert!(matches!(
            after(
                file,
                "UPDATE payload SET number = 1 - number WHERE direction = 'down'"
            ),
            Err(VerifyError::Frame { .. })
        ));
        assert!(matches!(
            after(file, "DELETE FROM key"),
            Err(VerifyError::Key { .. } | VerifyError::Checkpoint { .. })
        ));
    }
}

#[test]
fn changed_views_and_explanations_are_named() {
    let (_dir, [live, whole, part]) = samples();
    let view = "DROP VIEW changes; CREATE VIEW changes AS SELECT 1 AS entry";
    for file in [&live, &whole, &part] {
        assert!(matches!(
            after(file, view),
            Err(VerifyError::Schema { what: "changed", .. })
        ));
        assert!(matches!(
            after(file, "DROP VIEW sessions"),
            Err(VerifyError::Schema { what: "removed", .. })
        ));
        let trigger = "CREATE TRIGGER t AFTER INSERT ON entry BEGIN SELECT 1; END";
        assert!(matches!(
            after(file, trigger),
            Err(VerifyError::Schema { what: "added", .. })
        ));
    }
    for (sql, table) in [
        (
            "UPDATE columns SET description = 'x' WHERE name = 'operations' AND column = 'decision'",
            "columns",
        ),
        ("DELETE FROM columns WHERE column = 'decision'", "columns"),
        ("UPDATE about SET text = '1' WHERE topic = 'entries'", "about"),
        (
            "UPDATE controls SET not_shown = '' WHERE control = 'AU-2'",
            "controls",
        ),
        (
            "DELETE FROM control_queries WHERE control = 'AU-2' AND speaks = 'for'",
            "control_queries",
        ),
    ] {
        match after(&part, sql) {
            Err(VerifyError::Explanation { table: named, .. }) => assert_eq!(named, table),
            other => panic!("{other:?}"),
        }
    }
    // A withheld body that comes back with another salt, and a withheld leaf.
    let seq: i64 = Connection::open(&part)
        .unwrap()
        .query_row("SELECT max(seq) FROM entry WHERE body IS NULL", [], |r| r.get(0))
        .unwrap();
    assert!(matches!(
        after(
            &part,
            &format!("UPDATE entry SET leaf = randomblob(32) WHERE seq = {seq}")
        ),
        Err(VerifyError::Checkpoint { .. })
    ));
    assert!(matches!(
        after(
            &part,
            &format!("UPDATE entry SET body = '{{}}' WHERE seq = {seq}")
        ),
        Err(VerifyError::Entry { .. })
    ));
    assert!(matches!(
        after(&live, "UPDATE entry SET body = NULL, salt = NULL WHERE seq = 2"),
        Err(VerifyError::Entry { seq: 2, .. })
    ));
}

#[test]
fn exports_hold_what_was_selected_and_nothing_else() {
    let (dir, [live, whole, part]) = samples();
    let count = |path: &std::path::Path, sql: &str| -> i64 {
        Connection::open(path)
            .unwrap()
            .query_row(sql, [], |r| r.get(0))
            .unwrap()
    };
    assert_eq!(count(&whole, "SELECT count(*) FROM entry WHERE body IS NULL"), 0);
    assert_eq!(
        count(
            &whole,
            "SELECT count(*) FROM operations WHERE outcome = 'completed' AND status = '200'"
        ),
        12
    );
    assert_eq!(
        count(
            &whole,
            "SELECT count(*) FROM sessions WHERE closed_at IS NOT NULL AND operations = 2"
        ),
        4
    );
    assert_eq!(
        count(
            &whole,
            "SELECT count(*) FROM payloads WHERE content LIKE '%[masked:name]%'"
        ),
        12
    );
    assert_eq!(
        count(
            &whole,
            "SELECT (SELECT count(*) FROM changes) + (SELECT count(*) FROM workload_events)"
        ),
        4
    );
    assert_eq!(count(&part, "SELECT count(*) FROM operations"), 6);
    assert_eq!(
        count(&part, "SELECT count(*) FROM entry WHERE body LIKE '%bot-b%'"),
        0
    );
    assert_eq!(
        count(
            &part,
            "SELECT count(*) FROM entry WHERE body IS NULL AND salt IS NOT NULL"
        ),
        0
    );
    assert_eq!(count(&part, "SELECT count(*) FROM changes"), 2);
    assert_eq!(count(&part, "SELECT count(*) FROM payload"), 18);
    // Every column of every table and view is explained, and nothing else.
    let conn = Connection::open(&whole).unwrap();
    let sql = "SELECT m.name || '.' || c.name FROM sqlite_master m JOIN pragma_table_info(m.name) c
               WHERE m.type IN ('table', 'view') ORDER BY 1";
    let names = |sql: &str| -> Vec<String> {
        conn.prepare(sql)
            .unwrap()
            .query_map([], |r| r.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    assert_eq!(
        names(sql),
        names("SELECT name || '.' || column FROM columns ORDER BY 1")
    );
    assert!(matches!(
        export(&live, &whole, &ExportOptions::default(), &mut |_| {}),
        Err(LedgerError::File { .. })
    ));
    let session: String = conn
        .query_row("SELECT session FROM sessions LIMIT 1", [], |r| r.get(0))
        .unwrap();
    let out = dir.path().join("session.db");
    let options = ExportOptions {
        session: Some(session),
        ..Default::default()
    };
    let done = export(&live, &out, &options, &mut |_| {}).unwrap();
    assert_eq!((done.selected, done.frames), (8, 9));
    verify(&out, None, &mut |_| {}).unwrap();
    let out = dir.path().join("time.db");
    let options = ExportOptions {
        since_ns: Some(NOW + 1),
        until_ns: Some(NOW + 2),
        ..Default::default()
    };
    let done = export(&live, &out, &options, &mut |_| {}).unwrap();
    assert_eq!((done.selected, done.frames), (8, 12));
    verify(&out, None, &mut |_| {}).unwrap();
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|f| f.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|f| f.to_string_lossy().contains("partial") || f.to_string_lossy().contains("journal")),
        "{left:?}"
    );
}

/// Without an automatic index the join of operations and outcomes is quadratic.
#[test]
fn views_join_by_an_index() {
    let (_dir, paths) = samples();
    for path in &paths {
        let conn = Connection::open(path).unwrap();
        for query in [
            "SELECT * FROM operations",
            "SELECT workload, action, count(*) FROM operations WHERE decision = 'deny' GROUP BY 1, 2",
            "SELECT * FROM operations WHERE workload = 'x' AND at > 'y' ORDER BY entry DESC LIMIT 10",
            "SELECT count(*) FROM operations WHERE id = 'x'",
            "SELECT * FROM sessions WHERE workload = 'x'",
            "SELECT count(*) FROM sessions",
            "SELECT s.name, o.resource FROM sessions s JOIN operations o ON o.session = s.session",
        ] {
            let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let steps = plan.query_map([], |r| r.get::<_, String>(3)).unwrap();
            let steps: Vec<_> = steps.map(Result::unwrap).collect();
            let joined = |alias: &str| {
                let mut of = steps.iter().filter(|s| s.split(' ').nth(1) == Some(alias));
                of.all(|s| s.starts_with("SEARCH") && s.contains("AUTOMATIC"))
            };
            assert!(joined("e") && joined("c"), "{query}: {steps:#?}");
        }
    }
}

/// Every kind of edit, with the group that it is of.
const EDITS: [(&str, &[bench::Edit]); 14] = [
    ("entry", entries::ENTRIES),
    ("spelling", entries::SPELLING),
    ("frame", frames::FRAMES),
    ("checkpoint", vouchers::CHECKPOINTS),
    ("statement", vouchers::STATEMENTS),
    ("beginning", vouchers::BEGINNINGS),
    ("beside", vouchers::REST),
    ("key", others::KEYS),
    ("purge", others::PURGES),
    ("witness", others::WITNESSES),
    ("table", tables::TABLES),
    ("words", tables::WORDS),
    ("file", files::BYTES),
    ("chain", files::CHAINS),
];

/// Both verifiers take what is right, find every edit, and name the same.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_edit_is_named_by_both() {
    let bench = bench::Bench::new().await;
    let mut script = script::Script::start();
    for on in bench::ALL {
        let case = bench.case(on);
        let [rust, python] = case.verdicts(&mut script);
        match (&rust, &python) {
            (bench::Verdict::Right(a), bench::Verdict::Right(b)) if a == b => {}
            other => panic!("{on:?}: {other:?}"),
        }
    }
    let only = std::env::var("PORTCULLIS_EDIT").ok();
    let (mut wrong, mut kinds, mut cases) = (Vec::new(), 0, 0);
    for (group, edits) in EDITS {
        for edit in edits {
            let name = format!("{group}: {}", edit.name.replace('_', " "));
            if only.as_ref().is_some_and(|only| !name.contains(only)) {
                continue;
            }
            kinds += 1;
            let mut line = format!("{name:64}");
            for on in edit.on {
                let mut case = bench.case(*on);
                cases += 1;
                // An edit that SQL refuses is told with the others.
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (edit.edit)(&mut case)));
                if done.is_err() {
                    wrong.push(format!("{name}, {on:?}: the edit itself failed"));
                    continue;
                }
                match case.verdicts(&mut script) {
                    [
                        bench::Verdict::Bad {
                            about: a, file: f, ..
                        },
                        bench::Verdict::Bad {
                            about: b, file: g, ..
                        },
                    ] if edit.says.split('|').any(|s| a.starts_with(s))
                        && (a == b || edit.says.is_empty())
                        && (f.is_none() || f == g) =>
                    {
                        line.push_str(&format!(" {on:?}: {a};"));
                    }
                    other => wrong.push(format!("{name}, {on:?}: {other:#?}")),
                }
            }
            println!("{line}");
        }
    }
    println!("{kinds} kinds of edits, {cases} files");
    assert!(
        wrong.is_empty(),
        "{} are not named as they should be:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(only.is_some() || kinds >= 60);
}
