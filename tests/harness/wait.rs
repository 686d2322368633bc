//! Waiting for a condition instead of for a time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything may take before a test has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `holds` returns something.
///
/// # Errors
/// When the deadline passes first; `what` says what was waited for.
pub fn wait_for<T>(what: &str, deadline: Duration, mut holds: impl FnMut() -> Option<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(value) = holds() {
            return Ok(value);
        }
        if began.elapsed() > deadline {
            bail!("waited {deadline:?} in vain: {what}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a condition is true.
///
/// # Errors
/// When the deadline passes first.
pub fn wait_until(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, deadline, || holds().then_some(()))
}
