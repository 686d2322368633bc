//! The way to the writer: a queue bounded in bytes and in records, cheap to enter and to drain whole.
//!
//! One semaphore permit stands for one byte; a record takes at least `bytes / records` permits, so that one
//! semaphore bounds both. The writer gives permits back once per batch. The lock is held for a push or for a swap of
//! two vectors, never longer.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot};

use super::{LedgerError, frame::Stored, tree::Hash};
use crate::model::Seq;

/// Who waits for an entry to be durable.
pub(super) type Done = oneshot::Sender<Result<Seq, LedgerError>>;

/// An entry with what was computed on its caller's thread.
pub(super) struct Sealed {
    pub body: String,
    pub salt: [u8; 16],
    pub leaf: Hash,
    pub done: Option<Done>,
}

/// What the writer writes.
pub(super) enum Record {
    Entry(Sealed),
    Frame(Stored),
    Checkpoint {
        size: u64,
        note: String,
        nodes: Vec<u8>,
    },
    PolicySet {
        hash: Box<str>,
        text: Box<str>,
        done: oneshot::Sender<Result<(), LedgerError>>,
    },
}

/// A record and the permits it holds.
pub(super) struct Item {
    pub record: Record,
    pub permits: u32,
}

#[derive(Default)]
struct State {
    items: Vec<Item>,
    /// The writer sleeps and must be woken.
    idle: bool,
    closing: bool,
    pause: bool,
    paused: bool,
}

pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    stopped: Condvar,
    permits: Semaphore,
    capacity: usize,
    least: u32,
}

/// What a record costs besides its bytes.
const OVERHEAD: usize = 256;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queue {
    pub(super) fn new(bytes: usize, records: usize) -> Self {
        let bytes = bytes.clamp(4 << 20, 1 << 30);
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            stopped: Condvar::new(),
            permits: Semaphore::new(bytes),
            capacity: bytes,
            least: u32::try_from(bytes / records.max(1)).unwrap_or(u32::MAX).max(1),
        }
    }

    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes + OVERHEAD)
            .unwrap_or(u32::MAX)
            .max(self.least)
    }

    /// Room for so many bytes, waiting for it in the order of arrival.
    pub(super) async fn room(&self, bytes: usize) -> u32 {
        let permits = self.cost(bytes);
        if let Ok(permit) = self.permits.acquire_many(permits).await {
            permit.forget();
        }
        permits
    }

    /// Room now or not at all.
    pub(super) fn room_now(&self, bytes: usize) -> Option<u32> {
        let permits = self.cost(bytes);
        self.permits.try_acquire_many(permits).ok().map(|permit| {
            permit.forget();
            permits
        })
    }

    pub(super) fn release(&self, permits: usize) {
        self.permits.add_permits(permits);
    }

    /// Hands a record to the writer; gives it back when the ledger is closed.
    pub(super) fn push(&self, item: Item) -> Result<(), Item> {
        let mut state = lock(&self.state);
        if state.closing {
            drop(state);
            self.release(item.permits as usize);
            return Err(item);
        }
        state.items.push(item);
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Moves everything waiting behind what is in `into`. Waits for something at most `patience` (for ever if
    /// `None`); stands still while paused. False when the queue is closed and empty.
    pub(super) fn take(&self, into: &mut Vec<Item>, patience: Option<Duration>) -> bool {
        let mut state = lock(&self.state);
        loop {
            if state.pause {
                state.paused = true;
                self.stopped.notify_all();
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.paused = false;
            if !state.items.is_empty() {
                if into.is_empty() {
                    std::mem::swap(&mut state.items, into);
                } else {
                    into.append(&mut state.items);
                }
                return true;
            }
            if state.closing {
                return false;
            }
            state.idle = true;
            match patience {
                None => state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(patience) => {
                    let waited = self.wake.wait_timeout(state, patience);
                    let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    state = again;
                    if timeout.timed_out() && state.items.is_empty() && !state.pause {
                        state.idle = false;
                        return true;
                    }
                }
            }
        }
    }

    /// Runs `work` while the writer stands between two batches; gives up after `patience`.
    pub(super) fn while_paused(&self, patience: Duration, work: impl FnOnce()) {
        let mut state = lock(&self.state);
        state.pause = true;
        state.idle = false;
        self.wake.notify_all();
        let waited = self
            .stopped
            .wait_timeout_while(state, patience, |s| !s.paused && !s.closing);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let paused = state.paused;
        drop(state);
        if paused {
            work();
        }
        let mut state = lock(&self.state);
        state.pause = false;
        state.paused = false;
        drop(state);
        self.wake.notify_all();
    }

    pub(super) fn close(&self) {
        lock(&self.state).closing = true;
        self.wake.notify_all();
        self.stopped.notify_all();
    }

    /// Bytes (with overhead) taken and not yet written.
    pub(super) fn depth(&self) -> usize {
        self.capacity.saturating_sub(self.permits.available_permits())
    }
}
