//! Ranges and multiranges: when something is found in a bound, the whole value becomes NULL.

use super::{
    Format, Treatment,
    engine::{Engine, Outcome},
    kind::{Kind, Node},
};
use crate::protocol::postgres::frame::Reader;

/// A range's flags in binary: what leaves out the lower and the upper bound.
const NO_LOWER: u8 = 0x01 | 0x08 | 0x20;
const NO_UPPER: u8 = 0x01 | 0x10 | 0x40;

impl Engine {
    /// `None` when it is no range.
    pub(super) fn range(&mut self, bound: &Node, format: Format, bytes: &[u8]) -> Option<Outcome> {
        match format {
            Format::Text => self.bounds(bound, bytes),
            Format::Binary => {
                let mut reader = Reader::new(bytes);
                let outcome = self.range_binary(bound, &mut reader)?;
                reader.end().ok()?;
                Some(outcome)
            }
        }
    }

    /// `None` when it is no multirange.
    pub(super) fn multirange(&mut self, range: &Node, format: Format, bytes: &[u8]) -> Option<Outcome> {
        let Kind::Range(bound) = &range.kind else {
            return None;
        };
        if format == Format::Text {
            return self.bounds(bound, bytes);
        }
        let mut reader = Reader::new(bytes);
        let count = reader.i32().ok()?;
        let mut outcome = Outcome::Same;
        for _ in 0..count {
            let value = reader.value().ok()??;
            if self.range(bound, format, value)? == Outcome::Null {
                outcome = Outcome::Null;
            }
        }
        reader.end().ok()?;
        Some(outcome)
    }

    fn range_binary(&mut self, bound: &Node, reader: &mut Reader<'_>) -> Option<Outcome> {
        let flags = reader.u8().ok()?;
        let mut outcome = Outcome::Same;
        for without in [NO_LOWER, NO_UPPER] {
            if flags & without == 0 {
                let value = reader.value().ok()??;
                outcome = self.bound(bound, Format::Binary, value, outcome);
            }
        }
        Some(outcome)
    }

    fn bound(&mut self, bound: &Node, format: Format, value: &[u8], outcome: Outcome) -> Outcome {
        let mut masked = Vec::new();
        match self.value(bound, format, Treatment::Scan, value, &mut masked) {
            Outcome::Same => outcome,
            _ => Outcome::Null,
        }
    }

    /// The bounds of `[1,"2")` or `{[1,2),[3,4)}`: whatever stands between brackets and commas outside of quotes.
    fn bounds(&mut self, bound: &Node, bytes: &[u8]) -> Option<Outcome> {
        if !matches!(bytes, [b'[' | b'(' | b'{', ..] | b"empty") {
            return None;
        }
        let (mut outcome, mut quoted, mut i) = (Outcome::Same, false, 0);
        let mut value = Vec::new();
        while let Some(b) = bytes.get(i) {
            match b {
                b'\\' => {
                    value.push(*bytes.get(i + 1)?);
                    i += 1;
                }
                b'"' if quoted && bytes.get(i + 1) == Some(&b'"') => {
                    value.push(b'"');
                    i += 1;
                }
                b'"' => quoted = !quoted,
                b'[' | b']' | b'(' | b')' | b'{' | b'}' | b',' if !quoted => {
                    if !value.is_empty() {
                        outcome = self.bound(bound, Format::Text, &value, outcome);
                        value.clear();
                    }
                }
                b => value.push(*b),
            }
            i += 1;
        }
        (!quoted && value.is_empty()).then_some(outcome)
    }
}
