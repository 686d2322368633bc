//! How text is written where it stands: plainly, in a JSON string (RFC 8259), percent-encoded (RFC 3986), or in a
//! form (WHATWG URL, application/x-www-form-urlencoded). Detectors see the decoded text; bytes that are not masked
//! go out as they came in.

use std::io::Write as _;

/// How text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    Json,
    Percent,
    Form,
}

/// One escape, decoded.
struct Escape {
    bytes: [u8; 4],
    len: usize,
    raw: usize,
}

impl Escape {
    fn byte(byte: u8, raw: usize) -> Self {
        Self {
            bytes: [byte, 0, 0, 0],
            len: 1,
            raw,
        }
    }
    fn char(c: char, raw: usize) -> Self {
        let mut bytes = [0; 4];
        let len = c.encode_utf8(&mut bytes).len();
        Self { bytes, len, raw }
    }
}

impl Coding {
    /// Where the next escape begins.
    fn next_escape(self, raw: &[u8]) -> Option<usize> {
        match self {
            Self::Plain => None,
            Self::Json => memchr::memchr(b'\\', raw),
            Self::Percent => memchr::memchr(b'%', raw),
            Self::Form => memchr::memchr2(b'%', b'+', raw),
        }
    }

    /// Whether the text is written without any escape.
    pub(super) fn is_plain(self, raw: &[u8]) -> bool {
        self.next_escape(raw).is_none()
    }

    /// The escape that `raw` begins with; `None` when the rest of it is still to come.
    fn escape(self, raw: &[u8], last: bool) -> Option<Escape> {
        match self {
            Self::Plain => Some(Escape::byte(raw.first().copied()?, 1)),
            Self::Json => json_escape(raw, last),
            Self::Percent | Self::Form => percent_escape(raw, last),
        }
    }

    /// Appends the decoded text, and returns how many raw bytes it took: all but an escape that is incomplete.
    pub(super) fn decode(self, raw: &[u8], last: bool, to: &mut Vec<u8>) -> usize {
        let mut at = 0;
        while let Some(next) = self.next_escape(&raw[at..]) {
            to.extend_from_slice(&raw[at..at + next]);
            at += next;
            let Some(escape) = self.escape(&raw[at..], last) else {
                return at;
            };
            to.extend_from_slice(&escape.bytes[..escape.len]);
            at += escape.raw;
        }
        to.extend_from_slice(&raw[at..]);
        raw.len()
    }

    /// Appends text in this writing.
    pub(super) fn encode(self, text: &[u8], to: &mut Vec<u8>) {
        for &b in text {
            match (self, b) {
                (Self::Json, b'"' | b'\\') => to.extend([b'\\', b]),
                (Self::Json, 0..0x20) => {
                    // Writing to a vector does not fail.
                    let _ = write!(to, "\\u{b:04x}");
                }
                (Self::Percent | Self::Form, _)
                    if !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'*')) =>
                {
                    let _ = write!(to, "%{b:02X}");
                }
                _ => to.push(b),
            }
        }
    }
}

fn percent_escape(raw: &[u8], last: bool) -> Option<Escape> {
    if raw.first() == Some(&b'+') {
        return Some(Escape::byte(b' ', 1));
    }
    match (raw.get(1).map(|b| hex(*b)), raw.get(2).map(|b| hex(*b))) {
        (Some(Some(high)), Some(Some(low))) => Some(Escape::byte(high << 4 | low, 3)),
        (None, _) | (Some(Some(_)), None) if !last => None,
        _ => Some(Escape::byte(b'%', 1)),
    }
}

fn hex(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

fn json_escape(raw: &[u8], last: bool) -> Option<Escape> {
    let Some(&kind) = raw.get(1) else {
        return last.then(|| Escape::byte(b'\\', 1));
    };
    let byte = match kind {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'f' => 12,
        b'u' => return unicode_escape(raw, last),
        // Also escapes that JSON does not know: readers that accept them mean the byte itself.
        other => other,
    };
    Some(Escape::byte(byte, 2))
}

fn unicode_escape(raw: &[u8], last: bool) -> Option<Escape> {
    let Some(first) = unit(raw) else {
        return (last || raw.len() >= 6 || raw[2..].iter().any(|b| hex(*b).is_none()))
            .then(|| Escape::byte(b'u', 2));
    };
    if (0xD800..0xDC00).contains(&first) {
        let rest = &raw[6..];
        let could_be_low = rest.first().is_none_or(|b| *b == b'\\') && rest.get(1).is_none_or(|b| *b == b'u');
        match unit(rest) {
            Some(second @ 0xDC00..0xE000) => {
                let point = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Some(Escape::char(char::from_u32(point).unwrap_or('\u{FFFD}'), 12));
            }
            None if could_be_low && rest.len() < 6 && !last => return None,
            _ => {}
        }
    }
    Some(Escape::char(char::from_u32(first).unwrap_or('\u{FFFD}'), 6))
}

/// The code unit of a `\uXXXX` at the start.
fn unit(raw: &[u8]) -> Option<u32> {
    let digits = raw.strip_prefix(b"\\u")?.get(..4)?;
    digits
        .iter()
        .try_fold(0, |unit, b| Some(unit << 4 | u32::from(hex(*b)?)))
}

/// Finds the raw place of a decoded place, forward only.
pub(super) struct Cursor<'a> {
    coding: Coding,
    raw: &'a [u8],
    last: bool,
    at: usize,
    decoded: usize,
}

impl<'a> Cursor<'a> {
    /// `decoded`: the decoded place where `raw` begins.
    pub(super) fn new(coding: Coding, raw: &'a [u8], last: bool, decoded: usize) -> Self {
        Self {
            coding,
            raw,
            last,
            at: 0,
            decoded,
        }
    }

    /// The raw place of a decoded place that is not before the one asked for last.
    pub(super) fn advance(&mut self, target: usize) -> usize {
        while self.decoded < target {
            let plain = self
                .coding
                .next_escape(&self.raw[self.at..])
                .unwrap_or(self.raw.len() - self.at);
            if plain > 0 {
                let step = plain.min(target - self.decoded);
                self.at += step;
                self.decoded += step;
                continue;
            }
            let Some(escape) = self.coding.escape(&self.raw[self.at..], self.last) else {
                break;
            };
            self.at += escape.raw;
            self.decoded += escape.len;
        }
        self.at
    }
}
