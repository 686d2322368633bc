//! Entries in their order, from a place on, across all parts: what shipping reads.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{
    LedgerError,
    parts::parts,
    read,
    store::{int, uint},
};
use crate::model::Seq;

/// An entry as it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its place.
    pub seq: Seq,
    /// Canonical JSON.
    pub body: String,
}

/// Reads a ledger from a place on. Keeps one part open.
pub struct Tail {
    dir: PathBuf,
    next: u64,
    open: Option<Open>,
}

struct Open {
    conn: Connection,
    number: u64,
    /// Entries before its first.
    first: u64,
}

impl Tail {
    /// From entry `next` on, of the ledger in a data directory.
    #[must_use]
    pub fn new(dir: &Path, next: Seq) -> Self {
        Self {
            dir: dir.into(),
            next: next.0,
            open: None,
        }
    }

    /// The next entry that it would read.
    #[must_use]
    pub fn next(&self) -> Seq {
        Seq(self.next)
    }

    /// Up to `limit` entries (and about `max_bytes` of them, but at least one), before entry `end`. Give the ledger's
    /// size as `end`: what is behind it may not be durable yet. Empty when there is nothing. Blocks on the disk.
    ///
    /// # Errors
    /// When a file cannot be read. [`LedgerError::Purged`] when entries are gone: go on from the place it names.
    pub fn read(&mut self, end: Seq, limit: usize, max_bytes: usize) -> Result<Vec<Recorded>, LedgerError> {
        while self.next < end.0 {
            if self.open.is_none() {
                self.open = Some(self.find()?);
            }
            let found = self.read_open(end.0, limit, max_bytes)?;
            if let Some(last) = found.last() {
                self.next = last.seq.0 + 1;
                return Ok(found);
            }
            // This part ends here; the next begins with the entry.
            let number = self.open.take().map(|o| o.number);
            let open = self.find()?;
            if Some(open.number) == number {
                return Ok(Vec::new());
            }
            self.open = Some(open);
        }
        Ok(Vec::new())
    }

    /// The part that has the next entry.
    fn find(&self) -> Result<Open, LedgerError> {
        let mut last = None;
        for part in parts(&self.dir)?.into_iter().rev() {
            let conn = part.open()?;
            let Some(first) = read::first(&conn)? else {
                continue;
            };
            if first <= self.next {
                if let Some(to) = read::stub_end(&conn)?.filter(|end| *end > self.next) {
                    return Err(LedgerError::Purged { from: self.next, to });
                }
                let open = Open {
                    conn,
                    number: part.number,
                    first,
                };
                return Ok(open);
            }
            last = Some(first);
        }
        Err(LedgerError::Purged {
            from: self.next,
            to: last.unwrap_or(0),
        })
    }

    fn read_open(&self, end: u64, limit: usize, max_bytes: usize) -> Result<Vec<Recorded>, LedgerError> {
        let Some(open) = &self.open else {
            return Ok(Vec::new());
        };
        debug_assert!(open.first <= self.next);
        let mut statement = open.conn.prepare_cached(
            "SELECT seq, body FROM entry WHERE seq >= ?1 AND seq < ?2 ORDER BY seq LIMIT ?3",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = statement.query([int(self.next), int(end), limit])?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let body: String = row.get::<_, Option<String>>(1)?.unwrap_or_default();
            bytes += body.len();
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            let seq = Seq(uint(row.get(0)?));
            found.push(Recorded { seq, body });
        }
        Ok(found)
    }
}
