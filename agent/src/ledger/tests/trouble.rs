//! Ends and failures: kill -9, a disk that is full, a queue that is.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use super::*;

const CHILD: &str = "PORTCULLIS_LEDGER_CHILD";

/// What the child process of [`nothing_acknowledged_is_lost_by_kill_9`] does: append, and say so.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut options = options(Durability::Process);
    options.checkpoint_every = 50;
    options.checkpoint_after = Duration::from_millis(5);
    let ledger = Ledger::open(&PathBuf::from(dir), options).unwrap();
    let tasks = (0..8).map(|task| {
        let ledger = ledger.clone();
        async move {
            for n in 0.. {
                let t = told(
                    &format!("bot-{task}"),
                    "s",
                    NOW + n,
                    &[(Direction::Down, vec![b'x'; 900 + task])],
                );
                let seq = ledger.append(t.operation.clone()).await.unwrap();
                // One write per line, so that lines of tasks do not mix.
                std::io::stderr()
                    .write_all(format!("{} {}\n", seq.0, t.operation.id).as_bytes())
                    .unwrap();
                for frame in t.frames {
                    ledger.frame(frame).await.unwrap();
                }
                if n % 3 > 0 {
                    ledger.enqueue(t.outcome).await.unwrap();
                }
            }
        }
    });
    runtime.block_on(futures_util::future::join_all(tasks));
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let dir = dir();
    let mut acknowledged = Vec::new();
    for round in 0..20u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ledger::tests::trouble::child", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (first, started) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let tell = |_: &String| first.send(()).unwrap_or_default();
            lines.map_while(Result::ok).inspect(tell).collect::<Vec<_>>()
        });
        // Every fifth is killed wherever it is, perhaps while it opens the ledger.
        if round % 5 != 4 {
            let _ = started.recv_timeout(Duration::from_secs(20));
        }
        std::thread::sleep(Duration::from_millis(round * 17 % 60));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            let Some((seq, id)) = line.split_once(' ') else {
                continue;
            };
            if let (Ok(seq), 36) = (seq.parse::<i64>(), id.len()) {
                acknowledged.push((seq, id.to_owned()));
            }
        }
    }
    assert!(acknowledged.len() > 100, "{} entries", acknowledged.len());
    open(&dir, Durability::Process).close();
    let report = check_all(&dir);
    assert!(
        report.open_operations > 0 && report.unsealed == 0 && report.gaps == 0,
        "{report:?}"
    );
    let conn = rusqlite::Connection::open(db(&dir)).unwrap();
    let mut statement = conn
        .prepare("SELECT json_extract(body, '$.id') FROM entry WHERE seq = ?1")
        .unwrap();
    for (seq, id) in acknowledged {
        assert_eq!(statement.query_row([seq], |r| r.get::<_, String>(0)).unwrap(), id);
    }
    let count = |sql: &str| conn.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
    assert!(count("SELECT count(*) FROM agent_events WHERE event = 'recovered'") >= 16);
    assert!(count("SELECT count(*) FROM operations WHERE outcome = 'interrupted'") > 0);
    assert_eq!(count("SELECT count(*) FROM operations WHERE outcome = 'open'"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_told_when_the_power_took_everything() {
    let dir = dir();
    let ledger = open(&dir, Durability::Process);
    sample(&ledger).await;
    // What a disk has of it that got nothing but what was synced.
    let after = super::dir();
    for item in std::fs::read_dir(dir.path()).unwrap() {
        let path = item.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.ends_with("-wal") && !name.ends_with("-shm") && !path.is_symlink() {
            std::fs::copy(&path, after.path().join(name)).unwrap();
        }
    }
    ledger.close();
    open(&after, Durability::Process).close();
    check_all(&after);
    let conn = rusqlite::Connection::open(db(&after)).unwrap();
    let sql = "SELECT entry, json_extract(detail, '$.entries') FROM agent_events WHERE event = 'recovered'";
    let told: (i64, i64) = conn.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    assert_eq!(told, (0, 0));
}

/// A small file system of its own, unmounted at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Self {
        let dir = dir();
        nix::mount::mount(
            Some("tmpfs"),
            dir.path(),
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some("size=6m"),
        )
        .expect("tests of a full disk need to mount a tmpfs");
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_operations_and_is_told_later() {
    let disk = SmallDisk::new();
    let dir = &disk.0;
    let ledger = open(dir, Durability::Power);
    sample(&ledger).await;
    let ballast = dir.path().join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    // What fits into pages that are there may still go; then it fails.
    let mut failed = false;
    for _ in 0..2000 {
        if ledger.append(agent(&"x".repeat(2000))).await.is_err() {
            failed = true;
            break;
        }
    }
    assert!(failed);
    let status = ledger.status();
    assert!(!status.healthy && status.failure.is_some(), "{status:?}");
    let before = Instant::now();
    for _ in 0..100 {
        let error = ledger.append(agent("refused")).await.unwrap_err();
        assert_eq!(error.reason(), crate::model::Reason::LedgerUnavailable);
    }
    assert!(ledger.enqueue(agent("refused")).await.is_err());
    assert!(
        before.elapsed() < Duration::from_millis(500),
        "errors come at once"
    );
    // Nobody waits for this one; it is kept.
    ledger.enqueue_now(agent("kept"));
    std::fs::remove_file(&ballast).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ledger.status().healthy {
        assert!(Instant::now() < deadline, "{:?}", ledger.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ledger.append(agent("again")).await.unwrap();
    assert!(ledger.status().losses.is_empty());
    ledger.close();
    let report = check_all(dir);
    assert_eq!(report.gaps, 1);
    let conn = rusqlite::Connection::open(db(dir)).unwrap();
    let words = |n: i64| -> String {
        let sql = "SELECT event FROM agent_events ORDER BY entry DESC LIMIT 1 OFFSET ?1";
        conn.query_row(sql, [n], |r| r.get(0)).unwrap()
    };
    assert_eq!(
        [words(2), words(1), words(0)],
        ["ledger_unavailable", "kept", "again"]
    );
    let sql = "SELECT json_extract(detail, '$.refused') FROM agent_events WHERE kind = 'gap'";
    assert!(conn.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap() >= 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_ledger_could_not_say_is_said_at_the_next_start() {
    let disk = SmallDisk::new();
    let dir = &disk.0;
    let ledger = open(dir, Durability::Process);
    let ballast = dir.path().join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    while ledger.append(agent(&"x".repeat(2000))).await.is_ok() {}
    ledger.enqueue_now(agent("lost"));
    ledger.close();
    std::fs::remove_file(&ballast).unwrap();
    let ledger = open(dir, Durability::Process);
    ledger.append(agent("started")).await.unwrap();
    ledger.close();
    assert_eq!(check_all(dir).gaps, 1);
    let conn = rusqlite::Connection::open(db(dir)).unwrap();
    let sql = "SELECT json_extract(detail, '$.entries') FROM agent_events WHERE kind = 'gap'";
    assert_eq!(conn.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overflow_without_a_waiter_is_counted_and_told() {
    let dir = dir();
    let mut options = options(Durability::Process);
    options.queue_records = 8;
    // A record counts for as many bytes as it holds of the queue.
    options.segment_bytes = 1 << 40;
    let ledger = Ledger::open(dir.path(), options).unwrap();
    let started = Instant::now();
    for n in 0..5000 {
        ledger.enqueue_now(entry(EntryKind::Agent, NOW, json!({ "event": "burst", "n": n })));
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    ledger.append(agent("after")).await.unwrap();
    ledger.append(agent("after")).await.unwrap();
    ledger.close();
    check_all(&dir);
    let conn = rusqlite::Connection::open(db(&dir)).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
    let kept = count("SELECT count(*) FROM agent_events WHERE event = 'burst'");
    let lost = count(
        "SELECT coalesce(sum(json_extract(detail, '$.entries')), 0) FROM agent_events WHERE kind = 'gap'",
    );
    assert_eq!(kept + lost, 5000);
    assert!(lost > 0 && count("SELECT count(*) FROM agent_events WHERE event = 'overloaded'") > 0);
}

#[tokio::test]
async fn a_tampered_ledger_is_not_gone_on_with() {
    for edit in [
        "DELETE FROM entry WHERE seq = 17",
        "DELETE FROM tree; UPDATE entry SET leaf = zeroblob(32) WHERE seq = 2",
        "DELETE FROM tree; DELETE FROM entry WHERE seq = 3",
    ] {
        let dir = dir();
        let ledger = open(&dir, Durability::Process);
        sample(&ledger).await;
        ledger.close();
        rusqlite::Connection::open(db(&dir))
            .unwrap()
            .execute_batch(edit)
            .unwrap();
        assert!(
            Ledger::open(dir.path(), options(Durability::Process)).is_err(),
            "{edit}"
        );
    }
    let dir = dir();
    open(&dir, Durability::Process).close();
    std::fs::remove_file(dir.path().join("ledger.key")).unwrap();
    assert!(matches!(
        Ledger::open(dir.path(), Options::new("h", Durability::Process)),
        Err(LedgerError::Key { .. })
    ));
}
