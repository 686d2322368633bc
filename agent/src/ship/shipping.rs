//! All sinks of a host: started, changed, looked at and stopped together.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Runtime, task::JoinHandle};

use super::{
    Context, HeldBack, SinkStatus, build,
    dead::{self, DeadLetter},
    look, state,
    worker::{self, Maker, Parts, Shared, Times},
};
use crate::{config::Ship, ledger::Ledger};

/// So long a worker that is told to stop may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why shipping cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShippingError {
    /// No threads can be had.
    #[error("the threads for shipping cannot be had: {0}")]
    Threads(std::io::Error),
    /// There is no sink of that name.
    #[error("there is no [[ship]] '{name}'; there is: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// Its dead letters cannot be read.
    #[error("the dead letters of '{name}' cannot be read: {source}")]
    DeadLetters {
        /// The sink.
        name: String,
        /// Why.
        source: std::io::Error,
    },
}

/// All sinks of a host; clones share them.
#[derive(Clone)]
pub struct Shipping(Arc<Inner>);

struct Inner {
    parts: Parts,
    maker: Maker,
    running: Mutex<BTreeMap<String, Running>>,
    runtime: Mutex<Option<Runtime>>,
    /// Held during a reload, so that there is one at a time.
    changing: tokio::sync::Mutex<()>,
}

struct Running {
    ship: Ship,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let runtime = self.runtime.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.take() {
            // Waiting is not for whoever drops it.
            runtime.shutdown_background();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shipping {
    /// Starts the sinks of a configuration that was checked, on threads of their own. `data_dir` is the ledger's.
    ///
    /// # Errors
    /// When no threads can be had. A sink that cannot be set up is shown as failing, and tried again.
    pub fn start(
        data_dir: &Path,
        ledger: &Ledger,
        context: Context,
        sinks: &[Ship],
    ) -> Result<Self, ShippingError> {
        Self::start_with(data_dir, ledger, context, sinks, Times::default())
    }

    /// The same with other times.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        data_dir: &Path,
        ledger: &Ledger,
        context: Context,
        sinks: &[Ship],
        times: Times,
    ) -> Result<Self, ShippingError> {
        let parts = Parts {
            data_dir: data_dir.into(),
            ledger: ledger.clone(),
            context,
            times,
        };
        let shipping = Self(Arc::new(Inner {
            parts,
            maker: Arc::new(build::sink),
            running: Mutex::default(),
            runtime: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }));
        shipping.run(sinks)?;
        Ok(shipping)
    }

    /// Starts those that do not run yet.
    fn run(&self, sinks: &[Ship]) -> Result<(), ShippingError> {
        let inner = &self.0;
        let mut runtime = lock(&inner.runtime);
        let mut running = lock(&inner.running);
        for ship in sinks {
            if running.contains_key(&ship.name) {
                continue;
            }
            let runtime = match &mut *runtime {
                Some(runtime) => runtime,
                // The first sink: a host without one has no threads for it.
                none => none.insert(threads().map_err(ShippingError::Threads)?),
            };
            let shared = Arc::new(Shared::default());
            let work = worker::run(
                ship.clone(),
                inner.parts.clone(),
                Arc::clone(&shared),
                Arc::clone(&inner.maker),
            );
            let task = runtime.spawn(work);
            let ship = ship.clone();
            running.insert(ship.name.clone(), Running { ship, shared, task });
        }
        Ok(())
    }

    /// Follows a changed configuration: a sink that is gone or changed stops after what it is just sending, one that is
    /// new or changed starts, from its position.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn reload(&self, sinks: &[Ship]) -> Result<(), ShippingError> {
        let _one_at_a_time = self.0.changing.lock().await;
        let former: Vec<Running> = {
            let mut running = lock(&self.0.running);
            let gone: Vec<String> = running
                .values()
                .filter(|r| !sinks.contains(&r.ship))
                .map(|r| r.ship.name.clone())
                .collect();
            gone.iter().filter_map(|name| running.remove(name)).collect()
        };
        stop(former).await;
        self.run(sinks)
    }

    /// Stops all sinks, after what they are just sending, within a few seconds.
    pub async fn close(&self) {
        let _one_at_a_time = self.0.changing.lock().await;
        let running = std::mem::take(&mut *lock(&self.0.running));
        stop(running.into_values().collect()).await;
        if let Some(runtime) = lock(&self.0.runtime).take() {
            runtime.shutdown_background();
        }
    }

    /// How each fares, in the order of their names.
    #[must_use]
    pub fn status(&self) -> Vec<SinkStatus> {
        let running = lock(&self.0.running);
        let all = running.values();
        all.map(|r| {
            let mut health = r.shared.health().clone();
            health.ended |= r.task.is_finished();
            look::status(&self.0.parts, &r.ship, &health)
        })
        .collect()
    }

    /// What must not be purged yet, because a sink with `required = true` has not taken it.
    #[must_use]
    pub fn held_back(&self) -> HeldBack {
        let mut held = HeldBack::default();
        let running = lock(&self.0.running);
        for r in running.values().filter(|r| r.ship.common.required) {
            let health = r.shared.health();
            // One that has not read its position yet may be at the beginning.
            let next = if health.known { health.durable } else { 0 };
            // What it rejected can be sent again only while it is there.
            let next = health.dead_lowest.map_or(next, |lowest| lowest.min(next));
            let place = if r.ship.to.takes_segments() {
                &mut held.segment
            } else {
                &mut held.entry
            };
            *place = Some(place.map_or(next, |other| other.min(next)));
        }
        held
    }

    /// Whether there is a sink of that name.
    ///
    /// # Errors
    /// When there is none; the message names those that there are.
    pub fn known(&self, name: &str) -> Result<(), ShippingError> {
        self.shared(name).map(drop)
    }

    /// Lets a sink try now.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn retry(&self, name: &str) -> Result<(), ShippingError> {
        self.shared(name).map(|shared| shared.retry())
    }

    /// Has a sink send its dead letters again.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn requeue(&self, name: &str) -> Result<(), ShippingError> {
        self.shared(name).map(|shared| shared.send_again())
    }

    /// The first dead letters of a sink. Blocks on the disk.
    ///
    /// # Errors
    /// When there is none of that name, or they cannot be read.
    pub fn dead_letters(&self, name: &str, limit: usize) -> Result<Vec<DeadLetter>, ShippingError> {
        self.shared(name)?;
        let dir = state::dead_directory(&self.0.parts.data_dir, name);
        dead::list(&dir, limit).map_err(|source| ShippingError::DeadLetters {
            name: name.into(),
            source,
        })
    }

    fn shared(&self, name: &str) -> Result<Arc<Shared>, ShippingError> {
        let running = lock(&self.0.running);
        let found = running.get(name).map(|r| Arc::clone(&r.shared));
        found.ok_or_else(|| ShippingError::Unknown {
            name: name.into(),
            known: if running.is_empty() {
                "none".into()
            } else {
                running.keys().cloned().collect::<Vec<_>>().join(", ")
            },
        })
    }
}

/// Threads of its own: a sink that blocks or computes does so beside the data path.
fn threads() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(16)
        .thread_name("ship")
        .enable_all()
        .build()
}

async fn stop(running: Vec<Running>) {
    for r in &running {
        r.shared.stop.cancel();
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for mut r in running {
        if tokio::time::timeout_at(deadline, &mut r.task).await.is_err() {
            tracing::warn!(sink = %r.ship.name, "a sink does not stop; what it is sending will be sent again");
            r.task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
