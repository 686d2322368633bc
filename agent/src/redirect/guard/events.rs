//! What the kernel tells of processes: one record for each that was ended, or moved away.

use std::{io, path::Path};

use aya::maps::{MapData, RingBuf};
use portcullis_abi::{Outcome, guard::GuardEvent};
use tokio::io::unix::AsyncFd;

use crate::redirect::{RedirectError, sys};

/// The records, in the order in which they were made.
pub struct GuardEvents(AsyncFd<RingBuf<MapData>>);

impl GuardEvents {
    pub(super) fn new(ring: RingBuf<MapData>) -> Result<Self, RedirectError> {
        sys::readable(ring)
            .map(Self)
            .map_err(|source| RedirectError::Watch {
                path: Path::new("GUARD_EVENTS").to_path_buf(),
                source,
            })
    }

    /// The next record. Cancel-safe: a dropped future loses none.
    ///
    /// # Errors
    /// When the ring's descriptor fails; there is nothing more to be had then.
    pub async fn next(&mut self) -> io::Result<GuardEvent> {
        loop {
            if let Some(event) = self.0.get_mut().next().and_then(|bytes| read(&bytes)) {
                return Ok(event);
            }
            let mut ready = self.0.readable_mut().await?;
            // It may have come between the look and the wait: the next look is after the descriptor is armed again.
            ready.clear_ready();
        }
    }
}

/// The outcome that a record is of; `None` for one of a later version.
#[must_use]
pub fn outcome(event: &GuardEvent) -> Option<Outcome> {
    let number = usize::try_from(event.outcome).ok()?;
    Outcome::ALL.get(number).copied()
}

/// Words in the machine's order, as the programs wrote them.
fn read(bytes: &[u8]) -> Option<GuardEvent> {
    let long = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    Some(GuardEvent {
        tagged: long(0)?,
        to: long(8)?,
        start_ns: long(16)?,
        outcome: word(24)?,
        pid: word(28)?,
        by: word(32)?,
        syscall: word(36)?,
        uid: word(40)?,
        reserved: word(44)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_are_laid_out() {
        let bytes: Vec<u8> = [1_u64, 2, 3]
            .iter()
            .flat_map(|n| n.to_ne_bytes())
            .chain([25_u32, 5, 6, 7, 8, 0].iter().flat_map(|n| n.to_ne_bytes()))
            .collect();
        let event = read(&bytes).unwrap();
        assert_eq!((event.tagged, event.to, event.start_ns), (1, 2, 3));
        assert_eq!((event.pid, event.by, event.syscall, event.uid), (5, 6, 7, 8));
        assert_eq!(outcome(&event), Some(Outcome::EscapeKilled));
        assert_eq!(read(&bytes[..47]), None);
    }
}
