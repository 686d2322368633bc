//! What is held stays, whoever loses which file.

use super::*;

fn scope(workload: &str) -> HoldScope {
    HoldScope {
        workload: Some(workload.into()),
        ..HoldScope::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_keeps_what_it_covers_until_it_is_released() {
    let world = World::new(config());
    world.three().await;
    let hold = world
        .retention
        .hold(scope("bot-a"), "case 12, hunter2", by())
        .await
        .unwrap();
    assert_eq!(hold.reason, "case 12, [masked]");
    world.later(91);
    let pass = world.retention.run(false).await.unwrap();
    assert!(
        pass.purged.len() == 3 && pass.purged.iter().all(|p| p.frames == 2),
        "{pass:?}"
    );
    for n in 0..3 {
        assert!(
            has(&world.file(n), &format!("GET /alpha{n}")) && !has(&world.file(n), &format!("GET /beta{n}"))
        );
    }
    let again = world.retention.release(hold.id, "", by()).await;
    assert!(matches!(again, Err(RetentionError::Reason)));
    let released = world
        .retention
        .release(hold.id, "case closed", by())
        .await
        .unwrap();
    assert_eq!(released.id, hold.id);
    let again = world.retention.release(hold.id, "case closed", by()).await;
    assert!(matches!(again, Err(RetentionError::HoldUnknown)));
    let pass = world.retention.run(false).await.unwrap();
    assert!(pass.purged.len() == 3, "{pass:?}");
    let report = world.verify().unwrap();
    assert_eq!(report.purged_frames, 12);
    assert_eq!(
        world.events("hold_set")[0]["detail"]["scope"]["workload"],
        "bot-a"
    );
    assert_eq!(
        world.events("hold_released")[0]["detail"]["hold"],
        hold.id.to_string()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_by_session_and_by_time() {
    let world = World::new(config());
    let now = Clock::System.now_ns();
    let before = now - 20_000_000_000;
    world.operation_at("bot-a", "s-1", "first", before).await;
    world.operation_at("bot-a", "s-2", "second", before).await;
    world.seal().await;
    world
        .operation_at("bot-a", "s-3", "third", now - 9_000_000_000)
        .await;
    let between = crate::model::Rfc3339(now - 5_000_000_000).to_string();
    world.operation_at("bot-a", "s-4", "fourth", now).await;
    world.seal().await;
    let nothing = world.retention.hold(HoldScope::default(), "all", by()).await;
    assert!(matches!(nothing, Err(RetentionError::HoldEmpty)));
    let session = HoldScope {
        session: Some("s-1".into()),
        ..HoldScope::default()
    };
    world.retention.hold(session, "one", by()).await.unwrap();
    let time = HoldScope {
        since: Some(between),
        ..HoldScope::default()
    };
    world.retention.hold(time, "two", by()).await.unwrap();
    world.later(91);
    world.retention.run(false).await.unwrap();
    for (segment, words, kept) in [
        (0, "first", true),
        (0, "second", false),
        (1, "third", false),
        (1, "fourth", true),
    ] {
        assert_eq!(
            has(&world.file(segment), &format!("GET /{words}")),
            kept,
            "{words}"
        );
    }
    world.verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_changed_or_old_releases_nothing() {
    let mut world = World::new(config());
    world.three().await;
    let file = world.dir.path().join("retention.holds");
    world.retention.standing_holds().await.unwrap();
    let before = std::fs::read(&file).unwrap();
    let hold = world
        .retention
        .hold(scope("bot-a"), "case 12", by())
        .await
        .unwrap();
    let with = std::fs::read_to_string(&file).unwrap();
    world.later(91);
    let emptied = with.replace(&hold.id.to_string(), &uuid::Uuid::nil().to_string());
    for content in [
        None,
        Some(before),
        Some(emptied.into_bytes()),
        Some(b"\xff\xfe".to_vec()),
        Some(Vec::new()),
    ] {
        match content {
            None => std::fs::remove_file(&file).unwrap(),
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
        }
        world.again(config());
        let holds = world.retention.standing_holds().await.unwrap();
        assert!(holds.len() == 1 && holds[0] == hold);
        // And it is whole again.
        assert!(
            std::fs::read_to_string(&file)
                .unwrap()
                .contains(&hold.id.to_string())
        );
    }
    world.retention.run(false).await.unwrap();
    assert!(has(&world.file(0), "GET /alpha0"));
}
