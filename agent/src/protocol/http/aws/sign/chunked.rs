//! `aws-chunked` bodies: pieces with their sizes, and with signatures where the stream is signed.
//!
//! A signed stream is signed anew as it passes. Every signature covers the one before it and the whole of its piece, and
//! stands in front of it, so a piece is held until it is there; its length stays, and so does the body's.

use aws_lc_rs::hmac;

use super::key::sha256;

/// The most bytes of one piece that is held; SDKs send 64 KiB to 1 MiB.
const PIECE: usize = 8 << 20;
/// The longest line: a size and a signature, or a trailer.
const LINE: usize = 1024;
/// The most trailers.
const TRAILERS: usize = 16;

/// What is wrong with such a body. Nothing of the piece goes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each variant's text is its documentation
pub enum ChunkError {
    #[error("a line of the aws-chunked body is malformed")]
    Line,
    #[error("a piece of the aws-chunked body is larger than can be signed anew")]
    Size,
    #[error("a piece of the aws-chunked body is not signed, where all are")]
    Unsigned,
    #[error("the aws-chunked body does not end where it says")]
    End,
}

/// One piece of what comes.
enum Piece<'a> {
    /// The line before data: its size, as a number and as it was written, and its signature.
    Head(u64, &'a str, Option<&'a str>),
    Data(&'a [u8]),
    DataEnd,
    /// A line after the last piece.
    Trailer(&'a str),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

/// Takes such a body apart as it comes.
struct Frames {
    state: State,
    line: Vec<u8>,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
        }
    }
}

impl Frames {
    /// The next piece and how much of the input it took. None of it is there before it is whole, but for data.
    fn next<'s>(&'s mut self, input: &'s [u8]) -> Result<(usize, Option<Piece<'s>>), ChunkError> {
        if let State::Data(left) = self.state {
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
            if take == 0 {
                return Ok((0, None));
            }
            let left = left - take as u64;
            self.state = if left == 0 {
                State::DataEnd
            } else {
                State::Data(left)
            };
            return Ok((take, Some(Piece::Data(input.get(..take).unwrap_or_default()))));
        }
        if self.state == State::Done {
            return if input.is_empty() {
                Ok((0, None))
            } else {
                Err(ChunkError::End)
            };
        }
        let (taken, whole) = self.take_line(input)?;
        if !whole {
            return Ok((taken, None));
        }
        let line = std::str::from_utf8(&self.line).map_err(|_| ChunkError::Line)?;
        let line = line.strip_suffix("\r\n").ok_or(ChunkError::Line)?;
        let piece = match self.state {
            State::Head => {
                let (size, signature) = match line.split_once(';') {
                    None => (line, None),
                    Some((size, extension)) => {
                        let signature = extension
                            .strip_prefix("chunk-signature=")
                            .ok_or(ChunkError::Line)?;
                        (size, Some(signature))
                    }
                };
                let digits = size;
                let fits = (1..=15).contains(&size.len()) && size.bytes().all(|b| b.is_ascii_hexdigit());
                let size = u64::from_str_radix(size, 16)
                    .ok()
                    .filter(|_| fits)
                    .ok_or(ChunkError::Line)?;
                self.state = if size == 0 {
                    State::Trailers
                } else {
                    State::Data(size)
                };
                Piece::Head(size, digits, signature)
            }
            State::DataEnd if line.is_empty() => {
                self.state = State::Head;
                Piece::DataEnd
            }
            State::Trailers if line.is_empty() => {
                self.state = State::Done;
                Piece::End
            }
            State::Trailers => Piece::Trailer(line),
            _ => return Err(ChunkError::Line),
        };
        Ok((taken, Some(piece)))
    }

    /// Takes up to the end of a line: how much, and whether that is there.
    fn take_line(&mut self, input: &[u8]) -> Result<(usize, bool), ChunkError> {
        if self.line.last() == Some(&b'\n') {
            self.line.clear();
        }
        let end = memchr::memchr(b'\n', input);
        let take = end.map_or(input.len(), |at| at + 1);
        if self.line.len() + take > LINE {
            return Err(ChunkError::Line);
        }
        self.line.extend_from_slice(input.get(..take).unwrap_or_default());
        Ok((take, end.is_some()))
    }
}

/// The content of such a body, without what frames it.
#[derive(Default)]
pub struct Content(Frames);

impl Content {
    /// Takes some of the body and appends what of it is content.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        loop {
            let (taken, piece) = self.0.next(input)?;
            match piece {
                None => return Ok(()),
                Some(Piece::Data(data)) => out.extend_from_slice(data),
                Some(_) => {}
            }
            input = input.get(taken..).unwrap_or_default();
        }
    }

    /// Whether it is there as a whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.0.state == State::Done
    }
}

/// Signs a signed stream anew.
pub struct ChunkSigner {
    key: hmac::Key,
    /// What every text to sign begins with, after its algorithm.
    stamp: String,
    previous: String,
    trailer: bool,
    frames: Frames,
    piece: Vec<u8>,
    /// Its size as it was written, so that the body keeps its length.
    digits: String,
    trailers: Vec<String>,
    /// The trailers' own signature has passed.
    sealed: bool,
}

/// In place of a piece that is held.
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

impl ChunkSigner {
    /// For a stream whose head has the signature `seed`; `trailer` says whether its trailers are signed, too.
    #[must_use]
    pub(super) fn new(key: hmac::Key, date: &str, scope: &str, seed: &str, trailer: bool) -> Self {
        Self {
            key,
            stamp: format!("{date}\n{scope}"),
            previous: seed.to_owned(),
            trailer,
            frames: Frames::default(),
            piece: Vec::new(),
            digits: String::new(),
            trailers: Vec::new(),
            sealed: false,
        }
    }

    /// Takes some of the body and appends what can go up.
    ///
    /// # Errors
    /// When it is malformed, or not signed as it says.
    pub fn push(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        loop {
            let mut frames = std::mem::take(&mut self.frames);
            let passed = match frames.next(input) {
                Ok((taken, Some(piece))) => self.pass(&piece, out).map(|()| Some(taken)),
                Ok((_, None)) => Ok(None),
                Err(error) => Err(error),
            };
            self.frames = frames;
            let Some(taken) = passed? else {
                return Ok(());
            };
            input = input.get(taken..).unwrap_or_default();
        }
    }

    /// Whether it is there as a whole.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.frames.state == State::Done
    }

    fn pass(&mut self, piece: &Piece<'_>, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        match *piece {
            Piece::Head(size, digits, signature) => {
                if signature.is_none_or(|s| s.len() != 64) {
                    return Err(ChunkError::Unsigned);
                }
                let size = usize::try_from(size).ok().filter(|s| *s <= PIECE);
                digits.clone_into(&mut self.digits);
                self.piece = Vec::with_capacity(size.ok_or(ChunkError::Size)?);
                if size == Some(0) {
                    self.head(out);
                }
            }
            Piece::Data(data) => self.piece.extend_from_slice(data),
            Piece::DataEnd => {
                self.head(out);
                out.append(&mut self.piece);
                out.extend_from_slice(b"\r\n");
            }
            Piece::Trailer(line) => self.trailer(line, out)?,
            Piece::End => {
                if self.sealed != self.trailer {
                    return Err(ChunkError::Unsigned);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    /// Signs the piece that is held and writes the line before it.
    fn head(&mut self, out: &mut Vec<u8>) {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{EMPTY}\n{}",
            self.stamp,
            self.previous,
            sha256(&self.piece)
        );
        self.previous = hex::encode(hmac::sign(&self.key, text.as_bytes()));
        let line = format!("{};chunk-signature={}\r\n", self.digits, self.previous);
        out.extend_from_slice(line.as_bytes());
    }

    fn trailer(&mut self, line: &str, out: &mut Vec<u8>) -> Result<(), ChunkError> {
        let (name, value) = line.split_once(':').ok_or(ChunkError::Line)?;
        if !self.trailer || self.sealed || self.trailers.len() == TRAILERS {
            return Err(ChunkError::Line);
        }
        if !name.eq_ignore_ascii_case("x-amz-trailer-signature") {
            self.trailers
                .push(format!("{}:{}\n", name.to_ascii_lowercase(), value.trim()));
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(b"\r\n");
            return Ok(());
        }
        if value.trim().len() != 64 {
            return Err(ChunkError::Unsigned);
        }
        self.trailers.sort();
        let text = format!(
            "AWS4-HMAC-SHA256-TRAILER\n{}\n{}\n{}",
            self.stamp,
            self.previous,
            sha256(self.trailers.concat().as_bytes())
        );
        self.previous = hex::encode(hmac::sign(&self.key, text.as_bytes()));
        self.sealed = true;
        out.extend_from_slice(format!("{name}:{}\r\n", self.previous).as_bytes());
        Ok(())
    }
}
