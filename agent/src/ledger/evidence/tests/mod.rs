//! Each control's questions on a ledger of which the answers are known.

mod formats;
mod world;

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::ledger::controls;
use world::{World, day, misdeeds};

fn options(all: Vec<Control>) -> Options {
    Options {
        since_ns: None,
        until_ns: None,
        workload: None,
        controls: all,
        samples: 10,
        limit: Duration::from_secs(60),
        key: None,
        now_ns: world::START + 3600 * world::SECOND,
    }
}

fn report(world: &World, options: &Options) -> Evidence {
    evidence(Source::Ledger(world.dir.path()), options, &mut |_, _| {}).unwrap()
}

fn rows(report: &Evidence) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for control in &report.controls {
        for answer in &control.queries {
            assert_eq!(answer.error, None, "{}/{}", control.id, answer.name);
            assert_eq!(answer.samples.len() as u64, answer.rows.min(10));
            all.insert(format!("{}/{}", control.id, answer.name), answer.rows);
        }
    }
    all
}

/// How many rows each question has on a good day, and on one with a misdeed of each kind.
const EXPECTED: &[(&str, u64, u64)] = &[
    ("AC-2/administrators", 2, 2),
    ("AC-2/ended", 2, 2),
    ("AC-2/identities", 2, 2),
    ("AC-2/lifecycle", 5, 5),
    ("AC-3/allowed_by_none", 0, 1),
    ("AC-3/decisions", 7, 9),
    ("AC-3/denied", 5, 6),
    ("AC-3/policies", 2, 3),
    ("AC-6/held", 1, 2),
    ("AC-6/lent", 3, 3),
    ("AC-6/never_used", 1, 1),
    ("AC-6/own_approval", 0, 1),
    ("AC-6/used", 3, 4),
    ("AU-10/answers", 1, 2),
    ("AU-10/bound", 2, 3),
    ("AU-10/payload", 1, 2),
    ("AU-11/ended", 1, 1),
    ("AU-11/span", 1, 1),
    ("AU-11/statements", 0, 0),
    ("AU-12/agent", 1, 2),
    ("AU-12/coverage", 2, 3),
    ("AU-12/interrupted", 0, 1),
    ("AU-2/actions", 2, 3),
    ("AU-2/changes", 5, 5),
    ("AU-2/kinds", 25, 27),
    ("AU-3/example", 3, 3),
    ("AU-3/fields", 8, 8),
    ("AU-3/incomplete", 0, 1),
    ("AU-3/masked", 2, 2),
    ("AU-4/budget", 1, 1),
    ("AU-4/moved", 1, 1),
    ("AU-4/volume", 1, 1),
    ("AU-5/delivery", 2, 2),
    ("AU-5/gaps", 1, 1),
    ("AU-5/stopped", 1, 1),
    ("AU-6/correlation", 1, 1),
    ("AU-6/denials", 5, 6),
    ("AU-6/reviews", 1, 1),
    ("AU-9/custody", 2, 2),
    ("AU-9/heads", 1, 1),
    ("AU-9/keys", 1, 1),
    ("AU-9/outside", 0, 0),
    ("CM-3/changes", 5, 5),
    ("CM-3/policy_sets", 2, 2),
    ("CM-3/refused", 1, 1),
    ("CM-3/settings", 4, 4),
    ("CM-3/text_missing", 0, 1),
    ("IA-2/acted_for", 1, 1),
    ("IA-2/approvers", 4, 5),
    ("IA-2/nameless_answers", 0, 1),
    ("IA-2/turned_away", 1, 1),
    ("IA-5/leaks_stopped", 1, 1),
    ("IA-5/lifecycle", 2, 2),
    ("IA-5/tokens", 1, 1),
    ("IA-5/used", 1, 2),
    ("IA-9/destinations", 1, 1),
    ("IA-9/identified", 1, 2),
    ("IA-9/refused", 1, 1),
    ("IA-9/without_identity", 0, 1),
    ("SC-7/counted", 2, 2),
    ("SC-7/destinations", 2, 3),
    ("SC-7/differences", 0, 1),
    ("SC-7/ends", 2, 3),
    ("SC-7/reconciled", 1, 1),
    ("SC-7/refused_by_default", 1, 1),
    ("SC-7/refused_by_policy", 1, 2),
    ("SC-7/ways_out_tried", 2, 2),
    ("SC-8/encrypted", 1, 2),
    ("SC-8/in_the_clear", 0, 1),
    ("SC-8/states", 2, 3),
    ("SC-8/untrusted", 1, 1),
    ("SC-8/verified", 1, 1),
    ("SI-4/not_understood", 1, 1),
    ("SI-4/refusals", 5, 6),
    ("SI-4/sensitive", 2, 4),
    ("SI-4/volume", 2, 3),
    ("SI-7/heads", 1, 1),
    ("SI-7/recovered", 0, 1),
    ("SI-7/settings", 2, 2),
    ("SI-7/starts", 1, 1),
];

#[tokio::test]
async fn each_question_finds_what_is_there() {
    let good = day().await;
    good.close();
    let mut bad = day().await;
    misdeeds(&mut bad).await;
    bad.close();
    for (world, expected) in [(good, 0), (bad, 1)] {
        let report = report(&world, &options(controls::controls()));
        let expected: BTreeMap<String, u64> = EXPECTED
            .iter()
            .map(|(name, good, bad)| ((*name).into(), [*good, *bad][expected]))
            .collect();
        assert_eq!(rows(&report), expected);
    }
}

#[tokio::test]
async fn the_headlines_say_what_the_rows_say() {
    let mut world = day().await;
    misdeeds(&mut world).await;
    world.close();
    let report = report(&world, &options(controls::controls()));
    assert!(
        report.verdict.verified && !report.head.key_given,
        "{:?}",
        report.verdict
    );
    for control in &report.controls {
        let excepted = control.queries.iter().any(|q| q.exception);
        let expected = if excepted {
            Status::Exceptions
        } else {
            Status::Supported
        };
        assert_eq!(control.status, expected, "{}", control.id);
    }
    // Nothing happened before the day, and that is a finding, not an error.
    let early = Options {
        until_ns: Some(world::START),
        ..options(controls::controls())
    };
    let none = super::evidence(Source::Ledger(world.dir.path()), &early, &mut |_, _| {}).unwrap();
    assert_eq!(
        (none.range.records, none.as_of.as_str()),
        (0, "2026-11-21T06:30:00.000000000Z")
    );
    for control in &none.controls {
        // The signed heads and keys are of the whole ledger.
        let whole = ["AU-9", "SI-7"].contains(&&*control.id);
        let expected = if whole { Status::Supported } else { Status::NoRows };
        assert_eq!(control.status, expected, "{}", control.id);
    }
}

#[tokio::test]
async fn a_report_is_of_the_range_asked_for() {
    let world = day().await;
    world.close();
    let of_b = Options {
        workload: Some("bot-b".into()),
        ..options(controls::select(controls::controls(), &["AC-3".into()]).unwrap())
    };
    let all = report(&world, &options(controls::controls()));
    let some = report(&world, &of_b);
    assert_eq!((some.controls.len(), some.head.root), (1, all.head.root));
    assert!(some.range.records < all.range.records);
    let decisions = &some.controls[0].queries[0];
    assert_eq!(
        (decisions.rows, &decisions.samples[0][0]),
        (1, &Cell::Text("bot-b".into()))
    );
    // The same from an export, by an auditor who has nothing else.
    let file = world.dir.path().join("export.db");
    let range = crate::ledger::ExportOptions {
        workload: of_b.workload.clone(),
        now_ns: 1,
        ..Default::default()
    };
    crate::ledger::export(&world.db(), &file, &range, &mut |_| {}).unwrap();
    let before = std::fs::read(&file).unwrap();
    let from_file = evidence(Source::File(&file), &of_b, &mut |_, _| {}).unwrap();
    assert_eq!(from_file.controls, some.controls);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let live = evidence(Source::File(&world.db()), &of_b, &mut |_, _| {});
    assert!(live.unwrap_err().to_string().contains("may be written to"));
}

#[tokio::test]
async fn nothing_is_asked_of_records_that_do_not_verify() {
    let world = day().await;
    world.close();
    let file = world.dir.path().join("export.db");
    crate::ledger::export(&world.db(), &file, &Default::default(), &mut |_| {}).unwrap();
    let conn = rusqlite::Connection::open(&file).unwrap();
    conn.execute(
        "UPDATE entry SET body = replace(body, 'bot-b', 'bot-x') WHERE body LIKE '%bot-b%'",
        [],
    )
    .unwrap();
    drop(conn);
    let report = evidence(
        Source::File(&file),
        &options(controls::controls()),
        &mut |_, _| {},
    )
    .unwrap();
    let error = report.verdict.error.clone().unwrap();
    assert!(error.starts_with("entry ") && !report.verdict.verified, "{error}");
    for control in &report.controls {
        assert_eq!(control.status, Status::Unverified);
        assert!(
            control
                .queries
                .iter()
                .all(|q| q.rows == 0 && q.samples.is_empty())
        );
    }
    let page = html(&report).unwrap();
    assert!(page.contains("The records did not verify.") && !page.contains("The records were verified."));
    assert!(oscal(&report, Plan::None).unwrap().contains("not-satisfied"));
}

#[tokio::test]
async fn an_overlay_asks_its_own_question() {
    let world = day().await;
    world.close();
    let dir = tempfile::tempdir().unwrap();
    let own = |name: &str, sql: &str| {
        let text = format!(
            "id = \"{name}\"\ntitle = \"Own\"\nfamily = \"Own\"\nclaim = \"Own\"\nnot_shown = [\"Much\"]\n\
             [[query]]\nname = \"q\"\nquestion = \"?\"\nview = \"operations\"\nsql = \"{sql}\"\n"
        );
        std::fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
    };
    own(
        "CC6.1",
        "SELECT workload, count(*) AS n FROM operations GROUP BY 1 ORDER BY 1",
    );
    own("AC-2", "DELETE FROM entry");
    let all = controls::with_overlays(&[dir.path().into()]).unwrap();
    let report = report(&world, &options(all));
    let find = |id: &str| report.controls.iter().find(|c| c.id == id).unwrap();
    let rows = &find("CC6.1").queries[0].samples;
    let text = |t: &str| Cell::Text(t.into());
    assert_eq!(
        rows,
        &[
            [text("bot-a"), Cell::Integer(8)],
            [text("bot-b"), Cell::Integer(1)]
        ]
    );
    assert_eq!(find("CC6.1").status, Status::Supported);
    let replaced = find("AC-2");
    assert_eq!((replaced.status, replaced.queries.len()), (Status::Failed, 1));
    assert!(
        replaced.queries[0]
            .error
            .as_ref()
            .unwrap()
            .contains("something else than read")
    );
}

/// What a killed process left behind goes; what another one uses, or somebody else's, stays.
#[tokio::test]
async fn private_copies_do_not_stay() {
    let world = day().await;
    world.close();
    report(&world, &options(controls::controls()));
    let place = std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), std::path::PathBuf::from);
    let mine = |name: &str| {
        let dir = place.join(format!("portcullis-evidence-{name}-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("records.db"), "x").unwrap();
        let file = std::fs::File::open(&dir).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(600))
            .unwrap();
        (dir, file)
    };
    let (left, _) = mine("left");
    let (used, lock) = mine("used");
    lock.lock().unwrap();
    report(&world, &options(controls::controls()));
    assert!(!left.exists() && used.exists());
    std::fs::remove_dir_all(used).unwrap();
}
