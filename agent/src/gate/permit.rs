//! The proof that an operation was allowed and durably recorded, and the record of how it went.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::{Inner, body, credential::Used};
use crate::{
    ledger::{FrameDigest, Ledger, LedgerError},
    mask::{Counts, INJECTED_SECRET, Secrets},
    model::{Decision, Direction, Obligations, OperationId, Reason, Seq, Value},
};

/// A payload frame's most bytes.
const FRAME: usize = 64 * 1024;
/// A frame is not kept open longer, so that what a long stream delivered is not lost with the process.
const FRAME_AGE: Duration = Duration::from_secs(1);

/// An operation that may go upstream: allowed, and its entry durable. Nothing else makes one.
///
/// Dropped without [`Permit::finish`], it records that the operation was interrupted.
#[must_use]
pub struct Permit {
    inner: Arc<Inner>,
    id: OperationId,
    seq: Seq,
    decision: Arc<Decision>,
    started: Instant,
    took: Option<Duration>,
    up: Recording,
    down: Recording,
    masked: BTreeMap<u8, u64>,
    injected: u64,
    used: Vec<Used>,
    /// What a protocol says of the answer beside its status.
    answer: Option<Value>,
    finished: bool,
    /// The outcome, while the ledger is asked to take it.
    unsent: Option<crate::model::Entry>,
}

/// One direction: bytes counted on the wire, and bytes recorded (masked) in frames.
///
/// The digest names exactly the frames that the ledger took. After one that it did not take, nothing more is recorded
/// in this direction: a payload with a hole would not verify.
struct Recording {
    direction: Direction,
    wire: u64,
    pending: BytesMut,
    since: Instant,
    /// Offered to the ledger, and not taken yet: still here when the wait for room was cancelled.
    offered: Option<Bytes>,
    broken: bool,
    /// Not recorded for want of room, as configured.
    dropped: Option<Dropped>,
    digest: FrameDigest,
}

/// Payload that the ledger does not take while its room is used up.
#[derive(Clone, Copy, Default)]
struct Dropped {
    /// Bytes of the frame that it said so of, and counted.
    first: u64,
    /// Bytes since, which it has not seen.
    later: u64,
}

impl Recording {
    fn new(direction: Direction, now: Instant) -> Self {
        Self {
            direction,
            wire: 0,
            pending: BytesMut::new(),
            since: now,
            offered: None,
            broken: false,
            dropped: None,
            digest: FrameDigest::default(),
        }
    }

    /// The bytes of the next frame to offer, when one is due. They stay here until the ledger has taken them: the wait
    /// for room may be cancelled.
    fn due(&mut self, all: bool) -> Option<Bytes> {
        if self.broken {
            if let Some(dropped) = &mut self.dropped {
                dropped.later += self.pending.len() as u64;
            }
            self.pending.clear();
            return None;
        }
        if self.offered.is_none() {
            let due = self.pending.len() >= FRAME || all || self.since.elapsed() >= FRAME_AGE;
            if self.pending.is_empty() || !due {
                return None;
            }
            let bytes = self.pending.split_to(self.pending.len().min(FRAME)).freeze();
            self.offered = Some(bytes);
            self.since = Instant::now();
        }
        self.offered.clone()
    }

    async fn flush(&mut self, ledger: &Ledger, operation: OperationId, all: bool) -> Result<(), LedgerError> {
        while let Some(bytes) = self.due(all) {
            let taken = ledger
                .frame_next(&mut self.digest, operation, self.direction, bytes)
                .await;
            let size = self.offered.take().map_or(0, |bytes| bytes.len());
            self.broken = !matches!(taken, Ok(true));
            if !taken? {
                self.dropped = Some(Dropped {
                    first: size as u64,
                    later: 0,
                });
            }
        }
        Ok(())
    }

    fn flush_now(&mut self, ledger: &Ledger, operation: OperationId) {
        while let Some(bytes) = self.due(true) {
            self.broken = !ledger.frame_now(&mut self.digest, operation, self.direction, bytes);
            self.offered = None;
        }
    }
}

impl Permit {
    pub(super) fn new(inner: Arc<Inner>, id: OperationId, seq: Seq, decision: Arc<Decision>) -> Self {
        let now = Instant::now();
        Self {
            inner,
            id,
            seq,
            decision,
            started: now,
            took: None,
            up: Recording::new(Direction::Up, now),
            down: Recording::new(Direction::Down, now),
            masked: BTreeMap::new(),
            injected: 0,
            used: Vec::new(),
            answer: None,
            finished: false,
            unsent: None,
        }
    }

    /// The operation's id, which is its entry's.
    #[must_use]
    pub fn id(&self) -> OperationId {
        self.id
    }

    /// What came with the allow.
    #[must_use]
    pub fn obligations(&self) -> Obligations {
        self.decision.obligations
    }

    /// Records bytes of the payload, already masked; waits while the ledger is behind.
    ///
    /// # Errors
    /// When the ledger cannot take them: the operation must end.
    pub async fn record(&mut self, direction: Direction, masked: &[u8]) -> Result<(), LedgerError> {
        let side = of(direction, &mut self.up, &mut self.down);
        side.pending.extend_from_slice(masked);
        side.flush(&self.inner.shared.ledger, self.id, false).await
    }

    /// Counts bytes that went over the wire.
    pub fn add_bytes(&mut self, direction: Direction, n: u64) {
        let side = of(direction, &mut self.up, &mut self.down);
        side.wire = side.wire.saturating_add(n);
    }

    /// Counts values that were masked.
    pub fn add_masked(&mut self, counts: &Counts) {
        for (class, n) in counts.iter() {
            *self.masked.entry(class.0).or_default() += u64::from(n);
        }
    }

    /// The secrets that are in use.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.inner.shared.secrets
    }

    /// Counts injected secrets that were masked.
    pub fn add_injected(&mut self, n: u64) {
        self.injected = self.injected.saturating_add(n);
    }

    pub(super) fn uses(&mut self, used: Used) {
        if !self.used.contains(&used) {
            self.used.push(used);
        }
    }

    /// Says that the operation goes over a connection made with this client certificate.
    pub fn uses_certificate(&mut self, reference: &str) {
        self.uses(Used::named(reference));
    }

    /// Says what the answer was, for the outcome: facts that are no payload, and hold nothing sensitive.
    pub fn answered(&mut self, answer: Value) {
        self.answer = Some(answer);
    }

    /// Says how long the operation took, where that is not the permit's own life.
    pub fn took(&mut self, duration: Duration) {
        self.took = Some(duration);
    }

    /// Ends the operation and records how; `status` is the protocol's own word for it, e.g. `200`.
    ///
    /// # Errors
    /// When the ledger cannot take it. The gap is recorded once it can.
    pub async fn finish(mut self, reason: Reason, status: &str) -> Result<(), LedgerError> {
        for side in [&mut self.up, &mut self.down] {
            side.flush(&self.inner.shared.ledger, self.id, true).await?;
        }
        let entry = self.outcome(reason, status);
        self.finished = true;
        // The wait for room may be cancelled, and what is dropped then must not be the record.
        self.unsent = Some(entry.clone());
        let sent = self.inner.shared.ledger.enqueue(entry).await;
        self.unsent = None;
        sent
    }

    fn outcome(&mut self, reason: Reason, status: &str) -> crate::model::Entry {
        let shared = &self.inner.shared;
        let rules = &self.inner.mask;
        let mut masked = BTreeMap::new();
        for (class, n) in &self.masked {
            if let Some(name) = rules.classes().name(crate::model::ClassId(*class)) {
                masked.insert(&**name, *n);
                shared.metrics.masked(name, *n);
            }
        }
        if self.injected > 0 {
            masked.insert(INJECTED_SECRET, self.injected);
            shared.metrics.masked(INJECTED_SECRET, self.injected);
        }
        self.inner.bytes_up.fetch_add(self.up.wire, Ordering::Relaxed);
        self.inner.bytes_down.fetch_add(self.down.wire, Ordering::Relaxed);
        shared.metrics.bytes(Direction::Up, self.up.wire);
        shared.metrics.bytes(Direction::Down, self.down.wire);
        let mut unrecorded = body::Unrecorded::default();
        for (side, bytes) in [(&self.up, &mut unrecorded.up), (&self.down, &mut unrecorded.down)] {
            let dropped = side.dropped.unwrap_or_default();
            *bytes = dropped.first + dropped.later;
            if dropped.later > 0 {
                shared.ledger.payload_dropped(side.direction, dropped.later);
            }
        }
        let (up, down) = (payload(&mut self.up.digest), payload(&mut self.down.digest));
        body::outcome(&body::OutcomeParts {
            answer: self.answer.as_ref(),
            at: shared.clock.now_ns(),
            operation: self.id,
            operation_seq: self.seq,
            workload: &self.inner.workload,
            bytes_up: self.up.wire,
            bytes_down: self.down.wire,
            credentials: &self.used,
            duration_us: u64::try_from(self.took.unwrap_or_else(|| self.started.elapsed()).as_micros())
                .unwrap_or(u64::MAX),
            masked: &masked,
            up: up.as_ref(),
            down: down.as_ref(),
            unrecorded,
            reason,
            status,
        })
    }
}

/// One of the two; not a method, so that the ledger can be borrowed beside it.
fn of<'a>(direction: Direction, up: &'a mut Recording, down: &'a mut Recording) -> &'a mut Recording {
    match direction {
        Direction::Up => up,
        Direction::Down => down,
    }
}

fn payload(digest: &mut FrameDigest) -> Option<body::PayloadBody> {
    let done = std::mem::take(digest).finish();
    (done.frames > 0).then_some(body::PayloadBody {
        bytes: done.bytes,
        frames: done.frames,
        sha256: done.sha256,
    })
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(entry) = self.unsent.take() {
            self.inner.shared.ledger.enqueue_now(entry);
        }
        if self.finished {
            return;
        }
        for side in [&mut self.up, &mut self.down] {
            side.flush_now(&self.inner.shared.ledger, self.id);
        }
        let reason = self.inner.ending.reason();
        let entry = self.outcome(reason, "");
        self.inner.shared.ledger.enqueue_now(entry);
    }
}
