//! Work on segments that leaves the disk to the data path: a pause after every few MiB, and an end when told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::RetentionError;

/// So many bytes are read between two pauses: with [`PAUSE`], at most 200 MB/s.
const STEP: u64 = 4 << 20;
const PAUSE: Duration = Duration::from_millis(20);

/// Counts bytes, and pauses.
pub(super) struct Pace {
    left: u64,
    pause: Duration,
    stop: Arc<AtomicBool>,
}

impl Pace {
    pub(super) fn new(stop: Arc<AtomicBool>) -> Self {
        Self {
            left: STEP,
            pause: PAUSE,
            stop,
        }
    }

    /// So many bytes were read or written.
    ///
    /// # Errors
    /// When the agent is stopping: what was begun is done at the next pass.
    pub(super) fn done(&mut self, bytes: u64) -> Result<(), RetentionError> {
        self.left = self.left.saturating_sub(bytes.max(64));
        if self.left > 0 {
            return Ok(());
        }
        self.left = STEP;
        if self.stop.load(Ordering::Acquire) {
            return Err(RetentionError::Stopping);
        }
        std::thread::sleep(self.pause);
        Ok(())
    }
}
