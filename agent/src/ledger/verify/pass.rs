//! One pass over entries, frames and checkpoints, in the order in which they were written.

use std::{collections::BTreeSet, iter::Peekable, vec};

use rusqlite::{
    Connection, OptionalExtension as _, Row, Rows,
    fallible_streaming_iterator::FallibleStreamingIterator as _, types::ValueRef,
};
use uuid::Uuid;

use super::{
    super::{
        canonical, is_time,
        retention::tombstone::Tombstone,
        schema,
        segment::statement::{Lines, Statement},
        store::{PLACE_BITS, uint},
        succession::Succession,
        tree::{CompactRange, leaf_hash},
    },
    ChainFlaw, CheckpointFlaw, Checks, EntryFlaw, FileKind, FrameFlaw, Progress, Report, StatementFlaw,
    VerifyError, about,
    claims::{Claims, FrameRow, canonical_uuid},
    evidence::Evidence,
    keys::KeyRing,
    purged::Purged,
    tables::{checkpoints, frontier, policy_sets},
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

struct Pass<'a, 'c> {
    keys: KeyRing,
    evidence: Evidence<'c>,
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
pub(super) struct Carry<'a> {
    keys: KeyRing,
    evidence: Evidence<'a>,
    tree: CompactRange,
    claims: Claims,
    policy_sets: BTreeSet<String>,
    missing_sets: BTreeSet<String>,
    sealed: u64,
    report: Report,
}

impl<'a> Carry<'a> {
    /// Before the first file; the keys are those of all files.
    pub(super) fn new(keys: KeyRing, checks: &'a Checks) -> Result<Self, VerifyError> {
        keys.check_given()?;
        Ok(Self {
            keys,
            evidence: Evidence::new(checks)?,
            tree: CompactRange::default(),
            claims: Claims::default(),
            policy_sets: BTreeSet::new(),
            missing_sets: BTreeSet::new(),
            sealed: 0,
            report: Report {
                key_given: checks.key.is_some(),
                ..Report::default()
            },
        })
    }

    /// What was found in all files.
    pub(super) fn report(self) -> Result<Report, VerifyError> {
        let entries = self.tree.size();
        self.keys.finish()?;
        let found = self.evidence.finish(&self.keys, self.report.first, entries)?;
        let (open, unclaimed) = self.claims.left();
        Ok(Report {
            entries,
            rotations: self.keys.rotations(),
            witnesses: found.witnesses,
            unknown_cosignatures: found.unknown,
            against: found.against,
            timestamps: found.stamped,
            timestamp: found.stamp,
            unknown_timestamps: found.unknown_stamps,
            unsealed: entries - self.sealed.min(entries),
            root: hex::encode(self.tree.root()),
            open_operations: open,
            unclaimed_frames: unclaimed,
            policy_sets_missing: self.missing_sets.difference(&self.policy_sets).count() as u64,
            ..self.report
        })
    }
}

pub(super) fn run<'a>(
    conn: &Connection,
    kind: FileKind,
    before: Carry<'a>,
    total: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Carry<'a>, VerifyError> {
    // One snapshot, so that a ledger that is being written does not grow under the pass.
    let conn = conn.unchecked_transaction()?;
    let mut pass = Pass::begin(&conn, kind, before, progress)?;
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
        let seq = pass.in_place(row.get(0)?)?;
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
    pass.signed_to_the_end()?;
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
    about::check(
        &conn,
        kind,
        frontier(&conn, &pass.purged)?.size(),
        pass.tree.size(),
    )?;
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

/// The members of an entry of kind `ledger`.
#[derive(serde::Deserialize)]
struct Told<'a> {
    #[serde(borrow)]
    event: std::borrow::Cow<'a, str>,
    #[serde(default)]
    detail: serde_json::Value,
}

type Flawed = (Option<String>, EntryFlaw);

impl<'a, 'c> Pass<'a, 'c> {
    /// Reads the small tables, and checks that the file begins where the one before it ends.
    fn begin(
        conn: &Connection,
        kind: FileKind,
        before: Carry<'c>,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Result<Self, VerifyError> {
        let Carry {
            mut keys,
            mut evidence,
            mut claims,
            policy_sets: mut sets,
            missing_sets: missing,
            mut report,
            ..
        } = before;
        let origin = keys.add_file(conn)?;
        let purged = Purged::read(conn, keys.known(), kind)?;
        let tree = frontier(conn, &purged)?;
        if report.files > 0 {
            if origin != report.origin {
                let before = report.origin;
                let flaw = ChainFlaw::Origin { origin, before };
                return Err(VerifyError::Chain { flaw });
            }
            if let Some(flaw) = ChainFlaw::between(before.tree.size(), tree.size()) {
                return Err(VerifyError::Chain { flaw });
            }
            if before.tree != tree {
                let flaw = ChainFlaw::Fork;
                return Err(VerifyError::Chain { flaw });
            }
        } else {
            report.first = tree.size();
            if tree.size() > 0 && kind != FileKind::Export {
                claims.began_earlier();
            }
        }
        evidence.add_file(conn, &origin, tree.size(), &tree.root())?;
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
            evidence,
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
        let notes = statement.query_map([], |r| Ok(r.get::<_, String>(0).unwrap_or_default()))?;
        let frames = std::mem::take(&mut self.frames).finish();
        let mut segments = 0;
        for note in notes {
            let note = note?;
            // Those of keys and of purges were read at the beginning.
            if Succession::is_titled(&note) || Tombstone::is_claimed(&note) {
                continue;
            }
            if !Statement::is_one(&note) {
                return wrong(StatementFlaw::Unknown);
            }
            segments += 1;
            let said = match self.keys.statement(&note) {
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
            } else if !self.purged.are_of(said.number) {
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
        if segments != u64::from(self.kind == FileKind::Segment) {
            return wrong(StatementFlaw::Count(segments));
        }
        self.purged.end().map_err(|flaw| VerifyError::Statement { flaw })
    }

    fn in_place(&self, stored: i64) -> Result<u64, VerifyError> {
        let (seq, expected) = (uint(stored), self.tree.size());
        let flaw = if stored < 0 {
            // It would pass for entry 0, and no query by place would find it.
            EntryFlaw::Column { column: "seq" }
        } else if seq == expected {
            return Ok(seq);
        } else {
            EntryFlaw::Hole { expected }
        };
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
            Some(EntryKind::Ledger) => self.ledger_entry(text).map_err(flawed)?,
            Some(_) => {}
        }
        Ok(())
    }

    /// What the ledger says of itself, as far as it can be held against the rest of the file.
    fn ledger_entry(&mut self, text: &str) -> Result<(), EntryFlaw> {
        let told: Told<'_> = serde_json::from_str(text).map_err(|_| EntryFlaw::Member { member: "event" })?;
        match &*told.event {
            "key_rotated" => self.keys.rotated(self.tree.size(), &told.detail),
            "witnessed" => self.evidence.witnessed(&told.detail),
            "timestamped" => self.evidence.timestamped(&told.detail),
            _ => Ok(()),
        }
    }

    /// The frames that were written before entry `seq`.
    fn frames_before(&mut self, frames: &mut Frames<'_>, seq: u64) -> Result<(), VerifyError> {
        while let Some(place) = frames.place {
            // Below zero there is none: it is looked at with the first entry, and found.
            if uint(place) >> PLACE_BITS > seq {
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
            place: number(0),
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
            let checkpoint = self.keys.checkpoint(&note).map_err(wrong)?;
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
            self.evidence.checkpoint(size, &checkpoint.root, &note)?;
        }
        if self.evidence.wants(size) {
            let origin = &self.report.origin;
            self.evidence.head(origin, size, &self.tree.root())?;
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

    /// Only a part that is being written may have entries that nothing signed covers.
    fn signed_to_the_end(&self) -> Result<(), VerifyError> {
        if self.kind == FileKind::Ledger || self.sealed == self.tree.size() {
            return Ok(());
        }
        Err(VerifyError::Unsigned { from: self.sealed })
    }

    fn end(self) -> Carry<'c> {
        Carry {
            keys: self.keys,
            evidence: self.evidence,
            tree: self.tree,
            claims: self.claims,
            policy_sets: self.policy_sets,
            missing_sets: self.missing_sets,
            sealed: self.sealed,
            report: self.report,
        }
    }
}
