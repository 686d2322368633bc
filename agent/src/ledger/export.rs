//! Export: one SQLite file for an auditor, complete in itself, readable with any SQLite tool.
//!
//! It has the leaf hash of every entry, so that the signed root can be computed again, and the bodies and payloads of
//! those selected. Payload is stored uncompressed: then SQL shows it, and a short script can check it.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    LedgerError,
    frame::decode,
    read,
    schema::{self, EXPLAIN, EXPORT},
    store::{APPLICATION_ID, FORMAT, PLACE_BITS, SCHEMA, VIEWS, int, uint},
    tree::{CompactRange, Hash},
    verify::Progress,
};
use crate::model::Rfc3339;

/// Which entries' bodies and payloads an export has.
///
/// An operation brings its outcome and payload. With `workload` or `session`, only what names it is taken, and with
/// `workload` also what concerns the whole host: `agent`, `gap`, and changes of configuration and policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ExportOptions {
    /// From this time on, nanoseconds since 1970 UTC.
    pub since_ns: Option<i64>,
    /// Before this time.
    pub until_ns: Option<i64>,
    /// Of this workload.
    pub workload: Option<String>,
    /// Of this session (UUID).
    pub session: Option<String>,
    /// Also the entries after the last checkpoint, which nothing signed covers yet.
    pub unsealed: bool,
    /// Now, for `about`; nanoseconds since 1970 UTC.
    pub now_ns: i64,
}

/// What an export holds: for the entry that records it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Exported {
    /// Entries in the tree.
    pub entries: u64,
    /// Of them, those with their body.
    pub selected: u64,
    /// Payload frames.
    pub frames: u64,
    /// The tree's root, hex.
    pub root: String,
}

/// So many entries are read at a time; between them the WAL can be started over.
const CHUNK: u64 = 20_000;

/// Exports the ledger `ledger` (its database file) to `out`, which must not exist. Works beside a running daemon.
///
/// # Errors
/// When the ledger cannot be read or `out` not be written. Then `out` is not there.
pub fn export(
    ledger: &Path,
    out: &Path,
    options: &ExportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Exported, LedgerError> {
    if out.exists() {
        return Err(LedgerError::File {
            path: out.into(),
            why: "it exists already".into(),
        });
    }
    let partial = Partial::new(out)?;
    let source = read::open(ledger)?;
    let done = {
        let mut copy = Copy {
            target: create(&partial.path)?,
            source,
            options,
            tree: CompactRange::default(),
            selected: 0,
            frames: 0,
        };
        copy.all(progress)?;
        copy.finish()?
    };
    partial.keep(out)?;
    Ok(done)
}

/// A file that goes away unless it is kept.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn new(out: &Path) -> Result<Self, LedgerError> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut name = out.as_os_str().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let path = PathBuf::from(name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&path).map_err(|e| LedgerError::file(&path, &e))?;
        Ok(Self { path })
    }

    fn keep(self, out: &Path) -> Result<(), LedgerError> {
        let keep = || -> std::io::Result<()> {
            std::fs::File::open(&self.path)?.sync_all()?;
            // Unlike a rename, a link never replaces what someone else put there meanwhile.
            std::fs::hard_link(&self.path, out)?;
            let parent = out.parent().filter(|p| !p.as_os_str().is_empty());
            std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        keep().map_err(|e| LedgerError::file(out, &e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Its link under the final name, if it was kept, stays.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn create(path: &Path) -> Result<Connection, LedgerError> {
    let conn = Connection::open(path)?;
    conn.execute_batch(
        "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536; PRAGMA temp_store=MEMORY;",
    )?;
    conn.execute_batch(SCHEMA)?;
    conn.pragma_update(None, "application_id", APPLICATION_ID)?;
    conn.pragma_update(None, "user_version", FORMAT)?;
    // Never stored: which operations' payload is wanted.
    conn.execute_batch("CREATE TEMP TABLE wanted (id TEXT PRIMARY KEY) WITHOUT ROWID; BEGIN")?;
    Ok(conn)
}

struct Copy<'a> {
    source: Connection,
    target: Connection,
    options: &'a ExportOptions,
    tree: CompactRange,
    selected: u64,
    frames: u64,
}

/// The members by which entries are selected.
#[derive(serde::Deserialize)]
struct Selected<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    at: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    workload: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    session: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    operation: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subject: Option<Cow<'a, str>>,
}

impl Copy<'_> {
    fn all(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), LedgerError> {
        let total = self.end()?;
        self.target
            .execute("INSERT INTO frontier (size, nodes) VALUES (0, x'')", [])?;
        for table in ["checkpoint", "policy_set", "key"] {
            self.rows_of(table, total)?;
        }
        let since = self.options.since_ns.map(|ns| Rfc3339(ns).to_string());
        let until = self.options.until_ns.map(|ns| Rfc3339(ns).to_string());
        while self.tree.size() < total {
            self.chunk(total, since.as_deref(), until.as_deref())?;
            progress(Progress {
                done: self.tree.size(),
                total,
                bytes: 0,
            });
        }
        self.payload(total)?;
        Ok(())
    }

    /// How many entries are exported.
    fn end(&self) -> Result<u64, LedgerError> {
        let sql = if self.options.unsealed {
            "SELECT coalesce(max(seq) + 1, 0) FROM entry"
        } else {
            "SELECT coalesce(max(size), 0) FROM checkpoint"
        };
        Ok(uint(self.source.query_row(sql, [], |r| r.get(0))?))
    }

    fn rows_of(&self, table: &str, total: u64) -> Result<(), LedgerError> {
        let (from, to) = match table {
            "checkpoint" => (
                format!("SELECT size, note FROM checkpoint WHERE size <= {total}"),
                "INSERT INTO checkpoint VALUES (?1, ?2)",
            ),
            "policy_set" => (
                "SELECT hash, text FROM policy_set".into(),
                "INSERT INTO policy_set VALUES (?1, ?2)",
            ),
            _ => ("SELECT vkey FROM key".into(), "INSERT INTO key VALUES (?1)"),
        };
        let mut from = self.source.prepare(&from)?;
        let width = from.column_count();
        let mut to = self.target.prepare(to)?;
        let mut rows = from.query([])?;
        while let Some(row) = rows.next()? {
            let values: Vec<rusqlite::types::Value> =
                (0..width).map(|i| row.get(i)).collect::<Result<_, _>>()?;
            to.execute(rusqlite::params_from_iter(values))?;
        }
        Ok(())
    }

    fn chunk(&mut self, total: u64, since: Option<&str>, until: Option<&str>) -> Result<(), LedgerError> {
        let start = self.tree.size();
        let end = total.min(start + CHUNK);
        let mut from = self.source.prepare_cached(
            "SELECT seq, body, salt, leaf FROM entry WHERE seq >= ?1 AND seq < ?2 ORDER BY seq",
        )?;
        let mut to = self
            .target
            .prepare_cached("INSERT INTO entry VALUES (?1, ?2, ?3, ?4)")?;
        let mut want = self
            .target
            .prepare_cached("INSERT OR IGNORE INTO temp.wanted VALUES (?1)")?;
        let mut wanted = self
            .target
            .prepare_cached("SELECT 1 FROM temp.wanted WHERE id = ?1")?;
        let mut rows = from.query([int(start), int(end)])?;
        while let Some(row) = rows.next()? {
            let (seq, leaf): (i64, Hash) = (row.get(0)?, row.get(3)?);
            let body = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            let read: Option<Selected<'_>> = serde_json::from_str(body).ok();
            // What cannot be read goes into an export of everything, where verification names it.
            let take = match &read {
                None => self.options.is_all(),
                Some(r) => match r.operation.as_deref().filter(|_| r.kind == "outcome") {
                    Some(operation) => wanted.exists([operation])?,
                    None => self.options.takes(r, since, until),
                },
            };
            if take {
                self.selected += 1;
                let salt = row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
                to.execute(params![seq, body, salt, leaf.as_slice()])?;
                if let Some(operation) = read.filter(|r| r.kind == "operation") {
                    want.execute([&*operation.id])?;
                }
            } else {
                to.execute(params![seq, None::<&str>, None::<&[u8]>, leaf.as_slice()])?;
            }
            self.tree.append(&leaf);
        }
        if self.tree.size() == end {
            return Ok(());
        }
        Err(LedgerError::Database {
            why: format!("an entry before entry {end} is missing; run verify").into(),
        })
    }

    /// The payload of the selected operations, and of those alone.
    fn payload(&mut self, total: u64) -> Result<(), LedgerError> {
        let end = int(total).saturating_add(1) << PLACE_BITS;
        let mut next = i64::MIN;
        loop {
            let mut from = self.source.prepare_cached(
                "SELECT place, operation, direction, number, sha256, codec, size, bytes FROM payload
                 WHERE place >= ?1 AND place < ?2 ORDER BY place LIMIT 5000",
            )?;
            let mut to = self
                .target
                .prepare_cached("INSERT INTO payload VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
            let mut wanted = self
                .target
                .prepare_cached("SELECT 1 FROM temp.wanted WHERE id = ?1")?;
            let mut rows = from.query([next, end])?;
            let mut any = false;
            while let Some(row) = rows.next()? {
                any = true;
                let place: i64 = row.get(0)?;
                next = place + 1;
                let operation: String = row.get(1)?;
                if !wanted.exists([&operation])? {
                    continue;
                }
                let (codec, size): (i64, i64) = (row.get(5)?, row.get(6)?);
                let bytes = row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?;
                // What cannot be decoded goes as it is, so that verification names it.
                let decoded = usize::try_from(size)
                    .ok()
                    .and_then(|size| decode(codec, size, bytes));
                let (codec, bytes) = decoded.as_deref().map_or((codec, bytes), |b| (0, b));
                let (direction, number): (String, i64) = (row.get(2)?, row.get(3)?);
                let hash: Vec<u8> = row.get(4)?;
                to.execute(params![
                    place, operation, direction, number, hash, codec, size, bytes
                ])?;
                self.frames += 1;
            }
            if !any {
                return Ok(());
            }
        }
    }

    fn finish(self) -> Result<Exported, LedgerError> {
        let done = Exported {
            entries: self.tree.size(),
            selected: self.selected,
            frames: self.frames,
            root: hex::encode(self.tree.root()),
        };
        self.target.execute_batch(EXPLAIN)?;
        self.target.execute_batch(EXPORT)?;
        self.target.execute_batch(VIEWS)?;
        let key: Option<String> = self
            .target
            .query_row("SELECT vkey FROM key LIMIT 1", [], |r| r.get(0))
            .optional()?;
        schema::explain(
            &self.target,
            &about_rows(self.options, &done, key.as_deref().unwrap_or_default()),
        )?;
        self.target
            .execute_batch("COMMIT; DROP TABLE temp.wanted; PRAGMA journal_mode=DELETE;")?;
        self.target.close().map_err(|(_, e)| e)?;
        Ok(done)
    }
}

impl ExportOptions {
    fn is_all(&self) -> bool {
        self.since_ns.is_none()
            && self.until_ns.is_none()
            && self.workload.is_none()
            && self.session.is_none()
    }

    fn takes(&self, entry: &Selected<'_>, since: Option<&str>, until: Option<&str>) -> bool {
        if since.is_some_and(|s| &*entry.at < s) || until.is_some_and(|u| &*entry.at >= u) {
            return false;
        }
        if let Some(session) = &self.session {
            return entry.session.as_deref() == Some(session);
        }
        match &self.workload {
            None => true,
            Some(workload) if entry.workload.as_deref() == Some(workload) => true,
            Some(_) => match &*entry.kind {
                "agent" | "gap" => true,
                "change" => match entry.subject.as_deref() {
                    Some("config" | "policy" | "key") => true,
                    Some("credential") => entry.workload.is_none(),
                    _ => false,
                },
                _ => false,
            },
        }
    }
}

fn about_rows(options: &ExportOptions, done: &Exported, key: &str) -> [(&'static str, String); 9] {
    let time = |ns: Option<i64>| ns.map_or_else(|| "no limit".into(), |ns| Rfc3339(ns).to_string());
    [
        ("what", "What AI agents (workloads) did through Portcullis on one host: every operation with the decision on \
          it and how it ended, masked. Start with the views: operations, sessions, workload_events, changes, \
          agent_events, approvals, approval_events, payloads. The table columns explains every column.".into()),
        ("format", FORMAT.to_string()),
        ("exported_at", Rfc3339(options.now_ns).to_string()),
        ("key", key.into()),
        ("entries", done.entries.to_string()),
        ("selected", format!("{} of {} entries have their body here; of the others there is only the hash.",
          done.selected, done.entries)),
        ("range", format!("since: {}; until: {}; workload: {}; session: {}", time(options.since_ns),
          time(options.until_ns), options.workload.as_deref().unwrap_or("all"),
          options.session.as_deref().unwrap_or("all"))),
        ("root", done.root.clone()),
        ("verify", "Each entry.leaf is SHA-256(0x00, salt, body). The leaves in the order of seq form the hash tree \
          of RFC 6962 (inner node: SHA-256(0x01, left, right)); each checkpoint.note signs, with Ed25519, the root over the first \
          checkpoint.size leaves. Compare the key with the one that the host's owner gave you. Each payload.sha256 is the \
          SHA-256 of payload.bytes; an outcome's payload.up.sha256 is the SHA-256 over the joined hashes of its frames. \
          The views are plain SQL over entry.body. The command 'portcullis verify FILE --key KEY' checks all of it."
          .into()),
    ]
}
