//! What stands in the place of a whole value.

use super::{
    Format, bytea,
    engine::{Engine, Outcome},
    kind::{Kind, Node, Shape},
    number, render,
};
use crate::{config::Strategy, model::ClassId};

/// The longest name (NAMEDATALEN - 1), bytes.
const NAME_MAX: usize = 63;
/// 1970-01-01 in days from PostgreSQL's epoch, 2000-01-01.
const UNIX_EPOCH_DAYS: i32 = -10_957;

impl Engine {
    /// Replaces a value by one that its type can hold. Not for arrays and composites, and not under
    /// [`Strategy::Null`].
    pub(super) fn replace(
        &mut self,
        node: &Node,
        format: Format,
        class: ClassId,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Outcome {
        self.counts.add(class);
        match node.kind {
            Kind::Text | Kind::Varchar | Kind::Bpchar | Kind::Name => {
                let at = out.len();
                self.ascii(class, bytes, out);
                cut(node, out, at);
                if node.kind == Kind::Bpchar && node.modifier > 4 {
                    let chars = bytes.iter().filter(|b| **b & 0xC0 != 0x80).count();
                    let length = chars.min(length(node).unwrap_or(0)).max(out.len() - at);
                    out.resize(at + length, b' ');
                }
            }
            Kind::Xml => {
                let at = out.len();
                self.ascii(class, bytes, out);
                for b in &mut out[at..] {
                    if matches!(b, b'<' | b'>' | b'&') || b.is_ascii_control() {
                        *b = b'*';
                    }
                }
            }
            Kind::Char => out.push(b'*'),
            Kind::Json | Kind::Jsonb => self.json(node, format, class, bytes, out),
            Kind::Bytea => self.bytea(format, class, bytes, out),
            Kind::Int2
            | Kind::Int4
            | Kind::Int8
            | Kind::Oid
            | Kind::Float4
            | Kind::Float8
            | Kind::Numeric
            | Kind::Money => {
                let n = match self.hash(node, format, class, bytes) {
                    Some(hash) => number::from_hash(node, hash),
                    None => 0,
                };
                number::write(node, format, n, bytes, out);
            }
            Kind::Uuid => {
                let mut id = [0; 16];
                if let Some(hash) = self.hash(node, format, class, bytes) {
                    id = uuid::Builder::from_custom_bytes(hash).into_uuid().into_bytes();
                }
                match format {
                    Format::Text => out.extend_from_slice(uuid::Uuid::from_bytes(id).to_string().as_bytes()),
                    Format::Binary => out.extend_from_slice(&id),
                }
            }
            Kind::Hstore => self.hstore_replacement(format, class, bytes, out),
            Kind::Array { .. }
            | Kind::Composite(_)
            | Kind::Range(_)
            | Kind::Multirange(_)
            | Kind::Enum
            | Kind::Jsonpath
            | Kind::Plain
            | Kind::Unknown => return Outcome::Null,
            _ => match format {
                Format::Text => constant_text(node, bytes, out),
                Format::Binary => constant_binary(node, bytes, out),
            },
        }
        Outcome::Changed
    }

    /// A class's replacement for a text, in ASCII: it is valid in every encoding.
    pub(super) fn ascii(&self, class: ClassId, bytes: &[u8], out: &mut Vec<u8>) {
        let at = out.len();
        self.rules.mask_value(class, bytes, out);
        if out[at..].is_ascii() {
            return;
        }
        let masked = out.split_off(at);
        let kept = masked.iter().filter(|b| **b & 0xC0 != 0x80);
        out.extend(kept.map(|b| if b.is_ascii() { *b } else { b'*' }));
    }

    fn hash(&self, node: &Node, format: Format, class: ClassId, bytes: &[u8]) -> Option<[u8; 16]> {
        (self.rules.strategy(class) == Strategy::Hash).then(|| {
            // Of what it says, so that both formats have the same.
            let text = render::text(&node.kind, format, bytes);
            let text = text.as_ref().map_or(bytes, |t| t.as_bytes());
            if node.kind == Kind::Money {
                // In text, with what the locale adds.
                let digits: Vec<u8> = text.iter().copied().filter(u8::is_ascii_digit).collect();
                return self.rules.pseudonym(class, &digits);
            }
            self.rules.pseudonym(class, text)
        })
    }

    fn json(&self, node: &Node, format: Format, class: ClassId, bytes: &[u8], out: &mut Vec<u8>) {
        let versioned = node.kind == Kind::Jsonb && format == Format::Binary;
        let bytes = if versioned {
            bytes.get(1..).unwrap_or_default()
        } else {
            bytes
        };
        if versioned {
            out.push(1);
        }
        let mut masked = Vec::new();
        self.ascii(class, bytes, &mut masked);
        out.push(b'"');
        for b in masked {
            match b {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
                // Not worth an escape.
                0..=0x1F | 0x7F => out.push(b'*'),
                _ => out.push(b),
            }
        }
        out.push(b'"');
    }

    fn bytea(&self, format: Format, class: ClassId, bytes: &[u8], out: &mut Vec<u8>) {
        if format == Format::Binary {
            return self.rules.mask_value(class, bytes, out);
        }
        let decoded = bytea::decode(bytes);
        let mut masked = Vec::new();
        self.rules
            .mask_value(class, decoded.as_deref().unwrap_or(bytes), &mut masked);
        bytea::encode(&masked, bytea::is_hex(bytes), out);
    }
}

/// What a value becomes under [`Strategy::Null`].
pub(super) fn null(node: &Node, format: Format, out: &mut Vec<u8>) -> Outcome {
    match (&node.kind, format) {
        (Kind::Json, _) | (Kind::Jsonb, Format::Text) => out.extend_from_slice(b"null"),
        (Kind::Jsonb, Format::Binary) => out.extend_from_slice(b"\x01null"),
        _ => return Outcome::Null,
    }
    Outcome::Changed
}

/// The most characters (of `name`: bytes) that a text's type takes.
fn length(node: &Node) -> Option<usize> {
    match node.kind {
        Kind::Varchar | Kind::Bpchar => {
            let n = node.modifier.checked_sub(4)?;
            usize::try_from(n).ok().filter(|n| *n > 0)
        }
        _ => None,
    }
}

/// Cuts the text from `at` on to what its type takes.
pub(super) fn cut(node: &Node, out: &mut Vec<u8>, at: usize) {
    let text = &out[at..];
    let end = if node.kind == Kind::Name {
        let mut end = text.len().min(NAME_MAX);
        while end > 0 && text.get(end).is_some_and(|b| b & 0xC0 == 0x80) {
            end -= 1;
        }
        Some(end)
    } else {
        length(node).filter(|n| *n < text.len()).and_then(|n| {
            let mut starts = (0..text.len()).filter(|i| text[*i] & 0xC0 != 0x80);
            starts.nth(n)
        })
    };
    if let Some(end) = end {
        out.truncate(at + end);
    }
}

/// How many bits a bit string has.
fn bits(node: &Node, format: Format, bytes: &[u8]) -> usize {
    let there = match (format, bytes) {
        (Format::Text, _) => bytes.len(),
        (Format::Binary, [a, b, c, d, rest @ ..]) => {
            let n = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            n.min(rest.len() * 8)
        }
        _ => 0,
    };
    match usize::try_from(node.modifier) {
        Ok(n) if n > 0 => n.min(there.max(1)),
        _ => there,
    }
}

fn constant_text(node: &Node, bytes: &[u8], out: &mut Vec<u8>) {
    let text: &[u8] = match node.kind {
        Kind::Bool => b"f",
        Kind::Date => b"1970-01-01",
        Kind::Time | Kind::Interval => b"00:00:00",
        Kind::TimeTz => b"00:00:00+00",
        Kind::Timestamp if node.oid == 1184 => b"1970-01-01 00:00:00+00",
        Kind::Timestamp => b"1970-01-01 00:00:00",
        Kind::Inet => b"0.0.0.0",
        Kind::Cidr => b"0.0.0.0/32",
        Kind::Macaddr(8) => b"00:00:00:00:00:00:00:00",
        Kind::Macaddr(_) => b"00:00:00:00:00:00",
        Kind::Geometric(shape) => match shape {
            Shape::Point => b"(0,0)",
            Shape::Line => b"{0,-1,0}",
            Shape::Lseg => b"[(0,0),(0,0)]",
            Shape::Box => b"(0,0),(0,0)",
            Shape::Path | Shape::Polygon => b"((0,0))",
            Shape::Circle => b"<(0,0),0>",
        },
        Kind::Bit | Kind::Varbit => {
            out.resize(out.len() + bits(node, Format::Text, bytes), b'0');
            b""
        }
        // tsvector, tsquery
        _ => b"",
    };
    out.extend_from_slice(text);
}

fn constant_binary(node: &Node, bytes: &[u8], out: &mut Vec<u8>) {
    let zeros = match node.kind {
        Kind::Bool => 1,
        Kind::Date => return out.extend_from_slice(&UNIX_EPOCH_DAYS.to_be_bytes()),
        Kind::Timestamp => {
            let epoch = i64::from(UNIX_EPOCH_DAYS) * 86_400_000_000;
            return out.extend_from_slice(&epoch.to_be_bytes());
        }
        Kind::Time => 8,
        Kind::TimeTz => 12,
        Kind::Interval => 16,
        // Family IPv4, 32 bits, whether it is a cidr, and the address's length.
        Kind::Inet => return out.extend_from_slice(&[2, 32, 0, 4, 0, 0, 0, 0]),
        Kind::Cidr => return out.extend_from_slice(&[2, 32, 1, 4, 0, 0, 0, 0]),
        Kind::Macaddr(n) => n,
        Kind::Geometric(Shape::Point) => 16,
        Kind::Geometric(Shape::Lseg | Shape::Box) => 32,
        Kind::Geometric(Shape::Circle) => 24,
        Kind::Geometric(Shape::Line) => {
            for n in [0.0, -1.0, 0.0f64] {
                out.extend_from_slice(&n.to_be_bytes());
            }
            0
        }
        Kind::Geometric(Shape::Path) => {
            // Closed, one point.
            out.extend_from_slice(&[1, 0, 0, 0, 1]);
            16
        }
        Kind::Geometric(Shape::Polygon) => {
            out.extend_from_slice(&[0, 0, 0, 1]);
            16
        }
        Kind::Bit | Kind::Varbit => {
            let n = bits(node, Format::Binary, bytes);
            out.extend_from_slice(&u32::try_from(n).unwrap_or(0).to_be_bytes());
            n.div_ceil(8)
        }
        // tsvector, tsquery: no lexemes.
        _ => 4,
    };
    out.resize(out.len() + zeros, 0);
}
