//! Keeps one workload's identity: obtains tokens, verifies them, renews them in time, and ends them when they run out.
//!
//! What a failure does to a token that is held: nothing where the issuer or the file could not be asked; it is over
//! where the issuer or the file gave an answer and that is not a valid identity. A token file is read twice before
//! such an answer is believed, because it may be caught half written.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Timing,
    cell::Cell,
    fetch::FetchError,
    issuer::Issuer,
    source::{self, Client, ObtainError, Source, Token},
    verify::{Failure, verify},
};
use crate::{
    clock::Clock,
    io::Stamp,
    model::{Identity, Reason},
};

const SECOND: i64 = 1_000_000_000;

/// See the top of the file.
pub struct Keeper {
    /// What it keeps.
    pub cell: Arc<Cell>,
    /// Its right to write there.
    pub seat: u64,
    /// Whose tokens.
    pub issuer: Arc<Issuer>,
    /// From where.
    pub source: Source,
    /// What time it is.
    pub clock: Clock,
    /// How often.
    pub timing: Timing,
}

/// What one attempt leaves for the next.
#[derive(Default)]
struct Memory {
    /// The token file's version that was read.
    stamp: Option<Stamp>,
    /// The version that was read once and found wrong, and what was wrong.
    doubted: Option<(Stamp, Failure)>,
    /// The token obtained, and when to renew it.
    held: Option<(Arc<Token>, i64)>,
    /// The issuer's keys that were used.
    generation: u64,
    failures: u32,
}

/// When to try again whatever happens.
#[derive(Clone, Copy)]
enum Again {
    /// At a point of the wall clock, nanoseconds since 1970 UTC.
    At(i64),
    /// After a pause.
    In(Duration),
}

/// What is wrong, and whether that is an answer or the lack of one.
struct Wrong {
    failure: Failure,
    is_answer: bool,
}

impl Wrong {
    fn no_answer(failure: Failure) -> Self {
        Self {
            failure,
            is_answer: false,
        }
    }
}

impl From<FetchError> for Wrong {
    fn from(error: FetchError) -> Self {
        Self::no_answer(Failure::new(error.reason(), error.to_string()))
    }
}

impl Keeper {
    /// Runs until dropped.
    pub async fn run(self) {
        tokio::select! {
            () = self.watch_expiry() => {}
            () = self.keep_token() => {}
        }
    }

    /// Apart from obtaining, which may hang for as long as its time-out.
    async fn watch_expiry(&self) {
        let mut changes = self.cell.changes();
        loop {
            changes.borrow_and_update();
            self.cell.expire();
            tokio::select! {
                _ = changes.changed() => {}
                () = pause(&self.clock, self.cell.until_ns(), Duration::MAX) => {}
            }
        }
    }

    async fn keep_token(&self) {
        let mut memory = Memory::default();
        loop {
            let again = match &self.source {
                Source::File(path) => self.attempt_file(path, &mut memory).await,
                Source::Client(client) => self.attempt_client(client, &mut memory).await,
            };
            self.wait(again, &memory).await;
        }
    }

    /// Until it is time, until the file changes, or until there are other keys.
    async fn wait(&self, again: Again, memory: &Memory) {
        let mut keys = self.issuer.changes();
        let start = Instant::now();
        loop {
            let mut longest = match again {
                Again::At(at) if self.clock.now_ns() >= at => return,
                Again::At(_) => Duration::MAX,
                Again::In(pause) if start.elapsed() >= pause => return,
                Again::In(pause) => pause.saturating_sub(start.elapsed()),
            };
            if let Source::File(path) = &self.source {
                if source::stamp(path).await != memory.stamp {
                    return;
                }
                longest = longest.min(self.timing.file_poll);
            }
            let at = match again {
                Again::At(at) => at,
                Again::In(_) => i64::MAX,
            };
            tokio::select! {
                _ = keys.wait_for(|generation| *generation > memory.generation) => return,
                () = pause(&self.clock, at, longest) => {}
            }
        }
    }

    async fn attempt_file(&self, path: &std::path::Path, memory: &mut Memory) -> Again {
        // Taken before reading: a change in between is seen as one.
        memory.stamp = source::stamp(path).await;
        let result = match source::read_token(path).await.map(Arc::new) {
            Ok(token) => self
                .identify(&token, memory)
                .await
                .map(|identity| (identity, token)),
            Err(failure) => Err(Wrong {
                is_answer: failure.reason != Reason::IdentityMissing,
                failure,
            }),
        };
        match result {
            Ok((identity, token)) => {
                memory.doubted = None;
                self.accept(identity, token, memory);
                match memory.stamp {
                    Some(stamp) if stamp.is_fresh() => Again::In(self.timing.file_poll),
                    _ => Again::At(i64::MAX),
                }
            }
            Err(mut wrong) => {
                let before = memory
                    .doubted
                    .take()
                    .filter(|(stamp, _)| Some(*stamp) == memory.stamp);
                match (before, memory.stamp) {
                    (None, Some(stamp)) if wrong.is_answer && self.cell.holds() => {
                        memory.doubted = Some((stamp, wrong.failure));
                        return Again::In(self.timing.file_poll);
                    }
                    // The issuer may not be asked for newer keys a second time so soon: its first answer counts.
                    (Some((_, failure)), _) if !wrong.is_answer => {
                        wrong = Wrong {
                            failure,
                            is_answer: true,
                        };
                    }
                    _ => {}
                }
                self.reject(&wrong, memory)
            }
        }
    }

    async fn attempt_client(&self, client: &Client, memory: &mut Memory) -> Again {
        let mut disowned = None;
        if let Some((token, renew_at)) = memory.held.take() {
            let due = self.clock.now_ns() >= renew_at;
            // Here because of other keys, or because it is due.
            match self.identify(&token, memory).await {
                Ok(identity) => {
                    memory.held = Some((Arc::clone(&token), renew_at));
                    if !due {
                        self.accept(identity, token, memory);
                        return Again::At(renew_at);
                    }
                }
                Err(error) if error.failure.reason == Reason::IdentityExpired => {}
                Err(error) if error.is_answer => disowned = Some(error),
                Err(error) => {
                    memory.held = Some((token, renew_at));
                    if !due {
                        return self.reject(&error, memory);
                    }
                }
            }
        }
        match self.obtain(client, memory).await {
            Ok((token, identity)) => {
                let now = self.clock.now_ns();
                let left = identity
                    .expires_at
                    .saturating_mul(SECOND)
                    .saturating_sub(now)
                    .max(0);
                let renew_at = now + (left / 3 * 2).max(SECOND);
                memory.held = Some((Arc::clone(&token), renew_at));
                self.accept(identity, token, memory);
                Again::At(renew_at)
            }
            // That the issuer cannot be asked for another does not make good the one it disowned.
            Err(error) => self.reject(&disowned.filter(|_| !error.is_answer).unwrap_or(error), memory),
        }
    }

    async fn obtain(&self, client: &Client, memory: &mut Memory) -> Result<(Arc<Token>, Identity), Wrong> {
        let snapshot = self.issuer.snapshot().await?;
        let token = client
            .obtain(&self.issuer, &snapshot.metadata, self.clock.now_seconds())
            .await
            .map_err(|error| match error {
                ObtainError::Local(failure) => Wrong::no_answer(failure),
                ObtainError::Fetch(error) => {
                    // A refusal is no lack of an issuer: there is just no token.
                    let reason = match &error {
                        FetchError::Status { status, .. } if *status < 500 => Reason::IdentityMissing,
                        other => other.reason(),
                    };
                    Wrong::no_answer(Failure::new(reason, error.to_string()))
                }
            })?;
        let token = Arc::new(token);
        let identity = self.identify(&token, memory).await?;
        Ok((token, identity))
    }

    /// Verifies with the issuer's keys, with newer ones where the token's key is not among them.
    async fn identify(&self, token: &str, memory: &mut Memory) -> Result<Identity, Wrong> {
        let snapshot = self.issuer.snapshot().await?;
        memory.generation = snapshot.generation;
        let now = self.clock.now_seconds();
        let failure = match verify(token, &self.issuer.rules, &snapshot.keys, now) {
            Ok(identity) => return Ok(identity),
            Err(failure) => failure,
        };
        match failure.reason {
            Reason::IdentityUnknownKey => {}
            // In time it will be.
            Reason::IdentityNotYetValid => return Err(Wrong::no_answer(failure)),
            _ => {
                return Err(Wrong {
                    failure,
                    is_answer: true,
                });
            }
        }
        let Some(newer) = self.issuer.newer_than(snapshot.generation).await? else {
            return Err(Wrong::no_answer(failure));
        };
        memory.generation = newer.generation;
        let now = self.clock.now_seconds();
        verify(token, &self.issuer.rules, &newer.keys, now).map_err(|failure| Wrong {
            is_answer: failure.reason != Reason::IdentityNotYetValid,
            failure,
        })
    }

    fn accept(&self, identity: Identity, token: Arc<Token>, memory: &mut Memory) {
        memory.failures = 0;
        let until = identity.expires_at.saturating_add(self.issuer.rules.skew);
        self.cell
            .verified(self.seat, identity, until.saturating_mul(SECOND), Some(token));
    }

    /// Backs off, with jitter.
    fn reject(&self, wrong: &Wrong, memory: &mut Memory) -> Again {
        self.cell.failed(self.seat, &wrong.failure, !wrong.is_answer);
        let pause = self.timing.retry_min.saturating_mul(1 << memory.failures.min(16));
        memory.failures = memory.failures.saturating_add(1);
        Again::In(super::jittered(pause.min(self.timing.retry_max)))
    }
}

/// Waits until `at`, or for `longest`, or for a second: the wall clock may be set, and the host may sleep, while a
/// timer runs by another clock. May return early; the caller looks at the clock.
async fn pause(clock: &Clock, at: i64, longest: Duration) {
    let left = Duration::from_nanos(u64::try_from(at.saturating_sub(clock.now_ns())).unwrap_or(0));
    let step = match clock {
        Clock::System => Duration::from_secs(1),
        Clock::Manual(_) => Duration::from_millis(2),
    };
    tokio::time::sleep(left.min(longest).min(step)).await;
}
