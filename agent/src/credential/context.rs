//! What all credentials of an agent share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{event::EventSink, material::WorkloadToken};
use crate::{
    clock::Clock,
    model::{SecretSink, WorkloadName},
};

/// How often and how long. The defaults are for production; tests turn them down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a file is looked at while it is used.
    pub check: Duration,
    /// Limit on any one exchange over HTTP.
    pub exchange: Duration,
    /// First pause after a failure.
    pub retry_min: Duration,
    /// Longest pause after failures while someone waits for it.
    pub retry_asked: Duration,
    /// Longest pause after failures while the one at hand is still good.
    pub retry_max: Duration,
    /// For how long something without an end of its own may be used that could not be read again.
    pub stale: Duration,
    /// How long what is not used is kept.
    pub idle: Duration,
    /// How long a lease that was replaced is left alone; longer, while someone holds what it keeps alive.
    pub grace: Duration,
    /// How long giving back may take when the agent stops.
    pub closing: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            check: Duration::from_millis(500),
            exchange: Duration::from_secs(10),
            retry_min: Duration::from_secs(1),
            retry_asked: Duration::from_secs(5),
            retry_max: Duration::from_secs(60),
            stale: Duration::from_secs(15 * 60),
            idle: Duration::from_secs(15 * 60),
            grace: Duration::from_secs(60),
            closing: Duration::from_secs(5),
        }
    }
}

/// Where the present token of a workload is had, for renewals that no operation asks for.
pub type Tokens = Arc<dyn Fn(&WorkloadName) -> Option<WorkloadToken> + Send + Sync>;

/// See the top of the file.
pub(super) struct Context {
    pub clock: Clock,
    pub timing: Timing,
    pub sink: Arc<dyn SecretSink>,
    pub events: EventSink,
    pub tokens: OnceLock<Tokens>,
    /// Which slot speaks for an owner of secrets: one that is ending must not take back what the next has announced.
    pub speakers: Mutex<HashMap<String, u64>>,
    pub serial: AtomicU64,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            clock: Clock::System,
            timing: Timing::default(),
            sink: Arc::new(Nobody),
            events: Arc::new(|_| ()),
            tokens: OnceLock::new(),
            speakers: Mutex::default(),
            serial: AtomicU64::new(1),
        }
    }
}

impl Context {
    /// A number that no slot before had.
    pub(super) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Announces the secrets that a slot has from now on.
    pub(super) fn announce(&self, owner: &str, serial: u64, secrets: &[&[u8]]) {
        let mut speakers = self.speakers.lock().unwrap_or_else(PoisonError::into_inner);
        match speakers.get(owner).copied() {
            Some(speaker) if speaker > serial => return,
            Some(speaker) if secrets.is_empty() && speaker == serial => {
                speakers.remove(owner);
            }
            None if secrets.is_empty() => return,
            _ => {
                speakers.insert(owner.to_owned(), serial);
            }
        }
        self.sink.replace(owner, secrets);
    }

    pub(super) fn token(&self, workload: &WorkloadName) -> Option<WorkloadToken> {
        self.tokens.get().and_then(|tokens| tokens(workload))
    }
}

/// Who is told when nobody wants to know.
struct Nobody;

impl SecretSink for Nobody {
    fn replace(&self, _: &str, _: &[&[u8]]) {}
}

/// A duration as nanoseconds of the clock.
pub(super) fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
