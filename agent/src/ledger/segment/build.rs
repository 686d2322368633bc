//! Writing the file of a segment from a part that has ended.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use aws_lc_rs::digest;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    super::{
        LedgerError, canonical,
        frame::{Recoder, decode},
        keys,
        parts::{parts, segments_dir},
        read, schema,
        shared::Shared,
        store::{APPLICATION_ID, FORMAT, SCHEMA, VIEWS, int, uint},
        succession::succession_notes,
        tree::{CompactRange, Hash, leaf_hash},
    },
    statement::{Lines, Statement},
};
use crate::model::Rfc3339;

/// So many rows are copied between two looks at whether the ledger is being closed.
const CHUNK: u64 = 20_000;

/// A segment that was made.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sealed {
    /// Its number.
    pub number: u64,
    /// Entries before its first.
    pub first: u64,
    /// Entries up to its end.
    pub end: u64,
    /// The tree's root at its end, hex.
    pub root: String,
    /// The file's SHA-256, hex.
    pub sha256: String,
    /// The file's size, in bytes.
    pub bytes: u64,
    /// Where it is.
    #[serde(skip)]
    pub path: PathBuf,
}

/// What is known of a segment that is in its place.
pub(super) fn describe(path: &Path, number: u64) -> Result<Sealed, LedgerError> {
    let conn = read::open(path)?;
    let first = read::first(&conn)?.unwrap_or(0);
    let sql = "SELECT coalesce(max(seq) + 1, ?1) FROM entry";
    let end = uint(conn.query_row(sql, [int(first)], |r| r.get(0))?);
    let sql = "SELECT text FROM about WHERE topic = 'root'";
    let root = conn.query_row(sql, [], |r| r.get(0))?;
    drop(conn);
    let (sha256, bytes) = hash_file(path).map_err(|e| LedgerError::file(path, &e))?;
    Ok(Sealed {
        number,
        first,
        end,
        root,
        sha256,
        bytes,
        path: path.into(),
    })
}

/// SHA-256 (hex) and size of a file.
///
/// # Errors
/// When it cannot be read.
pub fn hash_file(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 << 10];
    let mut bytes = 0;
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok((hex::encode(context.finish()), bytes));
        }
        context.update(&buffer[..n]);
        bytes += n as u64;
    }
}

/// Makes the segment of a part that has ended, whole or not at all.
pub(super) fn build(live: &Path, path: &Path, number: u64, shared: &Shared) -> Result<Sealed, LedgerError> {
    let dir = segments_dir(&shared.dir);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|e| LedgerError::file(&dir, &e))?;
    let partial = path.with_extension("partial");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options
        .open(&partial)
        .map_err(|e| LedgerError::file(&partial, &e))?;
    let source = read::open(live)?;
    // One pass over what may be gigabytes: mapped, it would all count as this process's memory.
    source.execute_batch("PRAGMA mmap_size=0")?;
    let mut copy = Copy {
        source,
        target: target(&partial)?,
        shared,
        tree: CompactRange::default(),
        sets: BTreeSet::new(),
    };
    copy.all(number)?;
    copy.target.close().map_err(|(_, e)| e)?;
    let keep = || -> std::io::Result<()> {
        File::open(&partial)?.sync_all()?;
        std::fs::rename(&partial, path)?;
        keep_name(&shared.dir)
    };
    keep().map_err(|e| LedgerError::file(path, &e))?;
    describe(path, number)
}

/// Makes the names of segments durable.
pub(super) fn keep_name(dir: &Path) -> std::io::Result<()> {
    File::open(segments_dir(dir))?.sync_all()?;
    File::open(dir)?.sync_all()
}

fn target(path: &Path) -> Result<Connection, LedgerError> {
    let conn = Connection::open(path)?;
    conn.execute_batch(
        "PRAGMA page_size=8192; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-16384;",
    )?;
    conn.execute_batch(SCHEMA)?;
    conn.execute_batch(schema::EXPLAIN)?;
    conn.execute_batch(VIEWS)?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    conn.pragma_update(None, "user_version", FORMAT)?;
    conn.execute_batch("BEGIN")?;
    Ok(conn)
}

struct Copy<'a> {
    source: Connection,
    target: Connection,
    shared: &'a Shared,
    tree: CompactRange,
    /// Policy sets that its entries name; then all that it gets.
    sets: BTreeSet<String>,
}

impl Copy<'_> {
    fn all(&mut self, number: u64) -> Result<(), LedgerError> {
        let begin = self.begin()?;
        let first = begin.size();
        self.tree = begin;
        self.entries()?;
        self.checkpoints(first)?;
        for sql in [
            "INSERT INTO key SELECT vkey FROM live.key",
            "INSERT INTO statement SELECT note FROM live.statement",
            "INSERT INTO witness SELECT size, signature FROM live.witness",
            "INSERT INTO timestamp SELECT size, token FROM live.timestamp",
        ] {
            self.rows(sql)?;
        }
        let policy_sets = self.policy_sets()?;
        let frames = self.payload()?;
        let statement = Statement {
            number,
            first,
            end: self.tree.size(),
            frames,
            policy_sets,
        };
        let key = self
            .shared
            .keys
            .signing_when_settled()
            .ok_or_else(keys::unsettled)?;
        let note = statement.sign(&key);
        // While it is held no other key takes over, of which the file would then know in one table and not in another.
        self.later_keys()?;
        let about = self.about(&statement);
        drop(key);
        self.target
            .execute("INSERT INTO statement (note) VALUES (?1)", [note])?;
        schema::explain(&self.target, &about)?;
        self.target.execute_batch("COMMIT; PRAGMA journal_mode=DELETE;")?;
        Ok(())
    }

    fn begin(&self) -> Result<CompactRange, LedgerError> {
        let sql = "SELECT size, nodes FROM frontier ORDER BY size LIMIT 1";
        let (size, nodes): (i64, Vec<u8>) = self.source.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?)))?;
        self.target.execute(
            "INSERT INTO frontier (size, nodes) VALUES (?1, ?2)",
            params![size, nodes],
        )?;
        CompactRange::from_bytes(uint(size), &nodes).ok_or_else(|| LedgerError::Database {
            why: "its frontier is damaged; run verify".into(),
        })
    }

    fn closing(&self) -> Result<(), LedgerError> {
        if self.shared.stopping.load(Ordering::Acquire) {
            return Err(LedgerError::Closed);
        }
        Ok(())
    }

    /// Copies entries, computing the tree from their bytes: what is sealed is what was hashed.
    fn entries(&mut self) -> Result<(), LedgerError> {
        let mut from = self
            .source
            .prepare("SELECT seq, body, salt, leaf FROM entry ORDER BY seq")?;
        let mut to = self.target.prepare("INSERT INTO entry VALUES (?1, ?2, ?3, ?4)")?;
        let mut rows = from.query([])?;
        while let Some(row) = rows.next()? {
            let (seq, leaf): (i64, Hash) = (row.get(0)?, row.get(3)?);
            let body = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let salt = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            if uint(seq) != self.tree.size() || leaf_hash(salt, body.as_bytes()) != leaf {
                return Err(LedgerError::Database {
                    why: format!("entry {seq} is not as it was recorded; run verify").into(),
                });
            }
            if let Some(set) = policy_set_of(body)
                && !self.sets.contains(set)
            {
                self.sets.insert(set.into());
            }
            to.execute(params![seq, body, salt, leaf.as_slice()])?;
            self.tree.append(&leaf);
            if self.tree.size().is_multiple_of(CHUNK) {
                self.closing()?;
            }
        }
        Ok(())
    }

    /// The checkpoints at both ends, and those that somebody else vouches for. The others say nothing that the last
    /// does not.
    fn checkpoints(&self, first: u64) -> Result<(), LedgerError> {
        let end = self.tree.size();
        let mut from = self.source.prepare(
            "SELECT size, note FROM checkpoint WHERE size IN (?1, ?2)
             OR size IN (SELECT size FROM witness) OR size IN (SELECT size FROM timestamp)",
        )?;
        let mut rows = from.query([int(first), int(end)])?;
        let mut last = 0;
        while let Some(row) = rows.next()? {
            let (size, note): (i64, String) = (row.get(0)?, row.get(1)?);
            self.target.execute(
                "INSERT INTO checkpoint (size, note) VALUES (?1, ?2)",
                params![size, note],
            )?;
            last = last.max(uint(size));
        }
        if last == end {
            return Ok(());
        }
        Err(LedgerError::Database {
            why: format!("there is no checkpoint over its {end} entries").into(),
        })
    }

    /// The keys that took over after this part had ended: one of them signs what is said of it.
    fn later_keys(&self) -> Result<(), LedgerError> {
        let live = read::open(&self.shared.live().0)?;
        let mut statement = live.prepare("SELECT vkey FROM key")?;
        let keys = statement.query_map([], |r| r.get::<_, String>(0))?;
        for key in keys {
            let sql = "INSERT OR IGNORE INTO key (vkey) VALUES (?1)";
            self.target.execute(sql, [key?])?;
        }
        for note in succession_notes(&live)? {
            let sql = "INSERT OR IGNORE INTO statement (note) VALUES (?1)";
            self.target.execute(sql, [note])?;
        }
        Ok(())
    }

    /// Copies a small table.
    fn rows(&self, sql: &str) -> Result<(), LedgerError> {
        // Written as SQL reads it; the two databases are two connections, so the halves are run apart.
        let Some((insert, select)) = sql.split_once(" SELECT ") else {
            return Ok(());
        };
        let mut from = self
            .source
            .prepare(&format!("SELECT {}", select.replace("live.", "")))?;
        let width = from.column_count();
        let places = vec!["?"; width].join(", ");
        let mut to = self.target.prepare(&format!("{insert} VALUES ({places})"))?;
        let mut rows = from.query([])?;
        while let Some(row) = rows.next()? {
            let values: Vec<rusqlite::types::Value> =
                (0..width).map(|i| row.get(i)).collect::<Result<_, _>>()?;
            to.execute(rusqlite::params_from_iter(values))?;
        }
        Ok(())
    }

    /// The policy sets of this part, and those that its entries name from one before it. One that no entry names yet may
    /// be named in the next part.
    fn policy_sets(&mut self) -> Result<(u64, Hash), LedgerError> {
        let mut statement = self.source.prepare("SELECT hash FROM policy_set")?;
        for hash in statement.query_map([], |r| r.get(0))? {
            self.sets.insert(hash?);
        }
        drop(statement);
        let mut lines = Lines::default();
        for hash in &self.sets {
            let Some(text) = self.policy_set(hash)? else {
                // Verification counts it.
                tracing::warn!(policy_set = %hash, "the text of a policy set is in no part of the ledger");
                continue;
            };
            self.target.execute(
                "INSERT INTO policy_set (hash, text) VALUES (?1, ?2)",
                [hash, &text],
            )?;
            lines.text(hash);
        }
        Ok(lines.finish())
    }

    fn policy_set(&self, hash: &str) -> Result<Option<String>, LedgerError> {
        let sql = "SELECT text FROM policy_set WHERE hash = ?1";
        let own = self.source.query_row(sql, [hash], |r| r.get(0)).optional()?;
        if own.is_some() {
            return Ok(own);
        }
        for part in parts(&self.shared.dir)?.iter().rev().filter(|p| p.sealed).take(8) {
            let other = read::open(&part.path)?;
            let text = other.query_row(sql, [hash], |r| r.get(0)).optional()?;
            if text.is_some() {
                return Ok(text);
            }
        }
        Ok(None)
    }

    /// Copies frames, compressed with zlib where that helps: what any language's standard library reads.
    fn payload(&self) -> Result<(u64, Hash), LedgerError> {
        let mut from = self.source.prepare(
            "SELECT place, operation, direction, number, sha256, codec, size, bytes FROM payload ORDER BY place",
        )?;
        let mut to = self
            .target
            .prepare("INSERT INTO payload VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
        let mut lines = Lines::default();
        let mut recoder = Recoder::new();
        let mut rows = from.query([])?;
        let mut done = 0;
        while let Some(row) = rows.next()? {
            let place: i64 = row.get(0)?;
            let text = |i: usize| row.get_ref(i)?.as_str().map_err(rusqlite::Error::from);
            let (operation, direction, number) = (text(1)?, text(2)?, row.get(3)?);
            let hash = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
            let (codec, size): (i64, i64) = (row.get(5)?, row.get(6)?);
            let bytes = row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?;
            let length = usize::try_from(size).unwrap_or(0);
            let raw = decode(codec, length, bytes).ok_or_else(|| LedgerError::Database {
                why: format!("frame {number} of operation {operation} cannot be decoded; run verify").into(),
            })?;
            let (codec, bytes) = recoder.zlib(&raw);
            to.execute(params![
                place, operation, direction, number, hash, codec, size, bytes
            ])?;
            lines.frame(place, operation, direction, number, hash, size);
            done += 1;
            if done % CHUNK == 0 {
                self.closing()?;
            }
        }
        Ok(lines.finish())
    }

    fn about(&self, statement: &Statement) -> Vec<(&'static str, String)> {
        vec![
            (
                "what",
                "A sealed segment of the ledger of one host: what AI agents (workloads) did through Portcullis, every \
                 operation with the decision on it and how it ended, masked. Start with the views; the table columns \
                 explains every column."
                    .into(),
            ),
            ("file", "segment".into()),
            ("format", FORMAT.to_string()),
            ("segment", statement.number.to_string()),
            ("first", statement.first.to_string()),
            ("entries", statement.end.to_string()),
            ("root", hex::encode(self.tree.root())),
            ("sealed_at", Rfc3339(self.shared.clock.now_ns()).to_string()),
            ("key", self.shared.keys.current().verifier().to_string()),
            ("version", env!("CARGO_PKG_VERSION").into()),
            (
                "verify",
                "`portcullis verify FILE --key ledger.pub` computes everything again and names the first thing that is \
                 not right; several files of one host are verified together as a chain. Without it: `sqlite3 FILE \"SELECT text FROM \
                 verifier\" > verify.py; python3 verify.py FILE --key ledger.pub`."
                    .into(),
            ),
        ]
    }
}

/// The policy set that an entry names.
fn policy_set_of(body: &str) -> Option<&str> {
    let members = canonical::body(body).ok()?;
    let set = canonical::plain(members.policy_set?)?;
    (!set.is_empty()).then_some(set)
}
