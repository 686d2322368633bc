//! The lexemes of a tsvector or tsquery in binary.

use super::kind::Kind;
use crate::protocol::postgres::frame::Reader;

/// A tsquery's item that is a lexeme, and one that is an operator.
const VALUE: u8 = 1;
const OPERATOR: u8 = 2;
/// The operator with a distance after it.
const PHRASE: u8 = 4;

/// `None` when it is neither.
pub(super) fn lexemes<'a>(kind: &Kind, bytes: &'a [u8]) -> Option<Vec<&'a [u8]>> {
    let mut reader = Reader::new(bytes);
    let count = reader.i32().ok()?;
    let mut lexemes = Vec::new();
    for _ in 0..count {
        if *kind == Kind::TsVector {
            lexemes.push(reader.cstr().ok()?);
            let positions = usize::from(reader.i16().ok()?.cast_unsigned());
            reader.take(positions * 2).ok()?;
            continue;
        }
        match reader.u8().ok()? {
            VALUE => {
                // Weight and whether it is a prefix.
                reader.take(2).ok()?;
                lexemes.push(reader.cstr().ok()?);
            }
            OPERATOR => {
                if reader.u8().ok()? == PHRASE {
                    reader.i16().ok()?;
                }
            }
            _ => return None,
        }
    }
    reader.end().ok()?;
    Some(lexemes)
}
