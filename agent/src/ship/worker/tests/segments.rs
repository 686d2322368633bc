//! Sinks of segments, above all of directories.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde_json::json;

use super::rig::{Rig, lock, options, ship, until};
use crate::{
    clock::Clock,
    config::Ship,
    ledger::{self, Ledger, segment_path, segments_dir},
    model::EntryKind,
    ship::{Class, Receipt, Segment, SegmentSink, ShipError, build, build::Sink, dead, state},
};

/// A ledger's file in the place of a segment.
async fn seal(rig: &Rig, number: u64, entries: u64) -> PathBuf {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), options()).unwrap();
    for n in 0..entries {
        let body = json!({ "event": "test", "detail": { "n": n, "of": number } });
        let entry = ledger::entry(EntryKind::Agent, Clock::System.now_ns(), body);
        ledger.append(entry).await.unwrap();
    }
    ledger.close();
    let path = segment_path(rig.dir.path(), number);
    fs::create_dir_all(segments_dir(rig.dir.path())).unwrap();
    fs::copy(dir.path().join("ledger.db"), &path).unwrap();
    path
}

/// The live one has the number after the segments.
fn renumber(rig: &Rig, number: u64) {
    let _ = fs::remove_file(rig.dir.path().join("ledger-0000000000.db"));
    let live = rig.dir.path().join(format!("ledger-{number:010}.db"));
    std::os::unix::fs::symlink("ledger.db", live).unwrap();
}

fn directory(path: &Path, keys: &str) -> Ship {
    ship(&format!(
        "[[ship]]\nname = \"d\"\nkind = \"directory\"\npath = \"{}\"\n{keys}\n",
        path.display()
    ))
}

fn named(to: &Path, number: u64) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(to.join("h")) else {
        return Vec::new();
    };
    let mut found: Vec<_> = found.map(|f| f.unwrap().path()).collect();
    let start = format!("segment-{number:010}-");
    found.retain(|p| p.file_name().unwrap().to_string_lossy().starts_with(&start));
    found.sort();
    found
}

#[tokio::test]
async fn segments_are_copied_whole_with_their_hash_beside() {
    let rig = Rig::new();
    let (first, second) = (seal(&rig, 0, 5).await, seal(&rig, 1, 3).await);
    renumber(&rig, 2);
    let to = tempfile::tempdir().unwrap();
    let running = rig.start_with(
        &directory(to.path(), "mode = \"0440\"\nmax_rate = \"20 MB/s\""),
        build::sink,
    );
    until("both records", || rig.said("shipped").len() == 2).await;
    for (number, from) in [(0, first), (1, second)] {
        let [copy, sum] = named(to.path(), number).try_into().unwrap();
        assert_eq!(fs::read(&copy).unwrap(), fs::read(&from).unwrap());
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o440);
        let said = &rig.said("shipped")[usize::try_from(number).unwrap()];
        let name = copy.file_name().unwrap().to_string_lossy();
        let line = format!("{}  {name}\n", said["sha256"].as_str().unwrap());
        assert_eq!(fs::read_to_string(sum).unwrap(), line);
        assert_eq!(said["receipt"]["place"], copy.display().to_string());
        assert_eq!(said["segment"], number);
    }
    running.stop().await;
    // A copy that is there is not made again; one that is cut off is.
    fs::remove_file(rig.dir.path().join("ship/d.state")).unwrap();
    let part = to.path().join("h/.segment.part");
    fs::write(&part, "x").unwrap();
    let running = rig.start_with(&directory(to.path(), ""), build::sink);
    until("both again", || rig.said("shipped").len() == 4).await;
    assert!(
        rig.said("shipped")[2..]
            .iter()
            .all(|d| d["receipt"]["detail"]["was_there"] == true)
    );
    running.stop().await;
}

#[tokio::test]
async fn other_content_under_the_name_is_told_and_not_replaced() {
    let rig = Rig::new();
    seal(&rig, 0, 5).await;
    seal(&rig, 1, 5).await;
    renumber(&rig, 2);
    let to = tempfile::tempdir().unwrap();
    let path = segment_path(rig.dir.path(), 0);
    let segment = Segment::open(&path, 0, "h", crate::ship::Pace::default()).unwrap();
    fs::create_dir(to.path().join("h")).unwrap();
    let taken = to.path().join(&segment.name);
    fs::write(&taken, "something else").unwrap();
    let running = rig.start_with(&directory(to.path(), ""), build::sink);
    until("the other", || rig.said("shipped").len() == 1).await;
    let said = rig.said("ship_rejected");
    assert_eq!(
        (&said[0]["classes"]["conflict"], &said[0]["from"]),
        (&1.into(), &0.into())
    );
    assert_eq!(fs::read(&taken).unwrap(), b"something else");
    let letters = dead::list(&state::dead_directory(rig.dir.path(), "d"), 10).unwrap();
    assert_eq!(
        (letters.len(), letters[0].class, &letters[0].id),
        (1, Class::Conflict, &segment.name)
    );
    // Mended, an admin has it sent again.
    fs::remove_file(&taken).unwrap();
    running.shared.send_again();
    until("the first", || rig.said("shipped").len() == 2).await;
    assert_eq!(rig.said("shipped")[1]["segment"], 0);
    running.stop().await;
    assert_eq!(rig.state("d").unwrap().next, 2);
}

#[tokio::test]
async fn a_share_that_is_not_mounted_is_waited_for() {
    let rig = Rig::new();
    seal(&rig, 0, 2).await;
    renumber(&rig, 1);
    let to = tempfile::tempdir().unwrap();
    let path = to.path().join("mnt");
    let running = rig.start_with(&directory(&path, "retry_max = \"1s\""), build::sink);
    until("the record", || rig.said("ship_failing").len() == 1).await;
    assert_eq!(rig.said("ship_failing")[0]["class"], "missing");
    assert!(!path.exists());
    fs::create_dir(&path).unwrap();
    running.shared.retry();
    until("it", || rig.said("shipped").len() == 1).await;
    until("its end", || rig.said("ship_recovered").len() == 1).await;
    running.stop().await;
}

#[tokio::test]
async fn segments_that_are_gone_are_a_loss_on_record() {
    let rig = Rig::new();
    seal(&rig, 2, 2).await;
    renumber(&rig, 3);
    let to = tempfile::tempdir().unwrap();
    let running = rig.start_with(&directory(to.path(), ""), build::sink);
    until("the one that is there", || rig.said("shipped").len() == 1).await;
    let said = rig.said("ship_rejected");
    assert_eq!(
        (&said[0]["count"], &said[0]["from"], &said[0]["to"]),
        (&2.into(), &0.into(), &1.into())
    );
    running.stop().await;
    assert_eq!(rig.state("d").unwrap().next, 3);
}

/// Reads a little, and then hangs for ever, the first time.
#[derive(Default)]
struct Stuck {
    tries: Mutex<u64>,
}

impl SegmentSink for Stuck {
    fn put<'a>(&'a self, segment: &'a Segment) -> BoxFuture<'a, Result<Receipt, ShipError>> {
        Box::pin(async move {
            let first = {
                let mut tries = lock(&self.tries);
                *tries += 1;
                *tries == 1
            };
            segment.read(0, 1000).await?;
            if first {
                std::future::pending::<()>().await;
            }
            Ok(Receipt::default())
        })
    }
}

#[tokio::test]
async fn a_try_without_progress_is_ended() {
    let rig = Rig::new();
    seal(&rig, 0, 2).await;
    renumber(&rig, 1);
    let to = tempfile::tempdir().unwrap();
    let stuck = Arc::new(Stuck::default());
    let sink = Arc::clone(&stuck);
    let running = rig.start_with(&directory(to.path(), "timeout = \"1s\""), move |_, _| {
        Ok(Sink::Segments(Arc::clone(&sink) as Arc<dyn SegmentSink>))
    });
    until("the second try", || rig.said("shipped").len() == 1).await;
    assert_eq!(rig.said("ship_failing")[0]["class"], "timeout");
    running.stop().await;
    assert_eq!(*lock(&stuck.tries), 2);
}

#[tokio::test]
async fn a_slow_pace_is_no_stall() {
    let rig = Rig::new();
    let path = seal(&rig, 0, 2).await;
    renumber(&rig, 1);
    let to = tempfile::tempdir().unwrap();
    // The second piece waits for longer than the time without progress.
    let bytes = fs::metadata(&path).unwrap().len().min(256 << 10);
    let keys = format!("timeout = \"1s\"\nmax_rate = \"{} B/s\"", bytes / 2);
    let mut rig = rig;
    rig.times.poll = Duration::from_millis(1);
    let running = rig.start_with(&directory(to.path(), &keys), build::sink);
    until("it", || rig.said("shipped").len() == 1).await;
    running.stop().await;
    assert!(rig.said("ship_failing").is_empty());
}
