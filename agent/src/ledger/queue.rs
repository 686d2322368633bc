//! The way to the writer: a queue bounded in bytes and in records, cheap to enter and to drain whole.
//!
//! One semaphore permit stands for one byte; a record takes at least `bytes / records` permits, so that one
//! semaphore bounds both. The writer gives permits back once per batch. The lock is held for a push or for a swap of
//! two vectors, never longer.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use tokio::sync::{Semaphore, oneshot};

use super::{LedgerError, frame::Stored, store::Store, tree::Hash};
use crate::model::Seq;

/// Who waits for an entry to be durable.
pub(super) type Done = oneshot::Sender<Result<Seq, LedgerError>>;

/// An entry with what was computed on its caller's thread.
pub(super) struct Sealed {
    pub body: String,
    pub salt: [u8; 16],
    pub leaf: Hash,
    pub done: Option<Done>,
    /// What is written in the same transaction.
    pub beside: Option<Box<Beside>>,
}

/// A row of another table that an entry speaks of: both are there, or neither.
pub(super) enum Beside {
    /// The host's next public key, and the statement by which it takes over.
    Succession { vkey: String, note: String },
    /// A witness's signature line over the checkpoint of this size.
    Witness { size: u64, signature: String },
    /// An RFC 3161 token over the checkpoint of this size.
    Timestamp { size: u64, token: Vec<u8> },
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
    /// Go on in another part, and give the one that ends back.
    Rotate {
        next: Box<Store>,
        ended: mpsc::Sender<Box<Store>>,
    },
}

impl Record {
    /// Whether someone waits for it.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Entry(entry) => entry.done.is_some(),
            Self::PolicySet { .. } | Self::Rotate { .. } => true,
            Self::Frame(_) | Self::Checkpoint { .. } => false,
        }
    }
}

/// A record and the permits it holds.
pub(super) struct Item {
    pub record: Record,
    pub permits: u32,
}

/// How the writer waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Waiting {
    /// It does not.
    #[default]
    No,
    /// It wakes by itself soon; only what someone waits for wakes it earlier.
    Light,
    /// Anything wakes it.
    Deep,
}

#[derive(Default)]
struct State {
    items: Vec<Item>,
    /// Someone waits for one of the items.
    urgent: bool,
    waiting: Waiting,
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

/// How long a record that nobody waits for may lie before it is written. It mostly goes with the next one that
/// somebody waits for: a commit of its own costs as much as ten records, and in mode `power` a sync.
const LINGER: Duration = Duration::from_millis(2);
/// So many records are not left lying.
const MANY: usize = 256;

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
        let urgent = item.record.is_urgent();
        state.items.push(item);
        state.urgent |= urgent;
        let wake = match state.waiting {
            Waiting::No => false,
            Waiting::Light => urgent || state.items.len() >= MANY,
            Waiting::Deep => true,
        };
        if wake {
            state.waiting = Waiting::No;
        }
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Moves everything waiting behind what is in `into`, as soon as someone waits for it or it has lain long enough.
    /// Stands still while paused. With `patience` it takes whatever comes first, and returns after that time at the
    /// latest. False when the queue is closed and empty.
    pub(super) fn take(&self, into: &mut Vec<Item>, patience: Option<Duration>) -> bool {
        let mut state = lock(&self.state);
        let mut lain = false;
        loop {
            if state.pause {
                state.paused = true;
                self.stopped.notify_all();
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.paused = false;
            let empty = state.items.is_empty();
            let ripe = state.urgent || lain || state.closing || state.items.len() >= MANY;
            if !empty && (ripe || patience.is_some()) {
                state.urgent = false;
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
            if empty && lain && patience.is_none() {
                state.waiting = Waiting::Deep;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                lain = false;
            } else {
                state.waiting = if patience.is_some() {
                    Waiting::Deep
                } else {
                    Waiting::Light
                };
                let waited = self.wake.wait_timeout(state, patience.unwrap_or(LINGER));
                let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = again;
                lain = timeout.timed_out();
            }
            state.waiting = Waiting::No;
            if lain && patience.is_some() && state.items.is_empty() && !state.pause {
                return !state.closing;
            }
        }
    }

    /// Runs `work` while the writer stands between two batches; gives up after `patience`.
    pub(super) fn while_paused(&self, patience: Duration, work: impl FnOnce()) {
        let mut state = lock(&self.state);
        state.pause = true;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::seal;

    fn item(queue: &Queue) -> Item {
        let permits = queue.room_now(1).unwrap();
        Item {
            record: Record::Entry(seal("{}".into())),
            permits,
        }
    }

    #[test]
    fn bounded_in_records_and_bytes() {
        let queue = Queue::new(4 << 20, 16);
        let taken: Vec<u32> = std::iter::from_fn(|| queue.room_now(1)).collect();
        assert_eq!(taken.len(), 16);
        queue.release(taken.iter().sum::<u32>() as usize);
        assert_eq!(queue.depth(), 0);
        assert!(queue.room_now((4 << 20) - OVERHEAD).is_some());
        assert!(queue.room_now(1).is_none());
    }

    #[test]
    fn nobody_waits_and_it_is_taken_all_the_same() {
        let queue = Queue::new(4 << 20, 1000);
        let mut batch = Vec::new();
        std::thread::scope(|scope| {
            let (taken, next) = std::sync::mpsc::channel();
            scope.spawn({
                let queue = &queue;
                move || {
                    for () in next {
                        assert!(queue.push(item(queue)).is_ok());
                    }
                }
            });
            for n in 1..=3 {
                taken.send(()).unwrap();
                assert!(queue.take(&mut batch, None));
                assert_eq!(batch.len(), n);
            }
            drop(taken);
        });
        assert!(queue.take(&mut batch, Some(Duration::from_millis(1))));
        assert_eq!(batch.len(), 3);
    }

    #[test]
    fn closed_it_is_emptied_first() {
        let queue = Queue::new(4 << 20, 1000);
        assert!(queue.push(item(&queue)).is_ok());
        queue.close();
        let mut batch = Vec::new();
        assert!(queue.take(&mut batch, None));
        assert!(!queue.take(&mut batch, None));
        assert!(queue.push(item(&queue)).is_err());
        assert_eq!(batch.len(), 1);
    }

    #[test]
    fn it_stands_still_while_paused() {
        let queue = Queue::new(4 << 20, 1000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut batch = Vec::new();
                while queue.take(&mut batch, None) {}
                assert_eq!(batch.len(), 50);
            });
            let mut ran = 0;
            for _ in 0..50 {
                assert!(queue.push(item(&queue)).is_ok());
                queue.while_paused(Duration::from_secs(5), || ran += 1);
            }
            assert_eq!(ran, 50);
            queue.close();
        });
    }
}
