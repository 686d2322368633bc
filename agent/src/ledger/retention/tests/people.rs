//! Entries go by two people's word, and the chain goes on over what is left.

use super::*;
use crate::{
    ledger::verify::{StatementFlaw, VerifyError},
    model::Approver,
};

fn person(subject: &str, group: &str) -> Approver {
    Approver {
        issuer: "https://people".into(),
        subject: subject.into(),
        name: subject.into(),
        groups: [group.into()].into(),
        token_id: "t".into(),
        via: "cli",
        authenticated_at: 1,
        expires_at: i64::MAX,
    }
}

async fn asked(world: &World) -> EntriesPurge {
    let ada = person("ada", "records");
    let asked = world
        .retention
        .request_entries(&ada, world.retention.now(), "over three years old, hunter2");
    asked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_and_a_signed_root() {
    let world = World::new(config());
    world.three().await;
    let root: String = world.sql(2, "SELECT text FROM about WHERE topic = 'root'");
    world.later(400);
    world.retention.run(false).await.unwrap();
    let purge = asked(&world).await;
    assert_eq!((purge.segments.clone(), purge.from), (vec![0, 1, 2], 0));
    assert!(purge.stopped_by.unwrap().contains("not sealed"));
    assert_eq!(
        world.verify().unwrap().purged_entries,
        0,
        "one person purges nothing"
    );
    // The same again, somebody of another group, nobody's request.
    for (who, id, refused) in [
        (person("ada", "records"), purge.id, "same_person"),
        (person("bob", "dba"), purge.id, "not_in_group"),
        (person("eve", "records"), Uuid::now_v7(), "request_unknown"),
    ] {
        let said = world
            .retention
            .confirm_entries(id, &who, "agreed")
            .await
            .unwrap_err();
        assert_eq!(said.refusal(), Some(refused));
    }
    assert_eq!(world.events("entries_purge_refused").len(), 3);
    let unworded = world
        .retention
        .confirm_entries(purge.id, &person("eve", "records"), " ")
        .await;
    assert!(matches!(unworded, Err(RetentionError::Reason)));
    let done = world
        .retention
        .confirm_entries(purge.id, &person("eve", "records"), "agreed")
        .await
        .unwrap();
    assert_eq!(done.confirmed_by.as_deref(), Some("eve"));
    let told = &world.events("entries_purged")[0]["detail"];
    assert_eq!(told["requested_by"]["subject"], "ada");
    assert_eq!(told["confirmed_by"]["subject"], "eve");
    assert_eq!(told["reason"], "over three years old, [masked]");
    assert_eq!(told["segments"][2]["root"], root);
    assert!(
        told["segments"][2]["checkpoint"]
            .as_str()
            .unwrap()
            .contains("portcullis/host-1")
    );
    let report = world.verify().unwrap();
    assert_eq!((report.purged_entries, report.files), (done.to, 4));
    for n in 0..3 {
        assert_eq!(world.sql::<i64>(n, "SELECT count(*) FROM entry"), 0);
        assert_eq!(world.sql::<i64>(n, "SELECT count(*) FROM payload"), 0);
        assert!(!has(&world.file(n), "bot-a") && !has(&world.file(n), "alpha"));
    }
    assert!(world.is_tidy());
    // Nothing is left to be purged, and the rest is read as ever.
    let again = world
        .retention
        .request_entries(&person("ada", "records"), world.retention.now(), "more")
        .await;
    assert!(matches!(again, Err(RetentionError::Nothing { .. })));
    let reader = crate::ledger::query::Reader::open(world.dir.path()).unwrap();
    assert_eq!(
        reader
            .operations(&crate::ledger::query::Filter::default())
            .unwrap()
            .len(),
        1
    );
    let status = world.retention.status().await.unwrap();
    assert!(status.segments.iter().all(|s| s.stub && !s.eligible_now));
    let out = world.dir.path().join("export.db");
    let options = crate::ledger::ExportOptions::default();
    crate::ledger::export(world.dir.path(), &out, &options, &mut |_| {}).unwrap();
    crate::ledger::verify(&out, None, &mut |_| {}).unwrap();
    // The ledger goes on.
    world.operation("bot-a", "s", "after").await;
    world.seal().await;
    world.ledger.close();
    let again = whole::open(&world.dir, config::Durability::Process);
    again.close();
    world.verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_old_enough_and_not_held_oldest_first() {
    let mut world = World::new(config::Retention::default());
    world.three().await;
    let ada = person("ada", "records");
    world.later(100);
    let now = world.retention.now();
    let off = world.retention.request_entries(&ada, now, "r").await.unwrap_err();
    assert!(matches!(off, RetentionError::Off));
    world.again(config());
    let young = world.retention.request_entries(&ada, now, "r").await.unwrap_err();
    assert!(
        young.to_string().contains("not older than [retention] entries"),
        "{young}"
    );
    world.later(300);
    let early = world.retention.request_entries(&ada, 1, "r").await.unwrap_err();
    assert!(early.to_string().contains("segment 0 ends at"), "{early}");
    // A hold on what only the second segment has.
    let at: String = world.sql(
        1,
        "SELECT json_extract(body, '$.at') FROM entry ORDER BY seq LIMIT 1",
    );
    let until: String = world.sql(
        1,
        "SELECT json_extract(body, '$.at') FROM entry ORDER BY seq DESC LIMIT 1",
    );
    let scope = HoldScope {
        workload: Some("bot-b".into()),
        since: Some(at),
        until: Some(until),
        ..HoldScope::default()
    };
    let hold = world.retention.hold(scope, "case", by()).await.unwrap();
    let purge = asked(&world).await;
    assert_eq!(purge.segments, [0]);
    assert!(purge.stopped_by.unwrap().contains(&hold.id.to_string()));
    // Released between the two words: it is another purge then.
    world.retention.release(hold.id, "closed", by()).await.unwrap();
    let eve = person("eve", "records");
    let moved = world
        .retention
        .confirm_entries(purge.id, &eve, "agreed")
        .await
        .unwrap_err();
    assert!(matches!(moved, RetentionError::Moved { .. }));
    let purge = asked(&world).await;
    assert_eq!(purge.segments, [0, 1, 2]);
    // A word is good for a quarter of an hour.
    world.now.fetch_add(901_000_000_000, Ordering::AcqRel);
    let late = world
        .retention
        .confirm_entries(purge.id, &eve, "agreed")
        .await
        .unwrap_err();
    assert!(matches!(late, RetentionError::RequestUnknown));
    world.verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_of_tampering_is_not_purged() {
    let world = World::new(config());
    world.three().await;
    world.edit(
        1,
        "UPDATE entry SET body = replace(body, 'bot-a', 'bot-c') WHERE body LIKE '%bot-a%'",
    );
    world.later(400);
    let ada = person("ada", "records");
    let refused = world
        .retention
        .request_entries(&ada, world.retention.now(), "old")
        .await
        .unwrap_err();
    assert!(
        matches!(refused, RetentionError::Damaged { segment: 1, .. }),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_announced_is_done_by_the_next_pass_and_a_hold_stops_it() {
    for held in [false, true] {
        let mut world = World::new(config());
        world.three().await;
        world.later(400);
        let purge = asked(&world).await;
        let before = [world.file(1), world.file(2)];
        let eve = person("eve", "records");
        world
            .retention
            .confirm_entries(purge.id, &eve, "agreed")
            .await
            .unwrap();
        // As if it had ended after the first segment.
        let entry = world.events("entries_purged")[0]["id"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let note = "SELECT note FROM statement WHERE note LIKE '%entries purged%'";
        let segments = (0..3).map(|n| {
            let note: String = world.sql(n, note);
            (n, note.split_once("\n\n").unwrap().0.to_owned() + "\n")
        });
        let intent = Intent {
            entry,
            since: 0,
            segments: segments.collect(),
        };
        for (n, old) in (1..).zip(before) {
            std::fs::write(segment_path(world.dir.path(), n), old).unwrap();
        }
        intent.put(world.dir.path()).unwrap();
        assert!(
            world.verify().unwrap().purged_entries > 0,
            "the first one is done"
        );
        world.again(config());
        if held {
            let scope = HoldScope {
                workload: Some("bot-a".into()),
                ..HoldScope::default()
            };
            world.retention.hold(scope, "case", by()).await.unwrap();
        }
        world.retention.run(false).await.unwrap();
        let stubs = (0..3)
            .filter(|n| world.sql::<i64>(*n, "SELECT count(*) FROM entry") == 0)
            .count();
        assert_eq!(stubs, if held { 1 } else { 3 });
        assert_eq!(world.events("purge_withdrawn").len(), if held { 2 } else { 0 });
        assert_eq!(world.events("entries_purged").len(), 1);
        assert!(world.is_tidy());
        world.verify().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stub_that_was_tampered_with_is_named() {
    let world = World::new(config());
    world.three().await;
    world.later(400);
    let purge = asked(&world).await;
    world
        .retention
        .confirm_entries(purge.id, &person("eve", "records"), "agreed")
        .await
        .unwrap();
    world.verify().unwrap();
    let clean = world.file(1);
    for edit in [
        "DELETE FROM statement WHERE note LIKE '%entries purged%'",
        "UPDATE statement SET note = replace(note, 'confirmed by eve', 'confirmed by bob')",
        "DELETE FROM frontier WHERE size = (SELECT max(size) FROM frontier)",
        "UPDATE frontier SET nodes = zeroblob(length(nodes)) WHERE size = (SELECT max(size) FROM frontier)",
        "UPDATE frontier SET nodes = zeroblob(length(nodes)) WHERE size = (SELECT min(size) FROM frontier)",
        "DELETE FROM checkpoint WHERE size = (SELECT max(size) FROM checkpoint)",
        "INSERT INTO entry VALUES ((SELECT min(size) FROM frontier), 'x', zeroblob(16), zeroblob(32))",
        "INSERT INTO payload VALUES (1, 'x', 'up', 0, zeroblob(32), 0, 0, x'')",
        "DELETE FROM statement WHERE note NOT LIKE '%entries purged%'",
    ] {
        world.edit(1, edit);
        let finding = world.verify().map(|_| ()).unwrap_err();
        assert!(
            finding.file.is_some_and(|f| f.ends_with("segment-0000000001.db")),
            "{edit}"
        );
        std::fs::write(segment_path(world.dir.path(), 1), &clean).unwrap();
    }
    // A stub in another's place.
    std::fs::write(segment_path(world.dir.path(), 1), world.file(0)).unwrap();
    assert!(world.verify().is_err());
    std::fs::write(segment_path(world.dir.path(), 1), &clean).unwrap();
    // Entries alone, without a word of who.
    let copy = World::new(config());
    copy.three().await;
    copy.edit(0, "DELETE FROM entry; DELETE FROM payload");
    let error = copy.verify().unwrap_err().error;
    assert!(
        !matches!(
            error,
            VerifyError::Statement {
                flaw: StatementFlaw::Unknown
            }
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_elsewhere_stays() {
    let world = World::new(config());
    world.three().await;
    world.later(400);
    let untaken = Arc::new(Mutex::new((Some(1), None)));
    let now = Arc::clone(&untaken);
    world.retention.wait_for(Arc::new(move || *lock(&now)));
    let pass = world.retention.run(false).await.unwrap();
    assert!(pass.purged.iter().all(|p| p.segment < 1), "{pass:?}");
    let purge = asked(&world).await;
    assert_eq!(purge.segments, [0]);
    assert!(purge.stopped_by.unwrap().contains("required = true"));
    // A receiver of events that is behind the first segment's end.
    *lock(&untaken) = (None, Some(1));
    let ada = person("ada", "records");
    let again = world
        .retention
        .request_entries(&ada, world.retention.now(), "old");
    assert!(again.await.unwrap_err().to_string().contains("required = true"));
    *lock(&untaken) = (None, None);
    let pass = world.retention.run(false).await.unwrap();
    assert!(!pass.purged.is_empty());
}
