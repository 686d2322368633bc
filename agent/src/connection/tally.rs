//! How many connections of each tagged cgroup arrived in this run, and what became of each: what the kernel's counters
//! are held against.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::model::{CgroupId, Transport};

/// Counts by tagged cgroup; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<HashMap<CgroupId, Tallied>>>);

/// One cgroup's TCP connections in this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallied {
    /// Taken from a listener, with a record.
    pub taken: u64,
    /// Closed at once: at the limit, or because the agent stops.
    pub turned_away: u64,
    /// Whose session the ledger took for its record.
    pub enqueued: u64,
    /// Whose session the ledger refused; it records a gap instead.
    pub unrecorded: u64,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, HashMap<CgroupId, Tallied>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Datagrams and UNIX sockets are not TCP connections, which alone the kernel counts one by one.
    fn change(&self, tagged: CgroupId, transport: Transport, change: impl FnOnce(&mut Tallied)) {
        if transport == Transport::Tcp {
            change(self.lock().entry(tagged).or_default());
        }
    }

    pub(crate) fn taken(&self, tagged: CgroupId, transport: Transport) {
        self.change(tagged, transport, |t| t.taken += 1);
    }

    pub(crate) fn turned_away(&self, tagged: CgroupId, transport: Transport) {
        self.change(tagged, transport, |t| t.turned_away += 1);
    }

    pub(crate) fn opened(&self, tagged: CgroupId, transport: Transport, recorded: bool) {
        self.change(tagged, transport, |t| {
            if recorded {
                t.enqueued += 1;
            } else {
                t.unrecorded += 1;
            }
        });
    }

    /// One cgroup's, as it is now.
    #[must_use]
    pub fn get(&self, tagged: CgroupId) -> Tallied {
        self.lock().get(&tagged).copied().unwrap_or_default()
    }

    /// Drops what is known of a cgroup that is gone.
    pub fn forget(&self, tagged: CgroupId) {
        self.lock().remove(&tagged);
    }
}
