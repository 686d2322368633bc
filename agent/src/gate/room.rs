//! Memory for what has to be at hand as a whole before it may go: bounded for each workload, over all its connections.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::model::WorkloadName;

/// What each workload takes. Entries are as many as there are workloads in the configuration.
#[derive(Clone, Debug, Default)]
pub struct Rooms(Arc<Mutex<HashMap<WorkloadName, Arc<AtomicUsize>>>>);

impl Rooms {
    /// A workload's.
    pub(super) fn of(&self, workload: &WorkloadName) -> Arc<AtomicUsize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(workload.clone()).or_default())
    }
}

/// Bytes that are taken for as long as this is there.
#[derive(Debug)]
pub struct Room {
    taken: Arc<AtomicUsize>,
    most: usize,
    mine: usize,
}

impl Room {
    pub(super) fn new(taken: Arc<AtomicUsize>, most: usize) -> Self {
        Self { taken, most, mine: 0 }
    }

    /// Takes as much as it needs for `bytes` in all; false when the workload has no more, nothing is taken then.
    pub fn holds(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.mine);
        if more == 0 {
            return true;
        }
        let fits = |taken: usize| taken.checked_add(more).filter(|all| *all <= self.most);
        let took = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        if took.is_ok() {
            self.mine += more;
        }
        took.is_ok()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.mine, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_workload_cannot_take_more_nor_anothers() {
        let rooms = Rooms::default();
        let (one, other) = (
            WorkloadName::new("one").unwrap(),
            WorkloadName::new("other").unwrap(),
        );
        let mut first = Room::new(rooms.of(&one), 100);
        let mut second = Room::new(rooms.of(&one), 100);
        assert!(first.holds(60) && first.holds(50) && second.holds(40));
        assert!(!second.holds(41) && !first.holds(61));
        assert!(Room::new(rooms.of(&other), 100).holds(100));
        drop(first);
        assert!(second.holds(100) && !second.holds(101));
        drop(second);
        assert_eq!(rooms.of(&one).load(Ordering::Acquire), 0);
    }
}
