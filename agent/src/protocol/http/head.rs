//! The head of a message: finding its end, and its lines (RFC 9112 sections 2 to 5), stricter than the RFC asks.
//!
//! Every line ends in CRLF, and CR and LF stand nowhere else; there is no folding. What passes here, every parser
//! splits into the same lines, so that nobody downstream or upstream can read another message into it.

use std::mem::MaybeUninit;

use super::fault::Fault;

/// The most header lines of one head.
pub const MAX_HEADERS: usize = 128;

/// Finds the end of a head in a growing buffer, looking at every byte once.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Bytes looked at.
    at: usize,
    /// Where the line being looked at starts.
    line: usize,
}

impl Scanner {
    /// The length of the head with its empty line, or `None` while it is incomplete. `limit` bounds that length.
    pub fn scan(&mut self, input: &[u8], limit: usize) -> Result<Option<usize>, Fault> {
        while let Some(found) = memchr::memchr(b'\n', input.get(self.at..).unwrap_or_default()) {
            let end = self.at + found;
            if end >= limit {
                return Err(Fault::HeadTooLarge);
            }
            let line = &input[self.line..end];
            match memchr::memchr(b'\r', line) {
                None => return Err(Fault::BareLf),
                Some(at) if at + 1 != line.len() => return Err(Fault::BareCr),
                Some(0) if self.line == 0 => return Err(Fault::LeadingLine),
                Some(0) => return Ok(Some(end + 1)),
                Some(_) => {}
            }
            self.at = end + 1;
            self.line = end + 1;
        }
        if input.len() >= limit {
            return Err(Fault::HeadTooLarge);
        }
        self.at = input.len();
        Ok(None)
    }
}

/// One header line, as offsets into its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    start: u32,
    name: u32,
    value: (u32, u32),
}

/// A head's bytes and where its header lines are. Reused from message to message, so that a message costs no
/// allocation here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name as it was sent.
    pub name: &'a str,
    /// The value without white space around it; visible ASCII, space, tab and bytes from 0x80.
    pub value: &'a [u8],
    /// The whole line with its CRLF.
    pub line: &'a [u8],
}

/// The start line of a request, as offsets into the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// Length of the method, which starts at 0.
    pub method: usize,
    /// Length of the target, which starts one after the method.
    pub target: usize,
    /// The minor version: 0 or 1.
    pub minor: u8,
}

/// The start line of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusLine {
    /// The three digits.
    pub status: u16,
    /// The minor version: 0 or 1.
    pub minor: u8,
}

impl Head {
    /// Takes over the bytes of a complete request head, as [`Scanner`] delimited it.
    pub fn parse_request(&mut self, input: &[u8]) -> Result<RequestLine, Fault> {
        self.load(input);
        let mut headers = [MaybeUninit::uninit(); MAX_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(&self.bytes, &mut headers) {
            Ok(httparse::Status::Complete(length)) if length == self.bytes.len() => {}
            Ok(_) => return Err(Fault::StartLine),
            Err(error) => return Err(fault_of(error)),
        }
        let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
        let line = RequestLine {
            method: method.len(),
            target: target.len(),
            minor: request.version.unwrap_or(0),
        };
        // The version is the rest of the line, so a second blank or a trailing one shows here.
        let rest = self
            .bytes
            .get(line.method + line.target + 2..)
            .unwrap_or_default();
        if !rest.starts_with(b"HTTP/1.") || rest.get(8..10) != Some(b"\r\n") {
            return Err(Fault::StartLine);
        }
        index(&mut self.lines, &self.bytes, request.headers);
        Ok(line)
    }

    /// Takes over the bytes of a complete response head, as [`Scanner`] delimited it.
    pub fn parse_response(&mut self, input: &[u8]) -> Result<StatusLine, Fault> {
        self.load(input);
        let mut headers = [MaybeUninit::uninit(); MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            &self.bytes,
            &mut headers,
        );
        match parsed {
            Ok(httparse::Status::Complete(length)) if length == self.bytes.len() => {}
            Ok(_) => return Err(Fault::StartLine),
            Err(error) => return Err(fault_of(error)),
        }
        let line = StatusLine {
            status: response.code.unwrap_or(0),
            minor: response.version.unwrap_or(0),
        };
        index(&mut self.lines, &self.bytes, response.headers);
        Ok(line)
    }

    fn load(&mut self, input: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(input);
        self.lines.clear();
    }

    /// The bytes, from the start line to the empty line.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The start line with its CRLF.
    #[must_use]
    pub fn start_line(&self) -> &[u8] {
        let end = self
            .lines
            .first()
            .map_or(self.bytes.len().saturating_sub(2), |line| line.start as usize);
        &self.bytes[..end]
    }

    /// The header lines, in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> {
        let last = self.bytes.len().saturating_sub(2);
        self.lines.iter().enumerate().map(move |(at, line)| {
            let end = self.lines.get(at + 1).map_or(last, |next| next.start as usize);
            Header {
                name: self
                    .bytes
                    .get(line.start as usize..line.name as usize)
                    .and_then(|name| std::str::from_utf8(name).ok())
                    .unwrap_or(""),
                value: &self.bytes[line.value.0 as usize..line.value.1 as usize],
                line: &self.bytes[line.start as usize..end],
            }
        })
    }
}

/// Header lines are contiguous (no folding), so a line ends where the next one starts.
fn index(lines: &mut Vec<Line>, bytes: &[u8], headers: &[httparse::Header<'_>]) {
    let base = bytes.as_ptr() as usize;
    // Offsets fit: a head is bounded by a limit far below 4 GiB, and a longer one reads as empty lines.
    let offset = |at: usize| u32::try_from(at).unwrap_or(0);
    lines.extend(headers.iter().map(|header| {
        let start = header.name.as_ptr() as usize - base;
        let value = header.value.as_ptr() as usize - base;
        let blank = header.value.is_empty();
        Line {
            start: offset(start),
            name: offset(start + header.name.len()),
            value: if blank {
                (0, 0)
            } else {
                (offset(value), offset(value + header.value.len()))
            },
        }
    }));
}

fn fault_of(error: httparse::Error) -> Fault {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue | httparse::Error::NewLine => {
            Fault::HeaderLine
        }
        httparse::Error::TooManyHeaders => Fault::TooManyHeaders,
        httparse::Error::Version => Fault::Version,
        httparse::Error::Token => Fault::Target,
        httparse::Error::Status => Fault::Status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(input: &[u8]) -> Result<Option<usize>, Fault> {
        Scanner::default().scan(input, 1024)
    }

    #[test]
    fn finds_the_end_and_nothing_before_it() {
        assert_eq!(scan(b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest"), Ok(Some(24)));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nA: b\r\n\r"), Ok(None));
        assert_eq!(scan(b"GET / HTTP/1.1\nA: b\r\n\r\n"), Err(Fault::BareLf));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nA: b\n\n"), Err(Fault::BareLf));
        assert_eq!(scan(b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n"), Err(Fault::BareCr));
        assert_eq!(scan(b"\r\nGET / HTTP/1.1\r\n\r\n"), Err(Fault::LeadingLine));
        assert_eq!(scan(b"\nGET / HTTP/1.1\r\n\r\n"), Err(Fault::BareLf));
        assert_eq!(scan(&[b'a'; 1024]), Err(Fault::HeadTooLarge));
    }

    #[test]
    fn keeps_every_line_as_it_was_sent() {
        let mut head = Head::default();
        let raw = b"GET /x HTTP/1.1\r\nHost:  a \r\nX-Empty:\r\nx-CASE: \t1, 2\t\r\n\r\n";
        let line = head.parse_request(raw).unwrap();
        assert_eq!((line.method, line.target, line.minor), (3, 2, 1));
        let headers: Vec<_> = head.headers().collect();
        assert_eq!(headers[0].value, b"a");
        assert_eq!(headers[0].line, b"Host:  a \r\n");
        assert_eq!((headers[1].name, headers[1].value), ("X-Empty", &b""[..]));
        assert_eq!(headers[2].line, b"x-CASE: \t1, 2\t\r\n");
        let mut again = head.start_line().to_vec();
        headers.iter().for_each(|h| again.extend_from_slice(h.line));
        again.extend_from_slice(b"\r\n");
        assert_eq!(again, raw);
    }

    #[test]
    fn refuses_what_parsers_read_differently() {
        for bad in [
            &b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\n A: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nA\r\n\r\n",
            b"GET / HTTP/1.1\r\n: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nA(: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\0\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\x7f\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET /  HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1 \r\n\r\n",
            b"GET\t/ HTTP/1.1\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"GET / HTTP/1.2\r\n\r\n",
            b"GET / http/1.1\r\n\r\n",
            b"GET /\r\n\r\n",
            b" GET / HTTP/1.1\r\n\r\n",
        ] {
            let parsed = Head::default().parse_request(bad);
            assert!(parsed.is_err(), "{} {parsed:?}", bad.escape_ascii());
        }
        for bad in [
            &b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1  200 OK\r\n\r\n",
            b"HTTP/2 200 OK\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
        ] {
            assert!(
                Head::default().parse_response(bad).is_err(),
                "{}",
                bad.escape_ascii()
            );
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS + 1));
        assert_eq!(
            Head::default().parse_request(many.as_bytes()),
            Err(Fault::TooManyHeaders)
        );
    }
}
