//! The host key's files, and its replacement by another.
//!
//! `ledger.key` holds the key that signs, `ledger.pub` its public half, `ledger.key.next` the key that is to take over
//! while it does. The order of a replacement: `ledger.key.next` is durable; the entry `key_rotated` and the statement
//! that both keys signed are durable, in one transaction; `ledger.key.next` becomes `ledger.key`; `ledger.pub` follows.
//! Wherever that ends, the next start sees whether the statement is there, and finishes or undoes the rest. Between the
//! entry and the new key's place in memory nothing is signed, so that no checkpoint over the entry is by the old key.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    ops::Deref,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use rand::Rng as _;
use rusqlite::Connection;
use serde_json::json;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{
    Ledger, LedgerError,
    note::HostKey,
    queue::{Beside, Record, lock},
    read, record,
    shared::Shared,
    succession::{Succession, successions},
};
use crate::model::{EntryKind, Seq};

/// How long a failing disk is waited for, to know whether the entry stands, before nothing more is signed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The key that signs, and the gate before signing.
pub(super) struct Keys {
    key: ArcSwap<HostKey>,
    gate: Mutex<()>,
    /// It is not known which key is to sign; the next start finds out.
    unsettled: AtomicBool,
}

/// Leave to sign. While it is held the key is not replaced: the tree that is signed has to be taken under it.
pub(super) struct Signing<'a> {
    _gate: MutexGuard<'a, ()>,
    key: Arc<HostKey>,
}

impl Deref for Signing<'_> {
    type Target = HostKey;

    fn deref(&self) -> &HostKey {
        &self.key
    }
}

impl Keys {
    pub(super) fn new(key: HostKey) -> Self {
        Self {
            key: ArcSwap::from_pointee(key),
            gate: Mutex::default(),
            unsettled: AtomicBool::new(false),
        }
    }

    /// The key as it is now, to be shown. For signing, see [`Self::signing`].
    pub(super) fn current(&self) -> Arc<HostKey> {
        self.key.load_full()
    }

    /// Leave to sign; `None` while the key is being replaced. Never waits: the writer may ask, for whom a replacement
    /// waits.
    pub(super) fn signing(&self) -> Option<Signing<'_>> {
        let gate = match self.gate.try_lock() {
            Ok(gate) => gate,
            Err(TryLockError::Poisoned(gate)) => gate.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let key = self.current();
        (!self.unsettled()).then_some(Signing { _gate: gate, key })
    }

    /// As [`Self::signing`], after a replacement that is going on; `None` when it is not known which key is to sign. Not
    /// for the writer nor the thread that signs checkpoints, for which a replacement waits.
    pub(super) fn signing_when_settled(&self) -> Option<Signing<'_>> {
        let gate = lock(&self.gate);
        let key = self.current();
        (!self.unsettled()).then_some(Signing { _gate: gate, key })
    }

    /// Whether it is unknown which key is to sign, so that nothing is signed.
    pub(super) fn unsettled(&self) -> bool {
        self.unsettled.load(Ordering::Acquire)
    }
}

/// A replacement that is on record.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Rotated {
    /// The key that signs no more, in the C2SP form.
    pub old: String,
    /// The key that signs from now on.
    pub new: String,
    /// The entry's place.
    pub entry: u64,
}

impl Ledger {
    /// Replaces the host key by a new one of the same name: an entry that both sign, and from then on the new one signs.
    /// Blocks until that is durable; not for a thread of a runtime. `actor` is who asked (`uid`, `pid`).
    ///
    /// # Errors
    /// When the ledger or the key's files cannot be written: the old key stays, unless the message says otherwise.
    pub fn rotate_key(&self, actor: &serde_json::Value) -> Result<Rotated, LedgerError> {
        let shared = self.shared();
        shared.check()?;
        let gate = lock(&shared.keys.gate);
        if shared.keys.unsettled() {
            return Err(unsettled());
        }
        let dir = shared.dir.clone();
        let old = shared.keys.current();
        tidy(&dir, &old)?;
        let new = fresh(old.verifier().name())?;
        let next = Files::new(&dir).next();
        write_new(&next, new.to_secret().as_bytes(), 0o600).map_err(|e| LedgerError::file(&next, &e))?;
        match self.record_rotation(&old, &new, actor) {
            Ok(entry) => {
                let done = finish(&dir, &new);
                let rotated = Rotated {
                    old: old.verifier().to_string(),
                    new: new.verifier().to_string(),
                    entry: entry.0,
                };
                // The entry stands, so the new key signs, whatever became of the files: the next start finishes them.
                shared.keys.key.store(Arc::new(new));
                drop(gate);
                shared.wake_sealer();
                done.map(|()| rotated)
            }
            Err(Failed::NotRecorded(error)) => {
                if let Err(e) = remove(&next) {
                    tracing::warn!(path = %next.display(), "it cannot be removed: {e}");
                }
                Err(error)
            }
            Err(Failed::Unknown) => {
                shared.keys.unsettled.store(true, Ordering::Release);
                tracing::error!("{}", unsettled());
                Err(unsettled())
            }
        }
    }

    /// Appends the entry with the statement beside it, and makes both survive a loss of power.
    fn record_rotation(
        &self,
        old: &HostKey,
        new: &HostKey,
        actor: &serde_json::Value,
    ) -> Result<Seq, Failed> {
        let shared = self.shared();
        let note = Succession::sign(old, new, lock(&shared.head).tree.size());
        let mut members = json!({
            "event": "key_rotated",
            "detail": {
                "new": new.verifier().to_string(),
                "old": old.verifier().to_string(),
                "statement": note,
            },
        });
        if let (false, Some(map)) = (actor.is_null(), members.as_object_mut()) {
            map.insert("actor".into(), actor.clone());
        }
        let entry = record::entry(EntryKind::Ledger, shared.clock.now_ns(), members);
        let (done, wait) = oneshot::channel();
        let mut sealed = record::seal(entry.body);
        sealed.done = Some(done);
        sealed.beside = Some(Box::new(Beside::Succession {
            vkey: new.verifier().to_string(),
            note: note.clone(),
        }));
        let full = || LedgerError::Unavailable {
            why: "the queue is full".into(),
        };
        let permits = shared.queue.room_now(sealed.body.len()).ok_or_else(full)?;
        self.push(Record::Entry(sealed), permits)?;
        let seq = match wait.blocking_recv() {
            Ok(Ok(seq)) => Ok(seq),
            // A commit that failed may stand all the same.
            Ok(Err(error)) => stands(shared, &note, error),
            Err(_) => Err(Failed::Unknown),
        }?;
        // In mode `process` as well: the key's file would outlive a loss of power that the entry does not.
        shared.sync().map_err(|_| Failed::Unknown)?;
        Ok(seq)
    }
}

/// Why a replacement did not take place.
enum Failed {
    /// It is certain that the entry is not there.
    NotRecorded(LedgerError),
    /// That is not known.
    Unknown,
}

impl From<LedgerError> for Failed {
    fn from(error: LedgerError) -> Self {
        Self::NotRecorded(error)
    }
}

pub(super) fn unsettled() -> LedgerError {
    LedgerError::Unavailable {
        why: "the disk failed while the key was being replaced: whether it was is found out when the daemon starts \
              again, and until then no checkpoint is signed"
            .into(),
    }
}

/// Waits until the ledger can be written again, and looks whether the statement is there.
fn stands(shared: &Shared, note: &str, error: LedgerError) -> Result<Seq, Failed> {
    let until = Instant::now() + PATIENCE;
    while shared.failed.load(Ordering::Acquire) {
        if shared.stopping.load(Ordering::Acquire) || Instant::now() >= until {
            return Err(Failed::Unknown);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let look = || -> Result<Option<i64>, LedgerError> {
        let conn = read::open(&shared.live().0)?;
        let there: bool = conn.query_row(
            "SELECT EXISTS (SELECT 1 FROM statement WHERE note = ?1)",
            [note],
            |r| r.get(0),
        )?;
        if !there {
            return Ok(None);
        }
        let sql = "SELECT seq FROM entry WHERE json_extract(body, '$.detail.statement') = ?1
                   ORDER BY seq DESC LIMIT 1";
        Ok(Some(conn.query_row(sql, [note], |r| r.get(0))?))
    };
    match look() {
        Ok(Some(seq)) => Ok(Seq(super::store::uint(seq))),
        Ok(None) => Err(Failed::NotRecorded(error)),
        Err(_) => Err(Failed::Unknown),
    }
}

/// The new key in the place of the old one.
fn finish(dir: &Path, new: &HostKey) -> Result<(), LedgerError> {
    let files = Files::new(dir);
    let next = files.next();
    let renamed = fs::rename(&next, files.key()).and_then(|()| sync_dir(dir));
    renamed.map_err(|e| LedgerError::file(&next, &e))?;
    publish(dir, new)
}

/// Puts in order what an earlier replacement could not, before another begins.
fn tidy(dir: &Path, current: &HostKey) -> Result<(), LedgerError> {
    let path = Files::new(dir).next();
    let error = |e: &std::io::Error| LedgerError::file(&path, e);
    match fs::read_to_string(&path).map(Zeroizing::new) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(error(&e)),
        Ok(text) => match HostKey::parse(&text) {
            Ok(next) if next.verifier() == current.verifier() => finish(dir, current),
            _ => remove(&path).map_err(|e| error(&e)),
        },
    }
}

/// `ledger.pub`, where it is not this key's.
pub(super) fn publish(dir: &Path, key: &HostKey) -> Result<(), LedgerError> {
    let path = Files::new(dir).public();
    let text = format!("{}\n", key.verifier());
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    write_new(&path, text.as_bytes(), 0o644).map_err(|e| LedgerError::file(&path, &e))
}

/// Finishes or undoes a replacement that the last run began; the key that signs from now on.
pub(super) fn settle(dir: &Path, conn: &Connection, key: HostKey) -> Result<HostKey, LedgerError> {
    let files = Files::new(dir);
    // A secret that a crash left half written.
    let partial = partial(&files.next());
    remove(&partial).map_err(|e| LedgerError::file(&partial, &e))?;
    let path = files.next();
    let next = match fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(text) => HostKey::parse(&text).map_err(|e| LedgerError::Key {
            path: path.clone(),
            why: e.to_string().into(),
        })?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(key),
        Err(e) => return Err(LedgerError::file(&path, &e)),
    };
    let stands = successions(conn)?
        .iter()
        .any(|s| s.old == *key.verifier() && s.new == *next.verifier());
    if stands {
        tracing::info!("finishing the replacement of the ledger's key that the last run began");
        finish(dir, &next)?;
        return Ok(next);
    }
    tracing::info!("the replacement of the ledger's key that the last run began is not on record: undone");
    remove(&path).map_err(|e| LedgerError::file(&path, &e))?;
    Ok(key)
}

/// Reads the host key, or makes it on first start. `exists` tells that there is a ledger already.
pub(super) fn load(dir: &Path, host: &str, exists: bool) -> Result<HostKey, LedgerError> {
    let path = Files::new(dir).key();
    let bad = |why: &str| LedgerError::Key {
        path: path.clone(),
        why: why.into(),
    };
    match fs::read_to_string(&path).map(Zeroizing::new) {
        Ok(text) => HostKey::parse(&text).map_err(|e| bad(&e.to_string())),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            if exists {
                return Err(bad("the ledger exists and its key does not; put the key back"));
            }
            let name = format!("portcullis/{host}");
            let key = fresh(&name).map_err(|_| bad("the host id has white space or '+', or is empty"))?;
            write_new(&path, key.to_secret().as_bytes(), 0o600).map_err(|e| LedgerError::file(&path, &e))?;
            Ok(key)
        }
        Err(e) => Err(LedgerError::file(&path, &e)),
    }
}

fn fresh(name: &str) -> Result<HostKey, LedgerError> {
    let mut seed = Zeroizing::new([0; 32]);
    rand::rng().fill(&mut *seed);
    HostKey::from_seed(name, seed).ok_or_else(|| LedgerError::Key {
        path: PathBuf::from("ledger.key"),
        why: "no key can be made under this name".into(),
    })
}

struct Files<'a> {
    dir: &'a Path,
}

impl<'a> Files<'a> {
    fn new(dir: &'a Path) -> Self {
        Self { dir }
    }

    fn key(&self) -> PathBuf {
        self.dir.join("ledger.key")
    }

    fn next(&self) -> PathBuf {
        self.dir.join("ledger.key.next")
    }

    fn public(&self) -> PathBuf {
        self.dir.join("ledger.pub")
    }
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}

/// Writes a file so that it is there whole or not at all.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let partial = partial(path);
    // What a crash left may have another mode.
    remove(&partial)?;
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    fs::File::open(dir)?.sync_all()
}
