//! What others say of the tree: cosignatures of witnesses, and a checkpoint that somebody kept elsewhere.
//!
//! A cosignature is checked wherever its witness's key is known: it was given, or the host's own entry `witnessed` names
//! it. Only a given key proves that it is that witness's.

use std::collections::VecDeque;

use rusqlite::Connection;

use super::{
    super::{
        checkpoint::Checkpoint,
        note::{NoteError, split},
        store::uint,
        timestamp::TokenFlaw,
        tree::{Hash, sha256},
        witness::cosignature::WitnessKey,
    },
    AgainstFlaw, Checks, EntryFlaw, VerifyError,
    keys::KeyRing,
    timestamps::{Stamp, check},
};
use crate::model::Rfc3339;

/// So many heads before the place where the pass is are kept, for cosignatures that came after a file's end.
const HEADS: usize = 256;
/// So many cosignatures wait for the entry that names their key.
const WAITING: usize = 4096;
/// So many witnesses' keys are taken from entries.
const WITNESSES: usize = 256;

/// A witness, and how far its cosignatures reach.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Witnessed {
    /// Its key, in the C2SP form.
    pub key: String,
    /// Whether it was given from outside; otherwise the host's own entries name it.
    pub given: bool,
    /// Its cosignatures, all of them right.
    pub cosignatures: u64,
    /// How many entries the largest checkpoint covers that it cosigned.
    pub size: u64,
    /// When it cosigned that, by its own clock.
    pub at: String,
}

struct Kept<'t> {
    note: &'t str,
    checkpoint: Checkpoint,
    met: bool,
}

/// The state of a pass over one file or several.
pub(super) struct Evidence<'t> {
    checks: &'t Checks,
    /// Entries before the first of the first file.
    first: Option<u64>,
    kept: Option<Kept<'t>>,
    /// The cosignatures of the file, by size, and the next of them.
    rows: Vec<(u64, String)>,
    next: usize,
    heads: VecDeque<(u64, Hash)>,
    /// The timestamps of the file, by size, with their hash; those that were looked at are empty.
    tokens: Vec<(u64, Vec<u8>, Hash)>,
    /// The last checkpoint notes, for timestamps that came after a file's end.
    notes: VecDeque<(u64, String)>,
    stamped: u64,
    stamp: Option<Stamp>,
    unknown_stamps: u64,
    witnesses: Vec<(WitnessKey, Witnessed)>,
    waiting: Vec<(u64, String, String)>,
    /// Cosignatures of which no key is known, or that are over what came before the file.
    unknown: u64,
    /// What was found where it could not be said.
    broken: Option<VerifyError>,
}

/// What was found of it.
pub(super) struct Found {
    pub witnesses: Vec<Witnessed>,
    pub unknown: u64,
    pub against: Option<u64>,
    pub stamped: u64,
    pub stamp: Option<Stamp>,
    pub unknown_stamps: u64,
}

impl<'t> Evidence<'t> {
    pub(super) fn new(checks: &'t Checks) -> Result<Self, VerifyError> {
        let mut evidence = Self {
            checks,
            first: None,
            kept: None,
            rows: Vec::new(),
            next: 0,
            heads: VecDeque::new(),
            tokens: Vec::new(),
            notes: VecDeque::new(),
            stamped: 0,
            stamp: None,
            unknown_stamps: 0,
            witnesses: Vec::new(),
            waiting: Vec::new(),
            unknown: 0,
            broken: None,
        };
        if let Some(note) = &checks.against {
            let checkpoint = unverified(note).map_err(|e| VerifyError::Against {
                size: 0,
                flaw: AgainstFlaw::Note(e.into()),
            })?;
            evidence.kept = Some(Kept {
                note,
                checkpoint,
                met: false,
            });
        }
        for key in &checks.witnesses {
            evidence.add_witness(key, true);
        }
        Ok(evidence)
    }

    /// Begins with a file, at the tree that it begins with.
    pub(super) fn add_file(
        &mut self,
        conn: &Connection,
        origin: &str,
        first: u64,
        root: &Hash,
    ) -> Result<(), VerifyError> {
        let mut statement = conn.prepare("SELECT size, signature FROM witness ORDER BY size, signature")?;
        let rows = statement.query_map([], |r| Ok((uint(r.get(0)?), r.get(1)?)))?;
        self.rows = rows.collect::<Result<_, _>>()?;
        self.next = 0;
        self.first.get_or_insert(first);
        self.left_tokens()?;
        let mut statement = conn.prepare("SELECT size, token FROM timestamp ORDER BY size, token")?;
        let rows = statement.query_map([], |r| Ok((uint(r.get(0)?), r.get::<_, Vec<u8>>(1)?)))?;
        for row in rows {
            let (size, token) = row?;
            let hash = sha256(&[&token]);
            self.tokens.push((size, token, hash));
        }
        let notes = std::mem::take(&mut self.notes);
        for (size, note) in &notes {
            self.tokens_over(*size, note)?;
        }
        self.notes = notes;
        self.head(origin, first, root)
    }

    /// Whether something is to be looked at when the tree has this size.
    pub(super) fn wants(&self, size: u64) -> bool {
        self.broken.is_some()
            || self.rows.get(self.next).is_some_and(|(at, _)| *at <= size)
            || self.kept.as_ref().is_some_and(|k| k.checkpoint.size == size)
    }

    /// Looks at what there is over the tree of this size.
    pub(super) fn head(&mut self, origin: &str, size: u64, root: &Hash) -> Result<(), VerifyError> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        if let Some(kept) = &mut self.kept
            && kept.checkpoint.size == size
        {
            if kept.checkpoint.root != *root {
                return Err(VerifyError::Against {
                    size,
                    flaw: AgainstFlaw::Fork,
                });
            }
            kept.met = true;
        }
        self.heads.push_back((size, *root));
        if self.heads.len() > HEADS {
            self.heads.pop_front();
        }
        while let Some((at, line)) = self.rows.get(self.next).filter(|(at, _)| *at <= size) {
            let (at, line) = (*at, line.clone());
            self.next += 1;
            let root = self.heads.iter().rev().find(|(head, _)| *head == at);
            match root {
                Some((_, root)) => self.cosignature(at, Checkpoint::text(origin, at, root), line)?,
                // Over what came before the first file.
                None => self.unknown += 1,
            }
        }
        Ok(())
    }

    /// Checks the timestamps over a checkpoint.
    fn tokens_over(&mut self, size: u64, note: &str) -> Result<(), VerifyError> {
        let from = self.tokens.partition_point(|(at, ..)| *at < size);
        for (at, token, _) in &mut self.tokens[from..] {
            if *at != size {
                break;
            }
            let token = std::mem::take(token);
            if token.is_empty() {
                continue;
            }
            let stamp = check(note, size, &token, self.checks.tsa.as_ref())
                .map_err(|flaw| VerifyError::Timestamp { size, flaw })?;
            self.stamped += 1;
            if self.stamp.as_ref().is_none_or(|best| best.size <= size) {
                self.stamp = Some(stamp);
            }
        }
        Ok(())
    }

    /// At a file's end: those over checkpoints that were not met.
    fn left_tokens(&mut self) -> Result<(), VerifyError> {
        let last = self.notes.back().map_or(0, |(size, _)| *size);
        for (size, token, _) in std::mem::take(&mut self.tokens) {
            if !token.is_empty() && size > last {
                let flaw = TokenFlaw::Form("there is no checkpoint of this size");
                return Err(VerifyError::Timestamp { size, flaw });
            }
            self.unknown_stamps += u64::from(!token.is_empty());
        }
        Ok(())
    }

    /// Reads the particulars of an entry `timestamped`: its token has to be there.
    pub(super) fn timestamped(&mut self, detail: &serde_json::Value) -> Result<(), EntryFlaw> {
        let (Some(size), Some(hash)) = (
            detail.get("size").and_then(serde_json::Value::as_u64),
            detail.get("sha256").and_then(serde_json::Value::as_str),
        ) else {
            return Err(EntryFlaw::Member { member: "detail" });
        };
        let from = self.tokens.partition_point(|(at, ..)| *at < size);
        let there = self.tokens[from..]
            .iter()
            .take_while(|(at, ..)| *at == size)
            .any(|(_, _, found)| hex::encode(found) == hash);
        if there || self.first.is_some_and(|first| size < first) {
            Ok(())
        } else {
            Err(EntryFlaw::Timestamp { size })
        }
    }

    /// Checks what there is over a signed checkpoint, and remembers it: a later file may have more.
    pub(super) fn checkpoint(&mut self, size: u64, root: &Hash, note: &str) -> Result<(), VerifyError> {
        self.tokens_over(size, note)?;
        if self.notes.back().is_none_or(|(at, _)| *at < size) {
            self.notes.push_back((size, note.into()));
        }
        if self.notes.len() > HEADS {
            self.notes.pop_front();
        }
        if self.heads.back().is_none_or(|(at, _)| *at < size) {
            self.heads.push_back((size, *root));
        }
        if self.heads.len() > HEADS {
            self.heads.pop_front();
        }
        Ok(())
    }

    fn cosignature(&mut self, size: u64, text: String, line: String) -> Result<(), VerifyError> {
        let wrong = |what| VerifyError::Witness { size, what };
        let Some((key, told)) = self.witnesses.iter_mut().find(|(key, _)| key.claims(&line)) else {
            if super::super::note::parse_line(line.trim_end_matches('\n')).is_err() {
                return Err(wrong("it is no signature line"));
            }
            if self.waiting.len() >= WAITING {
                self.waiting.remove(0);
                self.unknown += 1;
            }
            self.waiting.push((size, text, line));
            return Ok(());
        };
        let time = key
            .open(&text, &line)
            .map_err(|_| wrong("the signature is wrong"))?;
        told.cosignatures += 1;
        if size >= told.size {
            told.size = size;
            let ns = i64::try_from(time)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000_000_000);
            told.at = Rfc3339(ns).to_string();
        }
        Ok(())
    }

    fn add_witness(&mut self, key: &WitnessKey, given: bool) {
        if self.witnesses.iter().any(|(known, _)| known == key) {
            return;
        }
        let told = Witnessed {
            key: key.to_string(),
            given,
            cosignatures: 0,
            size: 0,
            at: String::new(),
        };
        self.witnesses.push((key.clone(), told));
    }

    /// Reads the particulars of an entry `witnessed`: its cosignature has to be there.
    pub(super) fn witnessed(&mut self, detail: &serde_json::Value) -> Result<(), EntryFlaw> {
        let member = EntryFlaw::Member { member: "detail" };
        let (Some(size), Some(key)) = (
            detail.get("size").and_then(serde_json::Value::as_u64),
            detail.get("witness").and_then(serde_json::Value::as_str),
        ) else {
            return Err(member);
        };
        let key = WitnessKey::parse(key).map_err(|_| member)?;
        let from = self.rows.partition_point(|(at, _)| *at < size);
        let there = self.rows[from..]
            .iter()
            .take_while(|(at, _)| *at == size)
            .any(|(_, line)| key.claims(line));
        // An export has none of those over what came before it.
        if !there && self.first.is_some_and(|first| size >= first) {
            return Err(EntryFlaw::Cosignature { size });
        }
        if self.witnesses.len() >= WITNESSES {
            return Ok(());
        }
        self.add_witness(&key, false);
        let waiting = std::mem::take(&mut self.waiting);
        for (size, text, line) in waiting {
            if let Err(e) = self.cosignature(size, text, line) {
                self.broken.get_or_insert(e);
            }
        }
        Ok(())
    }

    /// At the end of the tree of `size` entries, which begins at `first`.
    pub(super) fn finish(mut self, keys: &KeyRing, first: u64, size: u64) -> Result<Found, VerifyError> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        if let Some(kept) = &self.kept {
            let at = kept.checkpoint.size;
            let wrong = |flaw| VerifyError::Against { size: at, flaw };
            keys.kept(kept.note).map_err(|e| wrong(AgainstFlaw::Note(e)))?;
            if at > size {
                return Err(wrong(AgainstFlaw::Rollback { entries: size }));
            }
            if !kept.met {
                return Err(wrong(AgainstFlaw::Before { first }));
            }
        }
        // A cosignature over more than there is.
        if let Some((at, _)) = self.rows.get(self.next) {
            return Err(VerifyError::Witness {
                size: *at,
                what: "the entries that it covers are not all there",
            });
        }
        if let Some(key) = self.checks.witnesses.iter().find(|key| {
            let told = self.witnesses.iter().find(|(known, _)| known == *key);
            told.is_none_or(|(_, told)| told.cosignatures == 0)
        }) {
            return Err(VerifyError::Unwitnessed { key: key.to_string() });
        }
        self.left_tokens()?;
        if self.checks.tsa.is_some() && self.stamped == 0 {
            return Err(VerifyError::Untimed);
        }
        self.unknown += self.waiting.len() as u64;
        let told = self.witnesses.into_iter().map(|(_, told)| told);
        Ok(Found {
            witnesses: told.filter(|t| t.cosignatures > 0).collect(),
            unknown: self.unknown,
            against: self.kept.map(|kept| kept.checkpoint.size),
            stamped: self.stamped,
            stamp: self.stamp,
            unknown_stamps: self.unknown_stamps,
        })
    }
}

/// What a note says, before it is known who signed it.
fn unverified(note: &str) -> Result<Checkpoint, NoteError> {
    let (text, _) = split(note)?;
    Checkpoint::read(text)
}
