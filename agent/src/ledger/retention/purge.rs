//! The steps of a purge, each safe to be the last one: plan, announce, carry out.
//!
//! Order: the intent's file, then the entry, then the new segment in the place of the old one, then the intent goes.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use rusqlite::Connection;
use serde_json::{Value, json};

use super::{
    super::{
        Ledger, LedgerError,
        checkpoint::Checkpoint,
        note::HostKey,
        parts,
        parts::segment_path,
        read, record,
        store::int,
        succession::succession_notes,
        tree::{CompactRange, Hash, leaf_hash},
    },
    Retained, RetentionError,
    ages::{self, Facts},
    hold::Hold,
    intent::Intent,
    pace::Pace,
    rewrite::{self, Declared, Left},
    survey::{Extent, Survey, Verdict, begun, operation_facts},
    tombstone::{EntriesTombstone, PayloadTombstone, Tombstone, line},
};
use crate::{
    config::{Keep, Retention},
    model::{Entry, EntryKind, Rfc3339},
};

/// Operations that began before their segment and are looked for in those before it; more are not known.
const LOOKED_FOR: usize = 10_000;

/// An entry's time may be so much older than its id's: clocks step, and queues hold.
const SLACK_NS: i64 = 60_000_000_000;

/// Why payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// Its age.
    Due,
    /// The disk budget.
    Budget,
    /// Whatever no hold covers: to see whether an announced purge still may be.
    Unheld,
}

/// What would go of one segment.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub segment: u64,
    pub cause: String,
    pub stored: u64,
    pub tombstone: PayloadTombstone,
}

/// What planning looks at.
pub(super) struct Look<'a> {
    pub dir: &'a Path,
    pub config: &'a Retention,
    pub holds: &'a [Hold],
    pub origin: &'a str,
    pub now_ns: i64,
    pub stop: &'a Arc<AtomicBool>,
}

/// A time as entries have it, in nanoseconds since 1970 UTC.
pub(super) fn time(text: &str) -> Option<i64> {
    let at: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(at.as_nanosecond()).ok()
}

/// Whether an age has passed at `now_ns` since a segment's last entry.
pub(super) fn is_over(age: Keep, last: &str, now_ns: i64) -> bool {
    let age = age.age().and_then(|age| i64::try_from(age.as_nanos()).ok());
    age.zip(time(last))
        .and_then(|(age, last)| last.checked_add(age))
        .is_some_and(|due| due <= now_ns)
}

impl Look<'_> {
    fn held(&self, facts: &Facts) -> bool {
        self.holds.iter().any(|hold| {
            hold.scope.covers(
                facts.workload.as_deref(),
                facts.session.as_deref(),
                facts.at.as_deref(),
                facts.ended.as_deref(),
            )
        })
    }

    /// The segment with what may go of it in its table `purge`, and why.
    fn judged(
        &self,
        segment: u64,
        occasion: Occasion,
    ) -> Result<(Survey, Extent, BTreeSet<usize>), RetentionError> {
        let survey = Survey::open(&segment_path(self.dir, segment))?;
        let extent = survey.extent()?;
        let wanted = survey.begun_before(&extent.from)?.into_iter().take(LOOKED_FOR);
        let known = self.look_back(segment, wanted.collect())?;
        let mut verdict = |facts: &Facts| -> Option<usize> {
            if self.held(facts) {
                return None;
            }
            let (age, cause) = ages::keep(self.config, facts);
            match occasion {
                Occasion::Due => is_over(age, &extent.to, self.now_ns).then_some(cause),
                Occasion::Budget | Occasion::Unheld => Some(0),
            }
        };
        let verdict: &mut Verdict<'_> = &mut verdict;
        let causes = survey.judge(known, verdict, &mut Pace::new(Arc::clone(self.stop)))?;
        Ok((survey, extent, causes))
    }

    /// The facts of operations whose entries are in earlier segments.
    fn look_back(
        &self,
        segment: u64,
        mut wanted: HashSet<String>,
    ) -> Result<HashMap<String, Facts>, RetentionError> {
        let mut found = HashMap::new();
        let mut pace = Pace::new(Arc::clone(self.stop));
        let Some(oldest) = wanted.iter().filter_map(|id| begun(id)).min() else {
            return Ok(found);
        };
        let oldest = time(&oldest).map_or(0, |at| at.saturating_sub(SLACK_NS).max(0));
        let oldest = Rfc3339(oldest).to_string();
        for part in parts(self.dir)?
            .into_iter()
            .rev()
            .filter(|p| p.sealed && p.number < segment)
        {
            let conn = read::open(&part.path)?;
            conn.execute_batch("PRAGMA mmap_size=0")?;
            let mut statement = conn.prepare("SELECT body FROM entry ORDER BY seq DESC")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let Ok(body) = row.get_ref(0)?.as_str() else {
                    continue;
                };
                pace.done(body.len() as u64)?;
                if let Some((id, facts)) = operation_facts(body) {
                    let before = facts.at.as_ref().is_some_and(|at| *at < oldest);
                    if wanted.remove(&id) {
                        found.insert(id, facts);
                    }
                    if wanted.is_empty() || before {
                        return Ok(found);
                    }
                }
            }
        }
        Ok(found)
    }

    /// What of a segment's payload may go on this occasion; `None` where that is nothing. Blocks.
    pub(super) fn plan(&self, segment: u64, occasion: Occasion) -> Result<Option<Plan>, RetentionError> {
        let (survey, extent, causes) = self.judged(segment, occasion)?;
        if causes.is_empty() {
            return Ok(None);
        }
        let going = survey.going(true, &mut Pace::new(Arc::clone(self.stop)))?;
        let cause = match occasion {
            Occasion::Due => ages::describe(self.config, &causes),
            Occasion::Budget | Occasion::Unheld => "[retention] disk_budget, before its time".into(),
        };
        let tombstone = PayloadTombstone {
            origin: self.origin.into(),
            segment,
            entries: (extent.first, extent.end),
            cause: line(&cause),
            frames: going.frames,
            bytes: going.bytes,
            damaged: going.damaged,
            places: going.places,
            identities: going.identities,
            at: String::new(),
            entry: uuid::Uuid::nil(),
        };
        Ok(Some(Plan {
            segment,
            cause,
            stored: going.stored,
            tombstone,
        }))
    }

    /// Whether no hold covers any of these rows by now. Blocks.
    pub(super) fn still_may(&self, tombstone: &PayloadTombstone) -> Result<bool, RetentionError> {
        let (survey, _, _) = self.judged(tombstone.segment, Occasion::Unheld)?;
        survey.has_all(&tombstone.places)
    }
}

impl Plan {
    /// The entry that announces it, and what is to be done then.
    pub(super) fn announcement(mut self, ledger: &Ledger, now_ns: i64) -> (Entry, Intent) {
        let t = &mut self.tombstone;
        let detail = json!({
            "segment": t.segment,
            "entries": { "from": t.entries.0, "to": t.entries.1 },
            "cause": self.cause,
            "frames": t.frames,
            "bytes": t.bytes,
            "stored_bytes": self.stored,
            "damaged": t.damaged,
            "identities": hex::encode(t.identities),
        });
        let entry = record::entry(
            EntryKind::Ledger,
            now_ns,
            json!({ "event": "payload_purged", "detail": detail }),
        );
        t.at = Rfc3339(now_ns).to_string();
        t.entry = entry.id;
        let intent = Intent {
            entry: entry.id,
            since: ledger.size().0,
            segments: vec![(self.segment, t.text())],
        };
        (entry, intent)
    }
}

/// Does what was announced for one segment, unless it is done already. Blocks.
pub(super) fn carry_out(
    dir: &Path,
    ledger: &Ledger,
    segment: u64,
    text: &str,
    stop: &Arc<AtomicBool>,
) -> Result<(), RetentionError> {
    let mut pace = Pace::new(Arc::clone(stop));
    let survey = Survey::open(&segment_path(dir, segment))?;
    let live = ledger.shared().live().0;
    if has_statement(&survey.conn, text)? {
        return Ok(());
    }
    let changed = || RetentionError::Changed { segment };
    // Signed when all is ready to be written, so that a key that is being replaced is not waited for long.
    let declared = |live: &Path| declared(ledger, live, text);
    match Tombstone::parse(text).ok_or_else(changed)? {
        Tombstone::Payload(tombstone) => {
            survey.set(&tombstone.places)?;
            if survey.going(false, &mut pace)?.identities != tombstone.identities {
                return Err(changed());
            }
            let declared = declared(&live)?;
            rewrite::write(dir, segment, &survey, &Left::WithoutPayload, &declared, &mut pace)?;
        }
        Tombstone::Entries(tombstone) => {
            let end = ends(&survey.conn, "old", &mut pace)?;
            if end.size() != tombstone.entries.1 || end.root() != tombstone.root {
                return Err(changed());
            }
            let left = Left::Stub {
                first: tombstone.entries.0,
                end: &end,
            };
            let declared = declared(&live)?;
            rewrite::write(dir, segment, &survey, &left, &declared, &mut pace)?;
        }
    }
    drop(survey);
    rewrite::put_in_place(dir, segment)
}

/// The statement, signed by the key of now, and what shows whose key that is.
fn declared(ledger: &Ledger, live: &Path, text: &str) -> Result<Declared, RetentionError> {
    let note = ledger.shared().keys.signing().map(|key| key.sign(text));
    let note = note.ok_or_else(|| {
        let why = "the host key is being replaced: it is purged at the next pass".into();
        RetentionError::Ledger(LedgerError::Unavailable { why })
    })?;
    let conn = read::open(live)?;
    let mut statement = conn.prepare("SELECT vkey FROM key")?;
    let keys = statement.query_map([], |r| r.get(0))?.collect::<Result<_, _>>()?;
    let successions = succession_notes(&conn)?;
    Ok(Declared {
        note,
        keys,
        successions,
    })
}

/// Whether the segment has a statement of this text, whoever signed it.
fn has_statement(conn: &Connection, text: &str) -> Result<bool, RetentionError> {
    let mut statement = conn.prepare("SELECT note FROM old.statement")?;
    let notes = statement.query_map([], |r| r.get::<_, String>(0))?;
    for note in notes {
        if note?
            .strip_prefix(text)
            .is_some_and(|rest| rest.starts_with('\n'))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The tree where a segment's entries end, computed again over every body.
fn ends(conn: &Connection, schema: &str, pace: &mut Pace) -> Result<CompactRange, RetentionError> {
    let bad = |what: String| RetentionError::Ledger(LedgerError::Database { why: what.into() });
    let sql = format!("SELECT size, nodes FROM {schema}.frontier ORDER BY size LIMIT 1");
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut tree = match rows.next()? {
        None => CompactRange::default(),
        Some(row) => {
            let (size, nodes): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let read = u64::try_from(size)
                .ok()
                .and_then(|size| CompactRange::from_bytes(size, &nodes));
            read.ok_or_else(|| bad("its frontier cannot be read".into()))?
        }
    };
    let sql = format!("SELECT seq, body, salt, leaf FROM {schema}.entry ORDER BY seq");
    let mut statement = conn.prepare(&sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let seq = tree.size();
        let (body, salt) = (row.get_ref(1)?, row.get_ref(2)?);
        let (body, salt) = (
            body.as_str().unwrap_or_default(),
            salt.as_blob().unwrap_or_default(),
        );
        pace.done(body.len() as u64)?;
        let leaf: Hash = row.get(3)?;
        if row.get::<_, i64>(0)? != int(seq) || leaf_hash(salt, body.as_bytes()) != leaf {
            return Err(bad(format!("entry {seq} is missing or was changed")));
        }
        tree.append(&leaf);
    }
    Ok(tree)
}

/// What the entries' tombstone of a segment will say, when the segment is what was signed. Blocks.
pub(super) fn sound(
    dir: &Path,
    key: &HostKey,
    segment: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Retained, RetentionError> {
    let damaged = |what: String| RetentionError::Damaged { segment, what };
    let conn = read::open(&segment_path(dir, segment))?;
    conn.execute_batch("PRAGMA mmap_size=0")?;
    let first = read::first(&conn)?.unwrap_or(0);
    let tree = match ends(&conn, "main", &mut Pace::new(Arc::clone(stop))) {
        Err(RetentionError::Ledger(LedgerError::Database { why })) => return Err(damaged(why.to_string())),
        other => other?,
    };
    let sql = "SELECT note FROM checkpoint WHERE size = ?1";
    let note: Result<String, _> = conn.query_row(sql, [int(tree.size())], |r| r.get(0));
    let note = note.map_err(|_| damaged("no checkpoint covers its end".into()))?;
    let mut statement = conn.prepare("SELECT vkey FROM key")?;
    let mut keys = vec![key.verifier().clone()];
    for text in statement.query_map([], |r| r.get::<_, String>(0))? {
        keys.extend(super::super::VerifierKey::parse(&text?));
    }
    let signed = keys.iter().find_map(|key| Checkpoint::open(key, &note).ok());
    match signed {
        Some(checkpoint) if checkpoint.size == tree.size() && checkpoint.root == tree.root() => {
            Ok(Retained {
                segment,
                from: first,
                to: tree.size(),
                root: tree.root(),
                checkpoint: note,
            })
        }
        Some(_) => Err(damaged("its entries are not those that were signed".into())),
        None => Err(damaged("its last checkpoint is not signed by this host".into())),
    }
}

/// The entry that says an announced purge was not done.
pub(super) fn withdrawn(intent: &Intent, segment: u64, why: &str) -> Value {
    json!({ "event": "purge_withdrawn", "detail": { "announced": intent.entry, "segment": segment, "why": why } })
}

/// The statement's text for one segment of a purge of entries.
pub(super) fn stub_text(
    origin: &str,
    left: &Retained,
    people: [&str; 2],
    reason: &str,
    at: &str,
    entry: uuid::Uuid,
) -> String {
    EntriesTombstone {
        origin: origin.into(),
        segment: left.segment,
        entries: (left.from, left.to),
        root: left.root,
        requested_by: line(people[0]),
        confirmed_by: line(people[1]),
        reason: line(reason),
        at: at.into(),
        entry,
    }
    .text()
}
