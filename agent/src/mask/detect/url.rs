//! Passwords in URLs (RFC 3986 user information) and in connection strings.

use super::{
    Search, Tail,
    bytes::{ASSIGN, AUTHORITY, BARE, BASE64, WORD, is},
};
use crate::mask::classes::Builtin;

/// The longest authority that is looked through.
const AUTHORITY_MAX: usize = 320;
const AWS_SECRET_LEN: usize = 40;

impl Search<'_> {
    /// A `://`: `user:password@` after it. The password may hold `@` and `:`.
    pub(super) fn url(&mut self, at: usize) {
        let from = at + 3;
        let len = self.run(from, AUTHORITY_MAX, AUTHORITY);
        if len < AUTHORITY_MAX && self.is_open(from + len) {
            return self.wait(at);
        }
        let authority = &self.hay[from..from + len];
        let Some(host) = memchr::memrchr(b'@', authority) else {
            return;
        };
        let Some(colon) = memchr::memchr(b':', &authority[..host]) else {
            return;
        };
        let password = &authority[colon + 1..host];
        if !password.is_empty() && !is_placeholder(password) {
            self.hit_after(Builtin::UrlPassword, at, from + colon + 1, from + host, None);
        }
    }

    /// `password`, `passwd` or `pwd`, which ends at `end`: `=` and a value, or `":` and one as in JSON.
    pub(super) fn assignment(&mut self, at: usize, end: usize) {
        let rest = &self.hay[end..];
        let mut i = 0;
        let mut skip = |wanted: &[u8], most: usize| {
            let n = rest[i..]
                .iter()
                .take(most)
                .take_while(|b| wanted.contains(b))
                .count();
            i += n;
            n > 0
        };
        let nested = skip(b"\\", 1);
        let quoted = skip(b"\"'", 1);
        let _ = skip(b" \t", 2);
        let colon = quoted && skip(b":", 1);
        let equals = !colon && skip(b"=", 1);
        let doubled = equals && skip(b"=~>", 1);
        let _ = skip(b" \t", 2);
        let value_nested = skip(b"\\", 1);
        let quote = rest.get(i).copied().filter(|b| matches!(b, b'"' | b'\''));
        let start = end + i + usize::from(quote.is_some());
        self.spent(i + 2);
        if start + 8 > self.hay.len() && !self.last && i <= 16 && (colon || equals || self.is_open(end + i)) {
            return self.wait(at);
        }
        if !(colon || equals) || doubled || nested && !quoted {
            return;
        }
        let value = &self.hay[start.min(self.hay.len())..];
        let tail = match quote {
            Some(quote) => Tail::Quoted {
                quote,
                nested: value_nested,
                escaped: false,
            },
            None if value_nested || colon => return,
            None => Tail::Bare,
        };
        let (eaten, _) = tail.clone().eat(&value[..value.len().min(8)]);
        if eaten == 0 || is_placeholder(&value[..eaten]) {
            return;
        }
        let class = if colon {
            Builtin::Password
        } else {
            Builtin::ConnectionPassword
        };
        self.hit_after(class, at, start, start, Some(tail));
    }

    /// `ecret` of a name such as `aws_secret_access_key`, with exactly 40 characters of base64 after it.
    pub(super) fn aws_secret(&mut self, at: usize) {
        let name = self.run(at, 24, WORD);
        let equals = self.run(at + name, 8, ASSIGN);
        let start = at + name + equals;
        let len = self.run(start, AWS_SECRET_LEN + 1, BASE64);
        if self.is_open(start + len) && len <= AWS_SECRET_LEN {
            return self.wait(at);
        }
        let is_key = self.hay[at..at + name].to_ascii_lowercase().ends_with(b"key");
        if is_key && name < 24 && (1..=8).contains(&equals) && len == AWS_SECRET_LEN {
            self.hit_after(Builtin::AwsSecretKey, at, start, start + len, None);
        }
    }
}

/// A value that says that there is none: a variable, a template, or what stands in a masked value's place.
fn is_placeholder(value: &[u8]) -> bool {
    let words: [&[u8]; 6] = [b"None", b"null", b"True", b"False", b"true", b"false"];
    value.starts_with(b"[masked")
        || value.starts_with(b"***")
        || matches!(value, [b'$' | b'{' | b'%' | b'<', ..])
        || words.iter().any(|w| {
            value
                .strip_prefix(*w)
                .is_some_and(|r| r.first().is_none_or(|b| !is(*b, BARE)))
        })
}
