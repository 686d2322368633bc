//! The policy set in force, and its replacement as a whole.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;

use super::{PolicyError, PolicySet};
use crate::config;

/// The policy set in force. Clones share it.
#[derive(Clone)]
pub struct PolicyStore {
    inner: Arc<Inner>,
}

struct Inner {
    dirs: Vec<PathBuf>,
    current: ArcSwap<PolicySet>,
    /// Why the last reload failed. Also the lock that keeps two reloads apart.
    failed: Mutex<Option<Arc<str>>>,
}

/// What a reload did, for a `change` entry.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    /// The hash before.
    pub before: Arc<str>,
    /// The hash now in force.
    pub after: Arc<str>,
    /// Ids of policies that are new.
    pub added: Vec<Arc<str>>,
    /// Ids of policies that are gone.
    pub removed: Vec<Arc<str>>,
    /// Ids of policies that say something else.
    pub changed: Vec<Arc<str>>,
}

/// What `status` shows.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// The hash of the set in force.
    pub hash: Arc<str>,
    /// Its generation.
    pub generation: u64,
    /// How many policies it has; with none everything is denied.
    pub policies: usize,
    /// Where it comes from; empty when none are configured.
    pub dirs: Vec<PathBuf>,
    /// How many warnings `policy check` has for it.
    pub warnings: usize,
    /// Why the files as they are now could not replace it, when they could not.
    pub error: Option<Arc<str>>,
}

impl PolicyStore {
    /// Loads the configured directories.
    ///
    /// # Errors
    /// When something cannot be read, or a policy is wrong.
    pub fn load(config: &config::Policy) -> Result<Self, PolicyError> {
        let set = PolicySet::load(&config.dirs)?;
        let inner = Inner {
            dirs: config.dirs.clone(),
            current: ArcSwap::from_pointee(set),
            failed: Mutex::new(None),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The set in force. Lock-free.
    #[must_use]
    pub fn current(&self) -> Arc<PolicySet> {
        self.inner.current.load_full()
    }

    /// Loads the directories again. Operations see the old set or the new one, never a part.
    ///
    /// # Errors
    /// As [`Self::load`]; then the set in force stays, and [`Self::status`] has the error until a reload succeeds.
    pub fn reload(&self) -> Result<Change, PolicyError> {
        let mut failed = self.inner.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let new = match PolicySet::load(&self.inner.dirs) {
            Ok(new) => new,
            Err(error) => {
                *failed = Some(error.to_string().into());
                return Err(error);
            }
        };
        *failed = None;
        let old = self.current();
        let change = Change::between(&old, &new);
        if change.before != change.after {
            self.inner.current.store(Arc::new(new));
        }
        Ok(change)
    }

    /// What is in force, and what stands in the way of what the files say now.
    #[must_use]
    pub fn status(&self) -> Status {
        let set = self.current();
        let failed = self.inner.failed.lock().unwrap_or_else(PoisonError::into_inner);
        Status {
            hash: set.hash().clone(),
            generation: set.generation(),
            policies: set.rules().len(),
            dirs: self.inner.dirs.clone(),
            warnings: set.warnings().len(),
            error: failed.clone(),
        }
    }
}

impl Change {
    /// What differs between two sets.
    #[must_use]
    pub fn between(old: &PolicySet, new: &PolicySet) -> Self {
        let texts = |set: &PolicySet| -> BTreeMap<Arc<str>, String> {
            set.rules()
                .iter()
                .map(|r| (r.id.clone(), r.text.clone()))
                .collect()
        };
        let (before, after) = (texts(old), texts(new));
        let only = |a: &BTreeMap<Arc<str>, String>, b: &BTreeMap<Arc<str>, String>| {
            a.keys().filter(|id| !b.contains_key(*id)).cloned().collect()
        };
        Self {
            before: old.hash().clone(),
            after: new.hash().clone(),
            added: only(&after, &before),
            removed: only(&before, &after),
            changed: before
                .iter()
                .filter(|(id, text)| after.get(*id).is_some_and(|t| t != *text))
                .map(|(id, _)| id.clone())
                .collect(),
        }
    }

    /// The `detail` of a `change` entry.
    #[must_use]
    pub fn detail(&self) -> serde_json::Value {
        serde_json::json!({ "added": self.added, "changed": self.changed, "removed": self.removed })
    }

    /// Whether nothing differs, comments and order included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.before == self.after
    }
}
