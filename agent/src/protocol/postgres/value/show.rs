//! Values as text for people to read.

use super::{
    BuiltIn, Format, array,
    engine::is_text,
    kind::{Kind, Node},
    render,
};
use crate::protocol::postgres::frame::Reader;

/// A value as text, as PostgreSQL writes it. Of a type that is not built in, and of what is not what its type says,
/// binary bytes as hex, unless they are text. Text that is no UTF-8 has replacement characters.
#[must_use]
pub fn text(type_oid: u32, format: Format, bytes: &[u8]) -> String {
    if format == Format::Text {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    shown(&Node::resolve(type_oid, -1, &BuiltIn), bytes)
}

const TIMESTAMPTZ: u32 = 1184;

fn as_hex(bytes: &[u8]) -> String {
    format!("\\x{}", hex::encode(bytes))
}

fn binary(node: &Node, bytes: &[u8]) -> Option<String> {
    match &node.kind {
        Kind::Array { delimiter, .. } => array_text(*delimiter, bytes),
        Kind::Composite(_) => record(bytes),
        Kind::Range(bound) => range(bound, bytes),
        Kind::Multirange(range) => multirange(range, bytes),
        Kind::Timestamp if node.oid == TIMESTAMPTZ => {
            let text = render::text(&node.kind, Format::Binary, bytes)?;
            // `infinity` has no zone.
            let zone = if text.ends_with("infinity") { "" } else { "+00" };
            let (moment, before) = text.split_once(" BC").map_or((&*text, ""), |(m, _)| (m, " BC"));
            Some(format!("{moment}{zone}{before}"))
        }
        // Labels of enums, and text of types that are not built in.
        Kind::Unknown if is_text(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        kind => render::text(kind, Format::Binary, bytes).map(std::borrow::Cow::into_owned),
    }
}

fn array_text(delimiter: u8, bytes: &[u8]) -> Option<String> {
    let mut reader = Reader::new(bytes);
    let dimensions = usize::try_from(reader.i32().ok()?).ok().filter(|n| *n <= 6)?;
    reader.i32().ok()?;
    let element = Node::resolve(reader.u32().ok()?, -1, &BuiltIn);
    let mut lengths = Vec::new();
    let mut bounds = Vec::new();
    for _ in 0..dimensions {
        lengths.push(usize::try_from(reader.i32().ok()?).ok()?);
        bounds.push(reader.i32().ok()?);
    }
    // Each element takes four bytes at least; without this, lengths alone would keep one busy.
    let count = lengths.iter().try_fold(1usize, |n, l| n.checked_mul(*l))?;
    if dimensions > 0 && !(1..=reader.rest().len() / 4).contains(&count) {
        return None;
    }
    let mut text = Vec::new();
    if bounds.iter().any(|b| *b != 1) {
        for (length, bound) in lengths.iter().zip(&bounds) {
            let last = i64::from(*bound) + i64::try_from(*length).ok()? - 1;
            text.extend_from_slice(format!("[{bound}:{last}]").as_bytes());
        }
        text.push(b'=');
    }
    if dimensions == 0 {
        text.extend_from_slice(b"{}");
    } else {
        elements(&element, delimiter, &lengths, &mut reader, &mut text)?;
    }
    reader.end().ok()?;
    String::from_utf8(text).ok()
}

/// One dimension of an array; the deepest has its elements.
fn elements(
    element: &Node,
    delimiter: u8,
    lengths: &[usize],
    reader: &mut Reader<'_>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let (length, inner) = lengths.split_first()?;
    out.push(b'{');
    for n in 0..*length {
        if n > 0 {
            out.push(delimiter);
        }
        if inner.is_empty() {
            match reader.value().ok()? {
                None => out.extend_from_slice(b"NULL"),
                Some(value) => array::quote(shown(element, value).as_bytes(), delimiter, out),
            }
        } else {
            elements(element, delimiter, inner, reader, out)?;
        }
    }
    out.push(b'}');
    Some(())
}

fn shown(node: &Node, value: &[u8]) -> String {
    binary(node, value).unwrap_or_else(|| as_hex(value))
}

fn record(bytes: &[u8]) -> Option<String> {
    let mut reader = Reader::new(bytes);
    let count = reader.i32().ok()?;
    let mut text = vec![b'('];
    for n in 0..count {
        if n > 0 {
            text.push(b',');
        }
        let node = Node::resolve(reader.u32().ok()?, -1, &BuiltIn);
        if let Some(value) = reader.value().ok()? {
            super::composite::quote(shown(&node, value).as_bytes(), &mut text);
        }
    }
    reader.end().ok()?;
    text.push(b')');
    String::from_utf8(text).ok()
}

fn range(bound: &Node, bytes: &[u8]) -> Option<String> {
    let mut reader = Reader::new(bytes);
    let flags = reader.u8().ok()?;
    if flags & 1 != 0 {
        return Some("empty".into());
    }
    let mut side = |without: u8| {
        if flags & without != 0 {
            return Some(String::new());
        }
        let value = reader.value().ok()??;
        let mut text = Vec::new();
        super::composite::quote(shown(bound, value).as_bytes(), &mut text);
        String::from_utf8(text).ok()
    };
    let (lower, upper) = (side(0x28)?, side(0x50)?);
    reader.end().ok()?;
    let open = if flags & 2 != 0 { '[' } else { '(' };
    let close = if flags & 4 != 0 { ']' } else { ')' };
    Some(format!("{open}{lower},{upper}{close}"))
}

fn multirange(node: &Node, bytes: &[u8]) -> Option<String> {
    let Kind::Range(bound) = &node.kind else {
        return None;
    };
    let mut reader = Reader::new(bytes);
    let count = reader.i32().ok()?;
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push(range(bound, reader.value().ok()??)?);
    }
    reader.end().ok()?;
    Some(format!("{{{}}}", parts.join(",")))
}
