//! Binary values as PostgreSQL writes them in text (DateStyle ISO, IntervalStyle postgres, UTC).

use std::{borrow::Cow, net::Ipv6Addr};

use super::{
    Format, bytea,
    kind::{Kind, Shape},
    moment, number,
};

/// What a value of a type without parts says; `None` when it is not what its type says, or text that is no UTF-8.
pub(super) fn text<'a>(kind: &Kind, format: Format, bytes: &'a [u8]) -> Option<Cow<'a, str>> {
    if format == Format::Text {
        return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
    }
    let text = match kind {
        Kind::Text
        | Kind::Varchar
        | Kind::Bpchar
        | Kind::Char
        | Kind::Name
        | Kind::Xml
        | Kind::Json
        | Kind::Enum => {
            return std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
        }
        Kind::Jsonb | Kind::Jsonpath => {
            let [1, text @ ..] = bytes else { return None };
            return std::str::from_utf8(text).ok().map(Cow::Borrowed);
        }
        Kind::Bool => match bytes {
            [0] => return Some("f".into()),
            [_] => return Some("t".into()),
            _ => return None,
        },
        Kind::Int2 => i16::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Kind::Int4 => i32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Kind::Int8 => i64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Kind::Oid => u32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Kind::Float4 => {
            let n = f32::from_be_bytes(bytes.try_into().ok()?);
            float(f64::from(n), 6.0, n.to_string(), &format!("{n:e}"))
        }
        Kind::Float8 => float8(f64::from_be_bytes(bytes.try_into().ok()?)),
        Kind::Numeric => number::numeric(bytes)?,
        Kind::Money => {
            let n = i64::from_be_bytes(bytes.try_into().ok()?);
            let sign = if n < 0 { "-" } else { "" };
            let cents = n.unsigned_abs();
            format!("{sign}{}.{:02}", cents / 100, cents % 100)
        }
        Kind::Bytea => {
            let mut out = Vec::with_capacity(bytes.len() * 2 + 2);
            bytea::encode(bytes, true, &mut out);
            String::from_utf8(out).ok()?
        }
        Kind::Uuid => uuid::Uuid::from_slice(bytes).ok()?.to_string(),
        Kind::Date => moment::date(i32::from_be_bytes(bytes.try_into().ok()?)),
        Kind::Time => moment::time(i64::from_be_bytes(bytes.try_into().ok()?)),
        Kind::TimeTz => {
            let (time, zone) = bytes.split_at_checked(8)?;
            let time = moment::time(i64::from_be_bytes(time.try_into().ok()?));
            time + &moment::zone(i32::from_be_bytes(zone.try_into().ok()?))
        }
        Kind::Timestamp => moment::timestamp(i64::from_be_bytes(bytes.try_into().ok()?)),
        Kind::Interval => moment::interval(bytes)?,
        Kind::Inet | Kind::Cidr => address(bytes)?,
        Kind::Macaddr(n) if bytes.len() == *n => {
            let parts: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
            parts.join(":")
        }
        Kind::Bit | Kind::Varbit => {
            let (n, rest) = bytes.split_at_checked(4)?;
            let n = u32::from_be_bytes(n.try_into().ok()?) as usize;
            if rest.len() != n.div_ceil(8) {
                return None;
            }
            let bit = |i: usize| rest.get(i / 8).is_some_and(|b| b >> (7 - i % 8) & 1 == 1);
            (0..n).map(|i| if bit(i) { '1' } else { '0' }).collect()
        }
        Kind::Geometric(shape) => geometric(*shape, bytes)?,
        _ => return None,
    };
    Some(Cow::Owned(text))
}

fn float8(n: f64) -> String {
    float(n, 15.0, n.to_string(), &format!("{n:e}"))
}

/// The shortest text that is the same number again: with an exponent from so many digits on.
fn float(n: f64, digits: f64, shortest: String, scientific: &str) -> String {
    if n.is_nan() {
        return "NaN".into();
    }
    if n.is_infinite() {
        return if n > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return shortest;
    };
    let place: f64 = exponent.parse().unwrap_or(0.0);
    if n == 0.0 || (-4.0..digits).contains(&place) {
        return shortest;
    }
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{mantissa}e{sign}{exponent:0>2}")
}

fn address(bytes: &[u8]) -> Option<String> {
    let [family, bits, cidr, len, rest @ ..] = bytes else {
        return None;
    };
    if rest.len() != usize::from(*len) {
        return None;
    }
    let (text, all) = match (family, rest.len()) {
        (2, 4) => {
            let parts: Vec<_> = rest.iter().map(ToString::to_string).collect();
            (parts.join("."), 32)
        }
        (3, 16) => (Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?).to_string(), 128),
        _ => return None,
    };
    Some(if *bits == all && *cidr == 0 {
        text
    } else {
        format!("{text}/{bits}")
    })
}

fn geometric(shape: Shape, bytes: &[u8]) -> Option<String> {
    let numbers = |bytes: &[u8]| -> Option<Vec<String>> {
        let (chunks, []) = bytes.as_chunks::<8>() else {
            return None;
        };
        let one = |c: &[u8; 8]| float8(f64::from_be_bytes(*c));
        Some(chunks.iter().map(one).collect())
    };
    let points = |n: &[String]| {
        let pairs: Vec<_> = n
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[x, y]| format!("({x},{y})"))
            .collect();
        pairs.join(",")
    };
    Some(match (shape, bytes) {
        (Shape::Point, _) if bytes.len() == 16 => points(&numbers(bytes)?),
        (Shape::Box, _) if bytes.len() == 32 => points(&numbers(bytes)?),
        (Shape::Lseg, _) if bytes.len() == 32 => format!("[{}]", points(&numbers(bytes)?)),
        (Shape::Line, _) if bytes.len() == 24 => format!("{{{}}}", numbers(bytes)?.join(",")),
        (Shape::Circle, _) if bytes.len() == 24 => {
            let n = numbers(bytes)?;
            format!("<{},{}>", points(n.get(..2)?), n.get(2)?)
        }
        (Shape::Path, [closed, _, _, _, _, rest @ ..]) => {
            let inner = points(&numbers(rest)?);
            if *closed == 1 {
                format!("({inner})")
            } else {
                format!("[{inner}]")
            }
        }
        (Shape::Polygon, [_, _, _, _, rest @ ..]) => format!("({})", points(&numbers(rest)?)),
        _ => return None,
    })
}
