//! Which tagged cgroup is which workload.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::model::{CgroupId, WorkloadName};

/// The tags in force; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Workloads {
    tags: Arc<RwLock<HashMap<CgroupId, Tag>>>,
}

/// One tagged cgroup.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Tag {
    /// The workload.
    pub workload: WorkloadName,
    /// The cgroup's path below the cgroup2 mount.
    pub cgroup: String,
    /// Whether the configuration or a command tagged it.
    pub source: &'static str,
}

impl Workloads {
    /// The workload of a tagged cgroup.
    #[must_use]
    pub fn get(&self, tagged: CgroupId) -> Option<WorkloadName> {
        self.tags
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&tagged)
            .map(|t| t.workload.clone())
    }

    /// Adds a tag, before its programs are attached.
    pub fn add(&self, id: CgroupId, tag: Tag) -> Option<Tag> {
        self.tags
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, tag)
    }

    /// Removes a tag.
    pub fn remove(&self, id: CgroupId) -> Option<Tag> {
        self.tags
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id)
    }

    /// All tags.
    #[must_use]
    pub fn all(&self) -> Vec<(CgroupId, Tag)> {
        let tags = self.tags.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = tags.iter().map(|(id, tag)| (*id, tag.clone())).collect();
        all.sort_by(|a, b| a.1.cgroup.cmp(&b.1.cgroup));
        all
    }
}
