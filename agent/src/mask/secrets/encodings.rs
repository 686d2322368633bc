//! The ways in which a secret comes back: as it is, and in the encodings that services put what they echo into.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use zeroize::Zeroizing;

/// One spelling of a secret.
pub(super) struct Pattern {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// It is hexadecimal digits, and digits replace it.
    pub(super) hex: bool,
}

/// All spellings of a secret, each once.
pub(super) fn of(secret: &[u8]) -> Vec<Pattern> {
    let mut all: Vec<Pattern> = Vec::with_capacity(24);
    let mut add = |bytes: Vec<u8>, hex: bool| {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() >= super::SHORTEST && all.iter().all(|p| *p.bytes != *bytes) {
            all.push(Pattern { bytes, hex });
        }
    };
    add(secret.to_vec(), false);
    for before in 0..3 {
        let (standard, url) = base64_inner(secret, before);
        add(standard, false);
        add(url, false);
    }
    add(hex::encode(secret).into_bytes(), true);
    add(hex::encode_upper(secret).into_bytes(), true);
    for upper in [true, false] {
        // RFC 3986: everything but unreserved; what encodeURI leaves as well; everything.
        add(percent(secret, b"-._~", upper), false);
        add(percent(secret, b"-._~!'()*", upper), false);
        add(percent(secret, b"-._~!'()*;,/?:@&=+$#", upper), false);
        add(percent_all(secret, upper), false);
    }
    let form = percent(secret, b"-._~* ", true);
    add(
        form.iter().map(|b| if *b == b' ' { b'+' } else { *b }).collect(),
        false,
    );
    for style in [Json::Plain, Json::Slash, Json::Html, Json::Ascii] {
        add(json(secret, style), false);
    }
    for quote in ["&#39;", "&#x27;", "&apos;"] {
        add(html(secret, quote), false);
    }
    // A string in SQL.
    add(doubled(secret, b'\''), false);
    add(secret.iter().flat_map(|b| [*b, 0]).collect(), false);
    add(secret.iter().flat_map(|b| [0, *b]).collect(), false);
    all
}

/// Percent-decodes once; what is no encoding stays.
#[must_use]
pub fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |b: Option<&u8>| {
        b.and_then(|b| char::from(*b).to_digit(16))
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(text.get(at + 1)), digit(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// The characters of base64 that only the secret determines, when so many bytes of a group of three stand before it.
fn base64_inner(secret: &[u8], before: usize) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = Zeroizing::new(Vec::with_capacity(before + secret.len()));
    bytes.resize(before, 0);
    bytes.extend_from_slice(secret);
    let start = (8 * before).div_ceil(6);
    let end = 8 * bytes.len() / 6;
    let cut = |text: String| {
        let text = Zeroizing::new(text.into_bytes());
        text.get(start..end).unwrap_or_default().to_vec()
    };
    (
        cut(STANDARD_NO_PAD.encode(&*bytes)),
        cut(URL_SAFE_NO_PAD.encode(&*bytes)),
    )
}

fn percent_byte(byte: u8, upper: bool, out: &mut Vec<u8>) {
    let digits: &[u8; 16] = if upper {
        b"0123456789ABCDEF"
    } else {
        b"0123456789abcdef"
    };
    out.extend([
        b'%',
        digits[usize::from(byte >> 4)],
        digits[usize::from(byte & 15)],
    ]);
}

fn percent(secret: &[u8], plain: &[u8], upper: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 * secret.len());
    for byte in secret {
        if byte.is_ascii_alphanumeric() || plain.contains(byte) {
            out.push(*byte);
        } else {
            percent_byte(*byte, upper, &mut out);
        }
    }
    out
}

fn percent_all(secret: &[u8], upper: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 * secret.len());
    secret
        .iter()
        .for_each(|byte| percent_byte(*byte, upper, &mut out));
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Json {
    /// What has to be escaped.
    Plain,
    /// `/` as well.
    Slash,
    /// `<`, `>` and `&` as well, for pages.
    Html,
    /// Everything but ASCII as well.
    Ascii,
}

/// A secret inside a JSON string. One that is not UTF-8 comes as Latin-1, where it comes at all.
fn json(secret: &[u8], style: Json) -> Vec<u8> {
    let text: Zeroizing<String> = Zeroizing::new(match std::str::from_utf8(secret) {
        Ok(text) => text.to_owned(),
        Err(_) => secret.iter().map(|b| char::from(*b)).collect(),
    });
    let mut out = String::with_capacity(6 * secret.len());
    let escape = |c: char, out: &mut String| {
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    };
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '/' if style == Json::Slash => out.push_str("\\/"),
            '<' | '>' | '&' if style == Json::Html => {
                escape(c, &mut out);
            }
            c if c.is_control() || (style == Json::Ascii && !c.is_ascii()) => escape(c, &mut out),
            c => out.push(c),
        }
    }
    out.into_bytes()
}

fn doubled(secret: &[u8], quote: u8) -> Vec<u8> {
    let twice = |b: &u8| std::iter::repeat_n(*b, if *b == quote { 2 } else { 1 });
    secret.iter().flat_map(twice).collect()
}

fn html(secret: &[u8], quote: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 * secret.len());
    for byte in secret {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            b'\'' => out.extend_from_slice(quote.as_bytes()),
            other => out.push(*other),
        }
    }
    out
}
