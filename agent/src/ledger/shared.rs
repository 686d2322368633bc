//! What callers, the writer and the sealer share.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    thread::Thread,
};

use super::{
    LedgerError,
    note::HostKey,
    queue::{Queue, lock},
    record::Losses,
    state::StateFile,
    tree::CompactRange,
};
use crate::clock::Clock;

/// The tree as of the last durable batch, and the last checkpoint made of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub tree: CompactRange,
    pub sealed: u64,
    pub sealed_at_ns: i64,
}

/// Why nothing can be written now, and what was lost so far.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    pub why: Option<Arc<str>>,
    pub losses: Losses,
}

pub(super) struct Shared {
    pub queue: Queue,
    pub key: HostKey,
    pub clock: Clock,
    pub path: PathBuf,
    pub state: StateFile,
    pub power: bool,
    /// `trouble.why` is set; read without a lock on every call.
    pub failed: AtomicBool,
    /// A [`super::limit::Limit`], as a number.
    pub limit: AtomicU8,
    /// `trouble.losses` has something that no gap entry tells yet.
    pub lossy: AtomicBool,
    pub trouble: Mutex<Trouble>,
    pub head: Mutex<Head>,
    /// Bytes written to the WAL since it was last copied back, about.
    pub wal_bytes: AtomicU64,
    pub sealer: OnceLock<Thread>,
    /// The sealer has nothing to do until the writer wakes it.
    pub sealer_idle: AtomicBool,
    pub stopping: AtomicBool,
    /// Entries between two checkpoints at most.
    pub checkpoint_every: u64,
}

/// Which count of [`Losses`] grows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    Entry,
    Frame,
    Refused,
}

impl Shared {
    /// The failure in force, if any.
    pub(super) fn check(&self) -> Result<(), LedgerError> {
        if self.failed.load(Ordering::Acquire) {
            self.lose(Loss::Refused);
            return Err(self.unavailable());
        }
        Ok(())
    }

    pub(super) fn unavailable(&self) -> LedgerError {
        let why = lock(&self.trouble).why.clone();
        LedgerError::Unavailable {
            why: why.unwrap_or_else(|| "it is being opened again".into()),
        }
    }

    /// Counts something that is not recorded.
    pub(super) fn lose(&self, loss: Loss) {
        let mut trouble = lock(&self.trouble);
        let losses = &mut trouble.losses;
        losses.at(self.clock.now_ns());
        match loss {
            Loss::Entry => losses.entries += 1,
            Loss::Frame => losses.frames += 1,
            Loss::Refused => losses.refused += 1,
        }
        drop(trouble);
        self.lossy.store(true, Ordering::Release);
    }

    pub(super) fn wake_sealer(&self) {
        if let Some(thread) = self.sealer.get() {
            thread.unpark();
        }
    }
}
