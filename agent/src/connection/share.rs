//! How many connections each tagged cgroup has at once, so that one cannot keep all others out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::CgroupId;

/// Live connections by tagged cgroup, of all transports; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shares(Arc<Mutex<HashMap<CgroupId, usize>>>);

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    shares: Shares,
    tagged: CgroupId,
}

impl Shares {
    /// A place among at most `most` of this cgroup; `None` when all are taken.
    pub(super) fn enter(&self, tagged: CgroupId, most: usize) -> Option<Place> {
        let mut live = self.lock();
        let own = live.entry(tagged).or_default();
        if *own >= most {
            return None;
        }
        *own += 1;
        Some(Place {
            shares: self.clone(),
            tagged,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CgroupId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = self.shares.lock();
        let Some(own) = live.get_mut(&self.tagged) else {
            return;
        };
        *own -= 1;
        // Cgroups come and go: what has no connection takes no memory.
        if *own == 0 {
            live.remove(&self.tagged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cgroup_has_its_own() {
        let (shares, one, other) = (Shares::default(), CgroupId(1), CgroupId(2));
        let first = shares.enter(one, 2);
        let second = shares.enter(one, 2);
        assert!(first.is_some() && second.is_some());
        assert!(shares.enter(one, 2).is_none());
        assert!(shares.enter(other, 2).is_some(), "not for want of the other's");
        drop(first);
        assert!(shares.enter(one, 2).is_some());
        drop(second);
        assert!(
            shares.lock().is_empty(),
            "nothing is kept of cgroups without connections"
        );
    }
}
