//! Checkpoints (c2sp.org/tlog-checkpoint): origin, tree size, base64 root hash, signed as a note.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    note::{HostKey, NoteError, VerifierKey},
    tree::Hash,
};

/// A signed tree head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// `portcullis/HOST`.
    pub origin: String,
    /// How many entries it covers.
    pub size: u64,
    /// The tree's root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The text that is signed: origin, size and root, one a line.
    #[must_use]
    pub fn text(origin: &str, size: u64, root: &Hash) -> String {
        format!("{origin}\n{size}\n{}\n", STANDARD.encode(root))
    }

    /// The note for it. The key's name is the origin.
    #[must_use]
    pub fn sign(key: &HostKey, size: u64, root: &Hash) -> String {
        key.sign(&Self::text(key.verifier().name(), size, root))
    }

    /// Reads and verifies a note.
    ///
    /// # Errors
    /// When the note is not signed by the key, or its text is no checkpoint of the key's own origin.
    pub fn open(key: &VerifierKey, note: &str) -> Result<Self, NoteError> {
        let checkpoint = Self::read(key.open(note)?)?;
        if checkpoint.origin == key.name() {
            Ok(checkpoint)
        } else {
            Err(NoteError::Form)
        }
    }

    /// Reads a note's text. Who signed it is another question.
    pub(super) fn read(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Form);
        };
        let number = size.parse::<u64>().map_err(|_| NoteError::Form)?;
        let root = STANDARD.decode(root).map_err(|_| NoteError::Form)?;
        let root = root.try_into().map_err(|_| NoteError::Form)?;
        if number.to_string() != size {
            return Err(NoteError::Form);
        }
        Ok(Self {
            origin: origin.into(),
            size: number,
            root,
        })
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn round_trip_and_form() {
        let key = HostKey::from_seed("portcullis/h1", Zeroizing::new([9; 32])).unwrap();
        let note = Checkpoint::sign(&key, 12, &[5; 32]);
        assert!(note.starts_with("portcullis/h1\n12\nBQUFBQ"));
        let opened = Checkpoint::open(key.verifier(), &note).unwrap();
        assert_eq!((opened.size, opened.root), (12, [5; 32]));
        for text in [
            "portcullis/h1\n012\nAAAA\n",
            "other\n1\nBQUF\n",
            "portcullis/h1\n1\n",
        ] {
            assert_eq!(
                Checkpoint::open(key.verifier(), &key.sign(text)),
                Err(NoteError::Form)
            );
        }
    }
}
