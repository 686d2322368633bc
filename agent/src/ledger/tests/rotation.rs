//! Replacing the host key, wherever it ends, and what verification says of keys.

use std::fs;

use super::{note::HostKey, *};

const NOBODY: Value = Value::Null;

fn secret(dir: &TempDir) -> HostKey {
    HostKey::parse(&fs::read_to_string(dir.path().join("ledger.key")).unwrap()).unwrap()
}

fn public(dir: &TempDir) -> VerifierKey {
    VerifierKey::parse(&fs::read_to_string(dir.path().join("ledger.pub")).unwrap()).unwrap()
}

fn appended(ledger: &Ledger, n: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for _ in 0..n {
        runtime.block_on(ledger.append(agent("started"))).unwrap();
    }
}

fn verdict(dir: &TempDir, key: Option<&VerifierKey>) -> Result<Report, VerifyError> {
    verify(&db(dir), key, &mut |_| {})
}

fn sql(dir: &TempDir, sql: &str, values: impl rusqlite::Params) {
    let conn = rusqlite::Connection::open(db(dir)).unwrap();
    assert_eq!(conn.execute(sql, values).unwrap(), 1, "{sql}");
}

/// A closed ledger of some entries before and after a replacement; the old key and the new one.
fn rotated() -> (TempDir, HostKey, HostKey) {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    appended(&ledger, 3);
    ledger.close();
    let old = secret(&dir);
    let ledger = open(&dir, Durability::Process);
    appended(&ledger, 3);
    let told = ledger.rotate_key(&json!({"pid": 7, "uid": 0})).unwrap();
    assert_eq!(told.entry, 6);
    assert_eq!(ledger.status().key, told.new);
    appended(&ledger, 3);
    ledger.close();
    let new = secret(&dir);
    assert_eq!(
        (told.old, told.new),
        (old.verifier().to_string(), new.verifier().to_string())
    );
    (dir, old, new)
}

#[test]
fn either_key_verifies_what_both_signed() {
    let (dir, old, new) = rotated();
    assert_ne!(old.verifier(), new.verifier());
    assert_eq!(old.verifier().name(), new.verifier().name());
    assert_eq!(public(&dir), *new.verifier());
    assert!(!dir.path().join("ledger.key.next").exists());
    for key in [None, Some(old.verifier()), Some(new.verifier())] {
        let report = verdict(&dir, key).unwrap();
        assert_eq!((report.entries, report.unsealed, report.rotations), (10, 0, 1));
    }
    let other = HostKey::from_seed("portcullis/host-1", zeroize::Zeroizing::new([1; 32])).unwrap();
    assert!(matches!(
        verdict(&dir, Some(other.verifier())),
        Err(VerifyError::Key { .. })
    ));
    let conn = rusqlite::Connection::open(db(&dir)).unwrap();
    let (uid, note): (i64, String) = conn
        .query_row(
            "SELECT actor_uid, json_extract(detail, '$.statement') FROM ledger_events WHERE event = 'key_rotated'",
            [],
            |r| Ok((r.get(0)?, r.get(1)?)),
        )
        .unwrap();
    let succession = Succession::open(&note).unwrap();
    assert_eq!(
        (uid, &succession.old, &succession.new),
        (0, old.verifier(), new.verifier())
    );
    // The last checkpoint is by the new key, the first by the old one.
    let notes: Vec<String> = conn
        .prepare("SELECT note FROM checkpoint ORDER BY size")
        .unwrap()
        .query_map([], |r| r.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(old.verifier().open(&notes[0]).is_ok());
    assert!(new.verifier().open(notes.last().unwrap()).is_ok());
}

#[test]
fn an_export_over_a_replacement_verifies() {
    let (dir, old, new) = rotated();
    let out = dir.path().join("out.db");
    let options = ExportOptions {
        now_ns: NOW,
        ..Default::default()
    };
    export(&db(&dir), &out, &options, &mut |_| {}).unwrap();
    for key in [old.verifier(), new.verifier()] {
        verify(&out, Some(key), &mut |_| {}).unwrap();
    }
}

#[test]
fn wherever_a_replacement_ends_the_next_start_goes_on() {
    // What is on the disk after each step but the last.
    type Undo = fn(&TempDir, &HostKey, &HostKey);
    let write = |dir: &TempDir, name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    let after_entry: Undo = |dir, old, new| {
        fs::write(dir.path().join("ledger.key"), &**old.to_secret()).unwrap();
        fs::write(dir.path().join("ledger.key.next"), &**new.to_secret()).unwrap();
        fs::write(dir.path().join("ledger.pub"), format!("{}\n", old.verifier())).unwrap();
    };
    let after_rename: Undo = |dir, old, _| {
        fs::write(dir.path().join("ledger.pub"), format!("{}\n", old.verifier())).unwrap();
    };
    for undo in [after_entry, after_rename] {
        for checkpointed in [false, true] {
            let dir = dir();
            let ledger = open(&dir, Durability::Power);
            appended(&ledger, 3);
            let old = secret(&dir);
            if checkpointed {
                ledger.close();
            }
            let ledger = if checkpointed {
                open(&dir, Durability::Power)
            } else {
                ledger
            };
            let told = ledger.rotate_key(&NOBODY).unwrap();
            let new = secret(&dir);
            ledger.close();
            // As if killed before anything was signed by the new key.
            let conn = rusqlite::Connection::open(db(&dir)).unwrap();
            let end = i64::try_from(told.entry).unwrap();
            conn.execute("DELETE FROM checkpoint WHERE size > ?1", [end])
                .unwrap();
            conn.execute("DELETE FROM tree WHERE size > ?1", [end]).unwrap();
            drop(conn);
            undo(&dir, &old, &new);

            let ledger = open(&dir, Durability::Power);
            assert_eq!(ledger.status().key, new.verifier().to_string());
            appended(&ledger, 1);
            ledger.close();
            assert_eq!(secret(&dir).verifier(), new.verifier());
            assert_eq!(public(&dir), *new.verifier());
            assert!(!dir.path().join("ledger.key.next").exists());
            for key in [old.verifier(), new.verifier()] {
                assert_eq!(verdict(&dir, Some(key)).unwrap().unsealed, 0);
            }
        }
    }
    // Before the entry: the new key never was.
    let dir = dir();
    let ledger = open(&dir, Durability::Power);
    appended(&ledger, 3);
    ledger.close();
    let old = secret(&dir);
    let new = HostKey::from_seed("portcullis/host-1", zeroize::Zeroizing::new([4; 32])).unwrap();
    write(&dir, "ledger.key.next", &new.to_secret());
    write(&dir, "ledger.key.next.partial", "PRIVATE+KEY+port");
    let ledger = open(&dir, Durability::Power);
    assert_eq!(ledger.status().key, old.verifier().to_string());
    assert!(!dir.path().join("ledger.key.next").exists());
    assert!(!dir.path().join("ledger.key.next.partial").exists());
    // And another can follow.
    ledger.rotate_key(&NOBODY).unwrap();
    ledger.close();
    assert_eq!(verdict(&dir, Some(old.verifier())).unwrap().rotations, 1);
}

#[test]
fn nothing_is_signed_by_the_wrong_key_while_entries_come() {
    let dir = dir();
    let mut options = options(Durability::Process);
    options.checkpoint_every = 7;
    options.checkpoint_after = Duration::from_millis(1);
    let ledger = Ledger::open(dir.path(), options).unwrap();
    let first = public(&dir);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    appended(&ledger, 20);
                }
            });
        }
        for _ in 0..25 {
            let told = ledger.rotate_key(&NOBODY).unwrap();
            while ledger.status().checkpoint_size <= told.entry {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Release);
    });
    ledger.close();
    let report = verdict(&dir, Some(&first)).unwrap();
    assert!(report.rotations == 25 && report.checkpoints >= 25, "{report:?}");
    assert_eq!(verdict(&dir, Some(&public(&dir))).unwrap().unsealed, 0);
}

#[test]
fn a_replaced_key_signs_nothing_more() {
    let (dir, old, _) = rotated();
    let conn = rusqlite::Connection::open(db(&dir)).unwrap();
    let root: Vec<u8> = hex::decode(verdict(&dir, None).unwrap().root).unwrap();
    drop(conn);
    let note = checkpoint::Checkpoint::sign(&old, 10, &root.try_into().unwrap());
    sql(&dir, "UPDATE checkpoint SET note = ?1 WHERE size = 10", [note]);
    let error = verdict(&dir, None).unwrap_err();
    assert!(
        matches!(
            &error,
            VerifyError::Checkpoint {
                size: 10,
                flaw: verify::CheckpointFlaw::Retired { .. }
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("which was replaced by entry 6"),
        "{error}"
    );
}

#[test]
fn a_key_that_follows_none_is_named() {
    let stranger = HostKey::from_seed("portcullis/host-1", zeroize::Zeroizing::new([5; 32])).unwrap();
    // It signs the last checkpoint.
    let (dir, _, new) = rotated();
    let root: Vec<u8> = hex::decode(verdict(&dir, None).unwrap().root).unwrap();
    let note = checkpoint::Checkpoint::sign(&stranger, 10, &root.clone().try_into().unwrap());
    sql(&dir, "UPDATE checkpoint SET note = ?1 WHERE size = 10", [&note]);
    sql(
        &dir,
        "INSERT INTO key VALUES (?1)",
        [stranger.verifier().to_string()],
    );
    let error = verdict(&dir, Some(new.verifier())).unwrap_err();
    assert!(
        matches!(
            &error,
            VerifyError::Checkpoint {
                flaw: verify::CheckpointFlaw::NotSucceeded { .. },
                ..
            }
        ),
        "{error}"
    );
    // Or it is just there.
    let (dir, _, new) = rotated();
    sql(
        &dir,
        "INSERT INTO key VALUES (?1)",
        [stranger.verifier().to_string()],
    );
    assert!(matches!(verdict(&dir, None), Err(VerifyError::Key { .. })));
    // Given from outside, it vouches for nothing.
    assert!(matches!(
        verdict(&dir, Some(stranger.verifier())),
        Err(VerifyError::Key { .. })
    ));
    // A statement that only one of them signed does not help.
    let note = succession::Succession::sign(&new, &stranger, 9);
    let lines: Vec<&str> = note.split_inclusive('\n').collect();
    sql(
        &dir,
        "INSERT INTO statement VALUES (?1)",
        [lines[..lines.len() - 1].concat()],
    );
    assert!(matches!(verdict(&dir, None), Err(VerifyError::Succession { .. })));
}

#[test]
fn a_newer_key_does_not_vouch_for_what_it_did_not_sign() {
    let (dir, old, new) = rotated();
    let conn = rusqlite::Connection::open(db(&dir)).unwrap();
    conn.execute_batch(
        "DELETE FROM entry WHERE seq >= 3; DELETE FROM checkpoint WHERE size > 3; DELETE FROM tree WHERE size > 3;",
    )
    .unwrap();
    drop(conn);
    verdict(&dir, Some(old.verifier())).unwrap();
    assert!(matches!(
        verdict(&dir, Some(new.verifier())),
        Err(VerifyError::Key { .. })
    ));
}

#[test]
fn a_key_beside_the_ledger_that_never_signed_is_refused() {
    let (dir, _, _) = rotated();
    let other = HostKey::from_seed("portcullis/host-1", zeroize::Zeroizing::new([6; 32])).unwrap();
    fs::write(dir.path().join("ledger.key"), &**other.to_secret()).unwrap();
    let opened = Ledger::open(dir.path(), options(Durability::Process));
    assert!(matches!(opened.err(), Some(LedgerError::Database { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_from_before_and_after_verify_with_either_key() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    let first = public(&dir);
    for round in 0..4 {
        for _ in 0..5 {
            ledger.append(agent("started")).await.unwrap();
        }
        if round < 3 {
            ledger.seal().await.unwrap().unwrap();
        }
        if round % 2 == 0 {
            let ledger = ledger.clone();
            tokio::task::spawn_blocking(move || ledger.rotate_key(&NOBODY))
                .await
                .unwrap()
                .unwrap();
        }
    }
    ledger.close();
    let last = public(&dir);
    assert_ne!(first, last);
    let chain = |key: &VerifierKey| {
        let checks = verify::Checks {
            key: Some(key.clone()),
            ..verify::Checks::default()
        };
        verify::verify_files(&[dir.path().into()], &checks, &mut |_| {}).map_err(|f| f.error)
    };
    for key in [&first, &last] {
        let report = chain(key).unwrap();
        assert_eq!((report.files, report.rotations, report.unsealed), (4, 2, 0));
    }
    for part in parts(dir.path()).unwrap() {
        verify(&part.path, Some(&first), &mut |_| {}).unwrap();
        verify(&part.path, None, &mut |_| {}).unwrap();
    }
    // A segment whose own key was replaced since is not vouched for by the new one alone.
    let before = verify(&segment_path(dir.path(), 0), Some(&last), &mut |_| {});
    assert!(matches!(before, Err(VerifyError::Key { .. })), "{before:?}");
    // Reopened, it goes on.
    open(&dir, Durability::Process).close();
    chain(&last).unwrap();
}
