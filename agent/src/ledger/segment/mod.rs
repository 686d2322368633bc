//! Segments: the live part is ended by size, by age or on demand, and made into a file that stands alone.
//!
//! Nothing of it is on the data path but one step between two of the writer's batches: it signs a checkpoint over all
//! there is and goes on in a file that was made ready before. Everything else is a thread of its own, and every step can
//! be the last one of this process:
//!
//! 1. `ledger-N+1.db` is made, empty. It counts for nothing until it says where it begins.
//! 2. The writer ends N with a checkpoint, and begins N+1 with it, durably.
//! 3. `ledger.db` is made to point to N+1.
//! 4. `segments/segment-N.db` is written under another name, synced, and put in its place by a rename.
//! 5. An entry says so (`segment_sealed`), with the file's hash.
//! 6. `ledger-N.db` is removed.
//!
//! A start finds how far it came, and goes on there. An end between 5 and 6 leaves two such entries of one segment.

mod build;
pub(super) mod statement;

use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering, mpsc},
    thread,
    time::Duration,
};

use serde_json::json;
use tokio::sync::oneshot;

pub use self::build::{Sealed, hash_file};
use super::{
    LedgerError, keys, parts,
    queue::{Item, Record, lock},
    read, record,
    shared::Shared,
    store::{Store, remove},
};
use crate::model::EntryKind;

/// How often the next part is made ready when the writer cannot begin it: mostly because a key is being replaced.
const TRIES: usize = 20;

/// How long a failed attempt waits for the next.
const AGAIN: Duration = Duration::from_secs(30);

/// Who asked for a segment, and waits for it.
pub(super) type Asked = oneshot::Sender<Result<Option<Sealed>, LedgerError>>;

/// The thread that makes segments.
pub(super) struct Segmenter {
    shared: Arc<Shared>,
    age: Duration,
    /// Parts that have ended and are no segments yet, oldest first.
    ended: Vec<u64>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Segmenter {
    pub(super) fn new(
        shared: Arc<Shared>,
        age: Duration,
        ended: Vec<u64>,
        asked: Arc<Mutex<Vec<Asked>>>,
    ) -> Self {
        Self {
            shared,
            age,
            ended,
            asked,
        }
    }

    /// Runs until the ledger is being closed.
    pub(super) fn run(mut self) {
        while !self.shared.stopping.load(Ordering::Acquire) {
            let asked = std::mem::take(&mut *lock(&self.asked));
            let done = self.round(!asked.is_empty());
            let failed = done.is_err();
            if let Err(error) = &done
                && !self.shared.stopping.load(Ordering::Acquire)
            {
                tracing::error!(%error, "the ledger cannot be sealed into a segment; it will be tried again");
            }
            for waiting in asked {
                // Whoever asked may have gone away.
                let _ = waiting.send(done.clone());
            }
            if self.shared.stopping.load(Ordering::Acquire) || !lock(&self.asked).is_empty() {
                continue;
            }
            let wait = if failed {
                AGAIN
            } else {
                self.until_old().max(Duration::from_millis(50))
            };
            thread::park_timeout(wait);
        }
        for waiting in std::mem::take(&mut *lock(&self.asked)) {
            let _ = waiting.send(Err(LedgerError::Closed));
        }
    }

    /// Time until the live part is old enough.
    fn until_old(&self) -> Duration {
        let since = lock(&self.shared.part).since_ns;
        let old = u64::try_from(self.shared.clock.now_ns().saturating_sub(since)).unwrap_or(0);
        // A clock that is set, or a part that has nothing yet, is looked at again soon.
        self.age
            .saturating_sub(Duration::from_nanos(old))
            .clamp(Duration::from_secs(1), Duration::from_secs(60))
    }

    fn due(&self) -> bool {
        let part = lock(&self.shared.part).clone();
        if self.shared.part_bytes.load(Ordering::Acquire) >= self.shared.segment_bytes {
            return true;
        }
        let age = self.shared.clock.now_ns().saturating_sub(part.since_ns);
        u128::try_from(age).is_ok_and(|age| age >= self.age.as_nanos()) && says_something(&part.path)
    }

    /// Ends the live part if it is time (or asked for), and seals what has ended; the last one made.
    fn round(&mut self, asked: bool) -> Result<Option<Sealed>, LedgerError> {
        if self.shared.failed.load(Ordering::Acquire) {
            return if asked {
                Err(self.shared.unavailable())
            } else {
                Ok(None)
            };
        }
        let size = lock(&self.shared.head).tree.size();
        if (asked && size > lock(&self.shared.part).first) || (!asked && self.due()) {
            self.rotate()?;
        }
        // One part that cannot be sealed does not keep back those after it.
        let (mut last, mut failed) = (Ok(None), None);
        for number in std::mem::take(&mut self.ended) {
            let done = if self.shared.stopping.load(Ordering::Acquire) {
                Err(LedgerError::Closed)
            } else {
                self.seal(number)
            };
            match done {
                Ok(sealed) => last = Ok(Some(sealed)),
                Err(error) => {
                    self.ended.push(number);
                    failed = Some(format!("part {number} of the ledger cannot be sealed: {error}"));
                    last = Err(error);
                }
            }
        }
        *lock(&self.shared.unsealed) = failed;
        last
    }

    /// Steps 1 to 3.
    fn rotate(&mut self) -> Result<(), LedgerError> {
        for _ in 0..TRIES {
            if self.shared.stopping.load(Ordering::Acquire) {
                return Err(LedgerError::Closed);
            }
            // While the key is being replaced nothing can be signed: that is waited for here, not by the writer.
            drop(
                self.shared
                    .keys
                    .signing_when_settled()
                    .ok_or_else(keys::unsettled)?,
            );
            if self.try_rotate()? {
                return Ok(());
            }
        }
        Err(LedgerError::Unavailable {
            why: "the next part cannot be begun; the log says why".into(),
        })
    }

    /// False when the writer could not begin the next part, or not now.
    fn try_rotate(&mut self) -> Result<bool, LedgerError> {
        let dir = &self.shared.dir;
        let (live, number) = self.shared.live();
        let next = Box::new(Store::prepare(dir, number + 1, self.shared.power)?);
        // In mode `process` nothing of the WAL may be on the disk yet: then little is left for the writer to sync.
        sync_wal(&live).map_err(|e| LedgerError::file(&live, &e))?;
        let (ended, old) = mpsc::channel();
        let Some(permits) = self.shared.queue.room_now(0) else {
            return Err(LedgerError::Unavailable {
                why: "the queue is full".into(),
            });
        };
        let record = Record::Rotate { next, ended };
        if self.shared.queue.push(Item { record, permits }).is_err() {
            return Err(LedgerError::Closed);
        }
        let Ok(old) = old.recv() else {
            return if self.shared.failed.load(Ordering::Acquire) {
                Err(self.shared.unavailable())
            } else {
                Ok(false)
            };
        };
        self.ended.push(old.number);
        drop(old);
        link(dir, number + 1).map_err(|e| LedgerError::file(&dir.join("ledger.db"), &e))?;
        Ok(true)
    }

    /// Steps 4 to 6.
    fn seal(&self, number: u64) -> Result<Sealed, LedgerError> {
        let dir = &self.shared.dir;
        let live = parts::live_path(dir, number);
        let path = parts::segment_path(dir, number);
        let sealed = if path.exists() {
            // Whoever put it in its place may have ended before its name was durable.
            build::keep_name(dir).map_err(|e| LedgerError::file(&path, &e))?;
            build::describe(&path, number)?
        } else {
            build::build(&live, &path, number, &self.shared)?
        };
        let members = json!({ "event": "segment_sealed", "detail": sealed });
        let entry = record::entry(EntryKind::Ledger, self.shared.clock.now_ns(), members);
        self.append(entry.body)?;
        // In mode `process` the entry may be no further than the page cache: a segment of which no entry tells is not to
        // be what a loss of power leaves.
        let (writing, _) = self.shared.live();
        sync_wal(&writing).map_err(|e| LedgerError::file(&writing, &e))?;
        remove(&live).map_err(|e| LedgerError::file(&live, &e))?;
        tracing::info!(
            segment = number,
            entries = sealed.end - sealed.first,
            bytes = sealed.bytes,
            "sealed"
        );
        Ok(sealed)
    }

    /// Appends an entry and waits until it is durable.
    fn append(&self, body: String) -> Result<(), LedgerError> {
        let mut entry = record::seal(body);
        let (done, wait) = oneshot::channel();
        entry.done = Some(done);
        let permits =
            self.shared
                .queue
                .room_now(entry.body.len())
                .ok_or_else(|| LedgerError::Unavailable {
                    why: "the queue is full".into(),
                })?;
        let record = Record::Entry(entry);
        self.shared
            .queue
            .push(Item { record, permits })
            .map_err(|_| LedgerError::Closed)?;
        wait.blocking_recv()
            .unwrap_or(Err(LedgerError::Closed))
            .map(|_| ())
    }
}

fn sync_wal(path: &Path) -> std::io::Result<()> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    match std::fs::File::open(wal) {
        Ok(wal) => wal.sync_data(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Whether a part has an entry about anything but the ledger itself: that the segment before was sealed and shipped is no
/// reason for another. What cannot be read is looked at by whoever seals it.
pub(super) fn says_something(path: &Path) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM entry WHERE json_extract(body, '$.kind') <> 'ledger')";
    read::open(path).is_ok_and(|conn| conn.query_row(sql, [], |r| r.get(0)).unwrap_or(true))
}

/// Makes `ledger.db` point to a part, in one step.
pub(super) fn link(dir: &Path, number: u64) -> std::io::Result<()> {
    let target = parts::live_path(Path::new(""), number);
    let (name, partial) = (dir.join("ledger.db"), dir.join("ledger.db.partial"));
    match std::fs::remove_file(&partial) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &partial)?;
    std::fs::rename(&partial, &name)?;
    std::fs::File::open(dir)?.sync_all()
}
