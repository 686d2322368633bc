//! Bytes that nobody understands, still kept from carrying secrets in use: up, one ends the connection; down, it is
//! replaced, byte for byte.
//!
//! A side that waits for an answer may have ended its message like a secret begins. So what is held back goes on after
//! a pause, where it is so short that it tells next to nothing; a longer coincidence is none.

use std::time::Duration;

use bytes::BytesMut;

use super::wire::Leg;
use crate::mask::{Scrubber, Secrets};

/// How long bytes are held back at most, where they are few.
pub(super) const PAUSE: Duration = Duration::from_millis(20);
/// As many as go on after a pause.
const FEW: usize = 3;

/// Both directions of one connection.
pub(super) struct Watch {
    up: Scrubber,
    down: Scrubber,
    scratch: Vec<u8>,
}

impl Watch {
    pub(super) fn new(secrets: &Secrets) -> Self {
        Self {
            up: Scrubber::new(secrets),
            down: Scrubber::new(secrets),
            scratch: Vec::new(),
        }
    }

    /// Moves what the workload sent; `false` when there is a secret in it, and then nothing more may move.
    #[must_use]
    pub(super) fn up(&mut self, from: &mut Leg, to: &mut Leg) -> bool {
        self.scratch.clear();
        if self.up.is_idle() {
            move_bytes(&mut from.input, &mut to.output);
            return true;
        }
        scrub(&mut self.up, &mut self.scratch, from);
        if self.up.hits() > 0 {
            return false;
        }
        to.output.extend_from_slice(&self.scratch);
        true
    }

    /// Moves what the destination sent; how many secrets were in all of it so far.
    pub(super) fn down(&mut self, from: &mut Leg, to: &mut Leg) -> u64 {
        self.scratch.clear();
        if self.down.is_idle() {
            move_bytes(&mut from.input, &mut to.output);
        } else {
            scrub(&mut self.down, &mut self.scratch, from);
            to.output.extend_from_slice(&self.scratch);
        }
        self.down.hits()
    }

    /// Whether few enough bytes are held back to go on after a pause.
    pub(super) fn pauses(&self) -> bool {
        let few = |s: &Scrubber| (1..=FEW).contains(&s.held());
        few(&self.up) || few(&self.down)
    }

    /// The pause is over.
    pub(super) fn release(&mut self, down: &mut Leg, up: &mut Leg) {
        for (scrubber, output) in [(&mut self.up, &mut up.output), (&mut self.down, &mut down.output)] {
            if scrubber.held() <= FEW {
                self.scratch.clear();
                scrubber.release(&mut self.scratch);
                output.extend_from_slice(&self.scratch);
            }
        }
    }
}

fn scrub(scrubber: &mut Scrubber, scratch: &mut Vec<u8>, from: &mut Leg) {
    scrubber.push(&from.input, scratch);
    from.input.clear();
    if from.eof {
        scrubber.finish(scratch);
    }
}

/// Input of one side becomes output of the other; the buffers change places where that saves the copy.
fn move_bytes(input: &mut BytesMut, output: &mut BytesMut) {
    if output.is_empty() {
        std::mem::swap(input, output);
    } else {
        output.extend_from_slice(input);
        input.clear();
    }
}
