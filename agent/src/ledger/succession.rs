//! The statement by which one host key gives way to the next: a C2SP note, signed by both.

use rusqlite::Connection;

use super::{
    LedgerError,
    checkpoint::Checkpoint,
    note::{HostKey, NoteError, VerifierKey, split},
};

/// Its first line. It has spaces, as no key's name and so no checkpoint's origin has: a checkpoint is never taken for
/// one, nor the other way round.
const TITLE: &str = "portcullis key succession v1";

/// A verified statement of succession.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// The key that signs no more.
    pub old: VerifierKey,
    /// The key that signs from then on.
    pub new: VerifierKey,
    /// How many entries there were when it was made, at least; the entry that holds it has this place or a later one.
    pub size: u64,
}

impl Succession {
    /// The note: title, size, the two verifier keys, one a line; then both signatures.
    pub(super) fn sign(old: &HostKey, new: &HostKey, size: u64) -> String {
        let text = format!("{TITLE}\n{size}\n{}\n{}\n", old.verifier(), new.verifier());
        format!("{text}\n{}{}", old.line(&text), new.line(&text))
    }

    /// Reads and verifies a note: by itself it shows that who had the old key had the new one, too, and gave way to it.
    ///
    /// # Errors
    /// When it is no statement of succession between two keys of one name, or a signature is missing or wrong.
    pub fn open(note: &str) -> Result<Self, NoteError> {
        let (text, _) = split(note)?;
        let mut lines = text.lines();
        let (Some(TITLE), Some(size), Some(old), Some(new), None) = (
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
        ) else {
            return Err(NoteError::Form);
        };
        let number = size.parse::<u64>().map_err(|_| NoteError::Form)?;
        let (old, new) = (VerifierKey::parse(old)?, VerifierKey::parse(new)?);
        if number.to_string() != size || old == new || old.name() != new.name() {
            return Err(NoteError::Form);
        }
        old.open(note)?;
        new.open(note)?;
        Ok(Self {
            old,
            new,
            size: number,
        })
    }

    /// Whether a note claims to be one.
    #[must_use]
    pub fn is_titled(note: &str) -> bool {
        note.strip_prefix(TITLE)
            .is_some_and(|rest| rest.starts_with('\n'))
    }
}

/// The notes in a file that claim to be such statements.
pub(super) fn succession_notes(conn: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let mut statement = conn.prepare("SELECT note FROM statement ORDER BY note")?;
    let notes = statement.query_map([], |r| r.get::<_, String>(0))?;
    notes
        .filter(|note| note.as_ref().map_or(true, |note| Succession::is_titled(note)))
        .collect()
}

/// The statements of succession in a file, in the order of their sizes. What cannot be verified is not among them.
pub(super) fn successions(conn: &Connection) -> Result<Vec<Succession>, LedgerError> {
    let notes = succession_notes(conn)?;
    let mut found: Vec<Succession> = notes
        .iter()
        .filter_map(|note| Succession::open(note).ok())
        .collect();
    found.sort_by_key(|s| s.size);
    Ok(found)
}

/// Opens a checkpoint by this key, or by one that gave way to it.
///
/// # Errors
/// What the key itself says of it.
pub(super) fn open_checkpoint(
    key: &VerifierKey,
    successions: &[Succession],
    note: &str,
) -> Result<Checkpoint, NoteError> {
    let first = match Checkpoint::open(key, note) {
        Err(NoteError::NoSignature) => NoteError::NoSignature,
        other => return other,
    };
    let mut key = key;
    // Each statement at most once: a circle of keys ends, too.
    for _ in 0..successions.len() {
        let Some(before) = successions.iter().rev().find(|s| s.new == *key) else {
            break;
        };
        key = &before.old;
        match Checkpoint::open(key, note) {
            Err(NoteError::NoSignature) => {}
            other => return other,
        }
    }
    Err(first)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn key(name: &str, seed: u8) -> HostKey {
        HostKey::from_seed(name, Zeroizing::new([seed; 32])).unwrap()
    }

    #[test]
    fn both_keys_sign() {
        let (a, b, c) = (key("h", 1), key("h", 2), key("h", 3));
        let note = Succession::sign(&a, &b, 17);
        let read = Succession::open(&note).unwrap();
        assert_eq!(
            (&read.old, &read.new, read.size),
            (a.verifier(), b.verifier(), 17)
        );
        assert!(Succession::is_titled(&note));
        // Either signature alone is not enough, nor is a third key's.
        let (text, _) = split(&note).unwrap();
        for lines in [
            a.line(text),
            b.line(text),
            format!("{}{}", a.line(text), c.line(text)),
        ] {
            assert_eq!(
                Succession::open(&format!("{text}\n{lines}")),
                Err(NoteError::NoSignature)
            );
        }
        for i in 0..note.len() {
            let mut bytes = note.as_bytes().to_vec();
            bytes[i] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(Succession::open(&changed).is_err(), "byte {i}");
            }
        }
        // To itself, or to another host's.
        assert!(Succession::open(&Succession::sign(&a, &a, 1)).is_err());
        assert!(Succession::open(&Succession::sign(&a, &key("i", 2), 1)).is_err());
        // Neither is taken for the other.
        assert!(Checkpoint::open(a.verifier(), &note).is_err());
        assert!(Succession::open(&Checkpoint::sign(&a, 1, &[0; 32])).is_err());
    }

    #[test]
    fn a_checkpoint_is_opened_along_the_line() {
        let (a, b, c) = (key("h", 1), key("h", 2), key("h", 3));
        let line = [(&a, &b, 3), (&b, &c, 5)]
            .map(|(old, new, size)| Succession::open(&Succession::sign(old, new, size)).unwrap());
        let note = Checkpoint::sign(&a, 3, &[9; 32]);
        assert_eq!(open_checkpoint(c.verifier(), &line, &note).unwrap().size, 3);
        assert_eq!(
            open_checkpoint(c.verifier(), &line[1..], &note),
            Err(NoteError::NoSignature)
        );
        assert_eq!(
            open_checkpoint(a.verifier(), &line, &Checkpoint::sign(&c, 3, &[9; 32])),
            Err(NoteError::NoSignature)
        );
    }
}
