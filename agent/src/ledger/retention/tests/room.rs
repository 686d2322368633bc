//! The disk budget: early words, the configured behaviour, and nothing lost without being told.

use super::{budget::*, *};
use crate::{
    config::AtLimit,
    ledger::{FrameDigest, Limit},
};

const BUDGET: u64 = 100 << 20;

fn limited(at_limit: AtLimit) -> config::Retention {
    config::Retention {
        disk_budget: Some(BUDGET),
        at_limit,
        free_space: 0,
        ..config()
    }
}

/// A look that found so many bytes in use.
fn used(bytes: u64) -> Budget {
    Budget {
        used_bytes: bytes,
        budget_bytes: Some(BUDGET),
        free_bytes: u64::MAX,
        ..Budget::default()
    }
}

async fn look(world: &World, config: &config::Retention, looked: Budget) -> Budget {
    let at_limit = config.at_limit;
    let looked = Budget { at_limit, ..looked };
    world.retention.judged(config, looked).await.unwrap()
}

#[test]
fn levels_and_their_causes() {
    let config = limited(AtLimit::Stop);
    let judge = |looked: &Budget| budget::judge(&config, looked, Level::Fine);
    assert_eq!(judge(&used(79 << 20)), (Level::Fine, None));
    assert_eq!(judge(&used(80 << 20)), (Level::Warning, Some("usage")));
    assert_eq!(judge(&used(95 << 20)), (Level::Limit, Some("usage")));
    assert_eq!(judge(&used(98 << 20)), (Level::Full, Some("usage")));
    let soon = Budget {
        days_left: Some(13),
        ..used(1 << 20)
    };
    assert_eq!(judge(&soon), (Level::Warning, Some("forecast")));
    // Leaving the limit takes more room than entering it.
    assert_eq!(
        budget::judge(&config, &used(94 << 20), Level::Limit).0,
        Level::Limit
    );
    assert_eq!(
        budget::judge(&config, &used(93 << 20), Level::Limit).0,
        Level::Warning
    );
    let free = config::Retention::default();
    let left = |bytes| Budget {
        free_bytes: bytes,
        ..Budget::default()
    };
    for (bytes, level) in [
        (1 << 30, Level::Fine),
        (100 << 20, Level::Warning),
        (63 << 20, Level::Limit),
        (31 << 20, Level::Full),
    ] {
        assert_eq!(budget::judge(&free, &left(bytes), Level::Fine).0, level);
    }
    assert!(used(1).problem().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_is_told_once_and_again_after_a_day() {
    let world = World::new(limited(AtLimit::Stop));
    let config = limited(AtLimit::Stop);
    for _ in 0..3 {
        look(&world, &config, used(81 << 20)).await;
    }
    assert_eq!(world.events("budget_warning").len(), 1);
    assert_eq!(world.events("budget_warning")[0]["detail"]["cause"], "usage");
    world.later(1);
    look(&world, &config, used(82 << 20)).await;
    assert_eq!(world.events("budget_warning").len(), 2);
    look(&world, &config, used(1 << 20)).await;
    assert_eq!(world.events("budget_recovered").len(), 1);
    world.later(2);
    look(&world, &config, used(1 << 20)).await;
    assert_eq!(
        world.events("budget_recovered").len(),
        1,
        "nothing to say of plenty"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_limit_operations_stop_and_it_is_told() {
    let world = World::new(limited(AtLimit::Stop));
    let config = limited(AtLimit::Stop);
    let running = told(
        "bot-a",
        "s",
        whole::NOW,
        &[(Direction::Down, b"running".to_vec())],
    );
    world.ledger.append(running.operation.clone()).await.unwrap();
    let at = look(&world, &config, used(96 << 20)).await;
    assert_eq!((at.level, at.limit), (Level::Limit, Limit::NoOperations));
    assert!(at.problem().unwrap().contains("denied until there is room"));
    for _ in 0..5 {
        let refused = told("bot-a", "s", whole::NOW, &[]);
        let error = world.ledger.append(refused.operation).await.unwrap_err();
        assert_eq!(error.reason(), crate::model::Reason::LedgerUnavailable);
        assert!(error.to_string().contains("disk_budget"), "{error}");
    }
    // What runs already ends on record, with its payload; and admins' acts are recorded.
    world.ledger.frame(running.frames[0].clone()).await.unwrap();
    world.ledger.append(running.outcome.clone()).await.unwrap();
    world.ledger.append(whole::agent("still")).await.unwrap();
    assert_eq!(
        world.events("budget_exhausted")[0]["detail"]["limit"],
        "no_operations"
    );
    let gap = |world: &World| {
        let conn = rusqlite::Connection::open(world.dir.path().join("ledger.db")).unwrap();
        let sql =
            "SELECT json_object('detail', json(detail), 'event', event) FROM agent_events WHERE kind = 'gap'";
        let mut rows = conn.prepare(sql).unwrap();
        let found = rows.query_map([], |r| r.get::<_, String>(0)).unwrap();
        found
            .map(|text| serde_json::from_str(&text.unwrap()).unwrap())
            .collect::<Vec<Value>>()
    };
    assert!(gap(&world).is_empty(), "one gap, at the end of it");
    // Even a process that is killed now tells at its next start.
    let state = std::fs::read_to_string(world.dir.path().join("ledger.state")).unwrap();
    look(&world, &config, used(97 << 20)).await;
    let kept = std::fs::read_to_string(world.dir.path().join("ledger.state")).unwrap();
    assert!(
        !state.contains("\"operations\":5") && kept.contains("\"operations\":5"),
        "{kept}"
    );
    look(&world, &config, used(10 << 20)).await;
    let gaps = gap(&world);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["detail"]["operations"], 5);
    assert_eq!(gaps[0]["event"], "ledger_unavailable");
    assert!(gaps[0]["detail"]["why"].as_str().unwrap().contains("room"));
    world
        .ledger
        .append(told("bot-a", "s", whole::NOW, &[]).operation)
        .await
        .unwrap();
    world.verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_reserve_is_used_up_only_what_tells_is_recorded() {
    let world = World::new(limited(AtLimit::NoPayloads));
    let config = limited(AtLimit::NoPayloads);
    let at = look(&world, &config, used(99 << 20)).await;
    assert_eq!((at.level, at.limit), (Level::Full, Limit::Nothing));
    world
        .ledger
        .append(whole::session("bot-a", "s", "open"))
        .await
        .unwrap_err();
    world.ledger.enqueue_now(whole::session("bot-a", "s", "close"));
    let frame = told("bot-a", "s", whole::NOW, &[(Direction::Up, b"x".to_vec())]);
    let mut digest = FrameDigest::new();
    let bytes = frame.frames[0].bytes.clone();
    let taken = world
        .ledger
        .frame_next(&mut digest, frame.id, Direction::Up, bytes)
        .await;
    taken.unwrap_err();
    world.ledger.append(whole::agent("stopped")).await.unwrap();
    look(&world, &config, used(1 << 20)).await;
    let gaps = "SELECT detail FROM agent_events WHERE kind = 'gap'";
    let conn = rusqlite::Connection::open(world.dir.path().join("ledger.db")).unwrap();
    let detail: String = conn.query_row(gaps, [], |r| r.get(0)).unwrap();
    let detail: Value = serde_json::from_str(&detail).unwrap();
    assert_eq!(
        (&detail["entries"], &detail["refused"], &detail["payloads_up"]),
        (&1.into(), &1.into(), &1.into())
    );
    world.verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_go_on_without_payload_where_that_is_configured() {
    let world = World::new(limited(AtLimit::NoPayloads));
    let config = limited(AtLimit::NoPayloads);
    look(&world, &config, used(96 << 20)).await;
    let one = told(
        "bot-a",
        "s",
        whole::NOW,
        &[(Direction::Down, b"not kept".to_vec())],
    );
    world.ledger.append(one.operation.clone()).await.unwrap();
    let mut digest = FrameDigest::new();
    let bytes = one.frames[0].bytes.clone();
    assert!(
        !world
            .ledger
            .frame_next(&mut digest, one.id, Direction::Down, bytes.clone())
            .await
            .unwrap()
    );
    assert!(
        !world
            .ledger
            .frame_now(&mut digest, one.id, Direction::Down, bytes)
    );
    assert_eq!(digest.frames(), 0);
    world.ledger.payload_dropped(Direction::Down, 100);
    look(&world, &config, used(1 << 20)).await;
    let conn = rusqlite::Connection::open(world.dir.path().join("ledger.db")).unwrap();
    let gaps = "SELECT detail FROM agent_events WHERE kind = 'gap'";
    let detail: String = conn.query_row(gaps, [], |r| r.get(0)).unwrap();
    let detail: Value = serde_json::from_str(&detail).unwrap();
    assert_eq!(
        (&detail["payloads_down"], &detail["payload_bytes"]),
        (&2.into(), &116.into())
    );
    assert_eq!(detail["operations"], 0);
    world.verify().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_payload_goes_early_where_that_is_configured() {
    let world = World::new(limited(AtLimit::PurgePayloads));
    let config = limited(AtLimit::PurgePayloads);
    world.three().await;
    let scope = HoldScope {
        workload: Some("bot-b".into()),
        ..HoldScope::default()
    };
    world.retention.hold(scope, "case", by()).await.unwrap();
    for n in 0..3u64 {
        let at = look(&world, &config, used(96 << 20)).await;
        assert_eq!(at.limit, Limit::None, "operations go on");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while world.events("payload_purged").len() as u64 <= n {
            assert!(std::time::Instant::now() < until, "nothing is purged");
            tokio::task::yield_now().await;
        }
        // The next look may start the next one.
        let _idle = world.retention.0.working.lock().await;
    }
    let purged = world.events("payload_purged");
    let order: Vec<_> = purged
        .iter()
        .map(|e| e["detail"]["segment"].as_u64().unwrap())
        .collect();
    assert_eq!(order, [0, 1, 2]);
    assert!(
        purged
            .iter()
            .all(|e| e["detail"]["cause"].as_str().unwrap().contains("disk_budget"))
    );
    assert_eq!(world.verify().unwrap().purged_frames, 6, "what is held stays");
    // Nothing is left that may go: then operations stop.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while look(&world, &config, used(96 << 20)).await.limit != Limit::NoOperations {
        assert!(std::time::Instant::now() < until, "it goes on without room");
        tokio::task::yield_now().await;
    }
    let told = world.events("budget_exhausted");
    assert_eq!(told.last().unwrap()["detail"]["limit"], "no_operations");
    assert!(world.is_tidy());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_is_measured_and_forecast() {
    let world = World::new(limited(AtLimit::Stop));
    world.three().await;
    let budget = world.retention.watch().await.unwrap();
    let on_disk: u64 = walkdir::WalkDir::new(world.dir.path())
        .into_iter()
        .map(Result::unwrap)
        .filter(|f| f.file_type().is_file())
        .filter(|f| {
            f.file_name()
                .to_str()
                .is_some_and(|n| n.ends_with(".db") || n.ends_with(".db-wal"))
        })
        .map(|f| f.metadata().unwrap().len())
        .sum();
    assert!(
        budget.used_bytes.abs_diff(on_disk) < 1 << 20,
        "{budget:?} {on_disk}"
    );
    assert_eq!(
        (budget.level, budget.growth_per_day),
        (Level::Fine, None),
        "too young to tell"
    );
    // The same bytes in two days.
    world.later(2);
    let budget = world.retention.watch().await.unwrap();
    let a_day = budget.growth_per_day.unwrap();
    assert!(
        a_day.abs_diff(budget.used_bytes / 2) <= 1 + budget.used_bytes / 1000,
        "{budget:?}"
    );
    assert_eq!(
        budget.days_left,
        Some((95 * (1 << 20) - budget.used_bytes) / a_day)
    );
    assert!(budget.free_bytes > 0);
}
