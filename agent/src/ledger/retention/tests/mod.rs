//! Retention against a real ledger with sealed segments.

mod holds;
mod payload;
mod people;
mod room;

use std::sync::atomic::AtomicI64;

use tempfile::TempDir;

use super::*;
use crate::{
    config::Keep,
    ledger::{
        Report, segment_path,
        tests::{self as whole, told},
        verify::{Checks, Finding, verify_files},
    },
    model::{Direction, OperationId},
};

pub(super) const DAY: i64 = 86_400_000_000_000;

pub(super) struct World {
    pub dir: TempDir,
    pub ledger: Ledger,
    pub now: Arc<AtomicI64>,
    pub retention: Retention,
}

pub(super) fn days(n: u64) -> Keep {
    Keep::For(std::time::Duration::from_secs(n * 86_400))
}

pub(super) fn config() -> config::Retention {
    config::Retention {
        payloads: days(90),
        entries: days(365),
        purge_groups: vec!["records".into()],
        ..config::Retention::default()
    }
}

pub(super) fn by() -> By {
    By { pid: 7, uid: 0 }
}

impl World {
    pub fn new(config: config::Retention) -> Self {
        let dir = whole::dir();
        let ledger = whole::open(&dir, config::Durability::Process);
        let now = Arc::new(AtomicI64::new(Clock::System.now_ns()));
        let retention = start(&dir, &ledger, &now, config);
        Self {
            dir,
            ledger,
            now,
            retention,
        }
    }

    /// Another process in its place, as far as retention can tell.
    pub fn again(&mut self, config: config::Retention) {
        self.retention = start(&self.dir, &self.ledger, &self.now, config);
    }

    pub fn later(&self, days: i64) {
        self.now.fetch_add(days * DAY, Ordering::AcqRel);
    }

    /// One operation with a payload of these words in both directions.
    pub async fn operation(&self, workload: &str, session: &str, words: &str) -> OperationId {
        self.operation_at(workload, session, words, Clock::System.now_ns())
            .await
    }

    pub async fn operation_at(&self, workload: &str, session: &str, words: &str, at: i64) -> OperationId {
        let payload = [
            (Direction::Up, format!("GET /{words}").into_bytes()),
            (Direction::Down, words.repeat(300).into_bytes()),
        ];
        let told = told(workload, session, at, &payload);
        whole::tell(&self.ledger, &told).await;
        told.id
    }

    pub async fn seal(&self) -> u64 {
        self.ledger.seal().await.unwrap().unwrap().number
    }

    /// Three segments of two workloads each, and something that is not sealed.
    pub async fn three(&self) {
        for n in 0..3 {
            self.operation("bot-a", "s-a", &format!("alpha{n}")).await;
            self.operation("bot-b", "s-b", &format!("beta{n}")).await;
            assert_eq!(self.seal().await, n);
        }
        self.operation("bot-a", "s-a", "live").await;
    }

    pub fn file(&self, segment: u64) -> Vec<u8> {
        std::fs::read(segment_path(self.dir.path(), segment)).unwrap()
    }

    pub fn sql<T: rusqlite::types::FromSql>(&self, segment: u64, sql: &str) -> T {
        let conn = rusqlite::Connection::open(segment_path(self.dir.path(), segment)).unwrap();
        conn.query_row(sql, [], |r| r.get(0)).unwrap()
    }

    pub fn edit(&self, segment: u64, sql: &str) {
        let conn = rusqlite::Connection::open(segment_path(self.dir.path(), segment)).unwrap();
        conn.execute_batch(sql).unwrap();
    }

    pub fn verify(&self) -> Result<Report, Finding> {
        verify_files(&[self.dir.path().into()], &Checks::default(), &mut |_| {})
    }

    /// All entries of these events in the ledger, with their details.
    pub fn events(&self, event: &str) -> Vec<Value> {
        let mut tail = super::super::Tail::new(self.dir.path(), Seq(0));
        let mut found = Vec::new();
        loop {
            let read = match tail.read(self.ledger.size(), 1000, 1 << 20) {
                Err(LedgerError::Purged { to, .. }) => {
                    tail = super::super::Tail::new(self.dir.path(), Seq(to));
                    continue;
                }
                other => other.unwrap(),
            };
            if read.is_empty() {
                return found;
            }
            for entry in read {
                let body: Value = serde_json::from_str(&entry.body).unwrap();
                if body["event"] == event {
                    found.push(body);
                }
            }
        }
    }

    /// Nothing but the segments lies where they are.
    pub fn is_tidy(&self) -> bool {
        let segments = std::fs::read_dir(self.dir.path().join("segments")).unwrap();
        let mut names = segments.map(|f| f.unwrap().file_name().into_string().unwrap());
        names.all(|name| name.ends_with(".db")) && !self.dir.path().join("retention.intent").exists()
    }
}

pub(super) fn has(file: &[u8], words: &str) -> bool {
    file.windows(words.len()).any(|window| window == words.as_bytes())
}

fn start(dir: &TempDir, ledger: &Ledger, now: &Arc<AtomicI64>, config: config::Retention) -> Retention {
    Retention::new(Parts {
        dir: dir.path().into(),
        ledger: ledger.clone(),
        clock: Clock::Manual(Arc::clone(now)),
        config,
        mask: Arc::new(|text| text.replace("hunter2", "[masked]")),
    })
}
