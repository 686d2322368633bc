//! Time, as one value that tests can turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use nix::time::{ClockId, clock_gettime};

/// The wall clock, or a test's own.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The host's clock.
    #[default]
    System,
    /// A clock that stands still until it is set, in nanoseconds since 1970 UTC.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// Nanoseconds since 1970 UTC; a clock before 1970 reads as 0, one past 2262 as the end of the range.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
            }
            Self::Manual(at) => at.load(Ordering::Acquire),
        }
    }

    /// As [`Clock::now_ns`], but up to one timer tick (10 ms) behind: reads no hardware, for which `now_ns` takes 35
    /// to 100 ns on a virtual machine. For comparisons on the path of every operation.
    #[must_use]
    pub fn coarse_ns(&self) -> i64 {
        if let Self::System = self
            && let Ok(at) = clock_gettime(ClockId::CLOCK_REALTIME_COARSE)
        {
            return at
                .tv_sec()
                .saturating_mul(1_000_000_000)
                .saturating_add(at.tv_nsec());
        }
        self.now_ns()
    }

    /// Whole seconds since 1970 UTC.
    #[must_use]
    pub fn now_seconds(&self) -> i64 {
        self.now_ns() / 1_000_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_is_close() {
        let (before, coarse) = (Clock::System.now_ns(), Clock::System.coarse_ns());
        assert!((before - coarse).abs() < 1_000_000_000, "{before} {coarse}");
        let manual = Clock::Manual(Arc::new(AtomicI64::new(7)));
        assert_eq!(manual.coarse_ns(), 7);
    }
}
