use uuid::Uuid;

use super::*;
use crate::{
    ledger::replay::{Replay, What},
    model::SessionId,
};

/// An id of the time that the entries have.
fn id() -> String {
    let time = uuid::Timestamp::from_unix(uuid::NoContext, NOW as u64 / 1_000_000_000, 0);
    Uuid::new_v7(time).to_string()
}

/// The steps as words, with the milliseconds since `NOW`.
fn steps(path: &std::path::Path, id: &str) -> Vec<(i64, bool, String)> {
    let mut replay = Replay::open(path, SessionId(Uuid::parse_str(id).unwrap())).unwrap();
    let mut steps = Vec::new();
    while let Some(step) = replay.next_step().unwrap() {
        let what = match step.what {
            What::Entry { body, .. } => {
                let word = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
                format!("{} {}", word("kind"), word("event"))
                    .trim_end()
                    .to_owned()
            }
            What::Frame { direction, bytes, .. } => {
                let bytes =
                    bytes.map_or_else(|| "purged".into(), |b| String::from_utf8_lossy(&b).into_owned());
                format!("{direction:?} {bytes}")
            }
        };
        steps.push(((step.at_ns - NOW) / 1_000_000, step.recorded, what));
    }
    steps
}

fn at(entry: &Entry, ms: i64) -> Entry {
    let body = entry.body.replace(
        &Rfc3339(NOW).to_string(),
        &Rfc3339(NOW + ms * 1_000_000).to_string(),
    );
    Entry {
        body,
        ..entry.clone()
    }
}

#[tokio::test]
async fn a_session_is_read_back_in_its_order_over_parts() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    // Another session before, between and after, with payload of its own.
    sample(&ledger).await;
    let id = id();
    ledger.append(session("bot-c", &id, "open")).await.unwrap();
    let payload = [
        (Direction::Up, b"GET /a".to_vec()),
        (Direction::Down, b"one".to_vec()),
        (Direction::Down, b"two".to_vec()),
    ];
    let mut told = told("bot-c", &id, NOW + 10_000_000, &payload);
    told.outcome = at(
        &entry(
            EntryKind::Outcome,
            NOW,
            serde_json::from_str(&told.outcome.body).unwrap(),
        ),
        50,
    );
    ledger.append(told.operation.clone()).await.unwrap();
    ledger.frame(told.frames[0].clone()).await.unwrap();
    sample(&ledger).await;
    ledger.seal().await.unwrap();
    ledger.frame(told.frames[1].clone()).await.unwrap();
    ledger.frame(told.frames[2].clone()).await.unwrap();
    ledger.append(told.outcome.clone()).await.unwrap();
    ledger
        .append(at(&session("bot-c", &id, "close"), 60))
        .await
        .unwrap();
    sample(&ledger).await;
    ledger.close();
    let expected = [
        (0, true, "session open"),
        (10, true, "operation"),
        (10, false, "Up GET /a"),
        (0, false, "Down one"),
        (0, false, "Down two"),
        (50, true, "outcome"),
        (60, true, "session close"),
    ];
    let found = steps(dir.path(), &id);
    let words = |all: &[(i64, bool, String)]| all.iter().map(|s| s.2.clone()).collect::<Vec<_>>();
    assert_eq!(words(&found), expected.map(|e| e.2));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.1, expected.1, "{found:?}");
        // Payload is put between what is around it, and never before the step before it.
        assert!(
            if found.1 {
                found.0 == expected.0
            } else {
                found.0 >= 10
            },
            "{found:?}"
        );
    }
    assert!(found.windows(2).filter(|w| !w[1].1).all(|w| w[0].0 <= w[1].0));
    // The same from an export, of all and of the session alone.
    for options in [
        ExportOptions::default(),
        ExportOptions {
            session: Some(id.clone()),
            ..ExportOptions::default()
        },
    ] {
        let out = dir.path().join(format!("{}.db", options.session.is_some()));
        export(dir.path(), &out, &options, &mut |_| {}).unwrap();
        assert_eq!(words(&steps(&out, &id)), words(&found));
    }
    // A segment has what happened while it was written.
    let first = steps(&segment_path(dir.path(), 0), &id);
    assert_eq!(words(&first), words(&found)[..3]);
    let none = Replay::open(dir.path(), SessionId::new()).unwrap().next_step();
    assert!(matches!(none, Err(LedgerError::NotFound { .. })));
}

#[tokio::test]
async fn what_the_agent_did_not_see_end_ends_with_it() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    let id = id();
    ledger.append(session("bot-c", &id, "open")).await.unwrap();
    let running = told("bot-c", &id, NOW, &[(Direction::Up, b"GET /a".to_vec())]);
    ledger.append(running.operation.clone()).await.unwrap();
    ledger.frame(running.frames[0].clone()).await.unwrap();
    ledger.append(agent("started")).await.unwrap();
    // Whoever would write this is not the agent that had the connection.
    ledger.append(session("bot-c", &id, "close")).await.unwrap();
    ledger.close();
    let words: Vec<_> = steps(dir.path(), &id).into_iter().map(|s| s.2).collect();
    assert_eq!(words, ["session open", "operation", "Up GET /a"]);
}
