//! How fast a sink is sent to at most.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::config::Rate;

/// The longest sleep without a sign of life.
const SLICE: Duration = Duration::from_secs(1);

/// Bounds what is sent in a second; clones share the bound. What is asked for may be more than a second's worth: then
/// the next waits for so much longer. Nothing is saved up while nothing is sent.
#[derive(Clone, Debug, Default)]
pub struct Pace(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rate: Option<Rate>,
    free_at: Mutex<Option<Instant>>,
    signs: AtomicU64,
}

impl Pace {
    /// At this rate; as fast as it goes without one.
    #[must_use]
    pub fn new(rate: Option<Rate>) -> Self {
        Self(Arc::new(Inner {
            rate,
            ..Inner::default()
        }))
    }

    /// Waits until so much may be sent.
    pub async fn take(&self, events: u64, bytes: u64) {
        self.alive();
        let start = self.claim(events, bytes);
        // In slices: who waits for its turn does not hang.
        loop {
            let now = Instant::now();
            if now >= start {
                return;
            }
            tokio::time::sleep((start - now).min(SLICE)).await;
            self.alive();
        }
    }

    /// When that may be sent.
    fn claim(&self, events: u64, bytes: u64) -> Instant {
        let now = Instant::now();
        let cost = match self.0.rate {
            None => return now,
            Some(Rate::Bytes(rate)) => time(bytes, rate),
            Some(Rate::Events(rate)) => time(events, rate),
        };
        let mut free_at = self.0.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free_at.map_or(now, |at| at.max(now));
        *free_at = Some(start + cost);
        start
    }

    /// Says that there is progress.
    pub fn alive(&self) {
        self.0.signs.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes whenever there is progress.
    pub(super) fn signs(&self) -> u64 {
        self.0.signs.load(Ordering::Relaxed)
    }
}

/// Never more than a day: an amount is bounded, and so is what waits for it.
fn time(amount: u64, rate: u64) -> Duration {
    let nanos = u128::from(amount) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_faster_than_allowed_and_nothing_saved_up() {
        let pace = Pace::new(Some(Rate::Bytes(1_000)));
        let first = pace.claim(1, 500);
        // The first goes at once, and each other waits for the one before.
        assert!(first <= Instant::now());
        for n in 1..10 {
            assert_eq!(pace.claim(1, 500) - first, Duration::from_millis(500 * n));
        }
        let idle = Pace::new(Some(Rate::Events(1_000_000)));
        idle.claim(1, 0);
        idle.take(1, 1 << 40).await;
        let (before, now) = (idle.claim(1_000_000, 0), Instant::now());
        assert!(before <= now + Duration::from_millis(1));
        assert_eq!(idle.claim(1, 0) - before, Duration::from_secs(1));
        let free = Pace::default();
        free.claim(1 << 60, 1 << 60);
        assert!(free.claim(1, 1) <= Instant::now());
    }

    #[tokio::test]
    async fn who_waits_shows_signs_of_life() {
        let pace = Pace::new(Some(Rate::Bytes(1_000)));
        pace.take(0, 20).await;
        let signs = pace.signs();
        pace.take(0, 1).await;
        assert!(pace.signs() >= signs + 2);
    }
}
