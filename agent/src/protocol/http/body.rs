//! The body of a message, decoded as it comes (RFC 9112 sections 6 and 7).
//!
//! Chunk sizes are hexadecimal digits and CRLF, nothing else: no extensions, no blanks. A step either passes content
//! on or takes a whole line, so the same bytes give the same content however they are split.

use std::ops::Range;

use super::{
    fault::Fault,
    head::Scanner,
    headers::{Framing, Known, known},
};

/// A chunk-size line: 16 digits and CRLF.
const SIZE_LINE: usize = 18;
/// The most bytes of a trailer section.
const TRAILERS: usize = 16 * 1024;

#[derive(Debug)]
enum State {
    Done,
    Length(u64),
    Close,
    Size,
    Data(u64),
    DataEnd,
    Trailers(Scanner),
}

/// Decodes one body.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
}

/// What a step took from the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes taken; 0 when the body is done or more input is needed.
    pub consumed: usize,
    /// Content among them.
    pub data: Range<usize>,
    /// Trailer lines among them, without the empty line.
    pub trailers: Range<usize>,
}

impl BodyDecoder {
    /// A decoder for a body delimited so.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::Size,
            Framing::Close => State::Close,
        };
        Self { state }
    }

    /// Whether the whole body was taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the next piece of the input.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Fault> {
        if input.is_empty() {
            return Ok(Step::default());
        }
        match &mut self.state {
            State::Done => Ok(Step::default()),
            State::Close => Ok(data(input.len())),
            State::Length(left) => {
                let take = fit(*left, input.len());
                *left -= take as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(data(take))
            }
            State::Data(left) => {
                let take = fit(*left, input.len());
                *left -= take as u64;
                if *left == 0 {
                    self.state = State::DataEnd;
                }
                Ok(data(take))
            }
            State::Size => self.size(input),
            State::DataEnd => {
                if input.len() < 2 {
                    return Ok(Step::default());
                }
                if !input.starts_with(b"\r\n") {
                    return Err(Fault::ChunkEnd);
                }
                self.state = State::Size;
                Ok(taken(2))
            }
            State::Trailers(scanner) => {
                if input.starts_with(b"\r\n") {
                    self.state = State::Done;
                    return Ok(taken(2));
                }
                let Some(end) = scanner.scan(input, TRAILERS).map_err(|_| Fault::Trailer)? else {
                    return Ok(Step::default());
                };
                check_trailers(&input[..end])?;
                self.state = State::Done;
                Ok(Step {
                    consumed: end,
                    data: 0..0,
                    trailers: 0..end - 2,
                })
            }
        }
    }

    fn size(&mut self, input: &[u8]) -> Result<Step, Fault> {
        let window = &input[..input.len().min(SIZE_LINE)];
        let Some(end) = memchr::memchr(b'\n', window) else {
            return if input.len() >= SIZE_LINE {
                Err(Fault::ChunkSize)
            } else {
                Ok(Step::default())
            };
        };
        let digits = window[..end].strip_suffix(b"\r").ok_or(Fault::ChunkSize)?;
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(Fault::ChunkSize);
        }
        let size = digits.iter().fold(0u64, |n, b| {
            n << 4 | u64::from(char::from(*b).to_digit(16).unwrap_or(0))
        });
        // A size near the end of the range is no body: it is there to overflow someone's counter.
        if size >> 60 != 0 {
            return Err(Fault::ChunkSize);
        }
        self.state = if size == 0 {
            State::Trailers(Scanner::default())
        } else {
            State::Data(size)
        };
        Ok(taken(end + 1))
    }

    /// The peer sent its last byte: whether that ends this body well.
    pub fn end_of_input(&mut self) -> Result<(), Fault> {
        match self.state {
            State::Done => Ok(()),
            State::Close => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(Fault::Truncated),
        }
    }
}

fn fit(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

fn data(n: usize) -> Step {
    Step {
        consumed: n,
        data: 0..n,
        trailers: 0..0,
    }
}

fn taken(n: usize) -> Step {
    Step {
        consumed: n,
        ..Step::default()
    }
}

fn check_trailers(section: &[u8]) -> Result<(), Fault> {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    match httparse::parse_headers(section, &mut lines) {
        Ok(httparse::Status::Complete((length, lines))) if length == section.len() => {
            if lines.iter().any(|line| forbidden(line.name)) {
                Err(Fault::TrailerName)
            } else {
                Ok(())
            }
        }
        _ => Err(Fault::Trailer),
    }
}

/// Fields that frame, route, authenticate or describe a message may not come after it (RFC 9110 section 6.5.1).
fn forbidden(name: &str) -> bool {
    const ALSO: [&str; 7] = [
        "authorization",
        "cookie",
        "set-cookie",
        "trailer",
        "content-location",
        "location",
        "cache-control",
    ];
    !matches!(known(name), Known::Other | Known::Validator)
        || name.contains('_')
        || ALSO.iter().any(|n| n.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content, trailers, what is left of the input, and whether it is done.
    type Decoded = (Vec<u8>, Vec<u8>, Vec<u8>, bool);

    fn decode(framing: Framing, pieces: &[&[u8]]) -> Result<Decoded, Fault> {
        let mut decoder = BodyDecoder::new(framing);
        let (mut content, mut trailers, mut pending) = (Vec::new(), Vec::new(), Vec::new());
        for piece in pieces {
            pending.extend_from_slice(piece);
            loop {
                let step = decoder.step(&pending)?;
                if step.consumed == 0 {
                    break;
                }
                content.extend_from_slice(&pending[step.data.clone()]);
                trailers.extend_from_slice(&pending[step.trailers.clone()]);
                pending.drain(..step.consumed);
            }
        }
        Ok((content, trailers, pending, decoder.is_done()))
    }

    #[test]
    fn every_split_gives_the_same() {
        for (framing, input) in [
            (Framing::Length(5), &b"hello rest"[..]),
            (
                Framing::Chunked,
                b"5\r\nhello\r\n00a\r\n, world!!!\r\n0\r\n\r\nrest",
            ),
            (
                Framing::Chunked,
                b"1\r\nx\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\nrest",
            ),
            (Framing::Chunked, b"5\r\nhello\r\n5;x=y\r\nworld\r\n0\r\n\r\n"),
            (Framing::Chunked, b"1\r\nx\r\n0\r\nHost: a\r\n\r\n"),
            (Framing::Close, b"all of it"),
        ] {
            let whole = decode(framing, &[input]);
            for at in 0..input.len() {
                assert_eq!(decode(framing, &[&input[..at], &input[at..]]), whole);
            }
            let bytes: Vec<&[u8]> = input.chunks(1).collect();
            assert_eq!(decode(framing, &bytes), whole);
        }
    }

    #[test]
    fn chunks_have_one_reading() {
        for (input, fault) in [
            (&b"5;ext=1\r\nhello\r\n"[..], Fault::ChunkSize),
            (b"5 \r\nhello\r\n", Fault::ChunkSize),
            (b" 5\r\nhello\r\n", Fault::ChunkSize),
            (b"0x5\r\nhello\r\n", Fault::ChunkSize),
            (b"+5\r\nhello\r\n", Fault::ChunkSize),
            (b"-1\r\nhello\r\n", Fault::ChunkSize),
            (b"5\nhello\r\n", Fault::ChunkSize),
            (b"\r\n", Fault::ChunkSize),
            (b"ffffffffffffffff\r\n", Fault::ChunkSize),
            (b"10000000000000000\r\n", Fault::ChunkSize),
            (b"00000000000000005\r\nhello", Fault::ChunkSize),
            (b"5\r\nhelloXX", Fault::ChunkEnd),
            (b"5\r\nhello\n0", Fault::ChunkEnd),
            (b"0\r\nX: 1\n\r\n", Fault::Trailer),
            (b"0\r\nX : 1\r\n\r\n", Fault::Trailer),
            (b"0\r\n X: 1\r\n\r\n", Fault::Trailer),
            (b"0\r\nContent-Length: 1\r\n\r\n", Fault::TrailerName),
            (b"0\r\ntransfer-encoding: chunked\r\n\r\n", Fault::TrailerName),
            (b"0\r\nContent_Length: 1\r\n\r\n", Fault::TrailerName),
            (b"0\r\nAuthorization: x\r\n\r\n", Fault::TrailerName),
        ] {
            assert_eq!(
                decode(Framing::Chunked, &[input]),
                Err(fault),
                "{}",
                input.escape_ascii()
            );
        }
    }

    #[test]
    fn an_end_in_the_middle_is_a_truncation() {
        assert_eq!(
            BodyDecoder::new(Framing::Length(3)).end_of_input(),
            Err(Fault::Truncated)
        );
        assert_eq!(
            BodyDecoder::new(Framing::Chunked).end_of_input(),
            Err(Fault::Truncated)
        );
        assert_eq!(BodyDecoder::new(Framing::Close).end_of_input(), Ok(()));
        assert_eq!(BodyDecoder::new(Framing::None).end_of_input(), Ok(()));
    }
}
