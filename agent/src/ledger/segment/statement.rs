//! What the host declares of a segment: a signed note over its range, its frames and its policy sets.
//!
//! ```text
//! portcullis/HOST
//! segment NUMBER
//! entries FIRST END
//! frames COUNT BASE64(SHA-256)
//! policy_sets COUNT BASE64(SHA-256)
//! ```
//!
//! Entries are covered by the tree. Frames are covered by the outcomes of their operations; but an operation that began
//! before a segment, or ended after it, has only a part of its frames there, so the segment says which they are. The
//! hash over frames is over one line each, in the order of place: `PLACE OPERATION DIRECTION NUMBER SHA256 SIZE`, the
//! hash in hex, ended by a line feed. That over policy sets is over their hashes, a line each, in the order of the text.

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::super::{
    note::{HostKey, NoteError, VerifierKey},
    tree::Hash,
};

/// What a segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Which segment.
    pub number: u64,
    /// Entries before its first.
    pub first: u64,
    /// Entries up to its end.
    pub end: u64,
    /// How many frames, and the hash over them.
    pub frames: (u64, Hash),
    /// How many policy sets, and the hash over them.
    pub policy_sets: (u64, Hash),
}

impl Statement {
    /// The signed note.
    #[must_use]
    pub fn sign(&self, key: &HostKey) -> String {
        key.sign(&self.text(key.verifier().name()))
    }

    fn text(&self, origin: &str) -> String {
        format!(
            "{origin}\nsegment {}\nentries {} {}\nframes {} {}\npolicy_sets {} {}\n",
            self.number,
            self.first,
            self.end,
            self.frames.0,
            STANDARD.encode(self.frames.1),
            self.policy_sets.0,
            STANDARD.encode(self.policy_sets.1),
        )
    }

    /// Whether a note is one of a segment (and not of something else that the host declares).
    #[must_use]
    pub fn is_one(note: &str) -> bool {
        note.lines().nth(1).is_some_and(|l| l.starts_with("segment "))
    }

    /// Reads and verifies a note.
    ///
    /// # Errors
    /// When it is not signed by the key, or not of this form to the byte.
    pub fn open(key: &VerifierKey, note: &str) -> Result<Self, NoteError> {
        let text = key.open(note)?;
        let mut words = text.lines().map(|line| line.split(' '));
        let mut next = |name: &str, count: usize| -> Result<Vec<&str>, NoteError> {
            let mut line = words.next().ok_or(NoteError::Form)?;
            if line.next() != Some(name) {
                return Err(NoteError::Form);
            }
            let rest: Vec<&str> = line.collect();
            (rest.len() == count).then_some(rest).ok_or(NoteError::Form)
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoteError::Form);
        let hash = |text: &str| -> Result<Hash, NoteError> {
            let bytes = STANDARD.decode(text).map_err(|_| NoteError::Form)?;
            bytes.try_into().map_err(|_| NoteError::Form)
        };
        next(key.name(), 0)?;
        let segment = next("segment", 1)?;
        let entries = next("entries", 2)?;
        let frames = next("frames", 2)?;
        let sets = next("policy_sets", 2)?;
        let read = Self {
            number: number(segment[0])?,
            first: number(entries[0])?,
            end: number(entries[1])?,
            frames: (number(frames[0])?, hash(frames[1])?),
            policy_sets: (number(sets[0])?, hash(sets[1])?),
        };
        // One spelling each: leading zeros or further lines are not ours.
        (read.text(key.name()) == text)
            .then_some(read)
            .ok_or(NoteError::Form)
    }
}

/// The hash over frames, or over policy sets, as it grows.
pub struct Lines {
    context: digest::Context,
    count: u64,
    line: Vec<u8>,
}

impl Default for Lines {
    fn default() -> Self {
        Self {
            context: digest::Context::new(&digest::SHA256),
            count: 0,
            line: Vec::with_capacity(160),
        }
    }
}

impl Lines {
    /// Adds a frame.
    pub fn frame(
        &mut self,
        place: i64,
        operation: &str,
        direction: &str,
        number: i64,
        sha256: &[u8],
        size: i64,
    ) {
        let line = &mut self.line;
        line.clear();
        let mut digits = itoa::Buffer::new();
        let mut hex = [0; 64];
        let hash: &[u8] = if hex::encode_to_slice(sha256, &mut hex).is_ok() {
            &hex
        } else {
            b"-"
        };
        line.extend_from_slice(digits.format(place).as_bytes());
        for word in [operation.as_bytes(), direction.as_bytes()] {
            line.push(b' ');
            line.extend_from_slice(word);
        }
        line.push(b' ');
        line.extend_from_slice(digits.format(number).as_bytes());
        line.push(b' ');
        line.extend_from_slice(hash);
        line.push(b' ');
        line.extend_from_slice(digits.format(size).as_bytes());
        line.push(b'\n');
        self.context.update(line);
        self.count += 1;
    }

    /// Adds a line of text.
    pub fn text(&mut self, text: &str) {
        self.context.update(text.as_bytes());
        self.context.update(b"\n");
        self.count += 1;
    }

    /// How many lines, and their hash.
    #[must_use]
    pub fn finish(self) -> (u64, Hash) {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.context.finish().as_ref());
        (self.count, hash)
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn round_trip_and_form() {
        let key = HostKey::from_seed("portcullis/h1", Zeroizing::new([9; 32])).unwrap();
        let mut lines = Lines::default();
        lines.frame(7, "a", "up", 0, &[1; 32], 12);
        let one = Statement {
            number: 3,
            first: 10,
            end: 20,
            frames: lines.finish(),
            policy_sets: Lines::default().finish(),
        };
        let note = one.sign(&key);
        assert!(Statement::is_one(&note));
        assert_eq!(Statement::open(key.verifier(), &note), Ok(one.clone()));
        let text = one.text("portcullis/h1");
        for other in [
            text.replace("entries 10", "entries 010"),
            text.replace("segment 3\n", "segment 3 \n"),
            format!("{text}more\n"),
            text.replace("portcullis/h1", "portcullis/h2"),
        ] {
            assert_eq!(
                Statement::open(key.verifier(), &key.sign(&other)),
                Err(NoteError::Form),
                "{other}"
            );
        }
        assert_eq!(
            Statement::open(key.verifier(), &note.replace("entries 10", "entries 11")),
            Err(NoteError::Signature)
        );
    }
}
