//! Canonical JSON: RFC 8785 narrowed to integers, so that an entry has exactly one spelling.
//!
//! Keys sorted by code point and unique, no white space, shortest string escapes, integers in the range of `i64` and
//! `u64` without leading zeros. (RFC 8785 sorts by UTF-16 code unit; the two differ only above U+D7FF, which no key
//! here uses.) The check costs about 0.5 us per KB.

use std::fmt;

/// Where a text stops being canonical, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Byte offset.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// How deep values may nest: far above any entry, far below the stack.
const DEPTH: usize = 64;

/// The members of an entry's body that the ledger itself reads, as they are spelled.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Members<'a> {
    pub at: &'a str,
    pub id: &'a str,
    pub kind: &'a str,
    pub v: &'a str,
    pub decision: Option<&'a str>,
    pub operation: Option<&'a str>,
    pub payload: Option<&'a str>,
    pub policy_set: Option<&'a str>,
}

/// Checks a body and picks out the members that the ledger reads.
pub(super) fn body(text: &str) -> Result<Members<'_>, Flaw> {
    let mut members = Members::default();
    let mut scan = Scan {
        text,
        bytes: text.as_bytes(),
        at: 0,
    };
    if scan.peek() != Some(b'{') {
        return Err(scan.flaw("a body is a JSON object"));
    }
    scan.object(DEPTH, &mut |key, value| match key {
        "at" => members.at = value,
        "id" => members.id = value,
        "kind" => members.kind = value,
        "v" => members.v = value,
        "decision" => members.decision = Some(value),
        "operation" => members.operation = Some(value),
        "payload" => members.payload = Some(value),
        "policy_set" => members.policy_set = Some(value),
        _ => {}
    })?;
    if scan.at != text.len() {
        return Err(scan.flaw("something follows the object"));
    }
    Ok(members)
}

/// Whether a text is canonical JSON.
///
/// # Errors
/// The first flaw.
pub fn check(text: &str) -> Result<(), Flaw> {
    let mut scan = Scan {
        text,
        bytes: text.as_bytes(),
        at: 0,
    };
    scan.value(DEPTH)?;
    if scan.at == text.len() {
        Ok(())
    } else {
        Err(scan.flaw("something follows the value"))
    }
}

/// The text inside a JSON string without escapes; `None` for anything else.
pub(super) fn plain(raw: &str) -> Option<&str> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains('\\')).then_some(inner)
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn flaw(&self, what: &'static str) -> Flaw {
        Flaw { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Flaw> {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.flaw("no JSON value"))
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), Flaw> {
        match self.peek() {
            Some(b'{') => self.object(depth, &mut |_, _| {}),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(|_| ()),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'-' | b'0'..=b'9') => self.integer(),
            _ => Err(self.flaw("no canonical JSON value")),
        }
    }

    fn object(&mut self, depth: usize, member: &mut dyn FnMut(&'a str, &'a str)) -> Result<(), Flaw> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| self.flaw("nested too deeply"))?;
        self.at += 1;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        let mut previous: Option<(&'a str, bool)> = None;
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.flaw("a key was expected"));
            }
            let start = self.at;
            let escaped = self.string()?;
            let key = &self.text[start + 1..self.at - 1];
            if previous.is_some_and(|before| !ordered(before, (key, escaped))) {
                return Err(Flaw {
                    at: start,
                    what: "keys are not sorted and unique",
                });
            }
            previous = Some((key, escaped));
            if self.peek() != Some(b':') {
                return Err(self.flaw("a colon was expected"));
            }
            self.at += 1;
            let start = self.at;
            self.value(depth)?;
            member(key, &self.text[start..self.at]);
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.flaw("a comma or the object's end was expected")),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Flaw> {
        let depth = depth
            .checked_sub(1)
            .ok_or_else(|| self.flaw("nested too deeply"))?;
        self.at += 1;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.flaw("a comma or the array's end was expected")),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn integer(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let digits = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        let zero = self.peek_at(digits) == Some(b'0') && (self.at - digits > 1 || digits > start);
        let small = self.at - start <= 18;
        if self.at == digits || zero || !(small || text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok())
        {
            return Err(Flaw {
                at: start,
                what: "no canonical integer of 64 bits",
            });
        }
        if matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err(self.flaw("numbers are integers"));
        }
        Ok(())
    }

    fn peek_at(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// Passes over a string; whether it has escapes.
    fn string(&mut self) -> Result<bool, Flaw> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += plain_prefix(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.flaw("a string is not closed, or has a raw control character")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        let rest = &self.bytes[self.at..];
        let length = match rest.get(1) {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => match rest.get(2..6) {
                Some(
                    [
                        b'0',
                        b'0',
                        high @ (b'0' | b'1'),
                        low @ (b'0'..=b'9' | b'a'..=b'f'),
                    ],
                ) if *high == b'1' || !matches!(low, b'8' | b'9' | b'a' | b'c' | b'd') => 6,
                _ => 0,
            },
            _ => 0,
        };
        if length == 0 {
            return Err(self.flaw("not the shortest escape"));
        }
        self.at += length;
        Ok(())
    }
}

/// How many bytes from the start are neither `"`, `\` nor a control character; eight at a time.
fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let has_zero = |v: u64| v.wrapping_sub(ONES) & !v & HIGHS;
    let mut at = 0;
    let (chunks, _) = bytes.as_chunks::<8>();
    for chunk in chunks {
        let v = u64::from_le_bytes(*chunk);
        let quote = has_zero(v ^ (ONES * 0x22));
        let back = has_zero(v ^ (ONES * 0x5c));
        let control = v.wrapping_sub(ONES * 0x20) & !v & HIGHS;
        let hit = quote | back | control;
        if hit != 0 {
            // The lowest flagged byte is exact; borrows only reach higher ones.
            return at + (hit.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + bytes[at..]
        .iter()
        .take_while(|b| **b >= 0x20 && **b != b'"' && **b != b'\\')
        .count()
}

/// Whether one key comes before the other, escapes read.
fn ordered(before: (&str, bool), after: (&str, bool)) -> bool {
    if !before.1 && !after.1 {
        return before.0 < after.0;
    }
    let read = |raw: &str| serde_json::from_str::<String>(&format!("\"{raw}\"")).unwrap_or_default();
    read(before.0) < read(after.0)
}

/// Writes a value canonically. Numbers must be integers: a fraction is written as its integer part would be wrong, so
/// it is written as it is and the ledger then refuses the body.
#[must_use]
pub fn to_string(value: &serde_json::Value) -> String {
    let mut out = String::with_capacity(512);
    write(value, &mut out);
    out
}

fn write(value: &serde_json::Value, out: &mut String) {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by(|a, b| a.0.cmp(b.0));
            out.push('{');
            for (i, (key, value)) in keys.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_and_is_not_canonical() {
        for good in [
            "{}",
            "[]",
            "0",
            "-1",
            "18446744073709551615",
            "-9223372036854775808",
            "\"\\u001f\\n\\\"é😀\u{7f}\"",
            "{\"a\":1,\"b\":[true,false,null],\"é\":{}}",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            " {}",
            "{} ",
            "{\"b\":1,\"a\":2}",
            "{\"a\":1,\"a\":2}",
            "01",
            "-0",
            "1.5",
            "1e3",
            "18446744073709551616",
            "\"\\/\"",
            "\"\\u0041\"",
            "\"\\u000a\"",
            "\"\\u001F\"",
            "\"\n\"",
            "\"",
            "[1, 2]",
            "[1,]",
            "{\"a\"}",
            "nul",
            "-",
            "{\"a\":1,}",
            "[",
            "\"12345678\n\"",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn members_are_found() {
        let m = body(r#"{"at":"t","id":"i","kind":"gap","nested":{"id":"no"},"v":1}"#).unwrap();
        assert_eq!((m.at, m.id, m.kind, m.v), ("\"t\"", "\"i\"", "\"gap\"", "1"));
        assert!(body("[]").is_err());
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|pairs| serde_json::Value::Object(pairs.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn written_is_canonical_and_the_same(v in value()) {
            let text = to_string(&v);
            prop_assert_eq!(check(&text), Ok(()));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), v);
        }
        #[test]
        fn never_panics(text in "[\\[\\]{}\",:\\\\u0-9a-f \\n-]{0,40}") {
            let _ = check(&text);
            let _ = body(&text);
        }
    }
}
