//! From the files of a ledger into the file of an export.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    super::{
        LedgerError,
        frame::decode,
        pieces::{self, Piece},
        schema::{self, EXPLAIN, EXPORT, SEARCH},
        store::{APPLICATION_ID, FORMAT, PLACE_BITS, SCHEMA, VIEWS, int},
        tree::{CompactRange, Hash},
        verify::Progress,
    },
    ExportOptions, Exported, about,
    select::{Members, Selection},
};

/// So many entries are read at a time; between them the WAL can be started over.
const CHUNK: u64 = 20_000;

pub(super) struct Copy<'a> {
    target: Connection,
    options: &'a ExportOptions,
    selection: Selection<'a>,
    tree: CompactRange,
    first: u64,
    selected: u64,
    frames: u64,
}

/// A range of entries.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    end: u64,
}

impl<'a> Copy<'a> {
    pub(super) fn new(path: &Path, options: &'a ExportOptions) -> Result<Self, LedgerError> {
        let target = Connection::open(path)?;
        // Temporary tables may grow with the export: beyond their cache they go to a file.
        target.execute_batch(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536; PRAGMA temp.cache_size=-32768;",
        )?;
        target.execute_batch(SCHEMA)?;
        target.pragma_update(None, "application_id", APPLICATION_ID)?;
        target.pragma_update(None, "user_version", FORMAT)?;
        // Never stored: which operations' payload is wanted, and which of them have no outcome yet.
        target.execute_batch(
            "CREATE TEMP TABLE wanted (id TEXT PRIMARY KEY, running INTEGER NOT NULL) WITHOUT ROWID; BEGIN",
        )?;
        Ok(Self {
            target,
            options,
            selection: Selection::new(options),
            tree: CompactRange::default(),
            first: 0,
            selected: 0,
            frames: 0,
        })
    }

    pub(super) fn all(
        &mut self,
        pieces: &[Piece],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), LedgerError> {
        let (Some(begin), Some(last)) = (pieces.first(), pieces.last()) else {
            return Err(LedgerError::Database {
                why: "no part of it has begun".into(),
            });
        };
        self.tree = begin.begin.clone();
        self.first = self.tree.size();
        self.target.execute(
            "INSERT INTO frontier (size, nodes) VALUES (?1, ?2)",
            params![int(self.first), self.tree.to_bytes()],
        )?;
        let total = pieces::end(last, self.options.unsealed)?;
        for (n, piece) in pieces.iter().enumerate() {
            if n > 0 && self.is_complete(piece)? {
                break;
            }
            // A part ends where the next one begins.
            let end = pieces.get(n + 1).map_or(total, |next| next.begin.size());
            if self.tree != piece.begin {
                return Err(LedgerError::Database {
                    why: format!(
                        "the part from entry {} on does not follow what was read up to entry {}; run verify",
                        piece.begin.size(),
                        self.tree.size()
                    )
                    .into(),
                });
            }
            let source = piece.open()?;
            while self.tree.size() < end {
                self.entries(&source, end)?;
                progress(Progress {
                    done: self.tree.size() - self.first,
                    total: total - self.first,
                    bytes: 0,
                });
            }
            self.payload(&source, end)?;
            let start = self.first;
            self.vouchers(&source, Range { start, end })?;
        }
        Ok(())
    }

    /// Whether nothing from this piece on was asked for, and no operation that was waits for its outcome.
    fn is_complete(&self, piece: &Piece) -> Result<bool, LedgerError> {
        let Some(newest) = self.options.until_ns.map(pieces::not_after) else {
            return Ok(false);
        };
        if piece.first_at()?.is_none_or(|at| at <= newest) {
            return Ok(false);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM temp.wanted WHERE running)";
        Ok(!self.target.query_row(sql, [], |r| r.get::<_, bool>(0))?)
    }

    /// Checkpoints with what others say of them, policy sets, and keys.
    fn vouchers(&self, source: &Connection, range: Range) -> Result<(), LedgerError> {
        let within = format!("size >= {} AND size <= {}", range.start, range.end);
        for (table, columns, condition) in [
            ("checkpoint", "size, note", within.as_str()),
            ("witness", "size, signature", &within),
            ("timestamp", "size, token", &within),
            ("policy_set", "hash, text", "1"),
            ("key", "vkey", "1"),
            // What was purged of the payload, and which key followed which: without them frames without bytes, and keys
            // that took over before the range, do not verify.
            (
                "statement",
                "note",
                "note LIKE '%' || char(10) || 'payload purged' || char(10) || '%'
                 OR note LIKE 'portcullis key succession v1' || char(10) || '%'",
            ),
        ] {
            let mut from = source.prepare(&format!("SELECT {columns} FROM {table} WHERE {condition}"))?;
            let width = from.column_count();
            let places = vec!["?"; width].join(", ");
            let mut to = self.target.prepare(&format!(
                "INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})"
            ))?;
            let mut rows = from.query([])?;
            while let Some(row) = rows.next()? {
                let values: Vec<rusqlite::types::Value> =
                    (0..width).map(|i| row.get(i)).collect::<Result<_, _>>()?;
                to.execute(rusqlite::params_from_iter(values))?;
            }
        }
        Ok(())
    }

    fn entries(&mut self, source: &Connection, total: u64) -> Result<(), LedgerError> {
        let start = self.tree.size();
        let end = total.min(start + CHUNK);
        let mut from = source.prepare_cached(
            "SELECT seq, body, salt, leaf FROM entry WHERE seq >= ?1 AND seq < ?2 ORDER BY seq",
        )?;
        let mut to = self
            .target
            .prepare_cached("INSERT INTO entry VALUES (?1, ?2, ?3, ?4)")?;
        let mut want = self
            .target
            .prepare_cached("INSERT OR IGNORE INTO temp.wanted VALUES (?1, ?2)")?;
        let mut ended = self
            .target
            .prepare_cached("UPDATE temp.wanted SET running = 0 WHERE id = ?1")?;
        let mut rows = from.query([int(start), int(end)])?;
        while let Some(row) = rows.next()? {
            let (seq, leaf): (i64, Hash) = (row.get(0)?, row.get(3)?);
            if seq != int(self.tree.size()) {
                break;
            }
            // A source that is an export itself may lack it.
            let body = row.get_ref(1)?.as_str_or_null().map_err(rusqlite::Error::from)?;
            let read: Option<Members<'_>> = body.and_then(|b| serde_json::from_str(b).ok());
            // What cannot be read goes into an export of everything, where verification names it.
            let take = match &read {
                None => body.is_some() && self.selection.is_all(),
                Some(r) => match r.operation.as_deref().filter(|_| r.kind == "outcome") {
                    Some(operation) => ended.execute([operation])? > 0,
                    None => self.selection.takes(r),
                },
            };
            if take {
                self.selected += 1;
                let salt = row.get_ref(2)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
                to.execute(params![seq, body, salt, leaf.as_slice()])?;
                if let Some(operation) = read.filter(|r| r.kind == "operation") {
                    let running = operation.decision.as_deref() == Some("allow");
                    want.execute(params![&*operation.id, running])?;
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
    fn payload(&mut self, source: &Connection, total: u64) -> Result<(), LedgerError> {
        let end = int(total).saturating_add(1) << PLACE_BITS;
        let mut next = i64::MIN;
        loop {
            let mut from = source.prepare_cached(
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
                let operation = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
                if !wanted.exists([operation])? {
                    continue;
                }
                let (codec, size): (i64, i64) = (row.get(5)?, row.get(6)?);
                // Purged bytes stay away, and their hash stays.
                let bytes = row.get_ref(7)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
                // What cannot be decoded goes as it is, so that verification names it.
                let decoded = bytes.and_then(|b| decode(codec, usize::try_from(size).ok()?, b));
                let (codec, bytes) = decoded.as_deref().map_or((codec, bytes), |b| (0, Some(b)));
                let direction = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
                let hash = row.get_ref(4)?.as_blob().map_err(rusqlite::Error::from)?;
                let number: i64 = row.get(3)?;
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

    /// Indexes, views and explanations; the file is whole when this returns.
    pub(super) fn finish(self) -> Result<Exported, LedgerError> {
        let done = Exported {
            first: self.first,
            entries: self.tree.size(),
            selected: self.selected,
            frames: self.frames,
            root: hex::encode(self.tree.root()),
            sha256: String::new(),
            bytes: 0,
        };
        self.target.execute_batch(EXPLAIN)?;
        self.target.execute_batch(EXPORT)?;
        self.target.execute_batch(VIEWS)?;
        if !self.options.without_search {
            self.target.execute_batch(SEARCH)?;
            for table in ["entry_search", "payload_search"] {
                let sql = format!("INSERT INTO {table} ({table}) VALUES ('rebuild')");
                self.target.execute_batch(&sql)?;
            }
        }
        let key: Option<String> = self
            .target
            .query_row("SELECT vkey FROM key LIMIT 1", [], |r| r.get(0))
            .optional()?;
        let rows = about::rows(self.options, &done, key.as_deref().unwrap_or_default());
        schema::explain(&self.target, &rows)?;
        self.target
            .execute_batch("COMMIT; DROP TABLE temp.wanted; PRAGMA journal_mode=DELETE;")?;
        self.target.close().map_err(|(_, e)| e)?;
        Ok(done)
    }
}
