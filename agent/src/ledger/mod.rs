//! The ledger: entries in one SQLite file, appended by one thread, hashed into a Merkle tree whose head is signed.
//!
//! Invariants:
//! - `append` returns after the entry is durable as configured; nothing acknowledged is lost by what the mode survives.
//! - The leaf hash is over exactly the stored bytes of `entry.body`, with its salt; views derive from those bytes.
//! - Nothing is updated or deleted. What could not be recorded is itself an entry (`gap`) once that is possible.
//! - While writing fails, every call says so at once.
//!
//! Callers hash, salt and compress on their own threads; the writer only copies rows into SQLite, so that one thread
//! carries the whole host.

mod approvals;
pub mod canonical;
pub mod checkpoint;
pub mod controls;
pub mod disclose;
mod error;
pub mod evidence;
mod export;
mod extent;
mod frame;
mod keys;
mod leaves;
mod limit;
pub mod note;
mod parts;
mod pieces;
mod place;
pub mod query;
mod queue;
mod read;
mod record;
pub mod replay;
pub mod retention;
mod schema;
mod sealer;
mod segment;
mod shared;
mod span;
mod start;
mod state;
mod store;
mod succession;
mod tail;
pub mod timestamp;
pub mod tree;
pub mod verify;
pub mod witness;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::oneshot;

pub use self::approvals::approvals;
pub use self::{
    error::LedgerError,
    export::{ExportOptions, Exported, export},
    extent::extent,
    frame::{FRAME_MAX, Frame, FrameDigest, PayloadDigest},
    keys::Rotated,
    limit::Limit,
    note::VerifierKey,
    parts::{Part, parts, segment_path, segments_dir},
    record::{Losses, entry},
    segment::{Sealed, hash_file},
    succession::Succession,
    tail::{Recorded, Tail},
    verify::{Progress, Report, VerifyError, verify},
};
use self::{
    frame::Stored,
    queue::{Beside, Done, Item, Record, lock},
    shared::{Loss, Shared},
};
use crate::{
    clock::Clock,
    config::Durability,
    model::{Direction, Entry, OperationId, Rfc3339, Seq},
};

#[cfg(test)]
mod tests;

/// The most bytes that one entry's body may have.
pub const ENTRY_MAX: usize = 1 << 20;

/// The most bytes that the text of one policy set may have.
pub const POLICY_SET_MAX: usize = 2 << 20;

/// How a ledger is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// What an acknowledged entry survives.
    pub durability: Durability,
    /// This host's id, for the origin `portcullis/HOST` of a new ledger: no white space, no `+`. An existing ledger
    /// keeps the origin it was made with.
    pub host: String,
    /// The time for the ledger's own entries.
    pub clock: Clock,
    /// Bytes that may wait for the writer; callers wait beyond.
    pub queue_bytes: usize,
    /// Records that may wait.
    pub queue_records: usize,
    /// Entries between two checkpoints at most.
    pub checkpoint_every: u64,
    /// Time from an entry to the checkpoint over it at most.
    pub checkpoint_after: Duration,
    /// The live part is sealed into a segment when it has so many bytes.
    pub segment_bytes: u64,
    /// And when it is so old.
    pub segment_age: Duration,
}

impl Options {
    /// The usual bounds.
    #[must_use]
    pub fn new(host: &str, durability: Durability) -> Self {
        Self {
            durability,
            host: host.into(),
            clock: Clock::System,
            queue_bytes: 32 << 20,
            queue_records: 65_536,
            checkpoint_every: 65_536,
            checkpoint_after: Duration::from_secs(1),
            segment_bytes: 256 << 20,
            segment_age: Duration::from_secs(24 * 3600),
        }
    }
}

/// The ledger's state, for `status` and metrics.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// Whether entries can be recorded now.
    pub healthy: bool,
    /// Why not.
    pub failure: Option<String>,
    /// Why no checkpoint is signed, if none is.
    pub unsigned: Option<String>,
    /// Why a part that has ended is not sealed into a segment; it is tried again.
    pub unsealed: Option<String>,
    /// Entries in the tree.
    pub size: u64,
    /// The tree's root hash, hex.
    pub root: String,
    /// How many entries the last checkpoint covers.
    pub checkpoint_size: u64,
    /// When it was made; `None` before the first of this run.
    pub checkpoint_at: Option<String>,
    /// Bytes (with overhead) waiting for the writer.
    pub queue_bytes: u64,
    /// Bytes of the database and its WAL.
    pub disk_bytes: u64,
    /// What an acknowledged entry survives.
    pub durability: Durability,
    /// What was lost and no gap entry tells yet.
    pub losses: Losses,
    /// The public key, in the C2SP form.
    pub key: String,
}

/// A handle on the ledger. Clones share it; the last one closes it.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    writer: JoinHandle<()>,
    sealer: JoinHandle<()>,
    segmenter: JoinHandle<()>,
    asked: Arc<Mutex<Vec<segment::Asked>>>,
}

impl Ledger {
    /// Opens or creates the ledger in `dir` (`ledger-N.db`, `segments/`, `ledger.key`, `ledger.pub`, `ledger.state`)
    /// and starts its threads. Blocks: reads the leaves since the last checkpoint, and writes what the last run could not.
    ///
    /// # Errors
    /// When the directory, key or database cannot be made or read, or another process has the ledger.
    pub fn open(dir: &Path, options: Options) -> Result<Self, LedgerError> {
        let (shared, threads) = start::start(dir, options)?;
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                threads: Mutex::new(Some(threads)),
            }),
        })
    }

    fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// Appends an entry; resolves when it is durable as configured. If the future is dropped after the entry was
    /// queued, the entry is appended all the same.
    ///
    /// # Errors
    /// At once while the ledger cannot be written; also when the body is not canonical or too large.
    pub async fn append(&self, entry: Entry) -> Result<Seq, LedgerError> {
        let (done, wait) = oneshot::channel();
        self.submit(entry, Some(done), None).await?;
        wait.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Appends an entry with a later commit; waits only for room in the queue. Of two entries that one caller enqueues
    /// or appends after each other, the first gets the smaller seq. An accepted entry outlives a failing disk in
    /// memory, as long as the process lives.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn enqueue(&self, entry: Entry) -> Result<(), LedgerError> {
        self.submit(entry, None, None).await
    }

    /// Appends an entry about custody together with the row that it speaks of.
    async fn append_beside(&self, entry: Entry, beside: Beside) -> Result<Seq, LedgerError> {
        let (done, wait) = oneshot::channel();
        self.submit(entry, Some(done), Some(Box::new(beside))).await?;
        let seq = wait.await.unwrap_or(Err(LedgerError::Closed))?;
        self.shared().custody.fetch_add(1, Ordering::AcqRel);
        Ok(seq)
    }

    /// How many entries with a row beside them this run has appended.
    fn custody(&self) -> u64 {
        self.shared().custody.load(Ordering::Acquire)
    }

    async fn submit(
        &self,
        entry: Entry,
        done: Option<Done>,
        beside: Option<Box<Beside>>,
    ) -> Result<(), LedgerError> {
        let shared = self.shared();
        shared.check()?;
        shared.admit(entry.kind, done.is_some())?;
        check(&entry)?;
        let mut sealed = record::seal(entry.body);
        sealed.done = done;
        sealed.beside = beside;
        let permits = shared.queue.room(sealed.body.len()).await;
        self.push(Record::Entry(sealed), permits)
    }

    fn push(&self, record: Record, permits: u32) -> Result<(), LedgerError> {
        let shared = self.shared();
        if let Err(failure) = shared.check() {
            shared.queue.release(permits as usize);
            return Err(failure);
        }
        shared
            .queue
            .push(Item { record, permits })
            .map_err(|_| LedgerError::Closed)
    }

    /// Records a payload frame with a later commit; waits only for room in the queue. Hashes and compresses here.
    /// Frames of one operation and direction come in the order of their numbers, from 0, and before its outcome.
    ///
    /// # Errors
    /// At once while the ledger cannot be written; also when the frame is larger than [`FRAME_MAX`].
    pub async fn frame(&self, frame: Frame) -> Result<(), LedgerError> {
        self.store_frame(frame).await.map(|_| ())
    }

    /// Records the next frame of one operation and direction, and adds it to the digest exactly when it was accepted:
    /// [`Self::frame`] and [`FrameDigest::push`] with one hash instead of two. False when payload is not recorded now
    /// ([`Limit::NoPayloads`]): then no more of this direction may be offered.
    ///
    /// # Errors
    /// As [`Self::frame`].
    pub async fn frame_next(
        &self,
        digest: &mut FrameDigest,
        operation: OperationId,
        direction: Direction,
        bytes: bytes::Bytes,
    ) -> Result<bool, LedgerError> {
        if !self.shared().admit_frame(direction, bytes.len())? {
            return Ok(false);
        }
        let size = bytes.len() as u64;
        let frame = Frame {
            operation,
            direction,
            number: digest.frames(),
            bytes,
        };
        let hash = self.store_frame(frame).await?;
        digest.push_hash(&hash, size);
        Ok(true)
    }

    async fn store_frame(&self, frame: Frame) -> Result<tree::Hash, LedgerError> {
        let shared = self.shared();
        shared.check()?;
        if frame.bytes.len() > FRAME_MAX {
            return Err(LedgerError::TooLarge {
                bytes: frame.bytes.len(),
                limit: FRAME_MAX,
            });
        }
        let stored = Stored::new(frame);
        let hash = stored.sha256;
        let permits = shared.queue.room(stored.bytes.len()).await;
        self.push(Record::Frame(stored), permits)?;
        Ok(hash)
    }

    /// As [`Self::frame_next`], from where nothing can be awaited (`Drop`): never blocks. Without room the frame is lost
    /// and counted; whether it was taken.
    pub fn frame_now(
        &self,
        digest: &mut FrameDigest,
        operation: OperationId,
        direction: Direction,
        bytes: bytes::Bytes,
    ) -> bool {
        let shared = self.shared();
        if !matches!(shared.admit_frame(direction, bytes.len()), Ok(true)) {
            return false;
        }
        let size = bytes.len() as u64;
        if shared.check().is_ok() && bytes.len() <= FRAME_MAX {
            let number = digest.frames();
            let stored = Stored::new(Frame {
                operation,
                direction,
                number,
                bytes,
            });
            let hash = stored.sha256;
            let room = shared.queue.room_now(stored.bytes.len());
            let record = Record::Frame(stored);
            if let Some(permits) = room
                && shared.queue.push(Item { record, permits }).is_ok()
            {
                digest.push_hash(&hash, size);
                return true;
            }
        }
        shared.lose(Loss::Frame);
        false
    }

    /// Appends an entry from where nothing can be awaited (`Drop`): never blocks. Without room it is lost, counted,
    /// and told by a gap entry. While writing fails it is kept as long as there is room.
    pub fn enqueue_now(&self, entry: Entry) {
        let shared = self.shared();
        if let Err(error) = check(&entry) {
            tracing::error!(%error, "an entry is lost");
            shared.lose(Loss::Entry);
            return;
        }
        if shared.admit(entry.kind, false).is_err() {
            return;
        }
        let sealed = record::seal(entry.body);
        let Some(permits) = shared.queue.room_now(sealed.body.len()) else {
            shared.lose(Loss::Entry);
            return;
        };
        if shared
            .queue
            .push(Item {
                record: Record::Entry(sealed),
                permits,
            })
            .is_err()
        {
            shared.lose(Loss::Entry);
        }
    }

    /// Stores the text of a policy set once, under its hex SHA-256; resolves when durable.
    ///
    /// # Errors
    /// When `hash` is not the text's, or the ledger cannot be written.
    pub async fn policy_set(&self, hash: &str, text: &str) -> Result<(), LedgerError> {
        let shared = self.shared();
        shared.check()?;
        if hex::encode(tree::sha256(&[text.as_bytes()])) != hash {
            return Err(LedgerError::PolicySetHash { hash: hash.into() });
        }
        let limit = POLICY_SET_MAX;
        if text.len() > limit {
            return Err(LedgerError::TooLarge {
                bytes: text.len(),
                limit,
            });
        }
        let (done, wait) = oneshot::channel();
        let permits = shared.queue.room(text.len()).await;
        let record = Record::PolicySet {
            hash: hash.into(),
            text: text.into(),
            done,
        };
        self.push(record, permits)?;
        wait.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Seals everything recorded so far into a segment, now. `None` when there is nothing since the last.
    ///
    /// # Errors
    /// When it cannot be written; the ledger goes on as it was, and tries again.
    pub async fn seal(&self) -> Result<Option<Sealed>, LedgerError> {
        let (done, wait) = oneshot::channel();
        match lock(&self.inner.threads).as_ref() {
            Some(threads) => lock(&threads.asked).push(done),
            None => return Err(LedgerError::Closed),
        }
        self.shared().wake_segmenter();
        wait.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// How many entries are durable: what may be shipped ends before this place.
    #[must_use]
    pub fn size(&self) -> Seq {
        Seq(lock(&self.shared().head).tree.size())
    }

    /// How the ledger is.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = self.shared();
        let head = lock(&shared.head).clone();
        let trouble = lock(&shared.trouble);
        let unsigned = shared.keys.unsettled().then(|| keys::unsettled().to_string());
        Status {
            healthy: trouble.why.is_none(),
            failure: trouble.why.as_deref().map(String::from),
            unsigned,
            unsealed: lock(&shared.unsealed).clone(),
            size: head.tree.size(),
            root: hex::encode(head.tree.root()),
            checkpoint_size: head.sealed,
            checkpoint_at: (head.sealed_at_ns > 0).then(|| Rfc3339(head.sealed_at_ns).to_string()),
            queue_bytes: shared.queue.depth() as u64,
            disk_bytes: disk_bytes(&shared.live().0),
            durability: if shared.power {
                Durability::Power
            } else {
                Durability::Process
            },
            losses: trouble.losses.clone(),
            key: shared.keys.current().verifier().to_string(),
        }
    }

    /// Writes what waits, seals it with a checkpoint and stops the threads. Blocks until that is done. Calls after it
    /// get [`LedgerError::Closed`]. The last handle's drop does the same.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Inner {
    fn close(&self) {
        let Some(threads) = lock(&self.threads).take() else {
            return;
        };
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake_sealer();
        // The threads log what they could not do; a panic in one leaves nothing to be done here.
        let _ = threads.sealer.join();
        self.shared.wake_segmenter();
        let _ = threads.segmenter.join();
        self.shared.queue.close();
        let _ = threads.writer.join();
        self.shared.state.release();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// Metadata only: a descriptor on the database that is closed in this process would drop SQLite's locks.
fn disk_bytes(path: &Path) -> u64 {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    [path, Path::new(&wal)]
        .iter()
        .filter_map(|p| std::fs::metadata(p).ok())
        .map(|m| m.len())
        .sum()
}

/// Refuses what could never be verified.
fn check(entry: &Entry) -> Result<(), LedgerError> {
    if entry.body.len() > ENTRY_MAX {
        return Err(LedgerError::TooLarge {
            bytes: entry.body.len(),
            limit: ENTRY_MAX,
        });
    }
    let malformed = |flaw| LedgerError::Malformed { flaw };
    let members = canonical::body(&entry.body).map_err(malformed)?;
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let what = if canonical::plain(members.id) != Some(entry.id.hyphenated().encode_lower(&mut text)) {
        "no member 'id' that is the entry's id"
    } else if canonical::plain(members.kind) != Some(entry.kind.as_str()) {
        "no member 'kind' that is the entry's kind"
    } else if !canonical::plain(members.at).is_some_and(is_time) {
        "no member 'at' in RFC 3339 with nine decimals and Z"
    } else if members.v != "1" {
        "no member 'v' that is 1"
    } else {
        return Ok(());
    };
    Err(malformed(canonical::Flaw { at: 0, what }))
}

/// Whether the text has the form of [`Rfc3339`].
fn is_time(text: &str) -> bool {
    const FORM: &[u8; 30] = b"dddd-dd-ddTdd:dd:dd.dddddddddZ";
    let same = |(form, byte): (&u8, u8)| {
        if *form == b'd' {
            byte.is_ascii_digit()
        } else {
            byte == *form
        }
    };
    text.len() == FORM.len() && FORM.iter().zip(text.bytes()).all(same)
}
