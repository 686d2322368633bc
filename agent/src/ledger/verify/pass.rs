//! One pass over entries, frames and checkpoints, in the order in which they were written.

use std::{collections::BTreeSet, iter::Peekable, vec};

use rusqlite::{
    Connection, OptionalExtension as _, Row, Rows,
    fallible_streaming_iterator::FallibleStreamingIterator as _, types::ValueRef,
};
use uuid::Uuid;

use super::{
    super::{
        canonical,
        checkpoint::Checkpoint,
        is_time,
        note::{NoteError, VerifierKey},
        retention::tombstone::Tombstone,
        schema,
        segment::statement::{Lines, Statement},
        store::{PLACE_BITS, uint},
        tree::{CompactRange, leaf_hash, sha256},
    },
    ChainFlaw, CheckpointFlaw, Checks, EntryFlaw, FileKind, FrameFlaw, Progress, Report, StatementFlaw,
    VerifyError,
    claims::{Claims, FrameRow, canonical_uuid},
    purged::Purged,
};
use crate::model::EntryKind;

const KINDS: [EntryKind; 9] = [
    EntryKind::Approval,
    EntryKind::Operation,
    EntryKind::Outcome,
    EntryKind::Session,
    EntryKind::Workload,
    EntryKind::Change,
    EntryKind::Agent,
    EntryKind::Gap,
    EntryKind::Ledger,
];

struct Pass<'a> {
    keys: Vec<VerifierKey>,
    kind: FileKind,
    tree: CompactRange,
    claims: Claims,
    checkpoints: Peekable<vec::IntoIter<(u64, String)>>,
    cached: Option<(u64, Vec<u8>)>,
    sealed: u64,
    policy_sets: BTreeSet<String>,
    missing_sets: BTreeSet<String>,
    frames: Lines,
    purged: Purged,
    report: Report,
    progress: &'a mut dyn FnMut(Progress),
}

/// What a file leaves for the one after it.
pub(super) struct Carry {
    tree: CompactRange,
    claims: Claims,
    policy_sets: BTreeSet<String>,
    missing_sets: BTreeSet<String>,
    sealed: u64,
    report: Report,
}

impl Carry {
    /// What was found in all files.
    pub(super) fn report(self) -> Report {
        let entries = self.tree.size();
        let (open, unclaimed) = self.claims.left();
        Report {
            entries,
            unsealed: entries - self.sealed.min(entries),
            root: hex::encode(self.tree.root()),
            open_operations: open,
            unclaimed_frames: unclaimed,
            policy_sets_missing: self.missing_sets.difference(&self.policy_sets).count() as u64,
            ..self.report
        }
    }
}

pub(super) fn run(
    conn: &Connection,
    kind: FileKind,
    before: Option<Carry>,
    total: u64,
    checks: &Checks,
    progress: &mut dyn FnMut(Progress),
) -> Result<Carry, VerifyError> {
    // One snapshot, so that a ledger that is being written does not grow under the pass.
    let conn = conn.unchecked_transaction()?;
    let mut pass = Pass::begin(&conn, kind, before, checks, progress)?;
    pass.stub(&conn)?;
    let mut entries = conn.prepare("SELECT seq, body, salt, leaf FROM entry ORDER BY seq")?;
    let mut frames = conn.prepare(
        "SELECT place, operation, direction, number, sha256, codec, size, bytes FROM payload ORDER BY place",
    )?;
    let mut frames = Frames {
        rows: frames.query([])?,
        place: None,
    };
    frames.advance()?;
    let mut rows = entries.query([])?;
    while let Some(row) = rows.next()? {
        let seq = uint(row.get(0)?);
        pass.in_place(seq)?;
        pass.frames_before(&mut frames, seq)?;
        pass.entry(row)
            .map_err(|(id, flaw)| VerifyError::Entry { seq, id, flaw })?;
        pass.checkpoint()?;
        if seq.is_multiple_of(8192) {
            let bytes = pass.report.bytes;
            (pass.progress)(Progress {
                done: seq,
                total: total.max(seq),
                bytes,
            });
        }
    }
    pass.nothing_cut_off()?;
    pass.frames_before(&mut frames, u64::MAX)?;
    let done = pass.tree.size();
    let bytes = pass.report.bytes;
    (pass.progress)(Progress {
        done,
        total: total.max(done),
        bytes,
    });
    if kind != FileKind::Ledger {
        schema::check_explanations(&conn, &pass.tree)?;
    }
    pass.statements(&conn)?;
    Ok(pass.end())
}

/// The frames in the order of their places, one ahead.
struct Frames<'s> {
    rows: Rows<'s>,
    place: Option<i64>,
}

impl Frames<'_> {
    fn advance(&mut self) -> Result<(), rusqlite::Error> {
        self.rows.advance()?;
        self.place = self.rows.get().map(|row| row.get(0)).transpose()?;
        Ok(())
    }
}

type Flawed = (Option<String>, EntryFlaw);

impl<'a> Pass<'a> {
    /// Reads the small tables, and checks that the file begins where the one before it ends.
    fn begin(
        conn: &Connection,
        kind: FileKind,
        before: Option<Carry>,
        checks: &Checks,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Result<Self, VerifyError> {
        let keys = keys(conn, checks.key.as_ref())?;
        let origin = keys.first().map(|k| k.name().to_owned()).unwrap_or_default();
        let purged = Purged::read(conn, &keys, kind)?;
        let tree = frontier(conn, &purged)?;
        let mut report = Report {
            first: tree.size(),
            key_given: checks.key.is_some(),
            ..Report::default()
        };
        let (mut claims, mut sets, mut missing) = (Claims::default(), BTreeSet::new(), BTreeSet::new());
        if let Some(before) = before {
            if origin != before.report.origin {
                let flaw = ChainFlaw::Origin {
                    origin,
                    before: before.report.origin,
                };
                return Err(VerifyError::Chain { flaw });
            }
            if let Some(flaw) = ChainFlaw::between(before.tree.size(), tree.size()) {
                return Err(VerifyError::Chain { flaw });
            }
            if before.tree != tree {
                let flaw = ChainFlaw::Fork;
                return Err(VerifyError::Chain { flaw });
            }
            (claims, sets, missing) = (before.claims, before.policy_sets, before.missing_sets);
            report = before.report;
        } else if tree.size() > 0 && kind != FileKind::Export {
            claims.began_earlier();
        }
        report.file = kind;
        report.files += 1;
        report.origin = origin;
        let own = policy_sets(conn)?;
        sets.extend(own);
        let mut cached = None;
        if kind == FileKind::Ledger {
            let sql = "SELECT size, nodes FROM tree WHERE one = 1";
            let row = conn.query_row(sql, [], |r| Ok((uint(r.get(0)?), r.get(1)?)));
            cached = row.optional()?;
        }
        let sealed = tree.size();
        let mut pass = Self {
            keys,
            kind,
            tree,
            claims,
            checkpoints: checkpoints(conn)?.into_iter().peekable(),
            cached,
            sealed,
            policy_sets: sets,
            missing_sets: missing,
            frames: Lines::default(),
            purged,
            report,
            progress,
        };
        if sealed > 0 {
            if pass.checkpoints.peek().is_none_or(|(size, _)| *size != sealed) {
                let what = "no checkpoint says that the file begins there";
                return Err(VerifyError::Frontier { what });
            }
            pass.checkpoint()?;
        }
        Ok(pass)
    }

    /// Checks what the host declares of the file.
    fn statements(&mut self, conn: &Connection) -> Result<(), VerifyError> {
        let wrong = |flaw| Err(VerifyError::Statement { flaw });
        let mut statement = conn.prepare("SELECT note FROM statement ORDER BY note")?;
        let notes = statement.query_map([], |r| r.get::<_, String>(0))?;
        let frames = std::mem::take(&mut self.frames).finish();
        self.purged
            .end()
            .map_err(|flaw| VerifyError::Statement { flaw })?;
        let mut segments = 0;
        for note in notes {
            let note = note?;
            if Tombstone::is_claimed(&note) {
                // Looked at before the entries were.
                continue;
            }
            if !Statement::is_one(&note) {
                return wrong(StatementFlaw::Unknown);
            }
            segments += 1;
            let mut opened = Err(NoteError::NoSignature);
            for key in &self.keys {
                opened = Statement::open(key, &note);
                if opened.is_ok() {
                    break;
                }
            }
            let said = match opened {
                Ok(said) => said,
                Err(e) => return wrong(e.into()),
            };
            let sets: Vec<String> = policy_sets(conn)?.into_iter().collect();
            let mut lines = Lines::default();
            for hash in &sets {
                lines.text(hash);
            }
            let what = if said.end != self.tree.size() || said.first != frontier(conn, &self.purged)?.size() {
                "the entries"
            } else if self.purged.number().is_some_and(|number| number != said.number) {
                "the purges"
            } else if said.frames != frames && self.purged.stub.is_none() {
                "the frames"
            } else if said.policy_sets != lines.finish() {
                "the policy sets"
            } else {
                continue;
            };
            return wrong(StatementFlaw::Differs { what });
        }
        if segments == u64::from(self.kind == FileKind::Segment) {
            Ok(())
        } else {
            wrong(StatementFlaw::Count(segments))
        }
    }

    fn in_place(&self, seq: u64) -> Result<(), VerifyError> {
        let expected = self.tree.size();
        if seq == expected {
            return Ok(());
        }
        let flaw = EntryFlaw::Hole { expected };
        Err(VerifyError::Entry { seq, id: None, flaw })
    }

    fn entry(&mut self, row: &Row<'_>) -> Result<(), Flawed> {
        let column = |column| (None, EntryFlaw::Column { column });
        let leaf = row.get::<_, [u8; 32]>(3).map_err(|_| column("leaf"))?;
        let body = match row.get_ref(1) {
            Ok(ValueRef::Text(body)) => body,
            Ok(ValueRef::Null)
                if self.kind == FileKind::Export && matches!(row.get_ref(2), Ok(ValueRef::Null)) =>
            {
                self.report.withheld += 1;
                self.tree.append(&leaf);
                return Ok(());
            }
            _ => return Err(column("body")),
        };
        let salt = match row.get_ref(2) {
            Ok(ValueRef::Blob(salt)) if salt.len() == 16 => salt,
            _ => return Err(column("salt")),
        };
        let text = std::str::from_utf8(body);
        if leaf_hash(salt, body) != leaf {
            let id = text
                .ok()
                .and_then(|t| canonical::body(t).ok())
                .and_then(|m| canonical::plain(m.id));
            return Err((id.map(String::from), EntryFlaw::Leaf));
        }
        let text = text.map_err(|_| column("body"))?;
        self.report.bytes += body.len() as u64;
        self.meaning(text)?;
        self.tree.append(&leaf);
        Ok(())
    }

    fn meaning(&mut self, text: &str) -> Result<(), Flawed> {
        let members = canonical::body(text).map_err(|flaw| (None, EntryFlaw::Canonical(flaw)))?;
        let id = canonical::plain(members.id);
        let flawed = |flaw| (id.map(String::from), flaw);
        let missing = |member| flawed(EntryFlaw::Member { member });
        let uuid = id
            .and_then(canonical_uuid)
            .filter(|u: &Uuid| u.get_version_num() == 7);
        let uuid = uuid.ok_or_else(|| missing("id"))?;
        if !canonical::plain(members.at).is_some_and(is_time) {
            return Err(missing("at"));
        }
        if members.v != "1" {
            return Err(missing("v"));
        }
        let word = canonical::plain(members.kind);
        let kind = KINDS.into_iter().find(|k| Some(k.as_str()) == word);
        if let Some(set) = members.policy_set.and_then(canonical::plain)
            && !set.is_empty()
            && !self.policy_sets.contains(set)
            && !self.missing_sets.contains(set)
        {
            self.missing_sets.insert(set.into());
        }
        match kind {
            None => return Err(missing("kind")),
            Some(EntryKind::Operation) => {
                self.claims.operation(uuid, members.decision == Some("\"allow\""));
            }
            Some(EntryKind::Outcome) => {
                let operation = members.operation.and_then(canonical::plain);
                let operation = operation.ok_or_else(|| missing("operation"))?;
                self.claims.outcome(operation, members.payload).map_err(flawed)?;
            }
            Some(EntryKind::Gap) => self.report.gaps += 1,
            Some(_) => {}
        }
        Ok(())
    }

    /// The frames that were written before entry `seq`.
    fn frames_before(&mut self, frames: &mut Frames<'_>, seq: u64) -> Result<(), VerifyError> {
        while let Some(place) = frames.place {
            if place < 0 || uint(place) >> PLACE_BITS > seq {
                break;
            }
            if let Some(row) = frames.rows.get() {
                let bytes = self.frame(row)?;
                self.report.frame_bytes += bytes;
                self.report.bytes += bytes;
                self.report.frames += 1;
            }
            frames.advance()?;
        }
        Ok(())
    }

    fn frame(&mut self, row: &Row<'_>) -> Result<u64, VerifyError> {
        let text = |i: usize| {
            row.get_ref(i)
                .ok()
                .and_then(|v| v.as_str().ok())
                .unwrap_or_default()
        };
        let blob = |i: usize| {
            row.get_ref(i)
                .ok()
                .and_then(|v| v.as_blob().ok())
                .unwrap_or_default()
        };
        let number = |i: usize| row.get::<_, i64>(i).unwrap_or(-1);
        let frame = FrameRow {
            operation: text(1),
            direction: text(2),
            number: number(3),
            sha256: blob(4),
            codec: number(5),
            size: number(6),
            bytes: row.get_ref(7).ok().and_then(|v| v.as_blob().ok()),
        };
        if self.kind == FileKind::Segment {
            self.frames.frame(
                number(0),
                frame.operation,
                frame.direction,
                frame.number,
                frame.sha256,
                frame.size,
            );
        }
        self.report.purged_frames += u64::from(frame.bytes.is_none());
        let is_null = matches!(row.get_ref(7), Ok(ValueRef::Null));
        let told = self.purged.frame(number(0), &frame, is_null);
        told.and_then(|()| self.claims.frame(&frame))
            .map_err(|flaw: FrameFlaw| VerifyError::Frame {
                operation: frame.operation.into(),
                direction: frame.direction.into(),
                number: frame.number,
                flaw,
            })
    }

    /// A segment whose entries were purged: the tree goes on where it ended, by the root that the host signed.
    fn stub(&mut self, conn: &Connection) -> Result<(), VerifyError> {
        let Some(stub) = &self.purged.stub else {
            return Ok(());
        };
        let end = stub.end(conn, self.tree.size())?;
        self.report.purged_entries += end.size() - self.tree.size();
        self.tree = end;
        // What was open before it may have ended in it, and what begins after it may have begun in it.
        self.claims = Claims::default();
        self.claims.began_earlier();
        self.checkpoint()
    }

    /// The checkpoint over exactly the entries so far, if there is one.
    fn checkpoint(&mut self) -> Result<(), VerifyError> {
        let size = self.tree.size();
        if self
            .cached
            .as_ref()
            .is_some_and(|(at, nodes)| *at == size && *nodes != self.tree.to_bytes())
        {
            return Err(VerifyError::Tree { size });
        }
        while let Some((at, note)) = self.checkpoints.next_if(|(at, _)| *at <= size) {
            let wrong = |flaw| VerifyError::Checkpoint { size: at, flaw };
            let mut opened = None;
            for key in &self.keys {
                opened = Some(Checkpoint::open(key, &note));
                if matches!(opened, Some(Ok(_))) {
                    break;
                }
            }
            let opened = opened.ok_or_else(|| VerifyError::Key {
                key: String::new(),
                what: "the file has no key",
            })?;
            let checkpoint = opened.map_err(|e| wrong(e.into()))?;
            if checkpoint.size != at || at != size {
                return Err(wrong(CheckpointFlaw::Size(checkpoint.size)));
            }
            if checkpoint.root != self.tree.root() {
                return Err(wrong(CheckpointFlaw::Root {
                    since: self.sealed,
                    size,
                }));
            }
            self.sealed = size;
            self.report.checkpoints += 1;
        }
        Ok(())
    }

    /// Whether there is a checkpoint over more than there is.
    fn nothing_cut_off(&mut self) -> Result<(), VerifyError> {
        let entries = self.tree.size();
        if let Some((size, _)) = self.checkpoints.next() {
            return Err(VerifyError::Checkpoint {
                size,
                flaw: CheckpointFlaw::Truncated { entries },
            });
        }
        if let Some((size, _)) = self.cached.as_ref().filter(|(size, _)| *size > entries) {
            return Err(VerifyError::Tree { size: *size });
        }
        Ok(())
    }

    fn end(self) -> Carry {
        Carry {
            tree: self.tree,
            claims: self.claims,
            policy_sets: self.policy_sets,
            missing_sets: self.missing_sets,
            sealed: self.sealed,
            report: self.report,
        }
    }
}

/// Where the file begins.
fn frontier(conn: &Connection, purged: &Purged) -> Result<CompactRange, VerifyError> {
    let wrong = |what| VerifyError::Frontier { what };
    let mut statement = conn.prepare("SELECT size, nodes FROM frontier ORDER BY size")?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else {
        return Err(wrong("it does not say where the file begins"));
    };
    let (size, nodes): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
    let range =
        CompactRange::from_bytes(uint(size), &nodes).ok_or(wrong("its hashes do not fit its size"))?;
    // Where its entries were purged, the other end is there, too.
    if purged.stub.is_none() && rows.next()?.is_some() {
        return Err(wrong("it says twice where the file begins"));
    }
    Ok(range)
}

/// The keys that checkpoints may be signed by: the one given, or those in the file.
fn keys(conn: &Connection, given: Option<&VerifierKey>) -> Result<Vec<VerifierKey>, VerifyError> {
    let mut statement = conn.prepare("SELECT vkey FROM key ORDER BY vkey")?;
    let rows = statement.query_map([], |r| r.get::<_, String>(0))?;
    let mut keys = Vec::new();
    for text in rows {
        let key = text?;
        match VerifierKey::parse(&key) {
            Ok(parsed) if parsed.to_string() == key => keys.push(parsed),
            _ => {
                return Err(VerifyError::Key {
                    key,
                    what: "it was changed: it is no key in the signed-note form",
                });
            }
        }
    }
    match given {
        None => Ok(keys),
        Some(given) if keys.contains(given) => Ok(vec![given.clone()]),
        Some(given) => Err(VerifyError::Key {
            key: given.to_string(),
            what: "it is not among the file's keys: the file is of another host, or was signed by someone else",
        }),
    }
}

fn checkpoints(conn: &Connection) -> Result<Vec<(u64, String)>, VerifyError> {
    let mut statement = conn.prepare("SELECT size, note FROM checkpoint ORDER BY size")?;
    let rows = statement.query_map([], |r| Ok((uint(r.get(0)?), r.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The hashes of the policy sets in the file, each checked against its text.
fn policy_sets(conn: &Connection) -> Result<BTreeSet<String>, VerifyError> {
    let mut statement = conn.prepare("SELECT hash, text FROM policy_set ORDER BY hash")?;
    let mut rows = statement.query([])?;
    let mut hashes = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let (hash, text): (String, String) = (row.get(0)?, row.get(1)?);
        if hex::encode(sha256(&[text.as_bytes()])) != hash {
            return Err(VerifyError::PolicySet { hash });
        }
        hashes.insert(hash);
    }
    Ok(hashes)
}
