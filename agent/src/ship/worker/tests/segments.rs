//! Sinks of segments, above all of directories.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::rig::{Rig, lock, ship, until};
use crate::{
    config::Ship,
    ledger::segment_path,
    ship::{Class, Receipt, Segment, SegmentSink, ShipError, build, build::Sink, dead, state},
};
use futures_util::future::BoxFuture;

/// Seals some entries into the next segment.
async fn seal(rig: &Rig, entries: u64) -> PathBuf {
    rig.append(entries).await;
    let sealed = rig.ledger.seal().await.unwrap().unwrap();
    segment_path(rig.dir.path(), sealed.number)
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

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_copied_whole_with_their_hash_beside() {
    let rig = Rig::new();
    let (first, second) = (seal(&rig, 5).await, seal(&rig, 3).await);
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

#[tokio::test(flavor = "multi_thread")]
async fn other_content_under_the_name_is_told_and_not_replaced() {
    let rig = Rig::new();
    seal(&rig, 5).await;
    seal(&rig, 5).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_is_not_mounted_is_waited_for() {
    let rig = Rig::new();
    seal(&rig, 2).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_are_gone_are_a_loss_on_record() {
    let rig = Rig::new();
    for number in 0..3 {
        seal(&rig, 2).await;
        if number < 2 {
            fs::remove_file(segment_path(rig.dir.path(), number)).unwrap();
        }
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_try_without_progress_is_ended() {
    let rig = Rig::new();
    seal(&rig, 2).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_pace_is_no_stall() {
    let rig = Rig::new();
    let path = seal(&rig, 2).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_put_back_is_told_and_shipped_from_its_beginning() {
    let rig = Rig::new();
    seal(&rig, 2).await;
    seal(&rig, 2).await;
    let to = tempfile::tempdir().unwrap();
    let running = rig.start_with(&directory(to.path(), ""), build::sink);
    until("both", || rig.said("shipped").len() == 2).await;
    running.stop().await;
    let other = Rig::new();
    fs::create_dir(other.dir.path().join("ship")).unwrap();
    let state = fs::read_to_string(rig.dir.path().join("ship/d.state")).unwrap();
    fs::write(other.dir.path().join("ship/d.state"), state).unwrap();
    let running = other.start_with(&directory(to.path(), ""), build::sink);
    until("the record", || other.said("ship_failing").len() == 1).await;
    assert_eq!(other.said("ship_failing")[0]["class"], "rolled_back");
    seal(&other, 2).await;
    until("its own", || other.said("shipped").len() == 1).await;
    assert_eq!(other.said("shipped")[0]["segment"], 0);
    running.stop().await;
    assert_eq!(named(to.path(), 0).len(), 4);
}
