//! Composites and records: each field is a value of its own.

use super::{
    BuiltIn, Format, Treatment,
    array::put,
    engine::{Engine, Outcome, Patch},
    kind::{Kind, Node},
};
use crate::protocol::postgres::frame::Reader;

impl Engine {
    /// `(1,"two",)`; `None` when it is no composite of these fields.
    pub(super) fn composite_text(
        &mut self,
        fields: Option<&[Node]>,
        treatment: Treatment,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        if bytes.first() != Some(&b'(') {
            return None;
        }
        if let Some([]) = fields {
            return (bytes == b"()").then_some(Outcome::Same);
        }
        let mut patch = Patch::new(bytes);
        let (mut decoded, mut masked) = (Vec::new(), Vec::new());
        let (mut i, mut n) = (1, 0);
        loop {
            let node = match fields {
                Some(fields) => fields.get(n)?,
                None => &Node::UNKNOWN,
            };
            let (end, plain) = field(bytes, i, &mut decoded)?;
            let value = if plain { &bytes[i..end] } else { &decoded };
            // Nothing at all is NULL; an empty text is in quotes.
            if end > i {
                masked.clear();
                let outcome = self.value(node, Format::Text, treatment, value, &mut masked);
                if outcome != Outcome::Same {
                    patch.replace(i, end, out);
                }
                if outcome == Outcome::Changed {
                    quote(&masked, out);
                }
            }
            n += 1;
            i = end + 1;
            if bytes[end] == b')' {
                break;
            }
        }
        if i != bytes.len() || fields.is_some_and(|f| f.len() != n) {
            return None;
        }
        Some(patch.finish(out))
    }

    /// How many fields, and of each its type and value; `None` when it is no composite.
    pub(super) fn composite_binary(
        &mut self,
        fields: Option<&[Node]>,
        treatment: Treatment,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        let mut reader = Reader::new(bytes);
        let count = usize::try_from(reader.i32().ok()?).ok()?;
        let fields = fields.filter(|f| f.len() == count);
        let mut patch = Patch::new(bytes);
        let mut masked = Vec::new();
        for n in 0..count {
            let oid = reader.u32().ok()?;
            let at = bytes.len() - reader.rest().len();
            let Some(value) = reader.value().ok()? else {
                continue;
            };
            let own;
            let node = match fields.and_then(|f| f.get(n)).filter(|f| f.kind != Kind::Unknown) {
                Some(node) => node,
                None => {
                    own = Node::resolve(oid, -1, &BuiltIn);
                    &own
                }
            };
            masked.clear();
            let outcome = self.value(node, Format::Binary, treatment, value, &mut masked);
            put(&mut patch, outcome, at, value.len(), &masked, out)?;
        }
        reader.end().ok()?;
        Some(patch.finish(out))
    }
}

/// Where a field ends, and whether it is as written; otherwise it was decoded.
fn field(bytes: &[u8], from: usize, decoded: &mut Vec<u8>) -> Option<(usize, bool)> {
    let (mut i, mut quoted) = (from, false);
    // Most have nothing special.
    let end = from + memchr::memchr3(b',', b')', b'"', &bytes[from..])?;
    if bytes[end] != b'"' && memchr::memchr(b'\\', &bytes[from..end]).is_none() {
        return Some((end, true));
    }
    decoded.clear();
    loop {
        match *bytes.get(i)? {
            b'\\' => {
                decoded.push(*bytes.get(i + 1)?);
                i += 1;
            }
            b'"' if quoted && bytes.get(i + 1) == Some(&b'"') => {
                decoded.push(b'"');
                i += 1;
            }
            b'"' => quoted = !quoted,
            b',' | b')' if !quoted => return Some((i, false)),
            b => decoded.push(b),
        }
        i += 1;
    }
}

/// Writes a field, in quotes where it needs them (as `record_out` does).
pub(super) fn quote(value: &[u8], out: &mut Vec<u8>) {
    let special =
        |b: &u8| matches!(b, b'"' | b'\\' | b'(' | b')' | b',') || b.is_ascii_whitespace() || *b == 0x0B;
    if !value.is_empty() && !value.iter().any(special) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for b in value {
        if matches!(b, b'"' | b'\\') {
            out.push(*b);
        }
        out.push(*b);
    }
    out.push(b'"');
}
