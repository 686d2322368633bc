//! What a segment says in place of what was purged: C2SP notes of the host key in table `statement`.
//!
//! A purge of payload (`payload purged`) names the places of the rows whose bytes are gone, and has one hash over what
//! is left of those rows. A purge of entries (`entries purged`) has the range, and the root of the tree where the range
//! ends. The text of each is in README.md beside this file; whatever is not exactly that text is not taken for one.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use uuid::Uuid;

use super::super::{
    note::{NoteError, VerifierKey},
    tree::Hash,
};

const PAYLOAD: &str = "payload purged";
const ENTRIES: &str = "entries purged";

/// What of a segment's payload was purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadTombstone {
    /// The key's name.
    pub origin: String,
    /// The segment's number.
    pub segment: u64,
    /// Its first entry, and the first after it.
    pub entries: (u64, u64),
    /// Why: the rule by which it was due, or the budget. One line.
    pub cause: String,
    /// How many frames.
    pub frames: u64,
    /// Their uncompressed bytes.
    pub bytes: u64,
    /// Of the frames, those whose bytes did not belong to their hash any more when they were purged.
    pub damaged: u64,
    /// The places, as ranges with both ends: every row of the segment whose place lies in one of them. In order.
    pub places: Vec<(i64, i64)>,
    /// SHA-256 over `OPERATION DIRECTION NUMBER SHA256\n` of those rows, in the order of their places.
    pub identities: Hash,
    /// When it was announced, RFC 3339.
    pub at: String,
    /// Id of the entry that announced it.
    pub entry: Uuid,
}

/// A segment of which only this is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntriesTombstone {
    /// The key's name.
    pub origin: String,
    /// The segment's number.
    pub segment: u64,
    /// Its first entry, and the first after it.
    pub entries: (u64, u64),
    /// The tree's root over all entries before the second.
    pub root: Hash,
    /// Who asked for it: subject and issuer. One line each.
    pub requested_by: String,
    /// Who confirmed it.
    pub confirmed_by: String,
    /// Why, in the words of the first.
    pub reason: String,
    /// When it was announced, RFC 3339.
    pub at: String,
    /// Id of the entry that announced it.
    pub entry: Uuid,
}

/// A statement that something was purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tombstone {
    /// Payload.
    Payload(PayloadTombstone),
    /// All entries and payload of the segment.
    Entries(EntriesTombstone),
}

/// One line, as a note can carry it.
pub(super) fn line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

impl PayloadTombstone {
    /// The text to be signed.
    #[must_use]
    pub fn text(&self) -> String {
        use std::fmt::Write as _;
        let mut places = String::new();
        for (first, last) in &self.places {
            let comma = if places.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _ = if first == last {
                write!(places, "{comma}{first}")
            } else {
                write!(places, "{comma}{first}-{last}")
            };
        }
        format!(
            "{}\n{PAYLOAD}\nsegment {}\nentries {} {}\ncause {}\nframes {}\nbytes {}\ndamaged {}\nplaces {places}\nidentities {}\nat {}\nentry {}\n",
            self.origin,
            self.segment,
            self.entries.0,
            self.entries.1,
            self.cause,
            self.frames,
            self.bytes,
            self.damaged,
            hex::encode(self.identities),
            self.at,
            self.entry,
        )
    }

    /// Reads exactly what [`Self::text`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let origin = lines.next()?;
        if lines.next()? != PAYLOAD {
            return None;
        }
        let mut member = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let read = Self {
            origin: origin.into(),
            segment: member("segment")?.parse().ok()?,
            entries: range(member("entries")?)?,
            cause: member("cause")?.into(),
            frames: member("frames")?.parse().ok()?,
            bytes: member("bytes")?.parse().ok()?,
            damaged: member("damaged")?.parse().ok()?,
            places: places(member("places")?)?,
            identities: hash_of_hex(member("identities")?)?,
            at: member("at")?.into(),
            entry: member("entry")?.parse().ok()?,
        };
        (read.text() == text).then_some(read)
    }
}

impl EntriesTombstone {
    /// The text to be signed.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "{}\n{ENTRIES}\nsegment {}\nentries {} {}\nroot {}\nrequested by {}\nconfirmed by {}\nreason {}\nat {}\nentry {}\n",
            self.origin,
            self.segment,
            self.entries.0,
            self.entries.1,
            STANDARD.encode(self.root),
            self.requested_by,
            self.confirmed_by,
            self.reason,
            self.at,
            self.entry,
        )
    }

    /// Reads exactly what [`Self::text`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let origin = lines.next()?;
        if lines.next()? != ENTRIES {
            return None;
        }
        let mut member = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let read = Self {
            origin: origin.into(),
            segment: member("segment")?.parse().ok()?,
            entries: range(member("entries")?)?,
            root: STANDARD.decode(member("root")?).ok()?.try_into().ok()?,
            requested_by: member("requested by")?.into(),
            confirmed_by: member("confirmed by")?.into(),
            reason: member("reason")?.into(),
            at: member("at")?.into(),
            entry: member("entry")?.parse().ok()?,
        };
        (read.text() == text).then_some(read)
    }
}

impl Tombstone {
    /// Reads a statement's text; `None` for another kind of statement.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        PayloadTombstone::parse(text)
            .map(Self::Payload)
            .or_else(|| EntriesTombstone::parse(text).map(Self::Entries))
    }

    /// Whether a text claims to be one, whether or not it can be read as one.
    #[must_use]
    pub fn is_claimed(text: &str) -> bool {
        matches!(text.lines().nth(1), Some(PAYLOAD | ENTRIES))
    }

    /// Opens a statement with one of the host's keys; `Ok(None)` for another kind of statement.
    ///
    /// # Errors
    /// When no key signed it, or it says that it is a tombstone and cannot be read as one, or is another host's.
    pub fn open(keys: &[VerifierKey], note: &str) -> Result<Option<Self>, NoteError> {
        let mut failure = NoteError::NoSignature;
        for key in keys {
            match key.open(note) {
                Err(error) => failure = error,
                Ok(text) if !Self::is_claimed(text) => return Ok(None),
                Ok(text) => {
                    let read = Self::parse(text).ok_or(NoteError::Form)?;
                    let origin = match &read {
                        Self::Payload(t) => &t.origin,
                        Self::Entries(t) => &t.origin,
                    };
                    return if origin == key.name() {
                        Ok(Some(read))
                    } else {
                        Err(NoteError::Form)
                    };
                }
            }
        }
        Err(failure)
    }
}

fn range(text: &str) -> Option<(u64, u64)> {
    let (first, end) = text.split_once(' ')?;
    let (first, end) = (first.parse().ok()?, end.parse().ok()?);
    (first <= end).then_some((first, end))
}

/// Ranges in their order, not touching each other's places.
fn places(text: &str) -> Option<Vec<(i64, i64)>> {
    let mut all: Vec<(i64, i64)> = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => {
                let place = part.parse().ok()?;
                (place, place)
            }
        };
        let after: i64 = all.last().map_or(-1, |(_, last)| *last);
        if first <= after || last < first {
            return None;
        }
        all.push((first, last));
    }
    Some(all)
}

fn hash_of_hex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::{super::super::note::HostKey, *};

    pub(super) fn payload() -> PayloadTombstone {
        PayloadTombstone {
            origin: "portcullis/h".into(),
            segment: 7,
            entries: (100, 200),
            cause: "[retention] payloads = 90days".into(),
            frames: 4,
            bytes: 99,
            damaged: 0,
            places: vec![(104_857_600, 104_857_602), (104_857_610, 104_857_610)],
            identities: [7; 32],
            at: "2026-11-26T00:00:00.000000000Z".into(),
            entry: Uuid::now_v7(),
        }
    }

    fn entries() -> EntriesTombstone {
        EntriesTombstone {
            origin: "portcullis/h".into(),
            segment: 0,
            entries: (0, 100),
            root: [9; 32],
            requested_by: "ada at https://i".into(),
            confirmed_by: "eve at https://i".into(),
            reason: line("over\nage"),
            at: "2026-11-26T00:00:00.000000000Z".into(),
            entry: Uuid::now_v7(),
        }
    }

    #[test]
    fn both_are_read_as_they_were_written_and_nothing_else_is() {
        let key = HostKey::from_seed("portcullis/h", Zeroizing::new([1; 32])).unwrap();
        let keys = [key.verifier().clone()];
        for text in [payload().text(), entries().text()] {
            let opened = Tombstone::open(&keys, &key.sign(&text)).unwrap().unwrap();
            let again = match &opened {
                Tombstone::Payload(t) => t.text(),
                Tombstone::Entries(t) => t.text(),
            };
            assert_eq!(again, text);
            for wrong in [
                text.replace("segment ", "segment 0"),
                text.replace("portcullis/h", "portcullis/x"),
                format!("{text}more\n"),
                text.replace("\nat ", "\nAt "),
            ] {
                assert_eq!(
                    Tombstone::open(&keys, &key.sign(&wrong)),
                    Err(NoteError::Form),
                    "{wrong}"
                );
            }
            let other = HostKey::from_seed("portcullis/h", Zeroizing::new([2; 32])).unwrap();
            assert_eq!(
                Tombstone::open(&keys, &other.sign(&text)),
                Err(NoteError::NoSignature)
            );
        }
        let seal = key.sign("portcullis/h\nsegment\n1\n");
        assert_eq!(Tombstone::open(&keys, &seal), Ok(None));
    }

    #[test]
    fn places_are_ordered_ranges() {
        for wrong in ["", "5-4", "1,1", "3-5,5", "7,6", "-1", "1-2-3", "1,,2", "a"] {
            assert_eq!(places(wrong), None, "{wrong}");
        }
        assert_eq!(places("0,2-9"), Some(vec![(0, 0), (2, 9)]));
    }
}
