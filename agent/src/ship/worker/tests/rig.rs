//! A ledger, a worker, and a sink that does as it is told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::super::{
    super::{Accepted, Class, Event, EventSink, Receipt, Rejected, ShipError, build::Sink, state::State},
    Parts, Shared, Times, run,
};
use crate::{
    clock::Clock,
    config::{Durability, Ship},
    credential::Credentials,
    ledger::{self, Ledger, LedgerError, Options, Tail},
    model::{EntryKind, Seq},
    ship::Context,
};

/// What a sink does with the next batch. Without a word it takes everything.
#[derive(Clone, Copy, Debug)]
pub enum Word {
    /// Fails in passing.
    Fail,
    /// Never answers.
    Hang,
    /// Takes so many.
    Take(usize),
    /// Takes all, rejecting one.
    Reject(u64),
}

/// The sink, and what became of it.
#[derive(Clone, Default)]
pub struct Script {
    pub words: Arc<Mutex<VecDeque<Word>>>,
    /// What it took, in its order.
    pub took: Arc<Mutex<Vec<u64>>>,
    /// How often it was offered something.
    pub tries: Arc<Mutex<u64>>,
    /// Batches with one of these are refused as a whole.
    pub poison: Arc<Mutex<Vec<u64>>>,
    /// Batches larger than this are refused.
    pub most: Arc<Mutex<Option<usize>>>,
    /// How often it was made.
    pub made: Arc<Mutex<u64>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl EventSink for Script {
    fn send<'a>(&'a mut self, batch: &'a [Event]) -> BoxFuture<'a, Result<Accepted, ShipError>> {
        Box::pin(async move {
            *lock(&self.tries) += 1;
            let word = lock(&self.words).pop_front();
            let places: Vec<u64> = batch.iter().map(|e| e.seq.0).collect();
            if lock(&self.most).is_some_and(|most| batch.len() > most) {
                return Err(ShipError::TooLarge {
                    why: "too many".into(),
                });
            }
            if lock(&self.poison).iter().any(|bad| places.contains(bad)) {
                return Err(ShipError::permanent(Class::Invalid, "there is something in it"));
            }
            let mut receipt = Receipt {
                place: "script".into(),
                ..Receipt::default()
            };
            receipt.detail.insert("ratio".into(), json!(0.5));
            match word {
                None => {
                    lock(&self.took).extend(&places);
                    Ok(Accepted::all(batch, receipt))
                }
                Some(Word::Fail) => Err(ShipError::temporary(Class::Unreachable, "nobody\nlistens")),
                Some(Word::Hang) => std::future::pending().await,
                Some(Word::Take(n)) => {
                    lock(&self.took).extend(&places[..n]);
                    Ok(Accepted {
                        done: n,
                        rejected: Vec::new(),
                        receipt,
                    })
                }
                Some(Word::Reject(place)) => {
                    lock(&self.took).extend(places.iter().filter(|p| **p != place));
                    Ok(Accepted {
                        done: batch.len(),
                        rejected: vec![Rejected {
                            seq: Seq(place),
                            class: Class::Invalid,
                            why: "no".into(),
                        }],
                        receipt,
                    })
                }
            }
        })
    }
}

/// A ledger in a directory of its own.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub ledger: Ledger,
    pub times: Times,
}

pub fn options() -> Options {
    Options::new("h", Durability::Process)
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), options()).unwrap();
        let times = Times {
            poll: Duration::from_millis(5),
            retry: Duration::from_millis(5),
            save: Duration::ZERO,
            gap: Duration::ZERO,
        };
        Self { dir, ledger, times }
    }

    pub async fn append(&self, count: u64) {
        for n in 0..count {
            let body = json!({ "event": "test", "detail": { "n": n } });
            let entry = ledger::entry(EntryKind::Agent, Clock::System.now_ns(), body);
            self.ledger.append(entry).await.unwrap();
        }
    }

    pub fn parts(&self) -> Parts {
        let context = Context {
            host: "h".into(),
            credentials: Credentials::default(),
            clock: Clock::System,
        };
        Parts {
            data_dir: self.dir.path().into(),
            ledger: self.ledger.clone(),
            context,
            times: self.times,
        }
    }

    /// Starts a worker with a script.
    pub fn start(&self, ship: &Ship, script: &Script) -> Running {
        let script = script.clone();
        self.start_with(ship, move |_, _| {
            *lock(&script.made) += 1;
            Ok(Sink::Events(Box::new(script.clone())))
        })
    }

    pub fn start_with(
        &self,
        ship: &Ship,
        maker: impl Fn(&Ship, &Context) -> Result<Sink, ShipError> + Send + Sync + 'static,
    ) -> Running {
        let shared = Arc::new(Shared::default());
        let work = run(ship.clone(), self.parts(), Arc::clone(&shared), Arc::new(maker));
        let task = tokio::spawn(work);
        Running { shared, task }
    }

    /// What the ledger says of shipping: event and detail.
    pub fn said(&self, event: &str) -> Vec<Value> {
        let mut tail = Tail::new(self.dir.path(), Seq(0));
        let mut found = Vec::new();
        loop {
            match tail.read(self.ledger.size(), usize::MAX, usize::MAX) {
                Ok(more) if more.is_empty() => break,
                Ok(more) => found.extend(more),
                Err(LedgerError::Purged { to, .. }) => tail = Tail::new(self.dir.path(), Seq(to)),
                Err(e) => panic!("{e}"),
            }
        }
        // One that was purged has no body.
        let bodies = found
            .into_iter()
            .filter_map(|r| serde_json::from_str::<Value>(&r.body).ok());
        bodies
            .filter(|b| b["kind"] == "ledger" && b["event"] == event)
            .map(|b| b["detail"].clone())
            .collect()
    }

    pub fn state(&self, name: &str) -> Option<State> {
        let path = self.dir.path().join(format!("ship/{name}.state"));
        let text = std::fs::read(path).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

pub struct Running {
    pub shared: Arc<Shared>,
    pub task: JoinHandle<()>,
}

impl Running {
    /// Stops in an orderly way.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.task.await.unwrap();
    }

    /// As a crash does.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Waits for a condition.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited for {what}");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}

/// A sink of events by this name, with further keys.
pub fn events(name: &str, keys: &str) -> Ship {
    let text = format!("[[ship]]\nname = \"{name}\"\nkind = \"jsonl\"\npath = \"/x\"\n{keys}\n");
    ship(&text)
}

pub fn ship(text: &str) -> Ship {
    crate::config::parse("test".as_ref(), text)
        .unwrap()
        .ship
        .remove(0)
}
