//! What the ledger still takes when its disk budget is used up.
//!
//! While a limit is in force what it turns away is counted, and no gap entry is written: that comes when it is lifted,
//! once, with everything. What tells about the ledger itself is always taken; a reserve is kept for it.

use std::sync::{Arc, atomic::Ordering};

use super::{Ledger, LedgerError, queue::lock, record::Losses, shared::Shared};
use crate::model::{Direction, EntryKind};

/// What is taken no more.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Everything is taken.
    #[default]
    None,
    /// Payload frames are not.
    NoPayloads,
    /// Operations are not: they are denied.
    NoOperations,
    /// Nothing is, but what tells about the ledger and the agent.
    Nothing,
}

impl Limit {
    fn of(n: u8) -> Self {
        match n {
            0 => Self::None,
            1 => Self::NoPayloads,
            2 => Self::NoOperations,
            _ => Self::Nothing,
        }
    }
}

fn used_up() -> LedgerError {
    LedgerError::Unavailable {
        why: Arc::from(
            "the room for it is used up ([retention] disk_budget or free_space); `portcullis retention status` says more",
        ),
    }
}

impl Shared {
    /// The limit in force.
    pub(super) fn limit(&self) -> Limit {
        Limit::of(self.limit.load(Ordering::Acquire))
    }

    /// Whether an entry of this kind is taken now; one that is not is counted.
    pub(super) fn admit(&self, kind: EntryKind, waited_for: bool) -> Result<(), LedgerError> {
        let operation = kind == EntryKind::Operation;
        let refused = match self.limit() {
            Limit::None | Limit::NoPayloads => false,
            Limit::NoOperations => operation,
            Limit::Nothing => !matches!(kind, EntryKind::Ledger | EntryKind::Agent | EntryKind::Gap),
        };
        if !refused {
            return Ok(());
        }
        self.count(|losses| {
            losses.operations += u64::from(operation);
            losses.refused += u64::from(waited_for && !operation);
            losses.entries += u64::from(!waited_for && !operation);
        });
        Err(used_up())
    }

    /// Whether a frame is taken now: false when payload is not recorded, an error when nothing is.
    pub(super) fn admit_frame(&self, direction: Direction, bytes: usize) -> Result<bool, LedgerError> {
        match self.limit() {
            Limit::None | Limit::NoOperations => Ok(true),
            Limit::NoPayloads => {
                self.drop_payload(direction, 1, bytes as u64);
                Ok(false)
            }
            Limit::Nothing => {
                self.drop_payload(direction, 1, bytes as u64);
                Err(used_up())
            }
        }
    }

    fn drop_payload(&self, direction: Direction, frames: u64, bytes: u64) {
        self.count(|losses| {
            match direction {
                Direction::Up => losses.payloads_up += frames,
                Direction::Down => losses.payloads_down += frames,
            }
            losses.payload_bytes += bytes;
        });
    }

    fn count(&self, add: impl FnOnce(&mut Losses)) {
        let mut trouble = lock(&self.trouble);
        trouble.losses.at(self.clock.now_ns());
        add(&mut trouble.losses);
        drop(trouble);
        self.lossy.store(true, Ordering::Release);
    }

    /// Whether losses are to be told with the next batch.
    pub(super) fn tells_losses(&self) -> bool {
        self.lossy.load(Ordering::Acquire) && self.limit() == Limit::None
    }
}

impl Ledger {
    /// Sets what is taken from now on; gives the limit before.
    pub fn set_limit(&self, limit: Limit) -> Limit {
        Limit::of(self.shared().limit.swap(limit as u8, Ordering::AcqRel))
    }

    /// Counts bytes of payload that are not offered as a frame, because frames before them were not recorded.
    pub fn payload_dropped(&self, direction: Direction, bytes: u64) {
        self.shared().drop_payload(direction, 0, bytes);
    }

    /// What is lost so far and not told yet, kept for the next start in case this process is killed before it can tell.
    ///
    /// # Errors
    /// When the state file cannot be written.
    pub(super) fn keep_losses(&self) -> Result<(), LedgerError> {
        let shared = self.shared();
        let (losses, size) = (lock(&shared.trouble).losses.clone(), self.size().0);
        let written = shared.state.write(false, &losses, size);
        written.map_err(|e| LedgerError::file(&shared.dir.join("ledger.state"), &e))
    }
}
