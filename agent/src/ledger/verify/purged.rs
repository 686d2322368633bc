//! What the host declares to have purged from a file, held against what is there.

use aws_lc_rs::digest;
use rusqlite::Connection;

use super::{
    super::{
        note::{NoteError, VerifierKey},
        retention::{
            identity_line,
            tombstone::{EntriesTombstone, PayloadTombstone, Tombstone},
        },
        store::uint,
        tree::{CompactRange, Hash},
    },
    FileKind, FrameFlaw, StatementFlaw, VerifyError,
    claims::FrameRow,
};

/// One purge of payload, and what of it was seen so far.
struct Seen {
    told: PayloadTombstone,
    frames: u64,
    bytes: u64,
    identities: digest::Context,
}

/// A segment whose entries were purged.
pub(super) struct Stub(EntriesTombstone);

/// The purges that a file's statements declare.
pub(super) struct Purged {
    seen: Vec<Seen>,
    /// Places with the purge that they belong to, in order.
    places: Vec<(i64, i64, usize)>,
    /// The next of them.
    at: usize,
    /// Every row of a purge is there: it is no selection.
    whole: bool,
    pub stub: Option<Stub>,
}

fn wrong(flaw: StatementFlaw) -> VerifyError {
    VerifyError::Statement { flaw }
}

const PLACES: StatementFlaw = StatementFlaw::Differs {
    what: "the purged frames",
};
const RANGE: StatementFlaw = StatementFlaw::Differs {
    what: "the purged entries",
};

impl Purged {
    /// Reads what is declared, each statement with a right signature.
    pub(super) fn read(conn: &Connection, keys: &[VerifierKey], kind: FileKind) -> Result<Self, VerifyError> {
        let mut purged = Self {
            seen: Vec::new(),
            places: Vec::new(),
            at: 0,
            whole: kind == FileKind::Segment,
            stub: None,
        };
        let mut statement = conn.prepare("SELECT note FROM statement ORDER BY note")?;
        // What is not text is none of these.
        let notes = statement.query_map([], |r| Ok(r.get::<_, String>(0).unwrap_or_default()))?;
        for note in notes {
            let note = note?;
            if !Tombstone::is_claimed(&note) {
                continue;
            }
            match Tombstone::open(keys, &note) {
                Err(flaw) => return Err(wrong(flaw.into())),
                Ok(None) => return Err(wrong(NoteError::Form.into())),
                // A live part is never purged.
                Ok(Some(_)) if kind == FileKind::Ledger => return Err(wrong(StatementFlaw::Unknown)),
                Ok(Some(Tombstone::Payload(told))) => purged.add(told),
                Ok(Some(Tombstone::Entries(told))) => {
                    if kind != FileKind::Segment || purged.stub.is_some() {
                        return Err(wrong(RANGE));
                    }
                    purged.stub = Some(Stub(told));
                }
            }
        }
        purged.places.sort_unstable();
        let crossing = purged.places.windows(2).any(|two| two[0].1 >= two[1].0);
        if crossing || purged.number().is_none() && !purged.seen.is_empty() && purged.whole {
            return Err(wrong(PLACES));
        }
        Ok(purged)
    }

    fn add(&mut self, told: PayloadTombstone) {
        let n = self.seen.len();
        self.places
            .extend(told.places.iter().map(|(first, last)| (*first, *last, n)));
        self.seen.push(Seen {
            told,
            frames: 0,
            bytes: 0,
            identities: digest::Context::new(&digest::SHA256),
        });
    }

    /// The one segment that all of them are of; `None` when there are none, or of several.
    pub(super) fn number(&self) -> Option<u64> {
        let stub = self.stub.iter().map(|stub| stub.0.segment);
        let mut all = self.seen.iter().map(|s| s.told.segment).chain(stub);
        let first = all.next()?;
        all.all(|other| other == first).then_some(first)
    }

    /// Whether all of them are of this segment.
    pub(super) fn are_of(&self, segment: u64) -> bool {
        let stub = self.stub.iter().map(|stub| stub.0.segment);
        self.seen
            .iter()
            .map(|s| s.told.segment)
            .chain(stub)
            .all(|s| s == segment)
    }

    /// A frame, in the order of places: its bytes are there, or a purge covers it.
    pub(super) fn frame(&mut self, place: i64, row: &FrameRow<'_>, is_null: bool) -> Result<(), FrameFlaw> {
        while self.places.get(self.at).is_some_and(|(_, last, _)| *last < place) {
            self.at += 1;
        }
        let covering = self.places.get(self.at).filter(|(first, _, _)| *first <= place);
        let Some((_, _, n)) = covering else {
            return match (row.bytes, is_null) {
                (Some(_), _) => Ok(()),
                (None, true) => Err(FrameFlaw::Missing),
                (None, false) => Err(FrameFlaw::Column { column: "bytes" }),
            };
        };
        if !is_null {
            return Err(FrameFlaw::Returned);
        }
        if let Some(seen) = self.seen.get_mut(*n) {
            seen.frames += 1;
            seen.bytes += uint(row.size);
            let line = identity_line(row.operation, row.direction, row.number, row.sha256);
            seen.identities.update(line.as_bytes());
        }
        Ok(())
    }

    /// Whether what was seen is what is declared. A selection may lack some of it.
    pub(super) fn end(&self) -> Result<(), StatementFlaw> {
        if self.stub.is_some() {
            // Its payload is gone with its entries, whatever was purged of it before.
            return Ok(());
        }
        for seen in &self.seen {
            let same = seen.frames == seen.told.frames
                && seen.bytes == seen.told.bytes
                && seen.identities.clone().finish().as_ref() == seen.told.identities;
            if !same && (self.whole || seen.frames > seen.told.frames) {
                return Err(PLACES);
            }
        }
        Ok(())
    }
}

impl Stub {
    /// The tree where the entries ended.
    pub(super) fn end(&self, conn: &Connection, first: u64) -> Result<CompactRange, VerifyError> {
        let entries: i64 = conn.query_row(
            "SELECT (SELECT count(*) FROM entry) + (SELECT count(*) FROM payload)",
            [],
            |r| r.get(0),
        )?;
        let sql = "SELECT size, nodes FROM frontier ORDER BY size";
        let mut statement = conn.prepare(sql)?;
        let ends = statement
            .query_map([], |r| Ok((uint(r.get(0)?), r.get::<_, Vec<u8>>(1)?)))?
            .collect::<Result<Vec<_>, _>>()?;
        let last = ends
            .get(1)
            .and_then(|(size, nodes)| CompactRange::from_bytes(*size, nodes));
        let signed: i64 =
            conn.query_row("SELECT coalesce(max(size), 0) FROM checkpoint", [], |r| r.get(0))?;
        let root: Hash = self.0.root;
        match last {
            Some(last)
                if entries == 0
                    && ends.len() == 2
                    && self.0.entries == (first, last.size())
                    && uint(signed) == last.size()
                    && last.root() == root =>
            {
                Ok(last)
            }
            _ => Err(wrong(RANGE)),
        }
    }
}
