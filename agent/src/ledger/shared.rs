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
    keys::Keys,
    queue::{Queue, lock},
    record::Losses,
    state::StateFile,
    store::Store,
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
    pub keys: Keys,
    pub clock: Clock,
    /// The data directory.
    pub dir: PathBuf,
    /// The part that is being written.
    pub part: Mutex<LivePart>,
    /// Bytes written to it, about.
    pub part_bytes: AtomicU64,
    /// It is to be sealed when it has so many.
    pub segment_bytes: u64,
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
    pub segmenter: OnceLock<Thread>,
    /// Why a part that has ended is not sealed.
    pub unsealed: Mutex<Option<String>>,
    /// The sealer has nothing to do until the writer wakes it.
    pub sealer_idle: AtomicBool,
    pub stopping: AtomicBool,
    /// Entries appended with a row beside them.
    pub custody: AtomicU64,
    /// Entries between two checkpoints at most.
    pub checkpoint_every: u64,
}

/// The part that is being written.
#[derive(Clone, Debug)]
pub(super) struct LivePart {
    pub path: PathBuf,
    pub number: u64,
    /// Entries before its first.
    pub first: u64,
    /// When it began, nanoseconds since 1970 UTC.
    pub since_ns: i64,
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

    /// Makes what is committed survive a loss of power, whatever the mode. (A part that ended was synced when the next
    /// one began. A descriptor on the WAL may be closed: SQLite's locks are on the database file.)
    pub(super) fn sync(&self) -> std::io::Result<()> {
        let mut wal = self.live().0.into_os_string();
        wal.push("-wal");
        std::fs::File::open(wal)?.sync_data()
    }

    /// The file that is being written, and its number.
    pub(super) fn live(&self) -> (PathBuf, u64) {
        let part = lock(&self.part);
        (part.path.clone(), part.number)
    }

    /// From now on this part is written.
    pub(super) fn begin(&self, store: &Store, now_ns: i64) {
        let part = LivePart {
            path: store.path.clone(),
            number: store.number,
            first: store.tree.size(),
            since_ns: now_ns,
        };
        *lock(&self.part) = part;
        self.part_bytes.store(0, Ordering::Release);
        self.wal_bytes.store(0, Ordering::Release);
    }

    /// So many bytes more were written.
    pub(super) fn grow(&self, bytes: u64) {
        let before = self.part_bytes.fetch_add(bytes, Ordering::AcqRel);
        if before < self.segment_bytes && before + bytes >= self.segment_bytes {
            self.wake_segmenter();
        }
    }

    pub(super) fn wake_segmenter(&self) {
        if let Some(thread) = self.segmenter.get() {
            thread.unpark();
        }
    }

    pub(super) fn wake_sealer(&self) {
        if let Some(thread) = self.sealer.get() {
            thread.unpark();
        }
    }
}
