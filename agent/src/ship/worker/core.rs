//! What workers of both kinds do alike: keep the position, pause after failures, tell of both.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rand::Rng as _;
use tokio::time::Instant;

use super::{
    super::{
        Class, Context, Pace, ShipError,
        dead::DeadLetters,
        state::{self, Failing, State, Unit},
    },
    Parts, Shared,
    note::Notes,
};
use crate::{
    config::{Ship, ship::ShipFrom},
    ledger::Ledger,
};

/// After so many failed tries in a row the sink is made anew each time.
const REMAKE: u64 = 3;
/// The longest that a receiver can ask to be left alone.
const AFTER_MAX: Duration = Duration::from_secs(3600);
/// Characters kept of what a receiver said.
const WHY: usize = 500;

/// See the top of the file.
pub(super) struct Core {
    ship: Ship,
    parts: Parts,
    pub shared: Arc<Shared>,
    pub pace: Pace,
    pub state: State,
    pub notes: Notes,
    path: PathBuf,
    saved: State,
    saved_at: Instant,
    pub(super) dead: Option<DeadLetters>,
}

impl Core {
    pub(super) fn new(ship: Ship, parts: Parts, shared: Arc<Shared>, pace: Pace) -> Self {
        let dir = state::directory(&parts.data_dir);
        let notes = Notes::new(&ship, &parts);
        Self {
            path: dir.join(format!("{}.state", ship.name)),
            ship,
            parts,
            shared,
            pace,
            state: State::default(),
            notes,
            saved: State::default(),
            saved_at: Instant::now(),
            dead: None,
        }
    }

    pub(super) fn ship(&self) -> &Ship {
        &self.ship
    }

    pub(super) fn context(&self) -> &Context {
        &self.parts.context
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.parts.ledger
    }

    pub(super) fn now(&self) -> i64 {
        self.parts.context.clock.now_ns()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.shared.stop.is_cancelled()
    }

    /// Reads the position, or begins one; again and again until that works. False when it is told to stop.
    pub(super) async fn open(&mut self) -> bool {
        loop {
            let why = match self.try_open().await {
                Ok(()) => return true,
                Err(e) => format!("the position cannot be had: {}: {e}", self.path.display()),
            };
            let error = ShipError::temporary(Class::Local, why);
            self.fail(&error);
            if !self.pause(&error).await {
                return false;
            }
        }
    }

    async fn try_open(&mut self) -> io::Result<()> {
        let (path, data_dir) = (self.path.clone(), self.parts.data_dir.clone());
        let dead_dir = state::dead_directory(&data_dir, &self.ship.name);
        let max = self.ship.common.dead_letter_bytes;
        let segments = self.ship.to.takes_segments();
        let unit = if segments { Unit::Segments } else { Unit::Entries };
        let from = self.ship.common.from;
        let size = self.parts.ledger.size().0;
        let opened = blocking(move || {
            std::fs::create_dir_all(state::directory(&data_dir))?;
            let dead = DeadLetters::open(dead_dir, max)?;
            if let Some(state) = State::load(&path, unit)? {
                return Ok((state, dead));
            }
            let next = match (from, segments) {
                (ShipFrom::Beginning, _) => 0,
                (ShipFrom::Now, false) => size,
                (ShipFrom::Now, true) => {
                    let parts = crate::ledger::parts(&data_dir).map_err(io::Error::other)?;
                    parts
                        .iter()
                        .filter(|p| p.sealed)
                        .map(|p| p.number + 1)
                        .max()
                        .unwrap_or(0)
                }
            };
            let state = State::new(unit, next);
            // At once: a restart before the first acknowledgement must not begin somewhere else.
            state.save(&path)?;
            Ok((state, dead))
        });
        let (state, dead) = opened.await?;
        (self.saved, self.state, self.dead) = (state.clone(), state, Some(dead));
        if segments {
            // A segment that was taken and is not on record yet.
            self.report_segment().await;
        } else {
            self.check_rolled_back(size).await;
        }
        self.publish();
        self.shared.health().known = true;
        Ok(())
    }

    /// A ledger that is shorter than what was taken of it was put back to an older copy. What follows there is new.
    async fn check_rolled_back(&mut self, size: u64) {
        if self.state.next > size {
            self.rolled_back("entries").await;
            (self.state.next, self.state.end) = (size, size);
            self.state.open.from = None;
        }
    }

    /// The ledger ends before what was taken of it.
    pub(super) async fn rolled_back(&mut self, unit: &str) {
        let size = self.parts.ledger.size().0;
        let why = format!(
            "{unit} before {} were shipped, and the ledger ends before that: it was replaced or put back to an older copy",
            self.state.next
        );
        tracing::error!(sink = %self.ship.name, "{why}");
        self.notes.rolled_back(&self.state, size, &why).await;
    }

    /// Shows those who look how it is.
    pub(super) fn publish(&self) {
        let mut health = self.shared.health();
        health.state.clone_from(&self.state);
        health.durable = self.saved.next;
        health.dead = self.dead.as_ref().map_or(0, DeadLetters::count);
        health.dead_lowest = self.dead.as_ref().and_then(DeadLetters::lowest);
    }

    /// Something was taken; whoever was told of a failure is told of its end.
    pub(super) async fn succeeded(&mut self) {
        self.shared.health().next_try = None;
        if let Some(failing) = self.state.failing.take() {
            if failing.reported_at != 0 {
                self.notes.recovered(&self.state, &failing).await;
                // What was taken before is told with it, so that a state begins on a full record.
                self.state.open.reported_at = 0;
            }
            tracing::info!(sink = %self.ship.name, tries = failing.tries, "a sink takes what is shipped again");
        }
    }

    /// A try failed: counted, shown, and on record the first time and then now and again.
    pub(super) async fn failed(&mut self, error: &ShipError) {
        self.fail(error);
        let now = self.now();
        let gap = ns(self.parts.times.gap);
        let every = ns(self.ship.common.record_every);
        let Some(failing) = &mut self.state.failing else {
            return;
        };
        let due = if failing.reported_at == 0 {
            // A receiver that comes and goes must not fill the ledger.
            now.saturating_sub(self.notes.failing_at) >= gap
        } else {
            now.saturating_sub(failing.reported_at) >= every
        };
        if due {
            failing.reported_at = now;
            self.notes.failing_at = now;
            let waiting = self.parts.ledger.size().0;
            self.notes.failing(&self.state, waiting).await;
        }
        self.save_quietly().await;
    }

    fn fail(&mut self, error: &ShipError) {
        let now = self.now();
        let why = short(error.why());
        let failing = self.state.failing.get_or_insert_with(|| {
            tracing::warn!(sink = %self.ship.name, class = error.class().as_str(), "a sink does not take what is shipped: {why}");
            Failing {
                since: now,
                at: now,
                class: error.class(),
                why: String::new(),
                tries: 0,
                reported_at: 0,
            }
        });
        failing.at = now;
        failing.tries += 1;
        failing.class = error.class();
        failing.why = why;
        self.publish();
    }

    /// Whether the sink is to be made anew: files that it read at its start may have changed.
    pub(super) fn wants_new_sink(&self) -> bool {
        self.state.failing.as_ref().is_some_and(|f| f.tries >= REMAKE)
    }

    /// Waits before the next try: longer each time, not all hosts at once, and not beyond the configured bound. An admin
    /// can end it. False when it is told to stop.
    pub(super) async fn pause(&mut self, error: &ShipError) -> bool {
        let tries = self.state.failing.as_ref().map_or(1, |f| f.tries.max(1));
        let doubled = 1_u32 << tries.saturating_sub(1).min(20);
        let longest = self.ship.common.retry_max;
        let mut pause = self.parts.times.retry.saturating_mul(doubled).min(longest);
        pause = pause.mul_f64(rand::rng().random_range(0.5..=1.0));
        if let ShipError::Temporary {
            after: Some(after), ..
        } = error
        {
            pause = pause.max((*after).min(AFTER_MAX));
        }
        let at = self.now().saturating_add(ns(pause));
        self.shared.health().next_try = Some(at);
        let go_on = tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.shared.wake.notified() => true,
            () = self.shared.stop.cancelled() => false,
        };
        self.shared.health().next_try = None;
        go_on
    }

    /// Waits until there may be something new. False when it is told to stop.
    pub(super) async fn idle(&self) -> bool {
        tokio::select! {
            () = tokio::time::sleep(self.parts.times.poll) => true,
            () = self.shared.wake.notified() => true,
            () = self.shared.stop.cancelled() => false,
        }
    }

    /// Makes the position durable where that is due.
    pub(super) async fn save_now_and_then(&mut self) {
        if self.saved_at.elapsed() >= self.parts.times.save {
            self.save_quietly().await;
        }
    }

    /// Makes the position durable. What fails is tried again by and by: until then a crash sends some things twice.
    pub(super) async fn save_quietly(&mut self) {
        if let Err(e) = self.save().await {
            tracing::error!(path = %self.path.display(), "the position of a sink cannot be kept: {e}");
        }
    }

    /// Makes the position durable.
    pub(super) async fn save(&mut self) -> io::Result<()> {
        self.saved_at = Instant::now();
        if self.saved != self.state {
            let (state, path) = (self.state.clone(), self.path.clone());
            self.saved = blocking(move || state.save(&path).map(|()| state)).await?;
        }
        self.publish();
        Ok(())
    }

    /// Records that a segment was taken.
    pub(super) async fn report_segment(&mut self) {
        if let Some(detail) = self.state.open.segment.take() {
            self.notes.shipped(detail).await;
        }
    }

    /// Whether an admin wants dead letters to be sent again.
    pub(super) fn take_again(&self) -> bool {
        self.shared.again.swap(false, Ordering::AcqRel)
    }

    /// The last words: what is not on record yet, and the position.
    pub(super) async fn close(&mut self) {
        self.report_rejected(true).await;
        self.notes.flush().await;
        self.save_quietly().await;
    }
}

/// Runs something that blocks on the disk.
pub(super) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(act).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::other("the thread for it ended")),
    }
}

pub(super) fn ns(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// What others said, in one line and not for ever.
pub(super) fn short(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(WHY).collect()
}
