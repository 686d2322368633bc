//! Segments: sealing, going on, reading and verifying as one, and every end in between.

use std::path::PathBuf;

use super::*;
use crate::{
    ledger::{
        query::{Filter, Reader},
        verify::{ChainFlaw, Checks, Finding, VerifyError, verify_files},
    },
    model::{Seq, SessionId},
};

fn all(dir: &TempDir) -> Result<Report, Finding> {
    verify_files(&[dir.path().into()], &Checks::default(), &mut |_| {})
}

fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let found = parts(dir.path()).unwrap();
    found.into_iter().filter(|p| p.sealed).map(|p| p.path).collect()
}

/// A ledger with three segments and something that is not sealed.
async fn three(dir: &TempDir) -> Ledger {
    let ledger = open(dir, Durability::Process);
    for n in 0..3 {
        sample(&ledger).await;
        let sealed = ledger.seal().await.unwrap().unwrap();
        assert_eq!(sealed.number, n);
    }
    sample(&ledger).await;
    ledger
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_read_and_verify_as_one() {
    let dir = dir();
    let ledger = three(&dir).await;
    let id = uuid::Uuid::now_v7();
    // What is looked for by id is looked for at the time in the id.
    let now = Clock::System.now_ns();
    let members: Value = serde_json::from_str(&session("bot-c", &id.to_string(), "open").body).unwrap();
    ledger
        .append(entry(EntryKind::Session, now, members))
        .await
        .unwrap();
    let one = told(
        "bot-c",
        &id.to_string(),
        now,
        &[(Direction::Up, b"GET /x".to_vec())],
    );
    tell(&ledger, &one).await;
    ledger.seal().await.unwrap().unwrap();
    ledger
        .append(session("bot-c", &id.to_string(), "close"))
        .await
        .unwrap();
    ledger.close();
    let report = all(&dir).unwrap();
    assert_eq!(report.files, 5);
    assert_eq!(report.entries, ledger.status().size);
    assert_eq!(
        (report.open_operations, report.unclaimed_frames, report.unsealed),
        (0, 0, 0)
    );
    let reader = Reader::open(dir.path()).unwrap();
    let sessions = reader.sessions(&Filter::default()).unwrap();
    assert_eq!(sessions.len(), 9);
    let last = sessions.last().unwrap();
    assert!(
        last.session == id.to_string() && last.closed_at.is_some(),
        "its end is in another part"
    );
    assert_eq!(reader.session(SessionId(id)).unwrap().list.len(), 1);
    assert_eq!(reader.frames(one.id).unwrap()[0].bytes, b"GET /x");
    assert_eq!(reader.operations(&Filter::default()).unwrap().len(), 25);
    // The link leads to the part that is being written, which has the last entry.
    let live = Reader::open(&db(&dir)).unwrap();
    assert_eq!(live.sessions(&Filter::default()).unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_segment_stands_alone() {
    let dir = dir();
    let ledger = three(&dir).await;
    let key = VerifierKey::parse(&ledger.status().key).unwrap();
    ledger.close();
    for path in segments(&dir) {
        let alone = tempfile::tempdir().unwrap();
        let copy = alone.path().join("s.db");
        std::fs::copy(&path, &copy).unwrap();
        let report = verify(&copy, Some(&key), &mut |_| {}).unwrap();
        assert_eq!((report.unsealed, report.policy_sets_missing), (0, 0));
        assert!(report.frames > 0 && report.frame_bytes > 0);
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let conn = rusqlite::Connection::open(&copy).unwrap();
        let frames: i64 = conn
            .query_row("SELECT count(*) FROM payload WHERE codec = 1", [], |r| r.get(0))
            .unwrap();
        assert_eq!(frames, 0, "any standard library can read it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_may_span_segments() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    let one = told(
        "bot-a",
        &uuid::Uuid::now_v7().to_string(),
        NOW,
        &[
            (Direction::Down, vec![b'a'; 3000]),
            (Direction::Down, vec![b'b'; 10]),
        ],
    );
    ledger.append(one.operation.clone()).await.unwrap();
    ledger.frame(one.frames[0].clone()).await.unwrap();
    ledger.seal().await.unwrap();
    ledger.frame(one.frames[1].clone()).await.unwrap();
    ledger.seal().await.unwrap();
    ledger.append(one.outcome.clone()).await.unwrap();
    ledger.close();
    assert_eq!(all(&dir).unwrap().unclaimed_frames, 0);
    for path in segments(&dir) {
        verify(&path, None, &mut |_| {}).unwrap();
    }
    let bytes: Vec<u8> = Reader::open(dir.path())
        .unwrap()
        .frames(one.id)
        .unwrap()
        .into_iter()
        .flat_map(|f| f.bytes)
        .collect();
    assert_eq!(bytes.len(), 3010);
    // Alone, nothing but its statement speaks of the second's frame.
    let conn = rusqlite::Connection::open(&segments(&dir)[1]).unwrap();
    let other = tree::sha256(&[b"cccccccccc"]);
    let set = "UPDATE payload SET bytes = CAST('cccccccccc' AS BLOB), sha256 = ?1, codec = 0";
    conn.execute(set, [other.as_slice()]).unwrap();
    drop(conn);
    let error = verify(&segments(&dir)[1], None, &mut |_| {}).unwrap_err();
    assert!(matches!(error, VerifyError::Statement { .. }), "{error}");
    assert!(all(&dir).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_set_may_be_named_in_a_later_segment() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    let text = |n: u32| format!("permit(principal, action, resource); // {n}");
    let hash = |n| hex::encode(tree::sha256(&[text(n).as_bytes()]));
    for n in 0..3 {
        ledger.policy_set(&hash(n), &text(n)).await.unwrap();
    }
    ledger.append(agent("something")).await.unwrap();
    ledger.seal().await.unwrap().unwrap();
    for n in 0..3 {
        let named = told("bot-a", "s", NOW, &[]).operation;
        let body = named
            .body
            .replace(r#""policy_set":"""#, &format!(r#""policy_set":"{}""#, hash(n)));
        ledger.append(Entry { body, ..named }).await.unwrap();
    }
    ledger.seal().await.unwrap().unwrap();
    ledger.close();
    assert_eq!(all(&dir).unwrap().policy_sets_missing, 0);
    assert_eq!(
        verify(&segment_path(dir.path(), 1), None, &mut |_| {})
            .unwrap()
            .policy_sets_missing,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_has_not_begun_is_no_part() {
    let dir = dir();
    let ledger = three(&dir).await;
    let next = parts::live_path(dir.path(), 4);
    let before = parts(dir.path()).unwrap();
    let mut tail = Tail::new(dir.path(), Seq(0));
    // Made ready, as it is for a while before each segment; and just made.
    drop(store::Store::prepare(dir.path(), 4, false).unwrap());
    for _ in 0..2 {
        assert_eq!(parts(dir.path()).unwrap(), before);
        assert_eq!(all(&dir).unwrap().files, 4);
        let found = tail.read(ledger.size(), 5, 10_000).unwrap();
        assert_eq!(found.len(), 5, "it reads on from where the entries are");
        std::fs::write(&next, b"").unwrap();
    }
    ledger.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_between_files_is_named() {
    let dir = dir();
    let ledger = three(&dir).await;
    ledger.close();
    let files = segments(&dir);
    let chain = |files: &[PathBuf]| {
        let found = verify_files(files, &Checks::default(), &mut |_| {}).map(|r| r.files);
        found.map_err(|f| match f.error {
            VerifyError::Chain { flaw } => flaw,
            other => panic!("{other}"),
        })
    };
    let reversed: Vec<PathBuf> = files.iter().rev().cloned().collect();
    assert_eq!(chain(&reversed), Ok(3), "any order will do");
    assert_eq!(chain(&files[1..]), Ok(2), "a part of the chain verifies");
    let gap = [files[0].clone(), files[2].clone()];
    assert!(matches!(chain(&gap), Err(ChainFlaw::Missing { .. })));
    let twice = [files[0].clone(), files[0].clone()];
    assert!(matches!(chain(&twice), Err(ChainFlaw::Overlap { from: 0, .. })));
    // Another host's, and a fork of this host's.
    let other = super::dir();
    three(&other).await.close();
    let mixed = [files[0].clone(), segments(&other)[1].clone()];
    assert!(matches!(
        chain(&mixed),
        Err(ChainFlaw::Fork | ChainFlaw::Missing { .. } | ChainFlaw::Overlap { .. })
    ));
    let fork = super::dir();
    let copy = |name: &str| std::fs::copy(dir.path().join(name), fork.path().join(name)).unwrap();
    copy("ledger.key");
    let forked = open(&fork, Durability::Process);
    for _ in 0..2 {
        sample(&forked).await;
        forked.seal().await.unwrap();
    }
    forked.close();
    let mixed = [files[0].clone(), segments(&fork)[1].clone()];
    assert_eq!(chain(&mixed), Err(ChainFlaw::Fork));
}

#[tokio::test(flavor = "multi_thread")]
async fn sealed_by_size_and_by_age_without_being_asked() {
    let dir = dir();
    let small = Options {
        segment_bytes: 1 << 20,
        ..options(Durability::Process)
    };
    let ledger = Ledger::open(dir.path(), small).unwrap();
    while segments(&dir).len() < 3 {
        sample(&ledger).await;
    }
    ledger.close();
    let report = all(&dir).unwrap();
    assert!(report.files >= 4 && report.unclaimed_frames == 0);
    // The entries are of a time long past, so that the part is old at once.
    let young = Options {
        segment_age: Duration::from_secs(3600),
        ..options(Durability::Process)
    };
    let before = segments(&dir).len();
    let ledger = Ledger::open(dir.path(), young).unwrap();
    sample(&ledger).await;
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while segments(&dir).len() == before {
        assert!(std::time::Instant::now() < until, "it is not sealed");
        tokio::task::yield_now().await;
    }
    ledger.close();
    all(&dir).unwrap();
}

#[tokio::test]
async fn custody_alone_is_no_reason_for_a_segment() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    let custody = json!({ "event": "shipped", "detail": {} });
    ledger
        .append(entry(EntryKind::Ledger, NOW, custody))
        .await
        .unwrap();
    assert!(!segment::says_something(&db(&dir)));
    ledger.append(agent("stopped")).await.unwrap();
    assert!(segment::says_something(&db(&dir)));
    ledger.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_in_between_is_gone_on_from() {
    let dir = dir();
    let ledger = three(&dir).await;
    ledger.close();
    let size = all(&dir).unwrap().entries;
    let (live, segment) = (parts::live_path(dir.path(), 2), segment_path(dir.path(), 2));
    let next = parts::live_path(dir.path(), 4);
    // Made ready and not begun; begun and given up; torn while it was made.
    drop(store::Store::prepare(dir.path(), 4, false).unwrap());
    open(&dir, Durability::Process).close();
    assert!(!next.exists());
    let mut given_up = store::Store::prepare(dir.path(), 4, false).unwrap();
    given_up.begin(store::Handover::default()).unwrap();
    drop(given_up);
    open(&dir, Durability::Process).close();
    assert!(!next.exists());
    std::fs::write(&next, b"").unwrap();
    open(&dir, Durability::Process).close();
    assert!(!next.exists());
    // The segment was not put in its place.
    std::fs::write(segment.with_extension("partial"), b"half").unwrap();
    let ledger = open(&dir, Durability::Process);
    ledger.seal().await.unwrap();
    ledger.close();
    // The segment is there, and so is the part: an end before the last step.
    std::fs::copy(parts::live_path(dir.path(), 4), &live).unwrap();
    let ledger = open(&dir, Durability::Process);
    let until = std::time::Instant::now() + Duration::from_secs(30);
    while live.exists() {
        assert!(std::time::Instant::now() < until, "it is not removed");
        tokio::task::yield_now().await;
    }
    ledger.close();
    let report = all(&dir).unwrap();
    assert!(report.entries > size);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_not_gone_on_with() {
    let dir = dir();
    let ledger = open(&dir, Durability::Power);
    sample(&ledger).await;
    ledger.close();
    let live = parts::live_path(dir.path(), 0);
    let old = std::fs::read(&live).unwrap();
    let ledger = open(&dir, Durability::Power);
    sample(&ledger).await;
    ledger.close();
    std::fs::write(&live, old).unwrap();
    let refused = Ledger::open(dir.path(), options(Durability::Power)).map(|_| ());
    assert!(
        matches!(refused, Err(LedgerError::RolledBack { .. })),
        "{refused:?}"
    );
    // Nor with none.
    std::fs::remove_file(&live).unwrap();
    let refused = Ledger::open(dir.path(), options(Durability::Power)).map(|_| ());
    assert!(
        matches!(refused, Err(LedgerError::RolledBack { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn shipping_reads_on_across_parts() {
    let dir = dir();
    let ledger = three(&dir).await;
    let mut tail = Tail::new(dir.path(), Seq(0));
    let mut seen = 0;
    let read = |tail: &mut Tail, seen: &mut u64| loop {
        let found = tail.read(ledger.size(), 7, 10_000).unwrap();
        if found.is_empty() {
            return;
        }
        for entry in found {
            assert_eq!(entry.seq.0, *seen);
            *seen += 1;
        }
    };
    read(&mut tail, &mut seen);
    assert_eq!(Seq(seen), ledger.size());
    // The part that it has open is sealed and removed under it.
    ledger.seal().await.unwrap();
    sample(&ledger).await;
    read(&mut tail, &mut seen);
    assert_eq!(Seq(seen), ledger.size());
    ledger.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_rots_is_told_and_keeps_nothing_else_back() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    sample(&ledger).await;
    let live = parts::live_path(dir.path(), 0);
    // Beside the writer, as a disk would do it.
    let conn = rusqlite::Connection::open(&live).unwrap();
    conn.execute(
        "UPDATE entry SET body = replace(body, 'bot-a', 'bot-c') WHERE seq = 1",
        [],
    )
    .unwrap();
    drop(conn);
    let error = ledger.seal().await.unwrap_err();
    assert!(
        error.to_string().contains("entry 1 is not as it was recorded"),
        "{error}"
    );
    sample(&ledger).await;
    assert_eq!(ledger.seal().await.unwrap().unwrap().number, 1);
    let status = ledger.status();
    assert!(status.healthy && status.unsealed.unwrap().contains("part 0"));
    ledger.close();
    assert!(live.exists(), "nothing is removed that is not sealed");
    assert!(segment_path(dir.path(), 1).exists() && !segment_path(dir.path(), 0).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_parts_than_can_be_read_as_one() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    let id = uuid::Uuid::now_v7();
    let now = Clock::System.now_ns();
    for event in ["open", "close"] {
        let members: Value = serde_json::from_str(&session("bot-c", &id.to_string(), event).body).unwrap();
        ledger
            .append(entry(EntryKind::Session, now, members))
            .await
            .unwrap();
    }
    for n in 0..12 {
        let later = json!({ "event": "stopped", "detail": {} });
        ledger
            .append(entry(EntryKind::Agent, Clock::System.now_ns(), later))
            .await
            .unwrap();
        assert_eq!(ledger.seal().await.unwrap().unwrap().number, n);
    }
    ledger.close();
    let newest = Reader::open(dir.path()).unwrap();
    assert_eq!(newest.left_out(), 3, "thirteen parts, ten at once");
    assert_eq!(newest.sessions(&Filter::default()).unwrap().len(), 0);
    let there = Reader::open_for(dir.path(), id).unwrap();
    assert!(there.session(SessionId(id)).unwrap().session.closed_at.is_some());
}
