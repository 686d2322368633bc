//! All sinks together, with directories for receivers.

use std::{fs, path::Path, time::Instant};

use serde_json::json;

use super::*;
use crate::{
    clock::Clock,
    config::{self, Durability},
    credential::Credentials,
    ledger::{self, Options},
    model::EntryKind,
};

fn sinks(dir: &Path, names: &[(&str, &str)]) -> Vec<Ship> {
    let one = |(name, keys): &(&str, &str)| {
        let path = dir.join("to").join(name);
        format!(
            "[[ship]]\nname = \"{name}\"\nkind = \"directory\"\npath = \"{}\"\nrequired = true\n{keys}\n",
            path.display()
        )
    };
    let text: String = names.iter().map(one).collect();
    config::parse("test".as_ref(), &text).unwrap().ship
}

fn start(dir: &Path, ledger: &Ledger, ships: &[Ship]) -> Shipping {
    let context = Context {
        host: "h".into(),
        credentials: Credentials::default(),
        clock: Clock::System,
    };
    let times = Times {
        poll: Duration::from_millis(5),
        retry: Duration::from_millis(5),
        save: Duration::ZERO,
        gap: Duration::ZERO,
    };
    Shipping::start_with(dir, ledger, context, ships, times).unwrap()
}

async fn seal(ledger: &Ledger) {
    let entry = ledger::entry(
        EntryKind::Agent,
        Clock::System.now_ns(),
        json!({ "event": "test" }),
    );
    ledger.append(entry).await.unwrap();
    ledger.seal().await.unwrap().unwrap();
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited for {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_come_go_and_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), Options::new("h", Durability::Process)).unwrap();
    for name in ["a", "b"] {
        fs::create_dir_all(dir.path().join("to").join(name)).unwrap();
    }
    let shipping = start(dir.path(), &ledger, &[]);
    assert!(shipping.status().is_empty() && shipping.held_back() == HeldBack::default());
    assert!(
        shipping
            .retry("a")
            .unwrap_err()
            .to_string()
            .contains("there is: none")
    );
    seal(&ledger).await;
    shipping
        .reload(&sinks(dir.path(), &[("a", ""), ("b", "")]))
        .await
        .unwrap();
    until("both", || shipping.held_back().segment == Some(1)).await;
    // One goes, and one changes and goes on from where it was.
    shipping
        .reload(&sinks(dir.path(), &[("b", "timeout = \"2s\"")]))
        .await
        .unwrap();
    seal(&ledger).await;
    until("the second", || shipping.held_back().segment == Some(2)).await;
    let count = |name: &str| {
        let there = fs::read_dir(dir.path().join("to").join(name).join("h")).unwrap();
        there.count()
    };
    assert_eq!((count("a"), count("b")), (2, 4));
    let status = shipping.status();
    assert_eq!((status.len(), &*status[0].name, status[0].taken), (1, "b", 2));
    assert!(
        shipping
            .requeue("a")
            .unwrap_err()
            .to_string()
            .contains("there is: b")
    );
    // One whose receiver is away holds back what it did not take.
    shipping
        .reload(&sinks(dir.path(), &[("b", "timeout = \"2s\""), ("c", "")]))
        .await
        .unwrap();
    until("the failure", || shipping.status()[1].error.is_some()).await;
    assert_eq!(shipping.held_back().segment, Some(0));
    let status = shipping.status().remove(1);
    assert_eq!(
        (
            &*status.state,
            &*status.error.as_ref().unwrap().class,
            status.waiting
        ),
        ("failing", "missing", 2)
    );
    assert!(status.waiting_bytes > 0);
    let text = super::super::metrics(&shipping.status());
    assert!(
        text.contains("portcullis_ship_taken_total{sink=\"b\",kind=\"directory\",unit=\"segments\"} 2\n")
            && text.contains("portcullis_ship_failing{sink=\"c\",kind=\"directory\",unit=\"segments\"} 1\n"),
        "{text}"
    );
    shipping.close().await;
    assert!(shipping.status().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rejected_is_held_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), Options::new("h", Durability::Process)).unwrap();
    seal(&ledger).await;
    // A directory of the segment's name: nothing that it could be replaced by.
    let segment = crate::ship::Segment::open(
        &ledger::segment_path(dir.path(), 0),
        0,
        "h",
        crate::ship::Pace::default(),
    )
    .unwrap();
    let taken = dir.path().join("to/a").join(&segment.name);
    fs::create_dir_all(&taken).unwrap();
    let shipping = start(dir.path(), &ledger, &sinks(dir.path(), &[("a", "")]));
    until("the dead letter", || shipping.status()[0].dead_letters == 1).await;
    until("the position", || shipping.status()[0].next == 1).await;
    assert_eq!(shipping.held_back().segment, Some(0));
    assert_eq!(shipping.dead_letters("a", 9).unwrap()[0].id, segment.name);
    fs::remove_dir(&taken).unwrap();
    shipping.requeue("a").unwrap();
    until("it", || shipping.held_back().segment == Some(1)).await;
    shipping.close().await;
}
