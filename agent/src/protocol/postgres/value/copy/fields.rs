//! The fields of a line, in COPY's text format and as comma-separated values.

use super::{CopyOptions, CopySyntax};

/// A field as it is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    start: usize,
    /// Where it ends: at a delimiter or the line's end.
    pub(super) end: usize,
    written: Written,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// As it is.
    Plain,
    /// As it is, in quotes.
    Quoted,
    /// With escapes, or with some of it in quotes.
    Escaped,
}

impl Field {
    /// The field that begins at `start`.
    pub(super) fn at(options: &CopyOptions, line: &[u8], start: usize) -> Self {
        let (end, written) = if options.syntax == CopySyntax::Text {
            text_end(options, line, start)
        } else {
            csv_end(options, line, start)
        };
        Self { start, end, written }
    }

    /// What it says, where that is how it is written.
    pub(super) fn plain<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        match self.written {
            Written::Plain => Some(&line[self.start..self.end]),
            Written::Quoted => Some(&line[self.start + 1..self.end - 1]),
            Written::Escaped => None,
        }
    }

    pub(super) fn is_null(&self, options: &CopyOptions, line: &[u8]) -> bool {
        let raw = &line[self.start..self.end];
        // With quotes it is the text.
        raw == options.null && (options.syntax == CopySyntax::Text || self.written == Written::Plain)
    }

    /// What it says.
    pub(super) fn decode(&self, options: &CopyOptions, line: &[u8], out: &mut Vec<u8>) {
        let raw = &line[self.start..self.end];
        if options.syntax == CopySyntax::Text {
            return decode_text(raw, out);
        }
        let (mut at, mut inside) = (0, false);
        while let Some(&b) = raw.get(at) {
            if inside && b == options.escape && is_escaped(options, raw.get(at + 1)) {
                at += 1;
                out.extend(raw.get(at));
            } else if b == options.quote {
                inside = !inside;
            } else {
                out.push(b);
            }
            at += 1;
        }
    }

    /// Writes a value in this one's place.
    pub(super) fn encode(&self, options: &CopyOptions, value: &[u8], out: &mut impl Extend<u8>) {
        if options.syntax == CopySyntax::Text {
            return encode_text(options, value, out);
        }
        let special = |b: &u8| {
            *b == options.delimiter || *b == options.quote || matches!(b, b'\n' | b'\r') || *b == b'\\'
        };
        if self.written == Written::Plain && value != options.null && !value.iter().any(special) {
            return out.extend(value.iter().copied());
        }
        out.extend([options.quote]);
        for b in value {
            if *b == options.quote || *b == options.escape {
                out.extend([options.escape]);
            }
            out.extend([*b]);
        }
        out.extend([options.quote]);
    }
}

fn text_end(options: &CopyOptions, line: &[u8], start: usize) -> (usize, Written) {
    let (mut at, mut written) = (start, Written::Plain);
    while let Some(n) = memchr::memchr2(b'\\', options.delimiter, &line[at..]) {
        if line[at + n] != b'\\' {
            return (at + n, written);
        }
        written = Written::Escaped;
        at = line.len().min(at + n + 2);
    }
    (line.len(), written)
}

fn csv_end(options: &CopyOptions, line: &[u8], start: usize) -> (usize, Written) {
    let (quote, escape) = (options.quote, options.escape);
    let rest = &line[start..];
    if rest.first() != Some(&quote) {
        let end = memchr::memchr2(options.delimiter, quote, rest).unwrap_or(rest.len());
        if rest.get(end) != Some(&quote) {
            return (start + end, Written::Plain);
        }
    } else if let Some(n) = memchr::memchr2(quote, escape, &rest[1..])
        && rest[1 + n] == quote
        && rest.get(n + 2).is_none_or(|b| *b == options.delimiter)
    {
        return (start + n + 2, Written::Quoted);
    }
    let (mut at, mut inside) = (start, false);
    while let Some(&b) = line.get(at) {
        if inside && b == escape && is_escaped(options, line.get(at + 1)) {
            at += 1;
        } else if b == quote {
            inside = !inside;
        } else if b == options.delimiter && !inside {
            break;
        }
        at += 1;
    }
    (at.min(line.len()), Written::Escaped)
}

fn is_escaped(options: &CopyOptions, next: Option<&u8>) -> bool {
    next.is_some_and(|b| *b == options.quote || *b == options.escape)
}

fn decode_text(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((&b, after)) = rest.split_first() else {
            break;
        };
        rest = after;
        match b {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => {
                let digits = after.iter().take(2).take_while(|b| matches!(b, b'0'..=b'7'));
                let more = digits.clone().count();
                let n = digits.fold(u32::from(b - b'0'), |n, b| n << 3 | u32::from(b - b'0'));
                out.push((n & 0xFF) as u8);
                rest = &after[more..];
            }
            b'x' if after.first().is_some_and(u8::is_ascii_hexdigit) => {
                let more = after.iter().take(2).take_while(|b| b.is_ascii_hexdigit()).count();
                let digits = std::str::from_utf8(&after[..more]).unwrap_or_default();
                out.push(u8::from_str_radix(digits, 16).unwrap_or_default());
                rest = &after[more..];
            }
            b => out.push(b),
        }
    }
    out.extend_from_slice(rest);
}

fn encode_text(options: &CopyOptions, value: &[u8], out: &mut impl Extend<u8>) {
    for b in value {
        let escape = match b {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            b if *b == options.delimiter => *b,
            b => {
                out.extend([*b]);
                continue;
            }
        };
        out.extend([b'\\', escape]);
    }
}
