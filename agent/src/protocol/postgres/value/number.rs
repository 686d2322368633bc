//! Numbers: their digits, and numbers in their place.

use super::{
    Format,
    kind::{Kind, Node},
};

/// numeric in binary: how its digits are written (base 10,000).
const BASE: u64 = 10_000;
/// The signs of numeric in binary.
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;
/// The fewest digits that a detector takes for a number of its own.
const DIGITS_MIN: usize = 13;
/// The most digits before the point that are looked at.
const DIGITS_MAX: usize = 24;

/// The digits before the decimal point of an int8, numeric or float8, where there are enough of them for a detector
/// to find something: the fraction would hide a card number in `4111111111111111.00`.
pub(super) fn digits(kind: &Kind, format: Format, bytes: &[u8]) -> Option<String> {
    match (kind, format) {
        (_, Format::Text) => {
            if bytes.len() < DIGITS_MIN {
                return None;
            }
            let text = std::str::from_utf8(bytes).ok()?.trim_start_matches(['-', '+']);
            if text.bytes().any(|b| matches!(b, b'e' | b'E')) {
                return whole_float(text.parse().ok()?);
            }
            let n = text.bytes().take_while(u8::is_ascii_digit).count();
            (DIGITS_MIN..=DIGITS_MAX)
                .contains(&n)
                .then(|| text[..n].to_owned())
        }
        (Kind::Float8, Format::Binary) => whole_float(f64::from_be_bytes(bytes.try_into().ok()?)),
        (Kind::Numeric, Format::Binary) => {
            let [_, _, a, b, s, t, ..] = *bytes else {
                return None;
            };
            // The first digit is worth 10,000 to the power of the weight.
            let special = u16::from_be_bytes([s, t]) >= NAN;
            if special || !(3..=5).contains(&i16::from_be_bytes([a, b])) {
                return None;
            }
            let text = numeric(bytes)?;
            digits(kind, Format::Text, text.as_bytes())
        }
        (_, Format::Binary) => {
            let n = i64::from_be_bytes(bytes.try_into().ok()?).unsigned_abs();
            (n >= 10u64.pow(DIGITS_MIN as u32 - 1)).then(|| n.to_string())
        }
    }
}

fn whole_float(n: f64) -> Option<String> {
    let n = n.abs().trunc();
    (1e12..1e19).contains(&n).then(|| format!("{n:.0}"))
}

/// A numeric's binary representation as text; `None` when it is none.
pub(super) fn numeric(bytes: &[u8]) -> Option<String> {
    let (head, rest) = bytes.split_at_checked(8)?;
    let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight, sign, scale) = (
        usize::from(word(0)),
        word(2).cast_signed(),
        word(4),
        usize::from(word(6)),
    );
    match sign {
        NAN => return Some("NaN".into()),
        INFINITY => return Some("Infinity".into()),
        NEGATIVE_INFINITY => return Some("-Infinity".into()),
        0 | NEGATIVE => {}
        _ => return None,
    }
    if rest.len() != count * 2 || scale > 0x3FFF {
        return None;
    }
    let digit = |at: i64| {
        let pair = usize::try_from(at)
            .ok()
            .and_then(|at| rest.get(at * 2..at * 2 + 2));
        pair.map_or(0, |p| u16::from_be_bytes([p[0], p[1]]))
    };
    if (0..count).any(|at| u64::from(digit(at as i64)) >= BASE) {
        return None;
    }
    let mut text = String::new();
    if sign == NEGATIVE {
        text.push('-');
    }
    let weight = i64::from(weight);
    if weight < 0 {
        text.push('0');
    }
    for at in 0..=weight {
        let group = digit(at);
        text += &if at == 0 {
            group.to_string()
        } else {
            format!("{group:04}")
        };
    }
    if scale > 0 {
        let mut fraction = String::with_capacity(scale + 4);
        let mut at = weight + 1;
        while fraction.len() < scale {
            fraction += &format!("{:04}", digit(at));
            at += 1;
        }
        text.push('.');
        text += &fraction[..scale];
    }
    Some(text)
}

/// How many digits a numeric's modifier leaves before the point and after it.
fn precision(modifier: i32) -> Option<(usize, usize)> {
    let packed = modifier.checked_sub(4).filter(|m| *m >= 0)?;
    let precision = usize::try_from(packed >> 16 & 0xFFFF).ok()?;
    // Eleven bits with sign, since PostgreSQL 15.
    let scale = ((packed & 0x7FF) ^ 1024) - 1024;
    let scale = usize::try_from(scale).unwrap_or(0);
    Some((precision.saturating_sub(scale), scale))
}

/// How far the numbers go that stand in the place of others, exclusive. None has as many digits as a card number.
fn bound(node: &Node) -> u64 {
    match node.kind {
        Kind::Int2 => 32_767,
        Kind::Int4 | Kind::Oid => 1_000_000_000,
        // What float4 holds exactly and writes without an exponent.
        Kind::Float4 => 1_000_000,
        Kind::Money => 10_000_000_000,
        Kind::Numeric => {
            let whole = precision(node.modifier).map_or(12, |(whole, _)| whole.min(12));
            10u64.pow(u32::try_from(whole).unwrap_or(0))
        }
        _ => 1_000_000_000_000,
    }
}

/// A number of a type from a keyed hash.
pub(super) fn from_hash(node: &Node, hash: [u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) % bound(node)
}

/// Appends a number (below the type's bound) in the place of another.
pub(super) fn write(node: &Node, format: Format, n: u64, was: &[u8], out: &mut Vec<u8>) {
    let scale = precision(node.modifier).map_or(0, |(_, scale)| scale);
    match (&node.kind, format) {
        (Kind::Numeric, Format::Text) => {
            out.extend_from_slice(n.to_string().as_bytes());
            if scale > 0 {
                out.push(b'.');
                out.resize(out.len() + scale, b'0');
            }
        }
        (Kind::Money, Format::Text) => {
            // The currency's sign where it stands before, as the locale has it.
            let sign = was
                .iter()
                .take(8)
                .take_while(|b| !b.is_ascii_digit())
                .filter(|b| !matches!(b, b'-' | b'('));
            out.extend(sign);
            out.extend_from_slice(format!("{n}.00").as_bytes());
        }
        // The names of objects: `-` is none. Not of operators and of plain OIDs.
        (Kind::Oid, Format::Text) if n == 0 && !matches!(node.oid, 26 | 28 | 29 | 2203 | 2204) => {
            out.push(b'-')
        }
        (_, Format::Text) => out.extend_from_slice(n.to_string().as_bytes()),
        (Kind::Int2, Format::Binary) => out.extend_from_slice(&(n as i16).to_be_bytes()),
        (Kind::Int4 | Kind::Oid, Format::Binary) => out.extend_from_slice(&(n as i32).to_be_bytes()),
        (Kind::Float4, Format::Binary) => out.extend_from_slice(&(n as f32).to_be_bytes()),
        (Kind::Float8, Format::Binary) => out.extend_from_slice(&(n as f64).to_be_bytes()),
        (Kind::Money, Format::Binary) => out.extend_from_slice(&(n as i64 * 100).to_be_bytes()),
        (Kind::Numeric, Format::Binary) => {
            let mut groups: Vec<u16> = Vec::new();
            let mut left = n;
            while left > 0 {
                groups.push((left % BASE) as u16);
                left /= BASE;
            }
            let weight = i16::try_from(groups.len()).unwrap_or(0) - 1;
            // Zeros at the end are not sent.
            let zeros = groups.iter().take_while(|g| **g == 0).count();
            let groups = &groups[zeros..];
            out.extend_from_slice(&(groups.len() as u16).to_be_bytes());
            out.extend_from_slice(&weight.max(0).to_be_bytes());
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&(scale as u16).to_be_bytes());
            for group in groups.iter().rev() {
                out.extend_from_slice(&group.to_be_bytes());
            }
        }
        (_, Format::Binary) => out.extend_from_slice(&(n as i64).to_be_bytes()),
    }
}
