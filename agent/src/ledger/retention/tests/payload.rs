//! What is due is purged, provably, and nothing else.

use super::*;
use crate::{
    config::RetentionRule,
    ledger::{
        VerifierKey,
        retention::purge::{self, Occasion},
        verify::{FrameFlaw, StatementFlaw, VerifyError},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_before_its_time_or_unless_asked() {
    let world = World::new(config::Retention::default());
    world.three().await;
    world.later(4000);
    assert_eq!(world.retention.run(false).await.unwrap().purged, []);
    world.retention.reload(&config(), Arc::new(str::to_owned));
    world
        .now
        .store(Clock::System.now_ns() + 89 * DAY, Ordering::Release);
    assert_eq!(world.retention.run(false).await.unwrap().purged, []);
    assert_eq!(world.verify().unwrap().purged_frames, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_gone_to_the_byte_and_what_is_left_verifies() {
    let world = World::new(config());
    world.three().await;
    let before = world.file(1);
    world.later(91);
    let dry = world.retention.run(true).await.unwrap();
    assert_eq!(dry.purged.len(), 3);
    assert_eq!(world.file(1), before, "a dry run changes nothing");
    let pass = world.retention.run(false).await.unwrap();
    assert_eq!((pass.purged, pass.failed.len()), (dry.purged, 0));
    let report = world.verify().unwrap();
    assert_eq!(
        (report.purged_frames, report.frames, report.open_operations),
        (12, 14, 0)
    );
    for n in 0..3 {
        let file = world.file(n);
        for words in ["alpha", "beta"] {
            let words = format!("{words}{n}");
            // Raw, and as the compressed bytes that were there.
            assert!(!has(&file, &words.repeat(2)) && !has(&file, &format!("GET /{words}")));
        }
        assert_eq!(world.sql::<i64>(n, "SELECT count(bytes) FROM payload"), 0);
        assert_eq!(
            world.sql::<i64>(n, "SELECT count(*) FROM payload WHERE length(sha256) = 32"),
            4
        );
        assert_eq!(world.sql::<i64>(n, "PRAGMA freelist_count"), 0);
        assert_eq!(world.sql::<String>(n, "PRAGMA integrity_check"), "ok");
    }
    assert!(world.is_tidy());
    // The compressed bytes are gone as well.
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    let old = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(old.path(), &before).unwrap();
    conn.execute("ATTACH ?1 AS old", [old.path().to_str()]).unwrap();
    let mut rows = conn.prepare("SELECT bytes FROM old.payload").unwrap();
    let stored: Vec<Vec<u8>> = rows
        .query_map([], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let file = world.file(1);
    for bytes in stored {
        assert!(has_bytes(&before, &bytes) && !has_bytes(&file, &bytes));
    }
    let told = world.events("payload_purged");
    assert_eq!(told.len(), 3);
    assert_eq!(told[1]["detail"]["frames"], 4);
    assert_eq!(
        told[1]["detail"]["cause"],
        "[retention] payloads = 2months 29days 2h 52m 48s"
            .replace("2months 29days 2h 52m 48s", &days(90).to_string())
    );
    // A second pass finds nothing to do, and says nothing.
    assert_eq!(world.retention.run(false).await.unwrap().purged, []);
    assert_eq!(world.events("payload_purged").len(), 3);
    let status = world.retention.status().await.unwrap();
    assert!(
        status
            .segments
            .iter()
            .all(|s| s.payload == (0, 0) && s.purged_frames == 4)
    );
}

fn has_bytes(file: &[u8], bytes: &[u8]) -> bool {
    file.windows(bytes.len()).any(|window| window == bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_by_workload_and_class_go_one_after_the_other() {
    let rule = |workload: Option<&str>, class: Option<&str>, payloads| RetentionRule {
        workload: workload.map(|w| crate::model::WorkloadName::new(w).unwrap()),
        protocol: None,
        data_class: class.map(Into::into),
        payloads,
    };
    let world = World::new(config::Retention {
        payloads: Keep::Forever,
        // The operations of the tests have values of class email masked.
        rule: vec![
            rule(Some("bot-b"), None, days(60)),
            rule(None, Some("email"), days(30)),
            rule(None, Some("us_ssn"), days(1)),
        ],
        ..config()
    });
    world.three().await;
    world.later(31);
    let pass = world.retention.run(false).await.unwrap();
    assert!(
        pass.purged
            .iter()
            .all(|p| p.frames == 2 && p.cause.contains("data class email"))
    );
    assert_eq!(world.verify().unwrap().purged_frames, 6);
    let left = "SELECT count(*) FROM payloads AS p JOIN operations AS o ON o.id = p.operation
                WHERE o.workload = 'bot-b' AND p.stored > 0";
    assert_eq!(world.sql::<i64>(0, left), 2, "of two rules the longer counts");
    world.later(30);
    let pass = world.retention.run(false).await.unwrap();
    assert!(
        pass.purged
            .iter()
            .all(|p| p.frames == 2 && p.cause.contains("workload bot-b"))
    );
    // Two tombstones, each of its own rows.
    assert_eq!(world.sql::<i64>(2, "SELECT count(*) FROM statement"), 3);
    assert_eq!(world.verify().unwrap().purged_frames, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_statement_does_not_cover_is_named() {
    let flaw = |world: &World| world.verify().map(|_| ()).map_err(|finding| finding.error);
    let places = "SELECT place FROM payload ORDER BY place LIMIT 1";
    let world = World::new(config::Retention {
        payloads: Keep::Forever,
        rule: vec![RetentionRule {
            workload: Some(crate::model::WorkloadName::new("bot-a").unwrap()),
            protocol: None,
            data_class: None,
            payloads: days(1),
        }],
        ..config()
    });
    world.three().await;
    world.later(2);
    world.retention.run(false).await.unwrap();
    world.verify().unwrap();
    let (clean, older) = (world.file(1), world.file(0));
    let put = |bytes: &[u8]| std::fs::write(segment_path(world.dir.path(), 1), bytes).unwrap();
    // One more without its bytes.
    world.edit(1, "UPDATE payload SET bytes = NULL WHERE bytes IS NOT NULL");
    let error = flaw(&world).unwrap_err();
    assert!(
        matches!(
            &error,
            VerifyError::Frame {
                flaw: FrameFlaw::Missing,
                ..
            }
        ),
        "{error}"
    );
    put(&clean);
    // Bytes where there should be none.
    world.edit(
        1,
        &format!("UPDATE payload SET bytes = x'00' WHERE place = ({places})"),
    );
    let error = flaw(&world).unwrap_err();
    assert!(
        matches!(
            &error,
            VerifyError::Frame {
                flaw: FrameFlaw::Returned,
                ..
            }
        ),
        "{error}"
    );
    put(&clean);
    // The tombstone taken away, changed, or another segment's.
    world.edit(1, "DELETE FROM statement WHERE note LIKE '%payload purged%'");
    let error = flaw(&world).unwrap_err();
    assert!(
        matches!(
            &error,
            VerifyError::Frame {
                flaw: FrameFlaw::Missing,
                ..
            }
        ),
        "{error}"
    );
    put(&clean);
    world.edit(1, "UPDATE statement SET note = replace(note, 'frames 2', 'frames 3') WHERE note LIKE '%payload purged%'");
    let error = flaw(&world).unwrap_err();
    assert!(
        matches!(
            &error,
            VerifyError::Statement {
                flaw: StatementFlaw::Note(_)
            }
        ),
        "{error}"
    );
    put(&clean);
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), older).unwrap();
    world.edit(
        1,
        &format!(
            "ATTACH '{}' AS other; DELETE FROM statement WHERE note LIKE '%payload purged%';
         INSERT INTO statement SELECT note FROM other.statement WHERE note LIKE '%payload purged%'",
            other.path().display()
        ),
    );
    let error = flaw(&world).unwrap_err();
    assert!(
        matches!(&error, VerifyError::Frame { .. } | VerifyError::Statement { .. }),
        "{error}"
    );
    put(&clean);
    world.verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_of_a_purged_frame_is_still_evidence() {
    let world = World::new(config());
    world.three().await;
    world.later(91);
    world.retention.run(false).await.unwrap();
    world.verify().unwrap();
    let clean = world.file(1);
    let put = |bytes: &[u8]| std::fs::write(segment_path(world.dir.path(), 1), bytes).unwrap();
    let place = "place = (SELECT min(place) FROM payload)";
    for edit in [
        "UPDATE payload SET sha256 = zeroblob(32)",
        "UPDATE payload SET size = size + 1",
        "UPDATE payload SET operation = (SELECT max(operation) FROM payload)",
        "UPDATE payload SET direction = 'down'",
        "UPDATE payload SET number = 7",
        "UPDATE payload SET place = place - 1",
        "DELETE FROM payload",
    ] {
        world.edit(1, &format!("{edit} WHERE {place}"));
        assert!(world.verify().is_err(), "{edit}");
        put(&clean);
    }
    world.verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_in_between_is_gone_on_from() {
    let mut world = World::new(config());
    world.three().await;
    world.later(91);
    let plan = || async {
        let plan = world.retention.plan(0, Occasion::Due).await.unwrap().unwrap();
        plan.announcement(&world.ledger, world.retention.now())
    };
    // Ended before the entry: it is forgotten, and announced anew.
    let (_, intent) = plan().await;
    intent.put(world.dir.path()).unwrap();
    world.again(config());
    assert_eq!(world.retention.run(false).await.unwrap().purged.len(), 3);
    assert!(
        world
            .events("payload_purged")
            .iter()
            .all(|e| e["id"] != intent.entry.to_string())
    );
    world.verify().unwrap();

    // Ended after the entry, with a file half written: it is done, and not announced again.
    let mut world = World::new(config());
    world.three().await;
    world.later(91);
    let plan = world.retention.plan(0, Occasion::Due).await.unwrap().unwrap();
    let (entry, intent) = plan.announcement(&world.ledger, world.retention.now());
    world.retention.announce(entry, &intent).await.unwrap();
    std::fs::write(rewrite::work_path(world.dir.path(), 0), b"half").unwrap();
    world.verify().unwrap();
    world.again(config());
    assert_eq!(world.retention.run(false).await.unwrap().purged.len(), 2);
    assert_eq!(world.events("payload_purged").len(), 3);
    assert_eq!(world.verify().unwrap().purged_frames, 12);
    assert!(world.is_tidy());

    // Ended after the new file was written, and after it was put in its place.
    for placed in [false, true] {
        let mut world = World::new(config());
        world.three().await;
        world.later(91);
        let plan = world.retention.plan(1, Occasion::Due).await.unwrap().unwrap();
        let (entry, intent) = plan.announcement(&world.ledger, world.retention.now());
        world.retention.announce(entry, &intent).await.unwrap();
        let old = world.file(1);
        purge::carry_out(
            world.dir.path(),
            &world.ledger,
            1,
            &intent.segments[0].1,
            &Arc::default(),
        )
        .unwrap();
        if !placed {
            std::fs::rename(
                segment_path(world.dir.path(), 1),
                rewrite::work_path(world.dir.path(), 1),
            )
            .unwrap();
            std::fs::write(segment_path(world.dir.path(), 1), old).unwrap();
        }
        world.again(config());
        assert_eq!(world.retention.run(false).await.unwrap().purged.len(), 2);
        assert_eq!(world.events("payload_purged").len(), 3);
        assert_eq!(world.events("purge_withdrawn").len(), 0);
        assert_eq!(world.verify().unwrap().purged_frames, 12);
        assert_eq!(world.sql::<i64>(1, "SELECT count(*) FROM statement"), 2);
        assert!(world.is_tidy());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_cannot_be_read_stops_all_purges_and_shows() {
    let world = World::new(config());
    world.three().await;
    world.later(91);
    std::fs::write(world.dir.path().join("retention.intent"), b"{}").unwrap();
    world.retention.run(false).await.unwrap_err();
    let shown = world.retention.last().unwrap().failed;
    assert!(shown[0].contains("retention.intent"), "{shown:?}");
    assert_eq!(world.verify().unwrap().purged_frames, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_between_announcement_and_effect_stops_it_on_record() {
    let mut world = World::new(config());
    world.three().await;
    world.later(91);
    let plan = world.retention.plan(1, Occasion::Due).await.unwrap().unwrap();
    let (entry, intent) = plan.announcement(&world.ledger, world.retention.now());
    world.retention.announce(entry, &intent).await.unwrap();
    world.again(config());
    let scope = HoldScope {
        workload: Some("bot-a".into()),
        ..HoldScope::default()
    };
    world.retention.hold(scope, "case 12", by()).await.unwrap();
    let pass = world.retention.run(false).await.unwrap();
    assert_eq!(pass.purged.len(), 3);
    assert!(
        pass.purged.iter().all(|p| p.frames == 2),
        "those of the other workload go"
    );
    let withdrawn = world.events("purge_withdrawn");
    assert_eq!(withdrawn.len(), 1);
    assert_eq!(withdrawn[0]["detail"]["announced"], intent.entry.to_string());
    assert_eq!(world.verify().unwrap().purged_frames, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_counted_and_does_not_stop_the_deletion() {
    let world = World::new(config());
    world.three().await;
    world.edit(
        0,
        "UPDATE payload SET bytes = x'0102' WHERE place = (SELECT min(place) FROM payload)",
    );
    assert!(world.verify().is_err());
    world.later(91);
    let pass = world.retention.run(false).await.unwrap();
    assert_eq!((pass.purged[0].damaged, pass.purged[1].damaged), (1, 0));
    assert_eq!(world.events("payload_purged")[0]["detail"]["damaged"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_over_two_segments_is_judged_by_its_entry() {
    let rule = RetentionRule {
        workload: Some(crate::model::WorkloadName::new("bot-a").unwrap()),
        protocol: None,
        data_class: None,
        payloads: days(1),
    };
    let world = World::new(config::Retention {
        payloads: Keep::Forever,
        rule: vec![rule],
        ..config()
    });
    let one = told(
        "bot-a",
        "s",
        Clock::System.now_ns(),
        &[
            (Direction::Down, b"first half".to_vec()),
            (Direction::Down, b"second half".to_vec()),
        ],
    );
    world.ledger.append(one.operation.clone()).await.unwrap();
    world.ledger.frame(one.frames[0].clone()).await.unwrap();
    world.seal().await;
    world.ledger.frame(one.frames[1].clone()).await.unwrap();
    world.ledger.append(one.outcome.clone()).await.unwrap();
    world.seal().await;
    world.later(2);
    let pass = world.retention.run(false).await.unwrap();
    assert_eq!(pass.purged.iter().map(|p| p.frames).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(world.verify().unwrap().purged_frames, 2);
    assert!(!has(&world.file(1), "second half"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_hold_copies_is_not_purged() {
    let world = World::new(config());
    world.three().await;
    world.edit(0, "CREATE VIRTUAL TABLE words USING fts5(text)");
    world.later(91);
    let pass = world.retention.run(false).await.unwrap();
    assert_eq!((pass.purged.len(), pass.failed.len()), (2, 1));
    assert!(pass.failed[0].contains("copies of payload"), "{:?}", pass.failed);
    assert!(has(&world.file(0), "GET /alpha0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_took_over_since_signs_the_purge() {
    let world = World::new(config());
    world.three().await;
    let ledger = world.ledger.clone();
    let old = VerifierKey::parse(&ledger.status().key).unwrap();
    let rotated = tokio::task::spawn_blocking(move || ledger.rotate_key(&Value::Null));
    rotated.await.unwrap().unwrap();
    world.seal().await;
    world.later(91);
    let pass = world.retention.run(false).await.unwrap();
    assert_eq!((pass.purged.len(), pass.failed.len()), (4, 0), "{pass:?}");
    assert_eq!(world.verify().unwrap().purged_frames, 14);
    // Each alone, too, by the key of its time.
    let checks = Checks {
        key: Some(old),
        ..Checks::default()
    };
    for n in 0..3 {
        let file = segment_path(world.dir.path(), n);
        verify_files(&[file], &checks, &mut |_| {}).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_tells_what_was_purged_of_it() {
    let world = World::new(config());
    world.three().await;
    world.later(91);
    world.retention.run(false).await.unwrap();
    let out = world.dir.path().join("export.db");
    for workload in [None, Some("bot-b".to_owned())] {
        let options = crate::ledger::ExportOptions {
            workload,
            now_ns: world.retention.now(),
            ..crate::ledger::ExportOptions::default()
        };
        crate::ledger::export(world.dir.path(), &out, &options, &mut |_| {}).unwrap();
        let report = crate::ledger::verify(&out, None, &mut |_| {}).unwrap();
        let expected = if options.workload.is_some() { 6 } else { 12 };
        assert_eq!(report.purged_frames, expected);
        let conn = rusqlite::Connection::open(&out).unwrap();
        conn.execute_batch("DELETE FROM statement WHERE note LIKE '%payload purged%'")
            .unwrap();
        drop(conn);
        let error = crate::ledger::verify(&out, None, &mut |_| {}).unwrap_err();
        assert!(
            matches!(
                error,
                VerifyError::Frame {
                    flaw: FrameFlaw::Missing,
                    ..
                }
            ),
            "{error}"
        );
        std::fs::remove_file(&out).unwrap();
    }
}
