//! Who each workload is: obtains its OIDC token, verifies it, keeps it fresh, and ends it when it runs out or an admin
//! revokes it.
//!
//! `verify` is the heart, without IO. `issuer` has the keys, `source` the tokens, `keeper` (one task for each
//! workload) brings them together and writes to its `cell`, which the path of every operation reads without a lock;
//! `life` is what connections wait on.

mod approver;
mod cell;
mod error;
mod event;
mod fetch;
mod issuer;
mod jwks;
mod keeper;
mod life;
mod revoked;
mod source;
mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod verify;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use rand::Rng as _;
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

pub use approver::{Approvers, Attempt, DeviceCode, DevicePoll, SignIn, SignInError, SignInTerms};
pub use error::IdentityError;
pub use event::{Actor, Event, EventSink, LifecycleEvent};
pub use life::Ended;
pub use revoked::Revocation;
pub use status::WorkloadStatus;

use crate::{
    clock::Clock,
    config::{self, Config},
    model::{Identity, Reason, WorkloadName},
};
use cell::Cell;
use issuer::Issuer;
use keeper::Keeper;
use revoked::Revocations;
use source::Source;

/// How often and how long. The defaults are for production; tests turn them down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a token file is looked at.
    pub file_poll: Duration,
    /// Age at which an issuer's keys are fetched again.
    pub jwks_refresh: Duration,
    /// Time between fetches that unknown keys cause.
    pub refetch_min: Duration,
    /// Limit on any one exchange with an issuer.
    pub http_timeout: Duration,
    /// First pause after a failure.
    pub retry_min: Duration,
    /// Longest pause after failures.
    pub retry_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            file_poll: Duration::from_millis(500),
            jwks_refresh: Duration::from_secs(300),
            refetch_min: Duration::from_secs(10),
            http_timeout: Duration::from_secs(10),
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(30),
        }
    }
}

/// The identities of all workloads of the configuration. Its tasks end with its last clone.
#[derive(Clone)]
pub struct Identities(Arc<Shared>);

/// See [`Identities::tokens`].
pub type Tokens = dyn Fn(&WorkloadName) -> Option<Arc<Zeroizing<String>>> + Send + Sync;

struct Shared {
    clock: Clock,
    timing: Timing,
    events: EventSink,
    revocations: Mutex<Revocations>,
    table: ArcSwap<Table>,
    /// Held during a reload, so that there is one at a time.
    reloading: Mutex<()>,
}

#[derive(Default)]
struct Table {
    issuers: HashMap<String, Arc<Kept<Arc<Issuer>>>>,
    workloads: HashMap<WorkloadName, Arc<Kept<Entry>>>,
}

struct Entry {
    cell: Arc<Cell>,
    issuer: Arc<Issuer>,
    config: config::Workload,
    source: &'static str,
}

/// Something with a task that ends with it.
struct Kept<T> {
    value: T,
    task: AbortHandle,
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Identities {
    /// Starts obtaining and verifying tokens for each workload, in tasks of the tokio runtime that it is called in.
    /// Returns at once: until its first token is verified a workload has no identity ([`Identities::settled`]).
    ///
    /// # Errors
    /// When the configuration cannot be used, or the list of revoked workloads cannot be read.
    pub fn start(config: &Config, clock: Clock, events: EventSink) -> Result<Self, IdentityError> {
        Self::start_with(config, clock, events, Timing::default())
    }

    /// The same with other timing.
    ///
    /// # Errors
    /// As [`Identities::start`].
    pub fn start_with(
        config: &Config,
        clock: Clock,
        events: EventSink,
        timing: Timing,
    ) -> Result<Self, IdentityError> {
        let identities = Self(Arc::new(Shared {
            clock,
            timing,
            events,
            revocations: Mutex::new(Revocations::load(&config.host.data_dir)?),
            table: ArcSwap::default(),
            reloading: Mutex::default(),
        }));
        identities.reload(config)?;
        Ok(identities)
    }

    /// Applies a changed configuration, all or nothing. What did not change goes on undisturbed. A workload whose
    /// source or issuer changed keeps its identity until the first verdict under the new ones, whatever that is.
    ///
    /// # Errors
    /// When the configuration cannot be used; nothing has changed then.
    pub fn reload(&self, config: &Config) -> Result<(), IdentityError> {
        let shared = &self.0;
        let _one_at_a_time = lock(&shared.reloading);
        let former = shared.table.load_full();
        let mut table = Table::default();
        let mut fresh_issuers = Vec::new();
        for config in &config.issuer {
            match former
                .issuers
                .get(&config.name)
                .filter(|kept| kept.value.is(config))
            {
                Some(kept) => {
                    table.issuers.insert(config.name.clone(), Arc::clone(kept));
                }
                None => {
                    fresh_issuers.push((config.name.clone(), Arc::new(Issuer::new(config, shared.timing)?)))
                }
            }
        }
        let fresh: HashMap<_, _> = fresh_issuers
            .iter()
            .map(|(name, issuer)| (name, issuer))
            .collect();
        let mut changed = Vec::new();
        for config in &config.workload {
            let issuer = fresh
                .get(&config.issuer)
                .map(|issuer| Arc::clone(issuer))
                .or_else(|| {
                    table
                        .issuers
                        .get(&config.issuer)
                        .map(|kept| Arc::clone(&kept.value))
                })
                .ok_or_else(|| IdentityError::NoIssuer {
                    workload: config.name.to_string(),
                    issuer: config.issuer.clone(),
                })?;
            let kept = former.workloads.get(&config.name);
            match kept.filter(|kept| kept.value.config == *config && Arc::ptr_eq(&kept.value.issuer, &issuer))
            {
                Some(kept) => {
                    table.workloads.insert(config.name.clone(), Arc::clone(kept));
                }
                None => changed.push((config, issuer, Source::new(config)?, kept)),
            }
        }
        // Nothing fails from here on.
        for (name, issuer) in fresh_issuers {
            let task = {
                let issuer = Arc::clone(&issuer);
                tokio::spawn(async move { issuer.keep_fresh().await }).abort_handle()
            };
            table.issuers.insert(name, Arc::new(Kept { value: issuer, task }));
        }
        for (config, issuer, source, kept) in changed {
            let entry = self.keep(
                config,
                issuer,
                source,
                kept.map(|kept| Arc::clone(&kept.value.cell)),
            );
            table.workloads.insert(config.name.clone(), Arc::new(entry));
        }
        let table = Arc::new(table);
        shared.table.store(Arc::clone(&table));
        for (name, kept) in &former.workloads {
            if !table.workloads.contains_key(name) {
                kept.value.cell.remove();
            }
        }
        Ok(())
    }

    /// Starts the keeper of one workload.
    fn keep(
        &self,
        config: &config::Workload,
        issuer: Arc<Issuer>,
        source: Source,
        cell: Option<Arc<Cell>>,
    ) -> Kept<Entry> {
        let shared = &self.0;
        let cell = cell.unwrap_or_else(|| {
            let revoked = lock(&shared.revocations).get(config.name.as_str()).cloned();
            let (clock, events) = (shared.clock.clone(), Arc::clone(&shared.events));
            Arc::new(Cell::new(config.name.clone(), clock, events, revoked))
        });
        let word = source.as_str();
        let keeper = Keeper {
            cell: Arc::clone(&cell),
            seat: cell.seat(),
            issuer: Arc::clone(&issuer),
            source,
            clock: shared.clock.clone(),
            timing: shared.timing,
        };
        Kept {
            value: Entry {
                cell,
                issuer,
                config: config.clone(),
                source: word,
            },
            task: tokio::spawn(keeper.run()).abort_handle(),
        }
    }

    /// One workload's identity; `None` where the configuration has no such workload.
    #[must_use]
    pub fn handle(&self, workload: &WorkloadName) -> Option<IdentityHandle> {
        let table = self.0.table.load();
        let entry = table.workloads.get(workload)?;
        Some(IdentityHandle(Arc::clone(&entry.value.cell)))
    }

    /// Where the present token of a workload is had. Does not keep the identities alive.
    #[must_use]
    pub fn tokens(&self) -> Arc<Tokens> {
        let shared = Arc::downgrade(&self.0);
        Arc::new(move |workload: &WorkloadName| Self(shared.upgrade()?).handle(workload)?.token())
    }

    /// Revokes a workload: new operations are denied and live connections end at once, and so after a restart, until
    /// [`Identities::restore`]. Blocks for as long as a small file takes to be durable. Again on one that is revoked
    /// changes nothing.
    ///
    /// # Errors
    /// When there is no such workload, or the revocation cannot be stored; it is in force then until the agent stops.
    pub fn revoke(&self, workload: &WorkloadName, actor: Actor) -> Result<(), IdentityError> {
        let mut revocations = lock(&self.0.revocations);
        let handle = self
            .handle(workload)
            .ok_or_else(|| IdentityError::UnknownWorkload(workload.to_string()))?;
        let revocation = match revocations.get(workload.as_str()) {
            // Stored again: the last time may have failed.
            Some(former) => former.clone(),
            None => Revocation {
                at_ns: self.0.clock.now_ns(),
                actor,
            },
        };
        handle.0.set_revoked(Some(revocation.clone()), actor);
        revocations.add(workload.as_str(), revocation)
    }

    /// Restores a revoked workload, also one that is not in the configuration any more. It has an identity again at
    /// once if its token is valid. One that is not revoked stays as it is.
    ///
    /// # Errors
    /// When there is no such workload, or that cannot be stored; it stays revoked then.
    pub fn restore(&self, workload: &WorkloadName, actor: Actor) -> Result<(), IdentityError> {
        let mut revocations = lock(&self.0.revocations);
        let handle = self.handle(workload);
        if revocations.get(workload.as_str()).is_some() {
            revocations.remove(workload.as_str())?;
        } else if handle.is_none() {
            return Err(IdentityError::UnknownWorkload(workload.to_string()));
        }
        if let Some(handle) = handle {
            handle.0.set_revoked(None, actor);
        }
        Ok(())
    }

    /// Each workload's state, in the order of their names.
    #[must_use]
    pub fn status(&self) -> Vec<WorkloadStatus> {
        let table = self.0.table.load();
        let mut all: Vec<_> = table
            .workloads
            .iter()
            .map(|(name, kept)| {
                let entry = &kept.value;
                WorkloadStatus::new(
                    name,
                    entry.source,
                    &entry.issuer.rules.issuer,
                    entry.cell.snapshot(),
                )
            })
            .collect();
        all.sort_by(|a, b| a.workload.cmp(&b.workload));
        all
    }

    /// Resolves once every workload has had its first verdict, valid or not.
    pub async fn settled(&self) {
        let cells: Vec<_> = {
            let table = self.0.table.load();
            table
                .workloads
                .values()
                .map(|kept| Arc::clone(&kept.value.cell))
                .collect()
        };
        for cell in cells {
            // The sender is in the cell that is held here.
            let _ = cell.changes().wait_for(|settled| *settled).await;
        }
    }
}

/// One workload's identity, for as long as anyone wants it: reload, revocation and refresh show through it.
#[derive(Clone)]
pub struct IdentityHandle(Arc<Cell>);

impl IdentityHandle {
    /// The identity, if it may be used at this moment. For every operation: no lock, no IO.
    ///
    /// # Errors
    /// Why it may not.
    #[inline]
    pub fn check(&self) -> Result<Arc<Identity>, Reason> {
        self.0.check()
    }

    /// The token that the identity was verified from, for who exchanges it for something else; none as soon as the
    /// identity is over. It is wiped when its last holder drops it: hold it no longer than one exchange takes.
    #[must_use]
    pub fn token(&self) -> Option<Arc<Zeroizing<String>>> {
        self.0.token()
    }

    /// Resolves when the identity that is in force at the time of the call is over: expired, revoked, invalid, or
    /// replaced by another subject's; at once where there is none. A fresh token of the same subject is no end.
    pub fn ended(&self) -> Ended {
        self.0.ended()
    }

    /// [`IdentityHandle::check`] and [`IdentityHandle::ended`] of the same moment: nothing can happen in between.
    ///
    /// # Errors
    /// As `check`.
    pub fn bind(&self) -> Result<(Arc<Identity>, Ended), Reason> {
        self.0.bind()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Between half of a pause and all of it, so that a hundred hosts do not come back at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..=1.0))
}
