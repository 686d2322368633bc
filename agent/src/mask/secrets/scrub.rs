//! One stream without the secrets that are in use.

use std::sync::Arc;

use zeroize::{Zeroize as _, Zeroizing};

use super::{
    Secrets,
    machine::{Machine, State},
};

/// Replaces secrets in a stream, byte for byte, however it is cut. What it holds back is the end that may still become
/// a secret, and nothing otherwise.
pub struct Scrubber {
    secrets: Secrets,
    generation: u64,
    running: Option<(Arc<Machine>, State)>,
    held: Zeroizing<Vec<u8>>,
    /// Bytes taken so far.
    taken: u64,
    /// Where the last match ended, so that what overlaps counts once.
    last_end: u64,
    hits: u64,
}

impl Scrubber {
    /// At the start of a stream.
    #[must_use]
    pub fn new(secrets: &Secrets) -> Self {
        Self {
            secrets: secrets.clone(),
            generation: 0,
            running: None,
            held: Zeroizing::default(),
            taken: 0,
            last_end: 0,
            hits: 0,
        }
    }

    /// Whether it has nothing to look for and holds nothing: what comes may pass as it is.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.held.is_empty() && !self.secrets.is_active()
    }

    /// How many bytes are held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many secrets were replaced so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// Takes the next piece and appends what is decided to `out`.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.keep_up();
        let Some((machine, state)) = &self.running else {
            out.append(&mut self.held);
            out.extend_from_slice(input);
            return;
        };
        let base = out.len();
        out.append(&mut self.held);
        let begin = out.len();
        out.extend_from_slice(input);
        let (mut last_end, mut hits, taken) = (self.last_end, 0, self.taken);
        let state = machine.run(*state, input, |found| {
            let end = begin + found.end;
            let start = end.saturating_sub(found.length).max(base);
            out[start..end].fill(found.fill);
            let end = taken + found.end as u64;
            if end.saturating_sub(found.length as u64) >= last_end {
                hits += 1;
            }
            last_end = end;
            true
        });
        self.taken += input.len() as u64;
        self.last_end = last_end;
        self.hits += hits;
        let hold = machine.hold(state).min(out.len() - base);
        let keep = out.len() - hold;
        self.held.extend_from_slice(&out[keep..]);
        out.truncate(keep);
        if let Some(running) = &mut self.running {
            running.1 = state;
        }
    }

    /// What is held must not wait any longer: appends it. What it turns out to begin is replaced from here on.
    pub fn release(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// The stream ends: appends the rest.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        if let Some((machine, state)) = &mut self.running {
            *state = machine.start();
        }
    }

    /// The same stream, with whatever has become known or gone since the last piece.
    fn keep_up(&mut self) {
        let generation = self.secrets.generation();
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        self.running = self.secrets.machine().map(|machine| {
            // What is held may hold a whole one of those that are new.
            let state = machine.start();
            let held = &mut self.held;
            let mut marks = Vec::new();
            let state = machine.run(state, held, |found| {
                marks.push(found);
                true
            });
            for found in &marks {
                let start = found.end.saturating_sub(found.length);
                held[start..found.end].fill(found.fill);
            }
            self.hits += marks.len() as u64;
            (machine, state)
        });
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}
