//! A query parameter that is the agent's: taken out in every spelling that a server may read as its name, then added.

use std::borrow::Cow;

use crate::mask::percent_decoded;

/// How often a name may be percent-encoded and is still found.
const LAYERS: usize = 4;

/// A query without a parameter. Both `&` and `;` separate: some servers split at either.
pub fn without(query: &str, name: &str) -> String {
    let mut out = String::with_capacity(query.len());
    let mut separator = None;
    for piece in query.split_inclusive(['&', ';']) {
        let (pair, after) = match piece.char_indices().next_back() {
            Some((at, c @ ('&' | ';'))) => (&piece[..at], Some(c)),
            _ => (piece, None),
        };
        if !is_named(pair, name) {
            out.extend(separator.take());
            out.push_str(pair);
        }
        // What a parameter that stays stood behind goes before the next one that stays.
        separator = if out.is_empty() { None } else { after.or(separator) };
    }
    out
}

/// Appends a parameter; everything but unreserved characters is encoded.
pub fn add(query: &mut String, name: &str, value: &[u8]) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(name);
    query.push('=');
    encode(value, query);
}

/// RFC 3986 section 2: all but unreserved characters.
pub fn encode(value: &[u8], out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// The longest query a name of which is looked at in one piece is bounded by the head. `a[b]`, `a.b` and case are told
/// apart by some servers only, so none of them passes.
fn is_named(pair: &str, name: &str) -> bool {
    let given = pair.split('=').next().unwrap_or("");
    let mut given = Cow::Borrowed(given.as_bytes());
    for _ in 0..LAYERS {
        if !given.contains(&b'%') {
            break;
        }
        given = Cow::Owned(percent_decoded(&given));
    }
    let bare = given
        .split(|b| matches!(b, b'[' | b'=' | 0))
        .next()
        .unwrap_or_default();
    let plain = |b: &u8| match b {
        b'+' | b' ' | b'.' | b'_' | b'\t' => b'_',
        other => other.to_ascii_lowercase(),
    };
    let bare: Vec<u8> = bare.iter().map(plain).collect();
    let start = bare.iter().position(|b| *b != b'_').unwrap_or(0);
    let wanted: Vec<u8> = name.bytes().map(|b| plain(&b)).collect();
    bare == wanted || bare[start..] == wanted[..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_of_the_name_stays() {
        for (query, left) in [
            ("key=1", ""),
            ("a=1&key=2&b=3", "a=1&b=3"),
            ("key=1&key=2&a", "a"),
            ("a=1&KEY=2", "a=1"),
            ("%6bey=1&k%65%79=2&%6B%65%79", ""),
            ("%256bey=1&a=b", "a=b"),
            ("a=1;key=2;b=3", "a=1;b=3"),
            ("a=1;key=2&b=3", "a=1&b=3"),
            ("key[]=1&key[a]=2&key%5B%5D=3&x=", "x="),
            ("+key=1&%20key=2&key%00=3", ""),
            ("key", ""),
            ("keys=1&mykey=2&a=key", "keys=1&mykey=2&a=key"),
            ("a&&b", "a&&b"),
            ("%zzkey=1&%k", "%zzkey=1&%k"),
        ] {
            assert_eq!(without(query, "key"), left, "{query}");
        }
        assert_eq!(without("api.key=1&api_key=2&api+key=3&b", "api_key"), "b");
    }

    #[test]
    fn values_are_encoded() {
        let mut query = String::new();
        add(&mut query, "key", b"a b&c=\xff~");
        assert_eq!(query, "key=a%20b%26c%3D%FF~");
        add(&mut query, "x", b"");
        assert_eq!(query, "key=a%20b%26c%3D%FF~&x=");
        assert_eq!(percent_decoded(b"%41%4"), b"A%4");
    }
}
