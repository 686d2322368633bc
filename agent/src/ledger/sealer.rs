//! The second thread: signs checkpoints, and copies the WAL back into the database, both off the writer's path.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    LedgerError,
    checkpoint::Checkpoint,
    queue::{Item, Record, lock},
    shared::Shared,
    writer::WAL_STEP,
};

/// The WAL is started over when it has so many pages: 64 MiB of 8 KiB.
const WAL_PAGES: i64 = 8_192;
/// So few pages may be left when the writer is asked to stand still for the last pass.
const LAST_PASS: i64 = 128;
/// How long it is asked to.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Sealer {
    shared: Arc<Shared>,
    conn: Connection,
    /// The part that it is a connection to.
    number: u64,
    /// Time between checkpoints at most, while entries come.
    after: Duration,
}

impl Sealer {
    pub(super) fn new(shared: Arc<Shared>, after: Duration) -> Result<Self, LedgerError> {
        let (path, number) = shared.live();
        let conn = connect(&path)?;
        Ok(Self {
            shared,
            conn,
            number,
            after,
        })
    }

    /// Goes over to the part that is being written, if it is another by now.
    fn follow(&mut self) {
        let (path, number) = self.shared.live();
        if number == self.number {
            return;
        }
        match connect(&path) {
            Ok(conn) => {
                self.conn = conn;
                self.number = number;
            }
            Err(error) => tracing::warn!(%error, "the ledger's WAL cannot be opened to copy it back"),
        }
    }

    /// Runs until the ledger is being closed.
    pub(super) fn run(mut self) {
        let mut last = Instant::now();
        while !self.shared.stopping.load(Ordering::Acquire) {
            self.follow();
            if self.shared.wal_bytes.load(Ordering::Acquire) >= WAL_STEP {
                self.copy_back();
            }
            let unsealed = {
                let head = lock(&self.shared.head);
                head.tree.size() - head.sealed.min(head.tree.size())
            };
            if unsealed == 0 {
                self.shared.sealer_idle.store(true, Ordering::Release);
                // The writer may have gone on before it could see the flag.
                let head = lock(&self.shared.head);
                let idle = head.tree.size() <= head.sealed;
                drop(head);
                if idle {
                    std::thread::park();
                    last = Instant::now();
                }
                continue;
            }
            let due = last + self.after;
            if unsealed >= self.shared.checkpoint_every || Instant::now() >= due {
                self.seal();
                last = Instant::now();
            } else {
                std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
            }
        }
    }

    fn seal(&self) {
        if self.shared.failed.load(Ordering::Acquire) {
            return;
        }
        let Some(key) = self.shared.keys.signing() else {
            // The key is being replaced; whoever does that wakes this thread.
            std::thread::park_timeout(self.after);
            return;
        };
        let tree = lock(&self.shared.head).tree.clone();
        let size = tree.size();
        let note = Checkpoint::sign(&key, size, &tree.root());
        let Some(permits) = self.shared.queue.room_now(note.len()) else {
            return;
        };
        let record = Record::Checkpoint {
            size,
            note,
            nodes: tree.to_bytes(),
        };
        if self.shared.queue.push(Item { record, permits }).is_ok() {
            let mut head = lock(&self.shared.head);
            head.sealed = size;
            head.sealed_at_ns = self.shared.clock.now_ns();
        }
    }

    /// Copies the WAL back. When it has grown long, passes follow each other until little is left, and then the writer
    /// stands between two batches for the last pass, so that its next commit starts the WAL over.
    fn copy_back(&self) {
        self.shared.wal_bytes.store(0, Ordering::Release);
        let Some((mut pages, mut left)) = self.pass() else {
            return;
        };
        if pages < WAL_PAGES {
            return;
        }
        for _ in 0..4 {
            if left <= LAST_PASS {
                break;
            }
            let Some(again) = self.pass() else { return };
            (pages, left) = again;
        }
        tracing::trace!(pages, left, "starting the WAL over");
        self.shared.queue.while_paused(PAUSE, || {
            self.pass();
        });
    }

    /// One passive checkpoint: pages in the WAL, and how many of them are not in the database yet.
    fn pass(&self) -> Option<(i64, i64)> {
        let row = self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| {
            Ok((r.get::<_, i64>(1)?, r.get::<_, i64>(2)?))
        });
        match row {
            Ok((pages, done)) => Some((pages, pages - done)),
            Err(error) => {
                tracing::warn!(%error, "the WAL cannot be copied back");
                None
            }
        }
    }
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.execute_batch("PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=NORMAL;")?;
    Ok(conn)
}
