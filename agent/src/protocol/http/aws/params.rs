//! Query strings and forms, read in one way only.

use std::borrow::Cow;

use super::Ambiguity;

/// The most parameters of one query or form; EC2 filters take some hundreds.
const MOST: usize = 4096;

/// Parameters in their order, decoded.
#[derive(Debug, Default)]
pub struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Params<'a> {
    /// Reads `a=b&c`.
    ///
    /// # Errors
    /// When two servers could read it differently: a percent sign that encodes nothing, or bytes that are not UTF-8.
    pub fn parse(text: &'a str) -> Result<Self, Ambiguity> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|p| !p.is_empty()) {
            if pairs.len() == MOST {
                return Err(Ambiguity::Parameters);
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((decode(name, true)?, decode(value, true)?));
        }
        Ok(Self(pairs))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The value of the only one of this name.
    ///
    /// # Errors
    /// When there are two, or one whose name differs in case: servers take the first, the last, or either.
    pub fn only(&self, name: &'static str) -> Result<Option<&str>, Ambiguity> {
        let mut found = self.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some((n, value)), None) if n == name => Ok(Some(value)),
            _ => Err(Ambiguity::Repeated(name)),
        }
    }
}

/// Decodes percent-encoding, once; `plus` is a blank in queries and forms, and itself in paths.
pub fn decode(text: &str, plus: bool) -> Result<Cow<'_, str>, Ambiguity> {
    let encoded = text.contains('%') || (plus && text.contains('+'));
    if !encoded {
        return Ok(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'%' => {
                let mut value = [0];
                let digits = bytes.get(at..at + 2).ok_or(Ambiguity::Parameters)?;
                hex::decode_to_slice(digits, &mut value).map_err(|_| Ambiguity::Parameters)?;
                out.push(value[0]);
                at += 2;
            }
            b'+' if plus => out.push(b' '),
            _ => out.push(byte),
        }
    }
    String::from_utf8(out)
        .map(Cow::Owned)
        .map_err(|_| Ambiguity::Parameters)
}

/// Encodes as AWS does for signing: all but the unreserved characters, and `/` where it is kept.
pub fn encode(text: &[u8], keep_slash: bool, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slash && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_one_reading() {
        let params = Params::parse("Action=RunInstances&a+b=c%2Bd&empty=&bare&&x=1&x=2").unwrap();
        assert_eq!(params.only("Action").unwrap(), Some("RunInstances"));
        assert!(params.iter().any(|p| p == ("a b", "c+d")));
        assert_eq!(params.only("bare").unwrap(), Some(""));
        assert!(params.only("x").is_err() && params.only("action").is_err());
        assert_eq!(params.only("other").unwrap(), None);
        for text in ["a=%", "a=%2", "a=%zz", "%ff=1", "a=%c3%28"] {
            assert!(Params::parse(text).is_err(), "{text}");
        }
        assert!(Params::parse(&"a&".repeat(MOST + 1)).is_err());
    }

    #[test]
    fn encoding_is_that_of_aws() {
        let mut out = String::new();
        encode("a/b c+é~_-.*".as_bytes(), true, &mut out);
        assert_eq!(out, "a/b%20c%2B%C3%A9~_-.%2A");
    }
}
