//! One segment read in order: which of its frames may go.
//!
//! Memory: the operations that are open at the place read, as verification has it. What may go is gathered in a
//! private table on disk, whose places are in order whatever the order in which operations end.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    path::Path,
};

use rusqlite::{Connection, OptionalExtension as _, Row, Rows, Statement};

use super::{
    super::{
        frame::decode,
        read,
        store::{PLACE_BITS, int, uint},
        tree::{Hash, sha256},
    },
    RetentionError,
    ages::Facts,
    pace::Pace,
};

/// Why an operation's frames go; `None` keeps them.
pub(super) type Verdict<'a> = dyn FnMut(&Facts) -> Option<usize> + Send + 'a;

/// A segment attached read-only as `old` to a private database, in which table `purge` gathers places.
pub(super) struct Survey {
    pub conn: Connection,
}

/// What a segment's own tables say of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Extent {
    /// Its first entry.
    pub first: u64,
    /// The first after it.
    pub end: u64,
    /// When the first was recorded, RFC 3339; empty where entries are purged.
    pub from: String,
    /// When the last was.
    pub to: String,
    /// Frames whose bytes are there.
    pub frames: u64,
    /// Their bytes as stored.
    pub stored: u64,
    /// Frames whose bytes were purged.
    pub purged: u64,
    /// Its entries were purged.
    pub stub: bool,
}

/// The frames that go, by what is left of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Going {
    pub frames: u64,
    pub bytes: u64,
    pub stored: u64,
    pub damaged: u64,
    pub places: Vec<(i64, i64)>,
    pub identities: Hash,
}

#[derive(serde::Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    at: Cow<'a, str>,
    #[serde(borrow, default)]
    workload: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    protocol: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    session: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    operation: Option<Cow<'a, str>>,
    #[serde(default)]
    masked: Option<HashMap<String, serde::de::IgnoredAny>>,
}

/// An operation whose outcome has not been read.
#[derive(Default)]
struct Open {
    facts: Facts,
    places: Vec<i64>,
}

impl Survey {
    pub(super) fn open(segment: &Path) -> Result<Self, RetentionError> {
        // Checks the format.
        drop(read::open(segment)?);
        let conn = Connection::open("")?;
        conn.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA trusted_schema=OFF;")?;
        // Nobody changes a segment in place, so no lock is needed on it.
        conn.execute("ATTACH ?1 AS old", [read::uri(segment, "mode=ro&immutable=1")])?;
        conn.execute_batch("CREATE TABLE purge (place INTEGER PRIMARY KEY)")?;
        Ok(Self { conn })
    }

    /// What the segment is.
    pub(super) fn extent(&self) -> Result<Extent, RetentionError> {
        let number = |sql: &str| -> Result<u64, rusqlite::Error> {
            Ok(uint(self.conn.query_row(sql, [], |r| r.get(0))?))
        };
        let first = number("SELECT coalesce(min(size), 0) FROM old.frontier")?;
        let next = number("SELECT coalesce(max(seq) + 1, 0) FROM old.entry")?;
        let signed = number("SELECT coalesce(max(size), 0) FROM old.checkpoint")?;
        let stub = next == 0 && signed > first;
        let at = |order: &str| -> Result<String, rusqlite::Error> {
            let sql =
                format!("SELECT json_extract(body, '$.at') FROM old.entry ORDER BY seq {order} LIMIT 1");
            let at: Option<Option<String>> = self.conn.query_row(&sql, [], |r| r.get(0)).optional()?;
            Ok(at.flatten().unwrap_or_default())
        };
        let sql =
            "SELECT count(bytes), coalesce(sum(length(bytes)), 0), count(*) - count(bytes) FROM old.payload";
        let (frames, stored, purged) = self.conn.query_row(sql, [], |r| {
            Ok((uint(r.get(0)?), uint(r.get(1)?), uint(r.get(2)?)))
        })?;
        Ok(Extent {
            first,
            end: if stub { signed } else { next.max(first) },
            from: at("ASC")?,
            to: at("DESC")?,
            frames,
            stored,
            purged,
            stub,
        })
    }

    /// Reads the segment in order and puts into `purge` the places of the frames whose operations the verdict lets go.
    /// `known` has what is known of operations that began before the segment.
    pub(super) fn judge(
        &self,
        known: HashMap<String, Facts>,
        verdict: &mut Verdict<'_>,
        pace: &mut Pace,
    ) -> Result<BTreeSet<usize>, RetentionError> {
        self.conn.execute_batch("DELETE FROM purge; BEGIN")?;
        let mut causes = BTreeSet::new();
        let mut open: HashMap<String, Open> = known
            .into_iter()
            .map(|(id, facts)| {
                (
                    id,
                    Open {
                        facts,
                        places: Vec::new(),
                    },
                )
            })
            .collect();
        let mut put = self.conn.prepare("INSERT OR IGNORE INTO purge VALUES (?1)")?;
        let mut end = |operation: &Open| -> Result<(), rusqlite::Error> {
            if !operation.places.is_empty()
                && let Some(cause) = verdict(&operation.facts)
            {
                causes.insert(cause);
                for place in &operation.places {
                    put.execute([place])?;
                }
            }
            Ok(())
        };
        let mut entries = self
            .conn
            .prepare("SELECT seq, body FROM old.entry ORDER BY seq")?;
        let mut frames = self
            .conn
            .prepare("SELECT place, operation FROM old.payload WHERE bytes IS NOT NULL ORDER BY place")?;
        let mut frames = Ahead::new(&mut frames)?;
        let mut rows = entries.query([])?;
        while let Some(row) = rows.next()? {
            // Those that were written before this entry.
            frames.before(int(uint(row.get(0)?).saturating_add(1)) << PLACE_BITS, &mut open)?;
            let Ok(body) = row.get_ref(1)?.as_str() else {
                continue;
            };
            pace.done(body.len() as u64)?;
            // What cannot be read is for verification to name; its frames have an operation that is not known.
            let Ok(entry) = serde_json::from_str::<Read<'_>>(body) else {
                continue;
            };
            match &*entry.kind {
                "operation" => {
                    let facts = facts_of(&entry);
                    open.entry(entry.id.into_owned()).or_default().facts = facts;
                }
                "outcome" => {
                    let id = entry.operation.as_deref().unwrap_or_default();
                    let mut operation = open.remove(id).unwrap_or_default();
                    operation.facts.ended = Some(entry.at.into_owned());
                    operation.facts.classes = Some(entry.masked.unwrap_or_default().into_keys().collect());
                    end(&operation)?;
                }
                _ => {}
            }
        }
        frames.before(i64::MAX, &mut open)?;
        for operation in open.values() {
            end(operation)?;
        }
        drop((rows, put));
        self.conn.execute_batch("COMMIT")?;
        Ok(causes)
    }

    /// What is in `purge`; where `check` says so, with the bytes held against their hashes.
    pub(super) fn going(&self, check: bool, pace: &mut Pace) -> Result<Going, RetentionError> {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut going = Going {
            frames: 0,
            bytes: 0,
            stored: 0,
            damaged: 0,
            places: Vec::new(),
            identities: [0; 32],
        };
        let bytes = if check { "bytes" } else { "NULL" };
        let mut statement = self.conn.prepare(&format!(
            "SELECT place, operation, direction, number, sha256, codec, size, {bytes}, length(bytes),
               place IN (SELECT place FROM purge) FROM old.payload ORDER BY place",
        ))?;
        let mut rows = statement.query([])?;
        let mut joined = false;
        while let Some(row) = rows.next()? {
            if !row.get::<_, bool>(9)? {
                joined = false;
                continue;
            }
            let place: i64 = row.get(0)?;
            match going.places.last_mut() {
                Some(last) if joined => last.1 = place,
                _ => going.places.push((place, place)),
            }
            joined = true;
            let (size, bytes) = (
                row.get::<_, i64>(6)?,
                row.get_ref(7)?.as_blob().unwrap_or_default(),
            );
            pace.done(bytes.len() as u64)?;
            let hash: Vec<u8> = row.get(4)?;
            let whole = !check
                || usize::try_from(size)
                    .ok()
                    .and_then(|size| decode(row.get(5).unwrap_or(-1), size, bytes))
                    .is_some_and(|decoded| sha256(&[&decoded]) == *hash);
            context.update(identity(row)?.as_bytes());
            going.frames += 1;
            going.bytes += uint(size);
            going.stored += uint(row.get(8).unwrap_or(0));
            going.damaged += u64::from(!whole);
        }
        going.identities.copy_from_slice(context.finish().as_ref());
        Ok(going)
    }

    /// Whether every place of these ranges that has bytes is in `purge`.
    pub(super) fn has_all(&self, places: &[(i64, i64)]) -> Result<bool, RetentionError> {
        let sql = "SELECT count(*) FROM old.payload WHERE place BETWEEN ?1 AND ?2 AND bytes IS NOT NULL
                   AND place NOT IN (SELECT place FROM purge)";
        let mut statement = self.conn.prepare(sql)?;
        for (first, last) in places {
            if statement.query_row([first, last], |r| r.get::<_, i64>(0))? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts exactly these into `purge`.
    pub(super) fn set(&self, places: &[(i64, i64)]) -> Result<(), RetentionError> {
        self.conn.execute_batch("DELETE FROM purge; BEGIN")?;
        let sql = "INSERT INTO purge SELECT place FROM old.payload WHERE place BETWEEN ?1 AND ?2";
        let mut put = self.conn.prepare(sql)?;
        for (first, last) in places {
            put.execute([first, last])?;
        }
        drop(put);
        Ok(self.conn.execute_batch("COMMIT")?)
    }

    /// Operations of the segment's frames that began before its first entry, by the time in their ids: to be looked
    /// for elsewhere.
    pub(super) fn begun_before(&self, from: &str) -> Result<Vec<String>, RetentionError> {
        let sql = "SELECT DISTINCT p.operation FROM old.payload AS p WHERE p.bytes IS NOT NULL";
        let mut statement = self.conn.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let operation: String = row.get(0)?;
            // The id's time has milliseconds.
            if begun(&operation).is_none_or(|at| at[..23] <= *from.get(..23).unwrap_or(from)) {
                found.push(operation);
            }
        }
        Ok(found)
    }
}

/// When an operation was given its id (UUID version 7), RFC 3339.
pub(super) fn begun(operation: &str) -> Option<String> {
    let (seconds, nanos) = uuid::Uuid::try_parse(operation).ok()?.get_timestamp()?.to_unix();
    let ns = i64::try_from(seconds).ok()?.checked_mul(1_000_000_000)?;
    Some(crate::model::Rfc3339(ns.checked_add(i64::from(nanos))?).to_string())
}

/// The facts of an operation from its entry; the outcome's are not known yet.
pub(super) fn operation_facts(body: &str) -> Option<(String, Facts)> {
    if !body.contains("\"kind\":\"operation\"") {
        return None;
    }
    let entry: Read<'_> = serde_json::from_str(body).ok()?;
    (entry.kind == "operation").then(|| (entry.id.clone().into_owned(), facts_of(&entry)))
}

fn facts_of(entry: &Read<'_>) -> Facts {
    let own = |text: &Option<Cow<'_, str>>| text.as_deref().map(String::from);
    Facts {
        workload: own(&entry.workload),
        protocol: own(&entry.protocol),
        session: own(&entry.session),
        at: Some(entry.at.clone().into_owned()),
        ended: None,
        classes: None,
    }
}

fn identity(row: &Row<'_>) -> Result<String, rusqlite::Error> {
    let (operation, direction): (String, String) = (row.get(1)?, row.get(2)?);
    let (number, hash): (i64, Vec<u8>) = (row.get(3)?, row.get(4)?);
    Ok(identity_line(&operation, &direction, number, &hash))
}

/// What the hash of a tombstone is over, of one frame.
#[must_use]
pub fn identity_line(operation: &str, direction: &str, number: i64, sha256: &[u8]) -> String {
    format!("{operation} {direction} {number} {}\n", hex::encode(sha256))
}

/// The frames in order, one ahead.
struct Ahead<'s> {
    rows: Rows<'s>,
    next: Option<(i64, String)>,
}

impl<'s> Ahead<'s> {
    fn new(statement: &'s mut Statement<'_>) -> Result<Self, rusqlite::Error> {
        let mut ahead = Self {
            rows: statement.query([])?,
            next: None,
        };
        ahead.advance()?;
        Ok(ahead)
    }

    fn advance(&mut self) -> Result<(), rusqlite::Error> {
        self.next = match self.rows.next()? {
            Some(row) => Some((row.get(0)?, row.get(1)?)),
            None => None,
        };
        Ok(())
    }

    /// Gives the frames of smaller places to their operations.
    fn before(&mut self, end: i64, open: &mut HashMap<String, Open>) -> Result<(), rusqlite::Error> {
        while let Some((place, operation)) = self.next.take_if(|(place, _)| *place < end) {
            open.entry(operation).or_default().places.push(place);
            self.advance()?;
        }
        Ok(())
    }
}
