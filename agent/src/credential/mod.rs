//! Credentials: secrets by reference, had from where they are kept and wiped when nobody needs them.
//!
//! Invariants: a secret is never in the configuration, and nothing that holds one can be printed; an error or an event
//! names the reference, the place and the version, never what is there. What is at hand is announced before it is used,
//! so that it can be found in what passes. What has run out is not used, whatever happens.
//!
//! `table` has the configuration, `slot` what is at hand for one party, `keeper` renews it; `source` and the files named
//! like places know how it is had. README.md says what to write for each.

mod certificate;
mod context;
mod error;
mod event;
mod file;
mod keeper;
mod keys_file;
mod material;
mod oauth;
mod party;
mod secret;
mod slot;
mod source;
mod status;
mod sts;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod vault;
mod web;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;

pub use context::{Timing, Tokens};
pub use error::CredentialError;
pub use event::{CredentialEvent, Event, EventSink};
pub use material::{Asker, AwsKeys, Material, MaterialValue, WorkloadToken};
pub use secret::{Certificate, Secret};
pub use status::CredentialStatus;

use crate::{
    clock::Clock,
    config::{Credential, Gives},
    model::{SecretSink, WorkloadName},
};
use context::Context;
use slot::Slot;
use table::{Entry, Table};

/// The credentials of the configuration; clones share them.
#[derive(Clone, Default)]
pub struct Credentials(Arc<Shared>);

#[derive(Default)]
struct Shared {
    context: Arc<Context>,
    table: ArcSwap<Table>,
    /// Held during a reload, so that there is one at a time.
    reloading: Mutex<()>,
    closed: AtomicBool,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.table.load().keys()).finish()
    }
}

impl Credentials {
    /// Those of a configuration that was checked, with nobody to be told of them.
    #[must_use]
    pub fn new(credentials: &[Credential]) -> Self {
        let all = Self::default();
        all.reload(credentials);
        all
    }

    /// Those of a configuration that was checked. Nothing is asked for until it is needed. `sink` is told of every
    /// secret before it is used, `events` of what happens to them.
    #[must_use]
    pub fn start(
        credentials: &[Credential],
        clock: Clock,
        sink: Arc<dyn SecretSink>,
        events: EventSink,
    ) -> Self {
        Self::start_with(credentials, clock, sink, events, Timing::default())
    }

    /// The same with other timing.
    #[must_use]
    pub fn start_with(
        credentials: &[Credential],
        clock: Clock,
        sink: Arc<dyn SecretSink>,
        events: EventSink,
        timing: Timing,
    ) -> Self {
        let context = Context {
            clock,
            timing,
            sink,
            events,
            ..Context::default()
        };
        let all = Self(Arc::new(Shared {
            context: Arc::new(context),
            ..Shared::default()
        }));
        all.reload(credentials);
        all
    }

    /// Says where the tokens of workloads are had, for renewals that no operation asks for. Counts once.
    pub fn tokens(&self, tokens: Tokens) {
        // The first one stays.
        let _ = self.0.context.tokens.set(tokens);
    }

    /// Replaces the configuration. What did not change goes on undisturbed; of what did, leases are given back when
    /// nobody holds what they keep alive.
    pub fn reload(&self, credentials: &[Credential]) {
        let _one_at_a_time = self.0.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let former = self.0.table.load_full();
        let mut table = Table::default();
        for config in credentials {
            let kept = former
                .get(config.name.as_str())
                .filter(|entry| entry.config == *config);
            let entry = match kept {
                Some(entry) => {
                    entry.reset();
                    Arc::clone(entry)
                }
                None => Arc::new(Entry::new(config, &self.0.context)),
            };
            table.insert(config.name.as_str().into(), entry);
        }
        let table = Arc::new(table);
        self.0.table.store(Arc::clone(&table));
        for (name, entry) in &*former {
            if table.get(name).is_none_or(|kept| !Arc::ptr_eq(kept, entry)) {
                for slot in entry.take_all() {
                    end(slot, true);
                }
            }
        }
    }

    /// What a credential gives now, for one workload. Where it is at hand and good, that is a few loads of pointers.
    ///
    /// # Errors
    /// When it cannot be had: what needs it must not go upstream.
    pub async fn get(&self, name: &str, asker: &Asker) -> Result<Arc<Material>, CredentialError> {
        let slot = self.slot(name, asker, "a secret")?;
        slot.get(asker.token.as_ref(), false).await
    }

    /// A password, with its user where it comes with one, for a login: a file is looked at in any case.
    ///
    /// # Errors
    /// When it is none, or cannot be had: there must be no login.
    pub async fn password(&self, name: &str, asker: &Asker) -> Result<Arc<Material>, CredentialError> {
        let entry = self.find(name)?;
        if !matches!(entry.config.gives(), Gives::Secret | Gives::Login) {
            return Err(kind(&entry, "a password"));
        }
        let slot = self.slot(name, asker, "a password")?;
        slot.get(asker.token.as_ref(), true).await
    }

    /// Reads a client certificate and its key.
    ///
    /// # Errors
    /// When there is none of that name, a file is missing or holds no PEM of its kind, or others may read the key.
    pub async fn certificate(&self, name: &str) -> Result<Certificate, CredentialError> {
        let entry = self.find(name)?;
        let now = self.0.context.clock.coarse_ns();
        entry.used_at.store(now, Ordering::Relaxed);
        certificate::read(&entry.config).await
    }

    /// A workload's identity is over: what was had with its token is forgotten, and its leases are revoked. Never
    /// blocks. Outside of a tokio runtime leases run out by themselves.
    pub fn end_workload(&self, workload: &WorkloadName) {
        for entry in self.0.table.load().values() {
            if let Some(slot) = entry.take(workload) {
                end(slot, false);
            }
        }
    }

    /// Gives everything back, and gives nothing any more. Takes a few seconds at most.
    pub async fn close(&self) {
        self.0.closed.store(true, Ordering::Release);
        let table = self.0.table.load_full();
        let slots: Vec<_> = table.values().flat_map(|entry| entry.take_all()).collect();
        let ending = slots.iter().map(|slot| slot.end(slot.stop(), false));
        let all = futures_util::future::join_all(ending);
        if tokio::time::timeout(self.0.context.timing.closing, all)
            .await
            .is_err()
        {
            tracing::warn!(
                "not every lease could be revoked in time; those that are left run out by themselves"
            );
        }
    }

    /// Each credential, in the order of their names.
    #[must_use]
    pub fn status(&self) -> Vec<CredentialStatus> {
        let table = self.0.table.load();
        let mut lines: Vec<_> = table.values().flat_map(|entry| entry.status()).collect();
        lines.sort_by(|a, b| (&a.reference, &a.workload).cmp(&(&b.reference, &b.workload)));
        lines
    }

    fn find(&self, name: &str) -> Result<Arc<Entry>, CredentialError> {
        let table = self.0.table.load();
        let entry = table.get(name).map(Arc::clone);
        entry.ok_or_else(|| CredentialError::Unknown(name.into()))
    }

    fn slot(&self, name: &str, asker: &Asker, wants: &'static str) -> Result<Arc<Slot>, CredentialError> {
        let table = self.0.table.load();
        let entry = table
            .get(name)
            .ok_or_else(|| CredentialError::Unknown(name.into()))?;
        if self.0.closed.load(Ordering::Acquire) {
            return Err(CredentialError::Ended(name.into()));
        }
        entry
            .slot(&asker.workload, &self.0.context)
            .ok_or_else(|| kind(entry, wants))
    }
}

fn kind(entry: &Entry, wants: &'static str) -> CredentialError {
    CredentialError::Kind {
        name: entry.config.name.as_str().into(),
        is: entry.config.gives().as_str(),
        wants,
    }
}

/// Ends a slot from where nothing can be awaited. At once nothing is had from it any more.
fn end(slot: Arc<Slot>, patience: bool) {
    let current = slot.stop();
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move { slot.end(current, patience).await });
    }
}
