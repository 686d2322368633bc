//! A session as it went: its entries and its payload, one after the other in the order in which they were recorded.
//!
//! Entries have the time at which they were made. Frames have none: they have a place, between two entries of the whole
//! ledger. A frame's time is put between the times of those two, in proportion to its place among the frames that are
//! there; [`Step::recorded`] says which of both a time is.
//!
//! Memory is bounded: entries are read in windows, frames one by one. Works on a data directory with all its parts, on a
//! segment and on an export, beside a running daemon.

mod clock;
mod window;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::Path,
};

use rusqlite::Connection;
use serde_json::Value;

use self::{clock::Clock, window::Found};
use super::{
    LedgerError,
    frame::decode,
    pieces::{self, Piece},
    store::{PLACE_BITS, int, uint},
};
use crate::model::{Direction, SessionId};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// Whether that is on record. Otherwise it lies between the times of two entries.
    pub recorded: bool,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// An entry: of kind `session`, `operation`, `outcome` or `approval`.
    Entry {
        /// Its place.
        seq: u64,
        /// Its body.
        body: Value,
    },
    /// A piece of payload, masked.
    Frame {
        /// The operation's id.
        operation: String,
        /// Which way it went.
        direction: Direction,
        /// Its place among the operation's frames of this direction.
        number: u32,
        /// How many bytes it had.
        size: u64,
        /// The bytes; `None` when they were purged.
        bytes: Option<Vec<u8>>,
    },
}

/// So many frames are looked at with one query.
const FRAMES: usize = 2048;

/// An outcome is not looked for in more entries than these after the session's end: one that is not there was lost with the
/// agent that would have written it.
const LATE: u64 = 100_000;

/// The steps of one session.
pub struct Replay {
    session: String,
    oldest: Option<String>,
    pieces: VecDeque<Piece>,
    open: Option<Part>,
    /// Operations that have no outcome yet, and when they were decided.
    running: HashMap<String, i64>,
    approvals: HashSet<String>,
    begun: bool,
    /// The place of its closing entry.
    closed_at: Option<u64>,
    last_ns: i64,
}

/// The file that is being read.
struct Part {
    conn: Connection,
    entries: VecDeque<Found>,
    /// Every entry of the session before this place has been found.
    horizon: u64,
    /// Where the file ends.
    end: u64,
    /// Place and operation, of any session.
    frames: VecDeque<(i64, String)>,
    next_frame: i64,
    no_more_frames: bool,
    clock: Clock,
}

impl Replay {
    /// The steps of a session, from a data directory or one file.
    ///
    /// # Errors
    /// When it cannot be read or is no ledger.
    pub fn open(ledger: &Path, session: SessionId) -> Result<Self, LedgerError> {
        let oldest = pieces::made_at(session.0).map(pieces::not_before);
        let pieces = pieces::find(ledger, oldest.as_deref())?;
        Ok(Self {
            session: session.0.hyphenated().to_string(),
            oldest,
            pieces: pieces.into(),
            open: None,
            running: HashMap::new(),
            approvals: HashSet::new(),
            begun: false,
            closed_at: None,
            last_ns: i64::MIN,
        })
    }

    /// The next step; `None` after the last.
    ///
    /// # Errors
    /// When a file cannot be read or what is in it cannot be decoded. [`LedgerError::NotFound`] instead of the first step,
    /// when there is no such session.
    pub fn next_step(&mut self) -> Result<Option<Step>, LedgerError> {
        while !(self.closed_at.is_some() && self.running.is_empty()) {
            let Some(mut part) = self.part()? else { break };
            let step = self.step(&mut part)?;
            let done = step.is_none();
            // At its end the next file is opened.
            self.open = (!done).then_some(part);
            if let Some(step) = step {
                self.last_ns = step.at_ns;
                return Ok(Some(step));
            }
        }
        if self.begun {
            return Ok(None);
        }
        Err(LedgerError::NotFound {
            what: "session",
            id: self.session.as_str().into(),
        })
    }

    fn part(&mut self) -> Result<Option<Part>, LedgerError> {
        if let Some(open) = self.open.take() {
            return Ok(Some(open));
        }
        let Some(piece) = self.pieces.pop_front() else {
            return Ok(None);
        };
        let conn = piece.open()?;
        let from = match &self.oldest {
            Some(oldest) if !self.begun => window::bisect(&conn, oldest)?,
            _ => piece.begin.size(),
        };
        let end = conn.query_row("SELECT max(seq) + 1 FROM entry", [], |r| {
            r.get::<_, Option<i64>>(0)
        })?;
        // Where the times on either side of its frames are not in this file, those of the files beside it count.
        let next_at = match self.pieces.front() {
            Some(next) => next.first_at()?.as_deref().and_then(clock::parse),
            None => None,
        };
        Ok(Some(Part {
            conn,
            entries: VecDeque::new(),
            horizon: from,
            end: end.map_or(from, uint),
            frames: VecDeque::new(),
            next_frame: int(from).checked_shl(PLACE_BITS).unwrap_or(i64::MAX),
            no_more_frames: false,
            clock: Clock::new(next_at),
        }))
    }

    /// The next step of one file; `None` at its end.
    fn step(&mut self, part: &mut Part) -> Result<Option<Step>, LedgerError> {
        loop {
            if part.frames.is_empty() && !part.no_more_frames {
                part.look_for_frames()?;
            }
            let frame = part.frames.front().map(|(place, _)| uint(*place >> PLACE_BITS));
            let entry = part.entries.front().map(|e| e.seq);
            match (entry, frame) {
                // What is before the frame must be known.
                (None, Some(after)) if part.horizon < after.min(part.end) => self.look_on(part)?,
                (None, None) if part.horizon < part.end => self.look_on(part)?,
                (None, None) => return Ok(None),
                (Some(seq), frame) if frame.is_none_or(|after| seq < after) => {
                    if let Some(found) = part.entries.pop_front() {
                        return Ok(Some(self.entry(found)));
                    }
                }
                _ => {
                    let Some((place, operation)) = part.frames.pop_front() else {
                        continue;
                    };
                    if let Some(decided) = self.running.get(&operation).copied() {
                        let at_ns = part.clock.at(&part.conn, place, self.last_ns)?.max(decided);
                        return part.frame(place, operation, at_ns.max(self.last_ns)).map(Some);
                    }
                    if !self.begun && part.frames.is_empty() {
                        // What was written before the session began is passed over.
                        if part.entries.is_empty() && part.horizon < part.end {
                            self.look_on(part)?;
                        }
                        part.skip_frames_before_entries();
                    }
                }
            }
        }
    }

    /// Finds the session's entries in the next window.
    fn look_on(&mut self, part: &mut Part) -> Result<(), LedgerError> {
        let wanted = window::Wanted {
            session: &self.session,
            running: &mut self.running,
            approvals: &mut self.approvals,
        };
        let seen = window::read(&part.conn, part.horizon, part.end, wanted, &mut part.entries)?;
        part.horizon = seen.horizon;
        let late = self
            .closed_at
            .is_some_and(|closed| seen.horizon > closed.saturating_add(LATE));
        if late || (seen.restarted && (self.begun || !part.entries.is_empty())) {
            // Nothing of the session can come any more.
            part.end = seen.horizon;
            self.pieces.clear();
        }
        Ok(())
    }

    fn entry(&mut self, found: Found) -> Step {
        let Found { seq, at_ns, body } = found;
        let word = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        match (word("kind"), word("event")) {
            ("session", "open") => self.begun = true,
            ("session", "close") => {
                self.begun = true;
                self.closed_at = Some(seq);
            }
            ("outcome", _) => {
                self.running.remove(word("operation"));
            }
            _ => self.begun = true,
        }
        Step {
            at_ns,
            recorded: true,
            what: What::Entry { seq, body },
        }
    }
}

impl Part {
    fn look_for_frames(&mut self) -> Result<(), LedgerError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT place, operation FROM payload WHERE place >= ?1 ORDER BY place LIMIT ?2",
        )?;
        let rows = statement.query_map(rusqlite::params![self.next_frame, int(FRAMES as u64)], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })?;
        for row in rows {
            self.frames.push_back(row?);
        }
        match self.frames.back() {
            Some((place, _)) if self.frames.len() == FRAMES => self.next_frame = place + 1,
            _ => self.no_more_frames = true,
        }
        Ok(())
    }

    fn skip_frames_before_entries(&mut self) {
        let first = self.entries.front().map_or(self.horizon, |e| e.seq);
        let place = int(first).checked_shl(PLACE_BITS).unwrap_or(i64::MAX);
        self.next_frame = self.next_frame.max(place);
    }

    fn frame(&self, place: i64, operation: String, at_ns: i64) -> Result<Step, LedgerError> {
        let mut statement = self
            .conn
            .prepare_cached("SELECT direction, number, codec, size, bytes FROM payload WHERE place = ?1")?;
        let mut rows = statement.query([place])?;
        let row = rows.next()?.ok_or_else(|| LedgerError::Database {
            why: "a frame went away while it was read".into(),
        })?;
        let broken = || LedgerError::Database {
            why: format!("a frame of operation {operation} cannot be decoded; run verify").into(),
        };
        let size: i64 = row.get(3)?;
        let stored = row.get_ref(4)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        let bytes = match stored {
            None => None,
            Some(stored) => {
                let length = usize::try_from(size).map_err(|_| broken())?;
                Some(decode(row.get(2)?, length, stored).ok_or_else(broken)?)
            }
        };
        let direction = match row.get_ref(0)?.as_str() {
            Ok("up") => Direction::Up,
            Ok("down") => Direction::Down,
            _ => return Err(broken()),
        };
        let number = row.get(1)?;
        Ok(Step {
            at_ns,
            recorded: false,
            what: What::Frame {
                operation,
                direction,
                number,
                size: uint(size),
                bytes,
            },
        })
    }
}
