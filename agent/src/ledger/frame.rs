//! Payload frames: pieces of what passed, masked, each under its own hash.
//!
//! A frame is stored compressed where that helps. It is named by the SHA-256 of its uncompressed bytes; an outcome
//! names all frames of one direction by the SHA-256 over those hashes, so that a payload can be purged and its proof
//! kept.

use std::cell::RefCell;

use aws_lc_rs::digest;
use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

use super::tree::{Hash, sha256};
use crate::model::{Direction, OperationId};

/// The most bytes that one frame may have.
pub const FRAME_MAX: usize = 64 * 1024;

/// Below this, a frame is kept as it is: building zstd's tables costs 4 us for 1 KB at a ratio of about 2 (measured),
/// a quarter of what recording the whole operation costs.
const COMPRESS_FROM: usize = 2048;

/// A piece of an operation's payload, as masked.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The operation that it belongs to.
    pub operation: OperationId,
    /// Which way it went.
    pub direction: Direction,
    /// Its place among the operation's frames of this direction: 0, 1, 2...
    pub number: u32,
    /// The masked bytes, at most [`FRAME_MAX`].
    pub bytes: Bytes,
}

/// How a stored frame's bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Raw = 0,
    Zstd = 1,
}

/// A frame as it is stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub operation: OperationId,
    pub direction: Direction,
    pub number: u32,
    pub sha256: Hash,
    pub codec: Codec,
    pub size: u32,
    pub bytes: Bytes,
}

/// The word for a direction in the `payload` table.
pub(super) fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    }
}

thread_local! {
    /// One context per thread, and room for its output: making them costs more than using them.
    static COMPRESSOR: RefCell<Option<(Compressor<'static>, Vec<u8>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

impl Stored {
    /// Hashes and compresses, on the caller's thread.
    pub(super) fn new(frame: Frame) -> Self {
        let hash = sha256(&[&frame.bytes]);
        let size = u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX);
        let compressed = if frame.bytes.len() >= COMPRESS_FROM {
            compress(&frame.bytes)
        } else {
            None
        };
        let (codec, bytes) = match compressed {
            Some(small) => (Codec::Zstd, small),
            None => (Codec::Raw, frame.bytes),
        };
        Self {
            operation: frame.operation,
            direction: frame.direction,
            number: frame.number,
            sha256: hash,
            codec,
            size,
            bytes,
        }
    }
}

/// The bytes compressed, if that saves at least an eighth.
fn compress(bytes: &[u8]) -> Option<Bytes> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            let room = zstd::zstd_safe::compress_bound(FRAME_MAX);
            *slot = Some((Compressor::new(1).ok()?, vec![0; room]));
        }
        let (compressor, room) = slot.as_mut()?;
        let n = compressor.compress_to_buffer(bytes, room.as_mut_slice()).ok()?;
        (n + bytes.len() / 8 < bytes.len()).then(|| Bytes::copy_from_slice(&room[..n]))
    })
}

/// Below this, zlib saves nothing worth having.
const ZLIB_FROM: usize = 96;

/// Compresses frames for segments, with zlib (RFC 1950): slower and smaller than what the data path uses, and readable
/// by the standard library of any language.
pub(super) struct Recoder {
    compress: flate2::Compress,
    room: Vec<u8>,
}

impl Recoder {
    pub(super) fn new() -> Self {
        Self {
            compress: flate2::Compress::new(flate2::Compression::new(6), true),
            room: vec![0; FRAME_MAX],
        }
    }

    /// The codec and the bytes to store.
    pub(super) fn zlib<'a>(&'a mut self, raw: &'a [u8]) -> (i64, &'a [u8]) {
        if raw.len() < ZLIB_FROM || raw.len() > FRAME_MAX {
            return (0, raw);
        }
        // What does not get smaller by an eighth does not fit, and is stored as it is.
        let limit = raw.len() - raw.len() / 8;
        self.compress.reset();
        let done = self
            .compress
            .compress(raw, &mut self.room[..limit], flate2::FlushCompress::Finish);
        match done {
            Ok(flate2::Status::StreamEnd) => {
                let n = usize::try_from(self.compress.total_out()).unwrap_or(0);
                (2, &self.room[..n])
            }
            _ => (0, raw),
        }
    }
}

fn inflate(size: usize, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; size];
    let mut inflate = flate2::Decompress::new(true);
    let status = inflate
        .decompress(bytes, &mut out, flate2::FlushDecompress::Finish)
        .ok()?;
    let whole = inflate.total_out() == size as u64 && inflate.total_in() == bytes.len() as u64;
    (status == flate2::Status::StreamEnd && whole).then_some(out)
}

/// The uncompressed bytes of a stored frame; `None` when the stored bytes cannot be read as the codec says.
pub(super) fn decode(codec: i64, size: usize, bytes: &[u8]) -> Option<Vec<u8>> {
    match codec {
        0 => Some(bytes.to_vec()),
        1 if size <= FRAME_MAX => DECOMPRESSOR.with_borrow_mut(|slot| {
            if slot.is_none() {
                *slot = Some(Decompressor::new().ok()?);
            }
            slot.as_mut()?.decompress(bytes, size).ok()
        }),
        2 if size <= FRAME_MAX => inflate(size, bytes),
        _ => None,
    }
}

/// The incremental digest of all frames of one direction. Push a frame here exactly when the ledger accepted it: an
/// outcome that names frames which are not there does not verify.
pub struct FrameDigest {
    context: digest::Context,
    bytes: u64,
    frames: u32,
}

/// What an outcome says of one direction's payload.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PayloadDigest {
    /// Uncompressed bytes.
    pub bytes: u64,
    /// How many frames.
    pub frames: u32,
    /// Hex SHA-256 over the frames' SHA-256 hashes, joined.
    pub sha256: String,
}

/// Lower-case hex; `hex::encode` goes by `char` and costs ten times as much.
fn hex(bytes: &[u8]) -> String {
    let mut out = vec![0; bytes.len() * 2];
    // Cannot fail: the buffer has the right length, and hex digits are UTF-8.
    let _ = hex::encode_to_slice(bytes, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

impl Default for FrameDigest {
    fn default() -> Self {
        Self {
            context: digest::Context::new(&digest::SHA256),
            bytes: 0,
            frames: 0,
        }
    }
}

impl FrameDigest {
    /// A digest of no frames.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a frame's masked bytes.
    pub fn push(&mut self, frame: &[u8]) {
        self.push_hash(&sha256(&[frame]), frame.len() as u64);
    }

    pub(super) fn push_hash(&mut self, hash: &Hash, bytes: u64) {
        self.context.update(hash);
        self.bytes += bytes;
        self.frames += 1;
    }

    /// How many frames were pushed: the next frame's number.
    #[must_use]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// The digest.
    #[must_use]
    pub fn finish(self) -> PayloadDigest {
        PayloadDigest {
            bytes: self.bytes,
            frames: self.frames,
            sha256: hex(self.context.finish().as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(bytes: Vec<u8>) -> Stored {
        Stored::new(Frame {
            operation: OperationId::new(),
            direction: Direction::Up,
            number: 0,
            bytes: bytes.into(),
        })
    }

    #[test]
    fn compresses_only_what_shrinks() {
        let text = b"the same words again and again, ".repeat(100);
        let s = stored(text.clone());
        assert_eq!(s.codec, Codec::Zstd);
        assert_eq!(decode(1, s.size as usize, &s.bytes).unwrap(), text);
        assert_eq!(s.sha256, sha256(&[&text]));
        let mut noise = vec![0; 2000];
        rand::Rng::fill(&mut rand::rng(), noise.as_mut_slice());
        assert_eq!(stored(noise).codec, Codec::Raw);
        assert_eq!(stored(b"short".to_vec()).codec, Codec::Raw);
        assert_eq!(decode(1, 100, b"no zstd"), None);
        assert_eq!(decode(7, 1, b"x"), None);
    }

    #[test]
    fn segments_use_zlib() {
        let text = b"GET /orders HTTP/1.1\r\nhost: api.internal\r\n".repeat(40);
        let mut recoder = Recoder::new();
        for _ in 0..2 {
            let (codec, bytes) = recoder.zlib(&text);
            assert!(codec == 2 && bytes.len() < text.len() / 4);
            assert_eq!(decode(2, text.len(), bytes).unwrap(), text);
            assert_eq!(decode(2, text.len() - 1, bytes), None);
            assert_eq!(decode(2, text.len() + 1, bytes), None);
            assert_eq!(decode(2, text.len(), &[bytes, b"x"].concat()), None);
        }
        let mut noise = vec![0; 2000];
        rand::Rng::fill(&mut rand::rng(), noise.as_mut_slice());
        assert_eq!(recoder.zlib(&noise), (0, noise.as_slice()));
        assert_eq!(recoder.zlib(b"short"), (0, b"short".as_slice()));
    }

    #[test]
    fn digest_is_over_hashes() {
        let mut digest = FrameDigest::new();
        digest.push(b"a");
        digest.push(b"bc");
        let expected = sha256(&[&sha256(&[b"a"]), &sha256(&[b"bc"])]);
        let done = digest.finish();
        assert_eq!(
            (done.bytes, done.frames, done.sha256),
            (3, 2, hex::encode(expected))
        );
    }
}
