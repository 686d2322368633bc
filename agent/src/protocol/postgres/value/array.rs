//! Arrays: each element is a value of its own, so that quotes and escapes hide nothing.

use super::{
    BuiltIn, Format, Treatment,
    engine::{Engine, Outcome, Patch},
    kind::{Kind, Node},
};
use crate::protocol::postgres::frame::Reader;

/// The most dimensions (MAXDIM).
const DIMENSIONS_MAX: i32 = 6;

impl Engine {
    /// `{1,"two",NULL}`, with `[1:3]=` before where the lower bounds are not 1; `None` when it is no array.
    pub(super) fn array_text(
        &mut self,
        element: &Node,
        delimiter: u8,
        treatment: Treatment,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        let mut patch = Patch::new(bytes);
        let mut i = 0;
        if bytes.starts_with(b"[") {
            i = memchr::memchr(b'=', bytes)? + 1;
        }
        let (mut depth, mut decoded, mut masked) = (0usize, Vec::new(), Vec::new());
        loop {
            match *bytes.get(i)? {
                b'{' => depth += 1,
                b'}' => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        break;
                    }
                }
                b if b == delimiter || b.is_ascii_whitespace() => {}
                _ if depth == 0 => return None,
                _ => {
                    let token = Token::at(bytes, i, delimiter)?;
                    if !token.is_null(bytes) {
                        let value = token.value(bytes, &mut decoded);
                        masked.clear();
                        match self.value(element, Format::Text, treatment, value, &mut masked) {
                            Outcome::Same => {}
                            Outcome::Null => {
                                patch.replace(i, token.end, out);
                                out.extend_from_slice(b"NULL");
                            }
                            Outcome::Changed => {
                                patch.replace(i, token.end, out);
                                quote(&masked, delimiter, out);
                            }
                        }
                    }
                    i = token.end;
                    continue;
                }
            }
            i += 1;
        }
        if i + 1 != bytes.len() {
            return None;
        }
        Some(patch.finish(out))
    }

    /// Dimensions, a flag for NULLs, the elements' type, each dimension's length and lower bound, the elements;
    /// `None` when it is no array.
    pub(super) fn array_binary(
        &mut self,
        element: &Node,
        treatment: Treatment,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        let mut reader = Reader::new(bytes);
        let dimensions = reader.i32().ok().filter(|n| (0..=DIMENSIONS_MAX).contains(n))?;
        reader.i32().ok()?;
        let oid = reader.u32().ok()?;
        let mut count = usize::from(dimensions > 0);
        for _ in 0..dimensions {
            count = count.checked_mul(usize::try_from(reader.i32().ok()?).ok()?)?;
            reader.i32().ok()?;
        }
        // What the value itself says counts where it is one of the types that everybody knows.
        let own;
        let element = if element.oid == oid {
            element
        } else {
            own = Node::resolve(oid, -1, &BuiltIn);
            if own.kind == Kind::Unknown { element } else { &own }
        };
        let (mut patch, start, mut nulls) = (Patch::new(bytes), out.len(), false);
        let mut masked = Vec::new();
        for _ in 0..count {
            let at = bytes.len() - reader.rest().len();
            let Some(value) = reader.value().ok()? else {
                continue;
            };
            masked.clear();
            let outcome = self.value(element, Format::Binary, treatment, value, &mut masked);
            nulls |= outcome == Outcome::Null;
            put(&mut patch, outcome, at, value.len(), &masked, out)?;
        }
        reader.end().ok()?;
        let outcome = patch.finish(out);
        if nulls {
            out.get_mut(start + 4..start + 8)?.copy_from_slice(&[0, 0, 0, 1]);
        }
        Some(outcome)
    }
}

/// Replaces a value that is written as Int32 length and bytes, whose length is at `at`.
pub(super) fn put(
    patch: &mut Patch<'_>,
    outcome: Outcome,
    at: usize,
    len: usize,
    masked: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    let length = match outcome {
        Outcome::Same => return Some(()),
        Outcome::Null => -1,
        Outcome::Changed => i32::try_from(masked.len()).ok()?,
    };
    patch.replace(at, at + 4 + len, out);
    out.extend_from_slice(&length.to_be_bytes());
    if length > 0 {
        out.extend_from_slice(masked);
    }
    Some(())
}

/// An element as it is written.
struct Token {
    /// Without quotes.
    start: usize,
    stop: usize,
    /// Where it ends, quotes included.
    end: usize,
    quoted: bool,
    escaped: bool,
}

impl Token {
    fn at(bytes: &[u8], from: usize, delimiter: u8) -> Option<Self> {
        let quoted = bytes[from] == b'"';
        let start = from + usize::from(quoted);
        let (mut i, mut escaped) = (start, false);
        loop {
            match *bytes.get(i)? {
                b'\\' => {
                    escaped = true;
                    bytes.get(i + 1)?;
                    i += 2;
                    continue;
                }
                b'"' => break,
                b'{' | b'}' if !quoted => break,
                b if !quoted && b == delimiter => break,
                _ => {}
            }
            i += 1;
        }
        Some(Self {
            start,
            stop: i,
            end: i + usize::from(quoted),
            quoted,
            escaped,
        })
    }

    fn is_null(&self, bytes: &[u8]) -> bool {
        !self.quoted
            && bytes[self.start..self.stop]
                .trim_ascii_end()
                .eq_ignore_ascii_case(b"NULL")
    }

    fn value<'a>(&self, bytes: &'a [u8], decoded: &'a mut Vec<u8>) -> &'a [u8] {
        let raw = &bytes[self.start..self.stop];
        if !self.escaped {
            return if self.quoted { raw } else { raw.trim_ascii_end() };
        }
        decoded.clear();
        unescape(raw, decoded);
        decoded
    }
}

/// Without the backslash before each escaped byte.
pub(super) fn unescape(raw: &[u8], decoded: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        decoded.extend_from_slice(&rest[..at]);
        decoded.extend(rest.get(at + 1));
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    decoded.extend_from_slice(rest);
}

/// Writes an element, in quotes where it needs them (as `array_out` does).
pub(super) fn quote(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let special = |b: &u8| {
        matches!(b, b'"' | b'\\' | b'{' | b'}') || *b == delimiter || b.is_ascii_whitespace() || *b == 0x0B
    };
    if !(value.is_empty() || value.eq_ignore_ascii_case(b"NULL") || value.iter().any(special)) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for b in value {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
}
