//! Values as text for people to read.

use super::Format;

/// A value as text: of a type that is not known, binary bytes as hex.
#[must_use]
pub fn text(_type_oid: u32, _format: Format, bytes: &[u8]) -> String {
    format!("\\x{}", hex::encode(bytes))
}
