//! Operations that have no outcome yet while the entries are read in order, and the frames seen of each.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    super::frame::{FrameDigest, PayloadDigest, decode},
    super::tree::{Hash, sha256},
    EntryFlaw, FrameFlaw,
};

#[derive(Default)]
struct Open {
    allowed: bool,
    frames: Option<Box<[FrameDigest; 2]>>,
}

#[derive(Default)]
pub(super) struct Claims {
    open: HashMap<Uuid, Open>,
    /// What is unknown may belong to operations of an earlier file, which is not at hand.
    earlier: bool,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Payload {
    #[serde(default)]
    up: Option<Named>,
    #[serde(default)]
    down: Option<Named>,
}

#[derive(serde::Deserialize)]
struct Named {
    bytes: u64,
    frames: u32,
    sha256: String,
}

const DIRECTIONS: [&str; 2] = ["up", "down"];

/// A row of the payload table.
pub(super) struct FrameRow<'a> {
    pub place: i64,
    pub operation: &'a str,
    pub direction: &'a str,
    pub number: i64,
    pub sha256: &'a [u8],
    pub codec: i64,
    pub size: i64,
    /// `None` where they were purged.
    pub bytes: Option<&'a [u8]>,
}

impl Claims {
    /// The first file does not begin at the beginning.
    pub(super) fn began_earlier(&mut self) {
        self.earlier = true;
    }

    pub(super) fn operation(&mut self, id: Uuid, allowed: bool) {
        self.open.entry(id).or_default().allowed |= allowed;
    }

    /// Checks a frame against itself and against those before it; its uncompressed size.
    pub(super) fn frame(&mut self, row: &FrameRow<'_>) -> Result<u64, FrameFlaw> {
        let column = |column| FrameFlaw::Column { column };
        if row.place < 0 {
            return Err(column("place"));
        }
        let id = canonical_uuid(row.operation).ok_or(column("operation"))?;
        let direction = DIRECTIONS
            .iter()
            .position(|d| *d == row.direction)
            .ok_or(column("direction"))?;
        let size = usize::try_from(row.size).map_err(|_| column("size"))?;
        if row.sha256.len() != 32 {
            return Err(column("sha256"));
        }
        if !matches!(row.codec, 0..=2) {
            return Err(column("codec"));
        }
        let hash = match row.bytes {
            Some(stored) => hash_of(row.codec, size, stored)?,
            // The hash that is left is what the outcome and the segment's statement speak of.
            None => row.sha256.try_into().map_err(|_| column("sha256"))?,
        };
        if hash != row.sha256 {
            return Err(FrameFlaw::Hash);
        }
        let Some(open) = self.open.get_mut(&id) else {
            // Its segment's statement covers it.
            return if self.earlier {
                Ok(size as u64)
            } else {
                Err(FrameFlaw::Operation)
            };
        };
        let digests = open.frames.get_or_insert_default();
        let expected = digests[direction].frames();
        if row.number != i64::from(expected) {
            return Err(FrameFlaw::Number { expected });
        }
        digests[direction].push_hash(&hash, size as u64);
        Ok(size as u64)
    }

    /// Checks that the frames seen are those that the outcome names.
    pub(super) fn outcome(&mut self, operation: &str, payload: Option<&str>) -> Result<(), EntryFlaw> {
        let open = canonical_uuid(operation).and_then(|id| self.open.remove(&id));
        let Some(open) = open else {
            return if self.earlier {
                Ok(())
            } else {
                Err(EntryFlaw::Outcome {
                    operation: operation.into(),
                })
            };
        };
        let named: Payload = match payload {
            None => Payload::default(),
            Some(text) => serde_json::from_str(text).map_err(|_| EntryFlaw::Member { member: "payload" })?,
        };
        let seen = open.frames.map_or_else(<[FrameDigest; 2]>::default, |b| *b);
        for ((digest, named), direction) in seen.into_iter().zip([named.up, named.down]).zip(DIRECTIONS) {
            let seen = digest.finish();
            let same = match &named {
                None => seen.frames == 0,
                Some(n) if n.frames == 0 => seen.frames == 0 && n.bytes == 0,
                Some(Named {
                    bytes,
                    frames,
                    sha256,
                }) => {
                    seen == PayloadDigest {
                        bytes: *bytes,
                        frames: *frames,
                        sha256: sha256.clone(),
                    }
                }
            };
            if !same {
                return Err(EntryFlaw::Payload {
                    operation: operation.into(),
                    direction,
                });
            }
        }
        Ok(())
    }

    /// Allowed operations without an outcome, and the frames of operations without one.
    pub(super) fn left(&self) -> (u64, u64) {
        let allowed = self.open.values().filter(|o| o.allowed).count() as u64;
        let frames = self.open.values().filter_map(|o| o.frames.as_deref());
        (allowed, frames.flatten().map(|d| u64::from(d.frames())).sum())
    }
}

/// The hash of a frame's uncompressed bytes.
fn hash_of(codec: i64, size: usize, stored: &[u8]) -> Result<Hash, FrameFlaw> {
    let decoded;
    let bytes = if codec == 0 {
        stored
    } else {
        decoded = decode(codec, size, stored).ok_or(FrameFlaw::Codec)?;
        &decoded
    };
    if bytes.len() != size {
        return Err(FrameFlaw::Codec);
    }
    Ok(sha256(&[bytes]))
}

/// A UUID in its one canonical spelling: lower case, hyphenated.
pub(super) fn canonical_uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (*id.hyphenated().encode_lower(&mut [0; 36]) == *text).then_some(id)
}
