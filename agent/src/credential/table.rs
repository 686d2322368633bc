//! The credentials of one configuration, and what is at hand of each.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use arc_swap::ArcSwap;

use super::{context::Context, slot::Slot, source::Source, status::CredentialStatus};
use crate::{config, model::WorkloadName};

/// By reference.
pub(super) type Table = HashMap<Box<str>, Arc<Entry>>;

type Slots = HashMap<Option<WorkloadName>, Arc<Slot>>;

/// One `[[credential]]`.
pub(super) struct Entry {
    pub(super) config: config::Credential,
    reference: Arc<str>,
    /// `None` for a client certificate.
    source: Option<Arc<Source>>,
    slots: ArcSwap<Slots>,
    /// Held by who adds or takes out.
    writing: Mutex<()>,
    /// When a client certificate was last used.
    pub(super) used_at: AtomicI64,
}

impl Entry {
    pub(super) fn new(config: &config::Credential, context: &Context) -> Self {
        Self {
            config: config.clone(),
            reference: config.name.as_str().into(),
            source: Source::new(config, context.timing.exchange).map(Arc::new),
            slots: ArcSwap::default(),
            writing: Mutex::default(),
            used_at: AtomicI64::new(0),
        }
    }

    /// The one for a workload; made when it is first asked for. `None` for a client certificate.
    pub(super) fn slot(&self, workload: &WorkloadName, context: &Arc<Context>) -> Option<Arc<Slot>> {
        let source = self.source.as_ref()?;
        let key = self.config.is_per_workload().then(|| workload.clone());
        if let Some(slot) = self.slots.load().get(&key) {
            return Some(Arc::clone(slot));
        }
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = Slots::clone(&self.slots.load());
        let slot = slots.entry(key.clone()).or_insert_with(|| {
            let (reference, source) = (Arc::clone(&self.reference), Arc::clone(source));
            Arc::new(Slot::new(reference, key, source, Arc::clone(context)))
        });
        let slot = Arc::clone(slot);
        self.slots.store(Arc::new(slots));
        Some(slot)
    }

    /// Takes out what a workload has.
    pub(super) fn take(&self, workload: &WorkloadName) -> Option<Arc<Slot>> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = Slots::clone(&self.slots.load());
        let slot = slots.remove(&Some(workload.clone()))?;
        self.slots.store(Arc::new(slots));
        Some(slot)
    }

    /// Takes out everything.
    pub(super) fn take_all(&self) -> Vec<Arc<Slot>> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.slots.swap(Arc::default()).values().cloned().collect()
    }

    /// Roots from files are read again.
    pub(super) fn reset(&self) {
        if let Some(source) = &self.source {
            source.reset();
        }
    }

    /// A line for each that is at hand, or one that says that there is none.
    pub(super) fn status(&self) -> Vec<CredentialStatus> {
        let line = || CredentialStatus {
            reference: self.config.name.clone(),
            source: self.config.source(),
            workload: None,
            version: None,
            user: None,
            expires_at: None,
            used_at: moment(&self.used_at),
            last_error: None,
        };
        let slots = self.slots.load();
        let mut lines: Vec<_> = slots
            .values()
            .map(|slot| {
                let material = slot.current.load_full().map(|held| Arc::clone(&held.material));
                CredentialStatus {
                    workload: slot.workload.as_ref().map(ToString::to_string),
                    version: material.as_ref().map(|m| m.version.to_string()),
                    user: material.as_ref().and_then(|m| m.user().map(ToString::to_string)),
                    expires_at: material.as_ref().and_then(|m| m.expires_at),
                    used_at: moment(&slot.used_at),
                    last_error: slot.last_error().map(|e| (e.at_ns, e.message)),
                    ..line()
                }
            })
            .collect();
        if lines.is_empty() {
            lines.push(line());
        }
        lines.sort_by(|a, b| a.workload.cmp(&b.workload));
        lines
    }
}

fn moment(at: &AtomicI64) -> Option<i64> {
    Some(at.load(Ordering::Relaxed)).filter(|at| *at > 0)
}
