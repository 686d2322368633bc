//! Sinks of events.

use std::time::Duration;

use super::rig::{Rig, Script, Word, events, lock, until};
use crate::{
    ledger::Ledger,
    ship::{Class, dead, state},
};

fn script(words: impl IntoIterator<Item = Word>) -> Script {
    let script = Script::default();
    lock(&script.words).extend(words);
    script
}

fn took(script: &Script) -> Vec<u64> {
    lock(&script.took).clone()
}

#[tokio::test]
async fn everything_in_its_order_and_one_record_of_it() {
    let rig = Rig::new();
    rig.append(30).await;
    let script = script([]);
    let running = rig.start(&events("s", "batch_events = 7"), &script);
    // The record of shipping is shipped as well, and is not recorded in its turn.
    until("all and the record", || took(&script).len() == 31).await;
    until("the position", || rig.state("s").is_some_and(|s| s.next == 31)).await;
    assert_eq!(took(&script), (0..31).collect::<Vec<_>>());
    let said = rig.said("shipped");
    assert_eq!(said.len(), 1);
    assert_eq!((&said[0]["sink"], &said[0]["from"]), (&"s".into(), &0.into()));
    assert_eq!(said[0]["receipt"]["detail"]["ratio"], "0.5");
    running.stop().await;
    // What was not told before is told at the end: a record is queued, and written soon after.
    let told = || -> u64 {
        let said = rig.said("shipped");
        said.iter().map(|d| d["count"].as_u64().unwrap()).sum()
    };
    until("the rest of the record", || told() == 31).await;
    assert_eq!(rig.said("shipped").len(), 2);
}

#[tokio::test]
async fn two_sinks_do_not_keep_each_other_busy() {
    let rig = Rig::new();
    rig.append(3).await;
    let scripts = [script([]), script([])];
    let a = rig.start(&events("a", ""), &scripts[0]);
    let b = rig.start(&events("b", ""), &scripts[1]);
    until("both", || scripts.iter().all(|s| took(s).len() == 5)).await;
    a.stop().await;
    b.stop().await;
    // Whatever they still had to say is behind this.
    rig.append(1).await;
    assert_eq!(rig.said("shipped").len(), 2);
}

#[tokio::test]
async fn a_failure_and_its_end_are_told_once() {
    let rig = Rig::new();
    rig.append(3).await;
    let script = script([Word::Fail, Word::Fail, Word::Fail, Word::Fail, Word::Fail]);
    let running = rig.start(&events("s", "retry_max = \"1s\""), &script);
    until("all", || took(&script).len() >= 3).await;
    until("the end", || rig.said("ship_recovered").len() == 1).await;
    let failing = rig.said("ship_failing");
    assert_eq!(failing.len(), 1);
    assert_eq!(
        (&failing[0]["class"], &failing[0]["why"]),
        (&"unreachable".into(), &"nobody listens".into())
    );
    assert_eq!(rig.said("ship_recovered")[0]["tries"], 5);
    // Files that it read may have changed: it was made again for the later tries.
    assert!(*lock(&script.made) >= 3, "{}", lock(&script.made));
    running.stop().await;
    assert_eq!(took(&script)[..3], [0, 1, 2]);
}

#[tokio::test]
async fn no_answer_is_a_failure() {
    let rig = Rig::new();
    rig.append(2).await;
    let script = script([Word::Hang]);
    let running = rig.start(&events("s", "timeout = \"1s\""), &script);
    until("all", || took(&script).len() >= 2).await;
    until("the record", || rig.said("ship_failing").len() == 1).await;
    assert_eq!(rig.said("ship_failing")[0]["class"], "timeout");
    running.stop().await;
}

#[tokio::test]
async fn what_was_not_taken_is_sent_again() {
    let rig = Rig::new();
    rig.append(10).await;
    let script = script([Word::Take(4), Word::Take(0), Word::Take(1), Word::Fail]);
    let running = rig.start(&events("s", ""), &script);
    until("all", || took(&script).len() >= 10).await;
    running.stop().await;
    assert_eq!(took(&script)[..10], (0..10).collect::<Vec<_>>());
    assert_eq!(rig.said("ship_failing")[0]["class"], "broken");
}

#[tokio::test]
async fn one_bad_event_does_not_take_others_with_it() {
    let rig = Rig::new();
    rig.append(20).await;
    let script = script([]);
    lock(&script.poison).extend([3, 11]);
    *lock(&script.most) = Some(8);
    let running = rig.start(&events("s", ""), &script);
    until("the rest", || took(&script).len() >= 18).await;
    until("the record", || {
        let said = rig.said("ship_rejected");
        said.iter().map(|d| d["count"].as_u64().unwrap()).sum::<u64>() == 2
    })
    .await;
    assert!(!took(&script).contains(&3) && !took(&script).contains(&11));
    assert!(rig.said("ship_failing").is_empty());
    let letters = dead::list(&state::dead_directory(rig.dir.path(), "s"), 10).unwrap();
    assert_eq!(letters.iter().map(|l| l.place).collect::<Vec<_>>(), [3, 11]);
    assert_eq!((letters[0].class, &*letters[0].kind), (Class::Invalid, "agent"));
    assert_eq!(running.shared.health().dead, 2);
    // Mended, an admin has them sent again.
    lock(&script.poison).clear();
    running.shared.send_again();
    until("the others", || {
        took(&script).contains(&3) && took(&script).contains(&11)
    })
    .await;
    until("none left", || running.shared.health().dead == 0).await;
    running.stop().await;
    assert!(
        !state::dead_directory(rig.dir.path(), "s")
            .join("again.jsonl")
            .exists()
    );
}

#[tokio::test]
async fn rejects_of_a_receiver_are_counted_and_bounded() {
    let rig = Rig::new();
    rig.append(4).await;
    let script = script([Word::Reject(2)]);
    let running = rig.start(&events("s", ""), &script);
    until("the record", || rig.said("ship_rejected").len() == 1).await;
    let said = rig.said("ship_rejected");
    assert_eq!(
        (&said[0]["count"], &said[0]["classes"]["invalid"]),
        (&1.into(), &1.into())
    );
    assert_eq!((&said[0]["from"], &said[0]["to"]), (&2.into(), &2.into()));
    running.stop().await;
    let state = rig.state("s").unwrap();
    assert_eq!(state.rejected_count(), 1);
    assert!(state.next >= 4);
}

#[tokio::test]
async fn a_record_of_rejects_that_is_rejected_leads_to_no_other() {
    let rig = Rig::new();
    rig.append(1).await;
    let script = script([]);
    lock(&script.poison).extend(0..1000);
    let running = rig.start(&events("s", ""), &script);
    until("the record's own end", || {
        rig.state("s").is_some_and(|s| s.rejected_count() == 2)
    })
    .await;
    until("the position", || rig.state("s").is_some_and(|s| s.next == 2)).await;
    running.stop().await;
    rig.append(1).await;
    assert_eq!((rig.said("ship_rejected").len(), rig.ledger.size().0), (1, 3));
}

#[tokio::test]
async fn killed_between_sending_and_keeping_the_position() {
    let mut rig = Rig::new();
    rig.times.save = Duration::from_secs(3600);
    rig.append(10).await;
    let script = script([]);
    let running = rig.start(&events("s", "batch_events = 4\nkinds = [\"agent\"]"), &script);
    until("all", || took(&script).len() == 10).await;
    running.kill().await;
    let kept = rig.state("s").unwrap().next;
    let running = rig.start(&events("s", "batch_events = 4\nkinds = [\"agent\"]"), &script);
    rig.append(2).await;
    let all = |s: &Script| took(s).into_iter().max().is_some_and(|last| last >= 11);
    until("the new ones", || all(&script)).await;
    running.stop().await;
    let again = took(&script)[10..].to_vec();
    // From exactly the kept position on, in their order, none left out.
    assert_eq!(again[0], kept.min(10));
    assert!(again.windows(2).all(|w| w[0] < w[1]), "{again:?}");
    let mut places = took(&script);
    places.sort_unstable();
    places.dedup();
    assert!((0..10).all(|n| places.contains(&n)));
}

#[tokio::test]
async fn only_the_kinds_asked_for() {
    let rig = Rig::new();
    rig.append(5).await;
    let script = script([]);
    let running = rig.start(&events("s", "kinds = [\"operation\"]"), &script);
    until("the position", || rig.state("s").is_some_and(|s| s.next == 5)).await;
    running.stop().await;
    assert!(took(&script).is_empty() && rig.said("shipped").is_empty());
}

#[tokio::test]
async fn from_now_on() {
    let rig = Rig::new();
    rig.append(5).await;
    let ship = events("s", "from = \"now\"");
    let first = script([Word::Fail; 3]);
    let running = rig.start(&ship, &first);
    until("the position", || rig.state("s").is_some()).await;
    running.stop().await;
    rig.append(2).await;
    let script = script([]);
    let running = rig.start(&ship, &script);
    until("what came", || took(&script).len() >= 2).await;
    running.stop().await;
    assert_eq!(took(&script)[..2], [5, 6]);
}

#[tokio::test]
async fn a_ledger_that_was_put_back_is_told() {
    let rig = Rig::new();
    rig.append(5).await;
    let script = script([]);
    let running = rig.start(&events("s", ""), &script);
    until("all", || took(&script).len() == 6).await;
    running.stop().await;
    let other = Rig::new();
    std::fs::create_dir(other.dir.path().join("ship")).unwrap();
    let (from, to) = (rig.dir.path(), other.dir.path());
    std::fs::copy(from.join("ship/s.state"), to.join("ship/s.state")).unwrap();
    lock(&script.took).clear();
    let running = other.start(&events("s", ""), &script);
    until("the record", || other.said("ship_failing").len() == 1).await;
    until("what is new there", || took(&script).contains(&0)).await;
    running.stop().await;
    assert_eq!(other.said("ship_failing")[0]["class"], "rolled_back");
}

#[tokio::test]
async fn purged_entries_are_a_loss_on_record() {
    let rig = Rig::new();
    rig.append(8).await;
    let script = script([Word::Fail; 2]);
    // They go while the sink is away: two without a trace, one without its body.
    let conn = rusqlite::Connection::open(rig.dir.path().join("ledger.db")).unwrap();
    conn.execute_batch("DELETE FROM entry WHERE seq IN (0, 1); UPDATE entry SET body = NULL WHERE seq = 4;")
        .unwrap();
    drop(conn);
    let running = rig.start(&events("s", ""), &script);
    until("the rest", || took(&script).len() >= 5).await;
    running.stop().await;
    assert_eq!(took(&script)[..5], [2, 3, 5, 6, 7]);
    let said = rig.said("ship_rejected");
    assert_eq!((said.len(), &said[0]["classes"]["purged"]), (1, &3.into()));
    assert_eq!((&said[0]["from"], &said[0]["to"]), (&0.into(), &4.into()));
    assert_eq!(rig.state("s").unwrap().purged, 3);
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_keeps_records_waiting() {
    let rig = Rig::new();
    rig.append(3).await;
    let ledger: Ledger = rig.ledger.clone();
    ledger.close();
    let script = script([]);
    // A closed ledger still can be read.
    let running = rig.start(&events("s", ""), &script);
    until("all", || took(&script).len() == 3).await;
    running.stop().await;
    assert!(rig.said("shipped").is_empty());
    assert_eq!(rig.state("s").unwrap().next, 3);
}
