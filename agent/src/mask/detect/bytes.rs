//! Kinds of bytes, as bits in one table.

pub(super) const ALNUM: u16 = 1;
pub(super) const UPPER_DIGIT: u16 = 1 << 1;
/// `[A-Za-z0-9_]`
pub(super) const WORD: u16 = 1 << 2;
/// `[A-Za-z0-9_-]`
pub(super) const BASE64URL: u16 = 1 << 3;
/// `[A-Za-z0-9+/=]`
pub(super) const BASE64: u16 = 1 << 4;
/// The part of a mail address before the `@`.
pub(super) const LOCAL: u16 = 1 << 5;
/// The part after it.
pub(super) const DOMAIN: u16 = 1 << 6;
pub(super) const NON_ASCII: u16 = 1 << 7;
/// Digits and what stands between groups of them.
pub(super) const DIGIT_GROUP: u16 = 1 << 8;
/// The inside of a PEM block, its headers and escaped line ends included.
pub(super) const PEM: u16 = 1 << 9;
/// A value without quotes in a connection string.
pub(super) const BARE: u16 = 1 << 10;
/// The authority of a URL.
pub(super) const AUTHORITY: u16 = 1 << 11;
/// Internet addresses.
pub(super) const ADDRESS: u16 = 1 << 12;
/// `[A-Za-z0-9_.=-]`: a JWT in compact form.
pub(super) const COMPACT: u16 = 1 << 13;
/// Between a name and its value.
pub(super) const ASSIGN: u16 = 1 << 14;

const TABLE: [u16; 256] = table();

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let alnum = b.is_ascii_alphanumeric();
        let mut kind = 0;
        if alnum {
            kind |= ALNUM | WORD | BASE64URL | BASE64 | LOCAL | DOMAIN | PEM | BARE | AUTHORITY | COMPACT;
        }
        if b.is_ascii_uppercase() || b.is_ascii_digit() {
            kind |= UPPER_DIGIT;
        }
        if b.is_ascii_digit() {
            kind |= DIGIT_GROUP;
        }
        if b.is_ascii_hexdigit() {
            kind |= ADDRESS;
        }
        kind |= match b {
            b'_' => WORD | BASE64URL | LOCAL | COMPACT | PEM,
            b'-' => BASE64URL | LOCAL | DOMAIN | COMPACT | PEM | DIGIT_GROUP,
            b'.' => LOCAL | DOMAIN | COMPACT | PEM | DIGIT_GROUP | ADDRESS,
            b'=' => BASE64 | COMPACT | PEM | ASSIGN,
            b'+' => BASE64 | LOCAL | PEM | DIGIT_GROUP,
            b'/' => BASE64 | PEM,
            b'%' => LOCAL,
            b'\'' => LOCAL | ASSIGN,
            b' ' => PEM | DIGIT_GROUP | ASSIGN,
            b'\t' => PEM | ASSIGN,
            b'\n' | b'\r' => PEM,
            b'(' | b')' => PEM | DIGIT_GROUP,
            b':' => PEM | ADDRESS | ASSIGN,
            b'\\' => PEM | ASSIGN,
            b',' => PEM,
            b'"' | b'>' => ASSIGN,
            _ => 0,
        };
        if b >= 0x80 {
            kind |= NON_ASCII | BARE | AUTHORITY;
        }
        if b > b' ' && b < 0x7F && !alnum {
            if !matches!(
                b,
                b';' | b'&' | b'"' | b'\'' | b',' | b'<' | b'>' | b')' | b'}' | b']' | b'\\'
            ) {
                kind |= BARE;
            }
            if !matches!(b, b'/' | b'?' | b'#' | b'"' | b'\'' | b'<' | b'>' | b'\\' | b'`') {
                kind |= AUTHORITY;
            }
        }
        table[i] = kind;
        i += 1;
    }
    table
}

/// Whether a byte is of one of the kinds.
#[inline]
pub(super) fn is(b: u8, kinds: u16) -> bool {
    TABLE[usize::from(b)] & kinds != 0
}
