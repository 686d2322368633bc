//! The one thread that writes: takes everything waiting, commits it as one transaction, answers.
//!
//! Invariants: an answer is given after the commit is durable as configured; records are written in the order of the
//! queue; what was accepted without a waiter is kept over a failure and written after the gap entry.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    LedgerError,
    checkpoint::Checkpoint,
    queue::{Item, Record, lock},
    record,
    shared::{Loss, Shared},
    store::{Store, WriteError, remove},
    tree::Hash,
};
use crate::model::{Reason, Seq};

/// At most so many records in one transaction, so that no answer waits for a full queue.
const BATCH_RECORDS: usize = 2048;
/// And so many bytes.
const BATCH_BYTES: usize = 4 << 20;
/// The WAL is copied back after so many bytes.
pub(super) const WAL_STEP: u64 = 16 << 20;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(5);

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// `None` while the ledger is failed.
    store: Option<Store>,
    batch: Vec<Item>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, store: Store) -> Self {
        Self {
            shared,
            store: Some(store),
            batch: Vec::new(),
        }
    }

    /// Runs until the queue is closed and empty, then seals what there is.
    pub(super) fn run(mut self) {
        while self.shared.queue.take(&mut self.batch, None) {
            if let Err(why) = self.write_all() {
                self.recover(why);
            }
        }
        self.close();
    }

    fn write_all(&mut self) -> Result<(), Arc<str>> {
        if self.shared.tells_losses() {
            self.batch.insert(0, self.gap(Reason::Overloaded, None));
        }
        while !self.batch.is_empty() {
            if matches!(self.batch[0].record, Record::Rotate { .. }) {
                self.rotate()?;
                continue;
            }
            let mut bytes = 0;
            let fits = |item: &&Item| {
                bytes += item.permits as usize;
                bytes <= BATCH_BYTES && !matches!(item.record, Record::Rotate { .. })
            };
            let n = self
                .batch
                .iter()
                .take(BATCH_RECORDS)
                .take_while(fits)
                .count()
                .max(1);
            let store = self.store.as_mut().ok_or("it is closed")?;
            store
                .write(&self.batch[..n])
                .map_err(|e| Arc::<str>::from(e.to_string()))?;
            self.publish(n);
        }
        Ok(())
    }

    /// Ends the part with a checkpoint over all of it, and goes on in the next.
    fn rotate(&mut self) -> Result<(), Arc<str>> {
        let item = self.batch.remove(0);
        self.shared.queue.release(item.permits as usize);
        let Record::Rotate { mut next, ended } = item.record else {
            return Ok(());
        };
        let text = |e: WriteError| Arc::<str>::from(e.to_string());
        let store = self.store.as_mut().ok_or("it is closed")?;
        let (size, root) = (store.tree.size(), store.tree.root());
        let Some(key) = self.shared.keys.signing() else {
            // The key is being replaced, and who does that may wait for this thread: another time.
            let path = next.path.clone();
            drop(next);
            return remove(&path).map_err(|e| Arc::from(e.to_string()));
        };
        let note = Checkpoint::sign(&key, size, &root);
        let record = Record::Checkpoint {
            size,
            note: note.clone(),
            nodes: store.tree.to_bytes(),
        };
        store.write(&[Item { record, permits: 0 }]).map_err(text)?;
        // Before the next part has anything: it is not to outlive the end of this one.
        store.sync().map_err(|e| text(e.into()))?;
        if let Err(error) = store.handover(note).and_then(|from| next.begin(from)) {
            // Not begun: this part goes on. Whether the file says otherwise is not known, so it goes away.
            tracing::error!(%error, "the next part of the ledger cannot be begun");
            let path = next.path.clone();
            drop(next);
            return remove(&path).map_err(|e| Arc::from(e.to_string()));
        }
        {
            let mut head = lock(&self.shared.head);
            head.sealed = size;
            head.sealed_at_ns = self.shared.clock.now_ns();
        }
        self.shared.begin(&next, self.shared.clock.now_ns());
        let old = std::mem::replace(store, *next);
        // Closing it copies its whole WAL back: not on this thread. If nobody takes it, that is so.
        let _ = ended.send(Box::new(old));
        Ok(())
    }

    /// Makes the new head known, then answers the first `n` records of the batch.
    fn publish(&mut self, n: usize) {
        let Some(store) = &self.store else { return };
        let shared = &self.shared;
        let size = store.tree.size();
        let (before, sealed) = {
            let mut head = lock(&shared.head);
            let before = head.tree.size();
            head.tree.clone_from(&store.tree);
            (before, head.sealed)
        };
        let (mut seq, mut permits) = (before, 0);
        for item in self.batch.drain(..n) {
            permits += item.permits as usize;
            match item.record {
                Record::Entry(entry) => {
                    if let Some(done) = entry.done {
                        // Whoever waited may have gone away; the entry stands.
                        let _ = done.send(Ok(Seq(seq)));
                    }
                    seq += 1;
                }
                Record::PolicySet { done, .. } => {
                    let _ = done.send(Ok(()));
                }
                Record::Frame(_) | Record::Checkpoint { .. } | Record::Rotate { .. } => {}
            }
        }
        shared.queue.release(permits);
        shared.grow(permits as u64);
        let wal = shared.wal_bytes.fetch_add(permits as u64, Ordering::AcqRel) + permits as u64;
        let many = size - sealed >= shared.checkpoint_every && before - sealed < shared.checkpoint_every;
        if many || wal >= WAL_STEP || (size > sealed && shared.sealer_idle.swap(false, Ordering::AcqRel)) {
            shared.wake_sealer();
        }
    }

    /// A gap entry for all losses so far, which it takes over.
    fn gap(&self, reason: Reason, why: Option<&str>) -> Item {
        let losses = std::mem::take(&mut lock(&self.shared.trouble).losses);
        self.shared.lossy.store(false, Ordering::Release);
        let sealed = record::gap(self.shared.clock.now_ns(), &losses, reason, why);
        Item {
            record: Record::Entry(sealed),
            permits: 0,
        }
    }

    /// Answers whoever waits with the failure, keeps the rest, and tries again until writing works or the ledger is
    /// closed.
    fn recover(&mut self, why: Arc<str>) {
        tracing::error!(%why, "the ledger cannot be written");
        {
            let mut trouble = lock(&self.shared.trouble);
            trouble.losses.at(self.shared.clock.now_ns());
            trouble.why = Some(why.clone());
        }
        self.shared.failed.store(true, Ordering::Release);
        self.store = None;
        let mut why = why;
        let mut backoff = BACKOFF_FIRST;
        loop {
            self.refuse_waiting(&why);
            self.save_losses(false);
            let until = Instant::now() + backoff;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                let open = self.shared.queue.take(&mut self.batch, Some(left));
                self.refuse_waiting(&why);
                if !open {
                    return;
                }
            }
            match self.reopen(&why) {
                Ok(()) => break,
                Err(again) => why = again,
            }
            lock(&self.shared.trouble).why = Some(why.clone());
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
        lock(&self.shared.trouble).why = None;
        self.shared.failed.store(false, Ordering::Release);
        self.save_losses(false);
        tracing::info!("the ledger can be written again");
    }

    /// Opens the database again and writes the gap entry and what was kept.
    fn reopen(&mut self, why: &str) -> Result<(), Arc<str>> {
        let text = |e: LedgerError| Arc::<str>::from(e.to_string());
        let store = {
            let (path, number) = self.shared.live();
            Store::open(&path, number, self.shared.power)
        }
        .map_err(text)?;
        let known = lock(&self.shared.head).tree.size();
        // The failed commit may stand all the same; its records are not to be written twice.
        let standing: HashSet<Hash> = store.leaves_from(known).map_err(text)?.into_iter().collect();
        self.batch.retain(|item| match &item.record {
            Record::Entry(entry) if standing.contains(&entry.leaf) => {
                self.shared.queue.release(item.permits as usize);
                false
            }
            _ => true,
        });
        lock(&self.shared.head).tree.clone_from(&store.tree);
        self.store = Some(store);
        let losses = lock(&self.shared.trouble).losses.clone();
        let gap = self.gap(Reason::LedgerUnavailable, Some(why));
        self.batch.insert(0, gap);
        let written = self.write_all();
        if written.is_err() {
            self.store = None;
            if self.batch.first().is_some_and(|item| item.permits == 0) {
                self.batch.remove(0);
                let mut trouble = lock(&self.shared.trouble);
                let since = std::mem::replace(&mut trouble.losses, losses);
                trouble.losses.merge(&since);
            }
        }
        written
    }

    fn refuse_waiting(&mut self, why: &Arc<str>) {
        let mut kept = Vec::new();
        for mut item in self.batch.drain(..) {
            let error = LedgerError::Unavailable { why: why.clone() };
            let refused = match &mut item.record {
                Record::Entry(entry) => entry.done.take().map(|done| drop(done.send(Err(error)))),
                Record::PolicySet { .. } | Record::Checkpoint { .. } | Record::Rotate { .. } => Some(()),
                Record::Frame(_) => None,
            };
            if refused.is_none() {
                kept.push(item);
                continue;
            }
            if matches!(item.record, Record::Entry(_)) {
                self.shared.lose(Loss::Refused);
            }
            self.shared.queue.release(item.permits as usize);
            if let Record::PolicySet { done, .. } = item.record {
                drop(done.send(Err(LedgerError::Unavailable { why: why.clone() })));
            }
        }
        self.batch = kept;
    }

    fn save_losses(&self, closed: bool) {
        let losses = lock(&self.shared.trouble).losses.clone();
        let size = lock(&self.shared.head).tree.size();
        // In mode `process` only what has been synced is sure to be there again after a loss of power.
        let size = if self.shared.power || closed {
            size
        } else {
            lock(&self.shared.part).first
        };
        if let Err(error) = self.shared.state.write(closed, &losses, size) {
            tracing::error!(%error, "ledger.state cannot be written");
        }
    }

    /// Seals the last entries; what could not be written goes into the state file for the next start.
    fn close(mut self) {
        for item in std::mem::take(&mut self.batch) {
            match item.record {
                Record::Entry(_) => self.shared.lose(Loss::Entry),
                Record::Frame(_) => self.shared.lose(Loss::Frame),
                Record::Checkpoint { .. } | Record::PolicySet { .. } | Record::Rotate { .. } => {}
            }
        }
        if let Some(store) = &mut self.store {
            let (size, root) = (store.tree.size(), store.tree.root());
            // While a key is being replaced the next start signs.
            if lock(&self.shared.head).sealed < size
                && let Some(key) = self.shared.keys.signing()
            {
                let record = Record::Checkpoint {
                    size,
                    note: Checkpoint::sign(&key, size, &root),
                    nodes: store.tree.to_bytes(),
                };
                if let Err(error) = store.write(&[Item { record, permits: 0 }]) {
                    tracing::error!(%error, "the last checkpoint cannot be written");
                }
            }
        }
        // SQLite does it only for the last connection: a reader may be about.
        let wrote = self.store.take().is_some_and(|store| {
            let synced = store.sync();
            if let Err(error) = &synced {
                tracing::error!(%error, "the last entries cannot be made durable");
            }
            synced.is_ok()
        });
        self.save_losses(wrote);
    }
}
