use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn appended_entries_verify_and_go_on_after_reopening() {
    let dir = dir();
    for round in 0..3u64 {
        let ledger = open(
            &dir,
            if round == 1 {
                Durability::Process
            } else {
                Durability::Power
            },
        );
        for i in 0..10 {
            assert_eq!(
                ledger.append(agent("started")).await.unwrap(),
                Seq(round * 10 + i)
            );
        }
        let status = ledger.status();
        assert!(status.healthy && status.size == (round + 1) * 10, "{status:?}");
        ledger.close();
        assert!(matches!(
            ledger.append(agent("x")).await,
            Err(LedgerError::Closed)
        ));
        let report = check_all(&dir);
        assert_eq!(
            (report.entries, report.unsealed, report.gaps),
            ((round + 1) * 10, 0, 0)
        );
        assert_eq!(report.root, status.root);
    }
    let mode = |name: &str| {
        std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (
            mode("ledger.db"),
            mode("ledger.key"),
            mode("ledger.pub"),
            mode("ledger.state")
        ),
        (0o600, 0o600, 0o644, 0o600)
    );
    let key = std::fs::read_to_string(dir.path().join("ledger.pub")).unwrap();
    assert!(
        verify(&db(&dir), Some(&VerifierKey::parse(&key).unwrap()), &mut |_| {})
            .unwrap()
            .key_given
    );
    let other = note::HostKey::from_seed("portcullis/host-1", zeroize::Zeroizing::new([1; 32])).unwrap();
    assert!(matches!(
        verify(&db(&dir), Some(other.verifier()), &mut |_| {}),
        Err(VerifyError::Key { .. })
    ));
}

#[tokio::test]
async fn a_running_ledger_verifies_and_shows_itself() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    sample(&ledger).await;
    let report = check_all(&dir);
    assert_eq!(
        (report.entries, report.frames, report.open_operations),
        (18, 18, 0)
    );
    assert_eq!(report.policy_sets_missing, 0);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(check_all(&dir).unsealed, 0);
    assert_eq!(ledger.status().checkpoint_size, 18);
    assert!(matches!(
        Ledger::open(dir.path(), options(Durability::Process)),
        Err(LedgerError::InUse { .. })
    ));
}

#[tokio::test]
async fn what_could_not_be_verified_is_refused() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    let good = agent("started");
    let mut spaced = good.clone();
    spaced.body = spaced.body.replace(":1}", ": 1}");
    let mut other_id = good.clone();
    other_id.id = uuid::Uuid::now_v7();
    let mut other_kind = good.clone();
    other_kind.kind = EntryKind::Gap;
    let mut no_time = good.clone();
    no_time.body = no_time.body.replace("456789Z", "45678Z");
    for bad in [spaced, other_id, other_kind, no_time] {
        assert!(matches!(
            ledger.append(bad).await,
            Err(LedgerError::Malformed { .. })
        ));
    }
    let large = entry(EntryKind::Agent, NOW, json!({ "event": "x".repeat(ENTRY_MAX) }));
    assert!(matches!(
        ledger.append(large).await,
        Err(LedgerError::TooLarge { .. })
    ));
    let bytes = vec![0; FRAME_MAX + 1].into();
    let frame = Frame {
        operation: OperationId::new(),
        direction: Direction::Up,
        number: 0,
        bytes,
    };
    assert!(matches!(
        ledger.frame(frame).await,
        Err(LedgerError::TooLarge { .. })
    ));
    assert!(matches!(
        ledger.policy_set("00", "x").await,
        Err(LedgerError::PolicySetHash { .. })
    ));
    assert_eq!(ledger.append(good).await.unwrap(), Seq(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_and_the_queue_holds_callers_back() {
    let dir = dir();
    let mut options = options(Durability::Process);
    options.queue_bytes = 4 << 20;
    options.queue_records = 64;
    options.checkpoint_every = 100;
    let ledger = Ledger::open(dir.path(), options).unwrap();
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    let entry = entry(
                        EntryKind::Agent,
                        NOW,
                        json!({ "event": format!("{task}"), "n": n }),
                    );
                    if n % 10 == 9 {
                        ledger.append(entry).await.map(|_| ()).unwrap();
                    } else {
                        ledger.enqueue(entry).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // Whoever waited for the last of them is told before the writer has put its batch away.
    for _ in 0..2_000 {
        if ledger.status().queue_bytes == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(ledger.status().queue_bytes, 0);
    ledger.close();
    let report = check_all(&dir);
    assert!(report.entries == 1600 && report.checkpoints >= 1, "{report:?}");
    let conn = rusqlite::Connection::open(db(&dir)).unwrap();
    let sql = "SELECT json_extract(body,'$.event'), json_extract(body,'$.n') FROM entry ORDER BY seq";
    let mut statement = conn.prepare(sql).unwrap();
    let mut next = std::collections::HashMap::<String, i64>::new();
    for row in statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap() {
        let (task, n): (String, i64) = row.unwrap();
        let expected = next.entry(task).or_default();
        assert_eq!(n, *expected);
        *expected += 1;
    }
}

#[tokio::test]
async fn a_ledger_of_another_version_gets_the_views_of_this_one() {
    let dir = dir();
    let path = dir.path().join("ledger.db");
    open(&dir, Durability::Process).close();
    let count = |sql: &str| -> i64 {
        let conn = rusqlite::Connection::open(&path).unwrap();
        conn.query_row(sql, [], |r| r.get(0)).unwrap()
    };
    let before = count("SELECT count(*) FROM sqlite_master WHERE type = 'view'");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("DROP VIEW approvals; CREATE VIEW \"of \"\"another\" AS SELECT 1")
        .unwrap();
    open(&dir, Durability::Process).close();
    assert_eq!(
        count("SELECT count(*) FROM sqlite_master WHERE type = 'view'"),
        before
    );
    assert_eq!(count("SELECT count(*) FROM approvals"), 0);
}
