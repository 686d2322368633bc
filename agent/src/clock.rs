//! Time, as one value that tests can turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

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

    /// Whole seconds since 1970 UTC.
    #[must_use]
    pub fn now_seconds(&self) -> i64 {
        self.now_ns() / 1_000_000_000
    }
}
