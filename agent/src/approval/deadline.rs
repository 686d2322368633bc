//! An end that a stepped clock cannot put off.

use std::time::{Duration, Instant};

/// How far the wall clock may run from the steady one before what was promised by it counts as over.
const DRIFT_NS: i64 = 60_000_000_000;

/// A point in time, kept by both clocks: whichever comes first ends it, and so does the wall clock's being stepped.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    made: (Instant, i64),
    lasts: Duration,
}

impl Deadline {
    /// So long from now on.
    #[must_use]
    pub fn after(lasts: Duration, now_ns: i64) -> Self {
        Self {
            made: (Instant::now(), now_ns),
            lasts,
        }
    }

    /// Nanoseconds since 1970 UTC.
    #[must_use]
    pub fn at_ns(&self) -> i64 {
        let lasts = i64::try_from(self.lasts.as_nanos()).unwrap_or(i64::MAX);
        self.made.1.saturating_add(lasts)
    }

    /// Whether it has come.
    #[must_use]
    pub fn is_over(&self, now_ns: i64) -> bool {
        let steady = self.made.0.elapsed();
        let wall = now_ns.saturating_sub(self.made.1);
        let drift = wall.saturating_sub(i64::try_from(steady.as_nanos()).unwrap_or(i64::MAX));
        steady >= self.lasts || now_ns >= self.at_ns() || drift.saturating_abs() > DRIFT_NS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_by_either_clock_and_by_steps() {
        let now = 1_800_000_000_000_000_000;
        let hour = Deadline::after(Duration::from_secs(3600), now);
        assert!(!hour.is_over(now) && !hour.is_over(now + DRIFT_NS / 2));
        // Stepped forward, by a little more than drift, by more than the hour; stepped back.
        for stepped in [now + 2 * DRIFT_NS, now + 3_601_000_000_000, now - 2 * DRIFT_NS] {
            assert!(hour.is_over(stepped));
        }
        assert!(Deadline::after(Duration::ZERO, now).is_over(now));
        assert_eq!(hour.at_ns(), now + 3_600_000_000_000);
    }
}
