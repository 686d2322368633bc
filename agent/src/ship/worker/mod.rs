//! The task of one sink.

mod bury;
mod core;
mod events;
mod note;
mod requeue;
mod segments;
mod send;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::core::Core;
use super::{Context, Pace, build::Sink, state::State};
use crate::{config::Ship, ledger::Ledger};

/// How often things are looked at. Tests turn it faster.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// How often a worker looks for something new.
    pub poll: Duration,
    /// The pause after the first failed try; it doubles.
    pub retry: Duration,
    /// How often the position of events is made durable while they flow.
    pub save: Duration,
    /// The least time between two entries about failing, and two about rejected events.
    pub gap: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(250),
            retry: Duration::from_secs(1),
            save: Duration::from_secs(1),
            gap: Duration::from_secs(60),
        }
    }
}

/// What every worker works with.
#[derive(Clone)]
pub(super) struct Parts {
    pub data_dir: PathBuf,
    pub ledger: Ledger,
    pub context: Context,
    pub times: Times,
}

/// What makes a worker's sink: called at its start, and again after failures, for files that it read may have changed.
pub(super) type Maker = Arc<dyn Fn(&Ship, &Context) -> Result<Sink, super::ShipError> + Send + Sync>;

/// What a worker shares with those who look at it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub wake: Notify,
    pub stop: CancellationToken,
    /// An admin wants dead letters to be sent again.
    pub again: AtomicBool,
    health: Mutex<Health>,
}

/// How a worker is.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    /// As far as it is; what is durable of it may be a little behind.
    pub state: State,
    /// How far it is durable.
    pub durable: u64,
    /// Whether the worker has read its position yet.
    pub known: bool,
    /// When it tries again, nanoseconds since 1970 UTC.
    pub next_try: Option<i64>,
    /// When the first entry that waits was made, RFC 3339.
    pub waiting_since: Option<String>,
    /// Dead letters.
    pub dead: u64,
    /// The lowest place among those, and those that are being sent again.
    pub dead_lowest: Option<u64>,
    /// Whether it sends right now.
    pub sending: bool,
    /// Whether it ended.
    pub ended: bool,
}

impl Shared {
    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a try now.
    pub(super) fn retry(&self) {
        self.wake.notify_one();
    }

    /// Asks for dead letters to be sent again.
    pub(super) fn send_again(&self) {
        self.again.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

/// Works until it is stopped.
pub(super) async fn run(ship: Ship, parts: Parts, shared: Arc<Shared>, maker: Maker) {
    let pace = Pace::new(ship.common.max_rate);
    let mut core = Core::new(ship, parts, Arc::clone(&shared), pace);
    if core.open().await {
        loop {
            let sink = match maker(core.ship(), core.context()) {
                Ok(sink) => sink,
                Err(error) => {
                    core.failed(&error).await;
                    if core.pause(&error).await {
                        continue;
                    }
                    break;
                }
            };
            let go_on = match sink {
                Sink::Segments(sink) => segments::work(&mut core, &*sink).await,
                Sink::Events(sink) => events::work(&mut core, sink).await,
            };
            if !go_on {
                break;
            }
        }
        core.close().await;
    }
    let mut health = shared.health();
    (health.ended, health.sending) = (true, false);
}

#[cfg(test)]
mod tests;
