//! The database file as the one writer has it: opening, appending a batch, making it durable.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{
    LedgerError,
    frame::direction_word,
    keys,
    note::HostKey,
    parts::live_path,
    queue::{Beside, Item, Record},
    succession::{Succession, succession_notes, successions},
    tree::{CompactRange, Hash},
};

/// `application_id` of a ledger and of an export: "PLGR".
pub(super) const APPLICATION_ID: i32 = 0x504c_4752;
/// `user_version`: the format of tables and bodies.
pub(super) const FORMAT: i32 = 2;
/// The evidence tables.
pub(super) const SCHEMA: &str = include_str!("schema.sql");
/// The views over them.
pub(super) const VIEWS: &str = include_str!("views.sql");
/// Live ledger only: the compact range as of a checkpoint, so that a start need not read every leaf.
pub(super) const TREE: &str =
    "CREATE TABLE tree (one INTEGER PRIMARY KEY, size INTEGER NOT NULL, nodes BLOB NOT NULL) STRICT;\n";

/// Why a batch was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Sync(#[from] std::io::Error),
}

/// The place of a frame that follows entry `size - 1`: frames of an operation are found from its seq on without an
/// index, because their places are at least `seq << PLACE_BITS`.
pub(super) const PLACE_BITS: u32 = 20;

pub(super) struct Store {
    conn: Connection,
    wal: Option<File>,
    pub path: PathBuf,
    /// Which part it is.
    pub number: u64,
    power: bool,
    pub tree: CompactRange,
    /// Entries before its first.
    pub first: u64,
    place: i64,
    /// The last policy set stored, so that the next part can have it, too.
    policy: Option<(Box<str>, Box<str>)>,
}

/// What a part takes over from the one before it.
#[derive(Default)]
pub(super) struct Handover {
    tree: CompactRange,
    place: i64,
    /// The checkpoint over everything before; empty at the beginning of a ledger.
    note: String,
    keys: Vec<String>,
    /// The statements by which they followed each other.
    successions: Vec<String>,
    policy: Option<(Box<str>, Box<str>)>,
}

impl Handover {
    pub(super) fn new(tree: CompactRange, note: String, keys: Vec<String>, successions: Vec<String>) -> Self {
        let place = int(tree.size()) << PLACE_BITS;
        Self {
            tree,
            place,
            note,
            keys,
            successions,
            policy: None,
        }
    }
}

/// SQLite's integers are signed; a seq beyond them is 9.2e18 entries away.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

pub(super) fn uint(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

impl Store {
    /// Opens a part that has begun. The caller holds the ledger's lock.
    pub(super) fn open(path: &Path, number: u64, power: bool) -> Result<Self, LedgerError> {
        let mut conn = connect(path)?;
        create(&mut conn, path)?;
        let (first, tree) = load_tree(&conn)?;
        let place: Option<i64> = conn.query_row("SELECT max(place) FROM payload", [], |r| r.get(0))?;
        let mut store = Self {
            conn,
            wal: None,
            path: path.into(),
            number,
            power,
            tree,
            first,
            place: place.unwrap_or(-1),
            policy: None,
        };
        store.open_wal().map_err(|e| LedgerError::file(path, &e))?;
        Ok(store)
    }

    /// Makes the file of a part that has not begun, durably: before [`Self::begin`] it counts for nothing.
    pub(super) fn prepare(dir: &Path, number: u64, power: bool) -> Result<Self, LedgerError> {
        let path = live_path(dir, number);
        let partial = path.with_extension("partial");
        for old in [&partial, &path] {
            remove(old).map_err(|e| LedgerError::file(old, &e))?;
        }
        // Its side files take over this mode.
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
            .open(&partial)
            .map_err(|e| LedgerError::file(&partial, &e))?;
        // Closing it copies its WAL back, so that the file is whole by itself.
        create(&mut connect(&partial)?, &partial)?;
        let place = || -> std::io::Result<()> {
            File::open(&partial)?.sync_all()?;
            std::fs::rename(&partial, &path)?;
            File::open(dir)?.sync_all()
        };
        place().map_err(|e| LedgerError::file(&path, &e))?;
        let conn = connect(&path)?;
        let mut store = Self {
            conn,
            wal: None,
            path,
            number,
            power,
            tree: CompactRange::default(),
            first: 0,
            place: -1,
            policy: None,
        };
        store.open_wal().map_err(|e| LedgerError::file(&store.path, &e))?;
        Ok(store)
    }

    /// What the next part takes over; `note` is the checkpoint over all that is here.
    pub(super) fn handover(&self, note: String) -> Result<Handover, WriteError> {
        let mut statement = self.conn.prepare("SELECT vkey FROM key ORDER BY vkey")?;
        let keys = statement.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?;
        Ok(Handover {
            tree: self.tree.clone(),
            place: self.place,
            note,
            keys,
            successions: succession_notes(&self.conn)?,
            policy: self.policy.clone(),
        })
    }

    /// Begins this part where another ended. Durable when it returns, whatever the mode: what was before may then be
    /// sealed and removed.
    pub(super) fn begin(&mut self, from: Handover) -> Result<(), WriteError> {
        let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)?;
        let (size, nodes) = (int(from.tree.size()), from.tree.to_bytes());
        tx.execute(
            "INSERT INTO frontier (size, nodes) VALUES (?1, ?2)",
            params![size, nodes],
        )?;
        tx.execute(
            "INSERT INTO tree (one, size, nodes) VALUES (1, ?1, ?2)",
            params![size, nodes],
        )?;
        if !from.note.is_empty() {
            tx.execute(
                "INSERT INTO checkpoint (size, note) VALUES (?1, ?2)",
                params![size, from.note],
            )?;
        }
        for key in &from.keys {
            tx.execute("INSERT INTO key (vkey) VALUES (?1)", [key])?;
        }
        for note in &from.successions {
            tx.execute("INSERT INTO statement (note) VALUES (?1)", [note])?;
        }
        if let Some((hash, text)) = &from.policy {
            tx.execute(
                "INSERT INTO policy_set (hash, text) VALUES (?1, ?2)",
                params![hash, text],
            )?;
        }
        tx.commit()?;
        self.sync()?;
        self.open_wal()?;
        self.first = from.tree.size();
        self.tree = from.tree;
        self.place = from.place;
        self.policy = from.policy;
        Ok(())
    }

    /// Makes what was written durable, whatever the mode.
    pub(super) fn sync(&self) -> std::io::Result<()> {
        let mut wal = self.path.clone().into_os_string();
        wal.push("-wal");
        match File::open(wal) {
            Ok(wal) => wal.sync_data()?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    /// With `synchronous=NORMAL` SQLite does not sync the WAL on commit; we do, by fdatasync on a descriptor of our
    /// own. (`FULL` would do it by fsync: the bundled SQLite is built without `HAVE_FDATASYNC`.) Closing such a
    /// descriptor is safe: SQLite's POSIX locks are on the database file, never on the WAL.
    fn open_wal(&mut self) -> std::io::Result<()> {
        if self.power && self.wal.is_none() {
            let mut name = self.path.clone().into_os_string();
            name.push("-wal");
            match File::open(name) {
                Ok(file) => {
                    // SQLite would do this on its first own sync of the new file.
                    File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
                    self.wal = Some(file);
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes records in order, and returns when they are durable as configured. After an error the store must be
    /// dropped and opened again: what of the batch is in the file is then unknown.
    pub(super) fn write(&mut self, items: &[Item]) -> Result<(), WriteError> {
        let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)?;
        {
            let mut entry =
                tx.prepare_cached("INSERT INTO entry (seq, body, salt, leaf) VALUES (?1, ?2, ?3, ?4)")?;
            let mut frame = tx.prepare_cached(
                "INSERT INTO payload (place, operation, direction, number, sha256, codec, size, bytes)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            for item in items {
                match &item.record {
                    Record::Entry(e) => {
                        entry.execute(params![
                            int(self.tree.size()),
                            e.body,
                            e.salt.as_slice(),
                            e.leaf.as_slice()
                        ])?;
                        self.tree.append(&e.leaf);
                        if let Some(beside) = &e.beside {
                            put_beside(&tx, beside)?;
                        }
                    }
                    Record::Frame(f) => {
                        self.place = (self.place + 1).max(int(self.tree.size()) << PLACE_BITS);
                        frame.execute(params![
                            self.place,
                            &*f.operation.0.hyphenated().encode_lower(&mut text),
                            direction_word(f.direction),
                            f.number,
                            f.sha256.as_slice(),
                            f.codec as i64,
                            f.size,
                            &*f.bytes,
                        ])?;
                    }
                    // One that was signed before this part began stands in the part before.
                    Record::Checkpoint { size, .. } if *size < self.first => {}
                    Record::Checkpoint { size, note, nodes } => {
                        tx.prepare_cached("INSERT OR REPLACE INTO checkpoint (size, note) VALUES (?1, ?2)")?
                            .execute(params![int(*size), note])?;
                        tx.prepare_cached(
                            "INSERT OR REPLACE INTO tree (one, size, nodes) VALUES (1, ?1, ?2)",
                        )?
                        .execute(params![int(*size), nodes])?;
                    }
                    Record::PolicySet { hash, text, .. } => {
                        self.policy = Some((hash.clone(), text.clone()));
                        tx.prepare_cached("INSERT OR IGNORE INTO policy_set (hash, text) VALUES (?1, ?2)")?
                            .execute(params![hash, text])?;
                    }
                    // The writer takes it out before.
                    Record::Rotate { .. } => {}
                }
            }
        }
        tx.commit()?;
        if self.power {
            self.open_wal()?;
            if let Some(wal) = &self.wal {
                wal.sync_data()?;
            }
        }
        Ok(())
    }

    /// Records a public key of the host once.
    pub(super) fn put_key(&self, vkey: &str) -> Result<(), LedgerError> {
        self.conn
            .execute("INSERT OR IGNORE INTO key (vkey) VALUES (?1)", [vkey])?;
        Ok(())
    }

    /// When its first entry was recorded, nanoseconds since 1970 UTC.
    pub(super) fn began_ns(&self) -> Result<Option<i64>, LedgerError> {
        let sql = "SELECT json_extract(body, '$.at') FROM entry ORDER BY seq LIMIT 1";
        let at: Option<Option<String>> = self.conn.query_row(sql, [], |r| r.get(0)).optional()?;
        Ok(at
            .flatten()
            .and_then(|at| at.parse::<jiff::Timestamp>().ok())
            .and_then(|at| i64::try_from(at.as_nanosecond()).ok()))
    }

    /// The size of the last checkpoint, if any.
    pub(super) fn last_checkpoint(&self) -> Result<Option<(u64, String)>, LedgerError> {
        let sql = "SELECT size, note FROM checkpoint ORDER BY size DESC LIMIT 1";
        let row = self.conn.query_row(sql, [], |r| Ok((uint(r.get(0)?), r.get(1)?)));
        Ok(row.optional()?)
    }

    /// The statements by which one host key gave way to another.
    pub(super) fn successions(&self) -> Result<Vec<Succession>, LedgerError> {
        successions(&self.conn)
    }

    /// Finishes or undoes a replacement of the host key that the last run began.
    pub(super) fn settle_key(&self, dir: &Path, key: HostKey) -> Result<HostKey, LedgerError> {
        keys::settle(dir, &self.conn, key)
    }

    /// The leaves from `seq` on: what a failed write may have left behind.
    pub(super) fn leaves_from(&self, seq: u64) -> Result<Vec<Hash>, LedgerError> {
        let mut statement = self
            .conn
            .prepare("SELECT leaf FROM entry WHERE seq >= ?1 ORDER BY seq")?;
        let rows = statement.query_map([int(seq)], |r| r.get::<_, Hash>(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn put_beside(tx: &Transaction<'_>, beside: &Beside) -> Result<(), rusqlite::Error> {
    match beside {
        Beside::Succession { vkey, note } => {
            tx.execute("INSERT OR IGNORE INTO key (vkey) VALUES (?1)", [vkey])?;
            tx.execute("INSERT OR IGNORE INTO statement (note) VALUES (?1)", [note])
        }
        Beside::Witness { size, signature } => tx.execute(
            "INSERT OR IGNORE INTO witness (size, signature) VALUES (?1, ?2)",
            params![int(*size), signature],
        ),
        Beside::Timestamp { size, token } => tx.execute(
            "INSERT OR IGNORE INTO timestamp (size, token) VALUES (?1, ?2)",
            params![int(*size), token],
        ),
    }
    .map(drop)
}

fn connect(path: &Path) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.set_prepared_statement_cache_capacity(16);
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    // Pages of 8 KiB: half the system calls per byte of 4 KiB, which is a fifth of all CPU time (measured); with
    // 16 KiB a lone small commit costs more than that saves.
    conn.execute_batch(
        "PRAGMA page_size=8192; PRAGMA trusted_schema=OFF; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
         PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-16384; PRAGMA temp_store=MEMORY;",
    )?;
    Ok(conn)
}

/// Removes a database file and its side files, where they are.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    // The file itself last: side files without it are nothing, and it without them could be taken for whole.
    for suffix in ["-shm", "-wal", "-journal", ""] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn create(conn: &mut Connection, path: &Path) -> Result<(), LedgerError> {
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0))?;
    let id: i32 = conn.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let format: i32 = conn.pragma_query_value(None, "user_version", |r| r.get(0))?;
    if tables == 0 {
        let tx = conn.transaction()?;
        tx.execute_batch(SCHEMA)?;
        tx.execute_batch(TREE)?;
        tx.execute_batch(VIEWS)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", FORMAT)?;
        tx.commit()?;
    } else if id != APPLICATION_ID || format != FORMAT {
        return Err(LedgerError::Foreign {
            path: path.into(),
            why: format!("application_id {id:#x}, format {format}").into(),
        });
    } else {
        renew_views(conn)?;
    }
    Ok(())
}

/// Gives a ledger of another version this version's views. They are derived: nothing of them is evidence.
fn renew_views(conn: &mut Connection) -> Result<(), LedgerError> {
    let views = |conn: &Connection| -> Result<Vec<(String, String)>, rusqlite::Error> {
        let sql = "SELECT name, coalesce(sql, '') FROM sqlite_master WHERE type = 'view' ORDER BY name";
        let mut statement = conn.prepare(sql)?;
        let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
        rows.collect()
    };
    let model = Connection::open_in_memory()?;
    model.execute_batch(SCHEMA)?;
    model.execute_batch(VIEWS)?;
    let found = views(conn)?;
    if found == views(&model)? {
        return Ok(());
    }
    let tx = conn.transaction()?;
    for (name, _) in &found {
        tx.execute_batch(&format!("DROP VIEW \"{}\"", name.replace('"', "\"\"")))?;
    }
    tx.execute_batch(VIEWS)?;
    Ok(tx.commit()?)
}

/// The tree from the stored compact range and the leaves after it; from all leaves where there is none that fits.
fn load_tree(conn: &Connection) -> Result<(u64, CompactRange), LedgerError> {
    let range = |sql: &str| -> Result<Option<CompactRange>, rusqlite::Error> {
        let row = conn.query_row(sql, [], |r| Ok((uint(r.get(0)?), r.get::<_, Vec<u8>>(1)?)));
        Ok(row
            .optional()?
            .and_then(|(size, nodes)| CompactRange::from_bytes(size, &nodes)))
    };
    let begin = range("SELECT size, nodes FROM frontier ORDER BY size LIMIT 1")?;
    let Some(begin) = begin else {
        return Err(LedgerError::Database {
            why: "it does not say where it begins (table frontier)".into(),
        });
    };
    let first = begin.size();
    let mut tree = range("SELECT size, nodes FROM tree WHERE one = 1")?.unwrap_or(begin);
    let mut statement = conn.prepare("SELECT seq, leaf FROM entry WHERE seq >= ?1 ORDER BY seq")?;
    let mut rows = statement.query([int(tree.size())])?;
    while let Some(row) = rows.next()? {
        let (seq, leaf): (i64, Hash) = (row.get(0)?, row.get(1)?);
        if uint(seq) != tree.size() {
            return Err(LedgerError::Database {
                why: format!("entry {} is missing", tree.size()).into(),
            });
        }
        tree.append(&leaf);
    }
    let sql = "SELECT coalesce(max(seq) + 1, ?1) FROM entry";
    let next: i64 = conn.query_row(sql, [int(first)], |r| r.get(0))?;
    if uint(next) != tree.size() {
        let why = format!(
            "the tree has {} entries and the table ends before entry {next}",
            tree.size()
        );
        return Err(LedgerError::Database { why: why.into() });
    }
    Ok((first, tree))
}
