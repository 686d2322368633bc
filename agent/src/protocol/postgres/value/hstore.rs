//! The extension's type hstore: keys and values, each scanned; a key that the rules name makes its value one of
//! that class.

use super::{
    Format, Treatment,
    array::{put, unescape},
    engine::{Engine, Outcome, Patch},
    kind::{Kind, Node},
};
use crate::{config::Strategy, model::ClassId, protocol::postgres::frame::Reader};

const TEXT: Node = Node {
    oid: 25,
    modifier: -1,
    kind: Kind::Text,
};

impl Engine {
    /// `"key"=>"value", "other"=>NULL`; `None` when it is no hstore.
    pub(super) fn hstore_text(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Outcome> {
        let mut patch = Patch::new(bytes);
        let (mut decoded, mut masked) = (Vec::new(), Vec::new());
        let mut i = 0;
        while i < bytes.len() {
            let end = string(bytes, i, &mut decoded)?;
            let named = self.rules.key(self.classes, &decoded);
            self.part(None, &decoded, (i, end), &mut masked, &mut patch, out);
            if bytes.get(end..end + 2)? != b"=>" {
                return None;
            }
            i = end + 2;
            i = if bytes[i..].starts_with(b"NULL") {
                i + 4
            } else {
                let end = string(bytes, i, &mut decoded)?;
                self.part(named, &decoded, (i, end), &mut masked, &mut patch, out);
                end
            };
            match &bytes[i..] {
                [] => {}
                [b',', b' ', ..] => i += 2,
                _ => return None,
            }
        }
        Some(patch.finish(out))
    }

    fn part(
        &mut self,
        named: Option<ClassId>,
        value: &[u8],
        (from, to): (usize, usize),
        masked: &mut Vec<u8>,
        patch: &mut Patch<'_>,
        out: &mut Vec<u8>,
    ) {
        masked.clear();
        match self.value(&TEXT, Format::Text, treatment(named), value, masked) {
            Outcome::Same => {}
            Outcome::Null => {
                patch.replace(from, to, out);
                out.extend_from_slice(b"NULL");
            }
            Outcome::Changed => {
                patch.replace(from, to, out);
                quote(masked, out);
            }
        }
    }

    /// How many pairs, and of each its key and value; `None` when it is no hstore.
    pub(super) fn hstore_binary(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<Outcome> {
        let mut reader = Reader::new(bytes);
        let count = reader.i32().ok()?;
        let mut patch = Patch::new(bytes);
        let mut masked = Vec::new();
        for _ in 0..count {
            let mut named = None;
            for is_key in [true, false] {
                let at = bytes.len() - reader.rest().len();
                let Some(value) = reader.value().ok()? else {
                    continue;
                };
                masked.clear();
                let outcome = self.value(&TEXT, Format::Binary, treatment(named), value, &mut masked);
                put(&mut patch, outcome, at, value.len(), &masked, out)?;
                if is_key {
                    named = self.rules.key(self.classes, value);
                }
            }
        }
        reader.end().ok()?;
        Some(patch.finish(out))
    }

    /// What stands in the place of a whole hstore.
    pub(super) fn hstore_replacement(
        &mut self,
        format: Format,
        class: ClassId,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) {
        let mut key = Vec::new();
        // The end of how it is written is no part of a value.
        let partial = self.rules.strategy(class) == Strategy::Partial;
        self.ascii(class, if partial { b"" } else { bytes }, &mut key);
        match format {
            Format::Text => {
                quote(&key, out);
                out.extend_from_slice(b"=>NULL");
            }
            Format::Binary => {
                out.extend_from_slice(&1i32.to_be_bytes());
                out.extend_from_slice(&i32::try_from(key.len()).unwrap_or(0).to_be_bytes());
                out.extend_from_slice(&key);
                out.extend_from_slice(&(-1i32).to_be_bytes());
            }
        }
    }
}

fn treatment(named: Option<ClassId>) -> Treatment {
    named.map_or(Treatment::Scan, Treatment::Mask)
}

/// Decodes a string in quotes and says where it ends.
fn string(bytes: &[u8], from: usize, decoded: &mut Vec<u8>) -> Option<usize> {
    if bytes.get(from) != Some(&b'"') {
        return None;
    }
    let mut i = from + 1;
    loop {
        match bytes.get(i)? {
            b'\\' => i += 2,
            b'"' => break,
            _ => i += 1,
        }
    }
    decoded.clear();
    unescape(&bytes[from + 1..i], decoded);
    Some(i + 1)
}

fn quote(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for b in value {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
}
