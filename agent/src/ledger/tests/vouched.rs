//! Witnesses: asked, absent, wrong; what of theirs is in the file; and checkpoints that somebody kept.

use std::sync::Mutex as StdMutex;

use axum::{Router, extract::State, http::StatusCode, routing::post};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use verify::AgainstFlaw;

use super::*;
use crate::{
    config,
    ledger::{
        checkpoint::Checkpoint,
        witness::{
            WitnessStatus, Witnesses,
            cosignature::{WitnessKey, testing::Signer},
        },
    },
};

/// How the witness of a test behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Good,
    Status(u16),
    /// Signs, but something else.
    Liar,
    /// Signs with the clock of another year.
    Late,
}

struct Fake {
    signer: Signer,
    log: StdMutex<Option<VerifierKey>>,
    /// The size and root that it cosigned last.
    seen: StdMutex<(u64, tree::Hash)>,
    mood: StdMutex<Mood>,
    requests: std::sync::atomic::AtomicU64,
}

fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

/// What c2sp.org/tlog-witness says a witness does.
async fn add_checkpoint(State(fake): State<Arc<Fake>>, body: String) -> (StatusCode, String) {
    fake.requests.fetch_add(1, Ordering::AcqRel);
    let status = |code: u16| (StatusCode::from_u16(code).unwrap(), String::new());
    let mood = *fake.mood.lock().unwrap();
    if let Mood::Status(code) = mood {
        return status(code);
    }
    let (head, note) = body.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let old: u64 = lines
        .next()
        .unwrap()
        .strip_prefix("old ")
        .unwrap()
        .parse()
        .unwrap();
    let proof: Vec<tree::Hash> = lines
        .map(|line| STANDARD.decode(line).unwrap().try_into().unwrap())
        .collect();
    let log = fake.log.lock().unwrap().clone().unwrap();
    let Ok(checkpoint) = Checkpoint::open(&log, note) else {
        return status(403);
    };
    let mut seen = fake.seen.lock().unwrap();
    if old > checkpoint.size {
        return status(400);
    }
    if old != seen.0 {
        return (StatusCode::CONFLICT, format!("{}\n", seen.0));
    }
    let consistent = if old == 0 {
        proof.is_empty()
    } else {
        tree::verify_consistency(old, &seen.1, checkpoint.size, &checkpoint.root, &proof)
    };
    if !consistent {
        return status(422);
    }
    *seen = (checkpoint.size, checkpoint.root);
    let text = Checkpoint::text(&checkpoint.origin, checkpoint.size, &checkpoint.root);
    let line = match mood {
        Mood::Liar => fake.signer.sign("other\n", now()),
        Mood::Late => fake.signer.sign(&text, 1_679_315_147),
        _ => fake.signer.sign(&text, now()),
    };
    let other = Signer::new("another.example/w", 77).sign(&text, now());
    (StatusCode::OK, format!("{other}{line}"))
}

async fn fake() -> (Arc<Fake>, config::Witness) {
    let fake = Arc::new(Fake {
        signer: Signer::new("witness.example/w", 9),
        log: StdMutex::default(),
        seen: StdMutex::default(),
        mood: StdMutex::new(Mood::Good),
        requests: 0.into(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/w/", listener.local_addr().unwrap());
    let app = Router::new()
        .route("/w/add-checkpoint", post(add_checkpoint))
        .with_state(Arc::clone(&fake));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let witness = config::Witness {
        url,
        key: fake.signer.key.to_string(),
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        ca_file: None,
    };
    (fake, witness)
}

fn quick(dir: &TempDir) -> Ledger {
    let mut options = options(Durability::Process);
    options.clock = Clock::System;
    options.checkpoint_after = Duration::from_millis(5);
    Ledger::open(dir.path(), options).unwrap()
}

fn public(dir: &TempDir) -> VerifierKey {
    VerifierKey::parse(&std::fs::read_to_string(dir.path().join("ledger.pub")).unwrap()).unwrap()
}

async fn until(witnesses: &Witnesses, what: impl Fn(&WitnessStatus) -> bool) -> WitnessStatus {
    for _ in 0..3_000 {
        let status = witnesses.status().remove(0);
        if what(&status) {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", witnesses.status())
}

fn with_witness(dir: &TempDir, key: &WitnessKey) -> Result<Report, VerifyError> {
    let checks = verify::Checks {
        witnesses: vec![key.clone()],
        ..verify::Checks::default()
    };
    verify::verify_files(&[db(dir)], &checks, &mut |_| {}).map_err(|f| f.error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_are_cosigned_and_cosignatures_verify() {
    let dir = dir();
    let (fake, config) = fake().await;
    let ledger = quick(&dir);
    *fake.log.lock().unwrap() = Some(public(&dir));
    sample(&ledger).await;
    assert!(matches!(
        with_witness(&dir, &fake.signer.key),
        Err(VerifyError::Unwitnessed { .. })
    ));
    let witnesses = Witnesses::start(&ledger, std::slice::from_ref(&config)).unwrap();
    let mut size = 0;
    for _ in 0..5 {
        for _ in 0..7 {
            size = ledger.append(agent("started")).await.unwrap().0 + 1;
        }
        until(&witnesses, |s| {
            s.size >= size && s.error.is_none() && s.at.is_some()
        })
        .await;
    }
    // Its own entries are no reason to ask again.
    let quiet = || async {
        for _ in 0..3_000 {
            let (requests, size) = (fake.requests.load(Ordering::Acquire), ledger.size());
            tokio::time::sleep(Duration::from_millis(200)).await;
            if (requests, size) == (fake.requests.load(Ordering::Acquire), ledger.size()) {
                return true;
            }
        }
        false
    };
    assert!(quiet().await);
    drop(witnesses);
    // A new task knows from the file where it was; the witness is not asked about what it has seen.
    let before = fake.requests.load(Ordering::Acquire);
    let witnesses = Witnesses::start(&ledger, std::slice::from_ref(&config)).unwrap();
    let size = ledger.append(agent("stopped")).await.unwrap().0 + 1;
    until(&witnesses, |s| s.size >= size).await;
    assert!(fake.requests.load(Ordering::Acquire) <= before + 3);
    drop(witnesses);
    ledger.close();

    let report = with_witness(&dir, &fake.signer.key).unwrap();
    let told = &report.witnesses[0];
    assert!(
        told.given && told.cosignatures >= 5 && told.size >= size,
        "{report:?}"
    );
    assert_eq!(report.unknown_cosignatures, 0);
    // Without the key the host's own entries name it.
    let told = &check_all(&dir).witnesses[0];
    assert!(!told.given && told.key == fake.signer.key.to_string());
    let stranger = Signer::new("witness.example/w", 10).key;
    assert!(matches!(
        with_witness(&dir, &stranger),
        Err(VerifyError::Unwitnessed { .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_that_fails_delays_nothing_and_is_shown() {
    let dir = dir();
    let (fake, config) = fake().await;
    let ledger = quick(&dir);
    *fake.log.lock().unwrap() = Some(public(&dir));
    ledger.append(agent("started")).await.unwrap();
    for (mood, says) in [
        (Mood::Status(403), "does not trust the ledger's key"),
        (Mood::Status(404), "does not know this ledger"),
        (Mood::Status(422), "does not go on from the one"),
        (Mood::Status(500), "status 500"),
        (Mood::Liar, "cosignature is wrong"),
        (Mood::Late, "of another time"),
    ] {
        *fake.mood.lock().unwrap() = mood;
        let witnesses = Witnesses::start(&ledger, std::slice::from_ref(&config)).unwrap();
        until(&witnesses, |s| s.error.as_ref().is_some_and(|e| e.contains(says))).await;
        ledger.append(agent("started")).await.unwrap();
    }
    // Nobody there.
    let nowhere = config::Witness {
        url: "http://127.0.0.1:9".into(),
        ..config.clone()
    };
    let witnesses = Witnesses::start(&ledger, &[nowhere]).unwrap();
    until(&witnesses, |s| s.error.is_some()).await;
    assert_eq!(check_all(&dir).witnesses, []);
    // Back again: what it saw meanwhile is found out by its 409.
    *fake.mood.lock().unwrap() = Mood::Good;
    let witnesses = Witnesses::start(&ledger, std::slice::from_ref(&config)).unwrap();
    let size = ledger.append(agent("stopped")).await.unwrap().0 + 1;
    until(&witnesses, |s| s.size >= size && s.error.is_none()).await;
    drop(witnesses);
    ledger.close();
    assert!(with_witness(&dir, &fake.signer.key).unwrap().witnesses[0].cosignatures > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_older_than_what_a_witness_saw_is_told() {
    let (dir, copy) = (dir(), dir());
    let (fake, config) = fake().await;
    let ledger = quick(&dir);
    *fake.log.lock().unwrap() = Some(public(&dir));
    ledger.append(agent("started")).await.unwrap();
    ledger.close();
    for name in ["ledger-0000000000.db", "ledger.key", "ledger.pub", "ledger.state"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let ledger = quick(&dir);
    for _ in 0..9 {
        ledger.append(agent("started")).await.unwrap();
    }
    let witnesses = Witnesses::start(&ledger, std::slice::from_ref(&config)).unwrap();
    until(&witnesses, |s| s.size >= 10).await;
    drop(witnesses);
    let old = quick(&copy);
    let witnesses = Witnesses::start(&old, std::slice::from_ref(&config)).unwrap();
    until(&witnesses, |s| {
        s.error
            .as_ref()
            .is_some_and(|e| e.contains("this is an older copy, or entries were lost"))
    })
    .await;
}

/// A closed ledger with two checkpoints and a cosignature over each; the witness.
async fn cosigned() -> (TempDir, Signer) {
    let dir = dir();
    let signer = Signer::new("witness.example/w", 9);
    for round in 0..2 {
        let ledger = quick(&dir);
        for _ in 0..4 {
            ledger.append(agent("started")).await.unwrap();
        }
        ledger.close();
        let report = check_all(&dir);
        let root = hex::decode(&report.root).unwrap().try_into().unwrap();
        let text = Checkpoint::text("portcullis/host-1", report.entries, &root);
        let ledger = quick(&dir);
        let detail = json!({ "at": "", "size": report.entries, "witness": signer.key.to_string() });
        let entry = entry(
            EntryKind::Ledger,
            NOW,
            json!({ "event": "witnessed", "detail": detail }),
        );
        let signature = signer.sign(&text, 1_000 + round);
        let size = report.entries;
        ledger
            .append_beside(entry, queue::Beside::Witness { size, signature })
            .await
            .unwrap();
        ledger.close();
    }
    (dir, signer)
}

#[tokio::test]
async fn a_bad_cosignature_is_always_named() {
    let (sound, signer) = cosigned().await;
    let good = with_witness(&sound, &signer.key).unwrap();
    assert_eq!((good.witnesses[0].cosignatures, good.witnesses[0].size), (2, 9));
    let other = Signer::new("witness.example/w", 10);
    let text = Checkpoint::text("portcullis/host-1", 4, &[1; 32]);
    for (sql, value) in [
        (
            "UPDATE witness SET signature = ?1 WHERE size = 4",
            signer.sign(&text, 1),
        ),
        (
            "UPDATE witness SET signature = ?1 WHERE size = 4",
            other.sign(&text, 1),
        ),
        ("UPDATE witness SET signature = ?1 WHERE size = 4", "x".into()),
        (
            "UPDATE witness SET size = 5 WHERE size = 4 AND ?1 = ?1",
            String::new(),
        ),
        (
            "UPDATE witness SET size = 99 WHERE size = 9 AND ?1 = ?1",
            String::new(),
        ),
        ("DELETE FROM witness WHERE size = 9 AND ?1 = ?1", String::new()),
    ] {
        let dir = dir();
        std::fs::copy(db(&sound), db(&dir)).unwrap();
        let conn = rusqlite::Connection::open(db(&dir)).unwrap();
        assert_eq!(conn.execute(sql, [value]).unwrap(), 1);
        drop(conn);
        let error = verify(&db(&dir), None, &mut |_| {}).unwrap_err();
        let named = matches!(
            &error,
            VerifyError::Witness { .. }
                | VerifyError::Entry {
                    flaw: verify::EntryFlaw::Cosignature { .. },
                    ..
                }
        );
        assert!(named, "{sql}: {error}");
    }
}

#[tokio::test]
async fn a_kept_checkpoint_names_rollback_and_fork() {
    let (dir, _) = cosigned().await;
    let notes = |dir: &TempDir| -> Vec<(u64, String)> {
        let conn = rusqlite::Connection::open(db(dir)).unwrap();
        let mut statement = conn
            .prepare("SELECT size, note FROM checkpoint ORDER BY size")
            .unwrap();
        let rows = statement.query_map([], |r| Ok((r.get::<_, i64>(0)? as u64, r.get(1)?)));
        rows.unwrap().map(Result::unwrap).collect()
    };
    let against = |dir: &TempDir, note: &str| {
        let checks = verify::Checks {
            against: Some(note.into()),
            ..verify::Checks::default()
        };
        verify::verify_files(&[db(dir)], &checks, &mut |_| {}).map_err(|f| f.error)
    };
    let flaw = |result: Result<Report, VerifyError>| match result {
        Err(VerifyError::Against { flaw, .. }) => flaw,
        other => panic!("{other:?}"),
    };
    let kept = notes(&dir);
    for (size, note) in &kept {
        assert_eq!(against(&dir, note).unwrap().against, Some(*size));
    }
    // The copy of before: it verifies by itself.
    let (last, newest) = kept.last().unwrap();
    let old = super::dir();
    std::fs::copy(db(&dir), db(&old)).unwrap();
    let conn = rusqlite::Connection::open(db(&old)).unwrap();
    conn.execute_batch(
        "DELETE FROM entry WHERE seq >= 5; DELETE FROM checkpoint WHERE size > 5; DELETE FROM witness WHERE size > 5;
         DELETE FROM tree WHERE size > 5;",
    )
    .unwrap();
    drop(conn);
    assert_eq!(check_all(&old).entries, 5);
    assert_eq!(flaw(against(&old, newest)), AgainstFlaw::Rollback { entries: 5 });
    // Another history by the same key.
    let fork = super::dir();
    for name in ["ledger.key", "ledger.pub"] {
        std::fs::copy(dir.path().join(name), fork.path().join(name)).unwrap();
    }
    let ledger = quick(&fork);
    for _ in 0..*last + 3 {
        ledger.append(agent("started")).await.unwrap();
    }
    ledger.close();
    check_all(&fork);
    assert_eq!(flaw(against(&fork, newest)), AgainstFlaw::Fork);
    // Another host's, and no checkpoint at all.
    let other = note::HostKey::from_seed("portcullis/host-1", zeroize::Zeroizing::new([1; 32])).unwrap();
    let (_, first) = &kept[0];
    let root = Checkpoint::open(&public(&dir), first).unwrap().root;
    let forged = Checkpoint::sign(&other, kept[0].0, &root);
    assert!(matches!(flaw(against(&dir, &forged)), AgainstFlaw::Note(_)));
    assert!(matches!(flaw(against(&dir, "nothing")), AgainstFlaw::Note(_)));
}

// SCRATCH
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scratch_real_witness() {
    let Ok(url) = std::env::var("SCRATCH_URL") else {
        return;
    };
    let key = std::env::var("SCRATCH_KEY").unwrap();
    let dir = std::env::var("SCRATCH_DIR").unwrap();
    let mut options = options(Durability::Process);
    options.checkpoint_after = Duration::from_millis(5);
    let ledger = Ledger::open(std::path::Path::new(&dir), options).unwrap();
    let config = config::Witness {
        url,
        key,
        interval: Duration::from_millis(1100),
        timeout: Duration::from_secs(5),
        ca_file: None,
    };
    let witnesses = Witnesses::start(&ledger, std::slice::from_ref(&config)).unwrap();
    for i in 0..5u64 {
        let mut size = 0;
        for _ in 0..=i * 7 {
            size = ledger.append(agent("started")).await.unwrap().0 + 1;
        }
        let s = until(&witnesses, |s| s.size >= size && s.error.is_none()).await;
        eprintln!("cosigned {s:?}");
        if i % 2 == 1 {
            ledger.seal().await.unwrap();
        }
    }
    drop(witnesses);
    ledger.close();
    let checks = verify::Checks {
        witnesses: vec![WitnessKey::parse(&config.key).unwrap()],
        ..verify::Checks::default()
    };
    let report = verify::verify_files(&[dir.into()], &checks, &mut |_| {}).unwrap();
    eprintln!("{:?} unknown {}", report.witnesses, report.unknown_cosignatures);
}
