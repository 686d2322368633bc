//! Forms, and how a client shows its secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::{Zeroize as _, Zeroizing};

/// More than any token, twice.
const ROOM: usize = 48 * 1024;

/// `client_secret_basic`: both parts form-encoded before they are joined (RFC 6749 section 2.3.1).
#[must_use]
pub fn basic(id: &str, secret: &str) -> Zeroizing<String> {
    let mut pair = Form::default();
    pair.push(id);
    pair.0.push(':');
    pair.push(secret);
    let mut encoded = STANDARD.encode(pair.0.as_bytes());
    let value = Zeroizing::new(format!("Basic {encoded}"));
    encoded.zeroize();
    value
}

/// `application/x-www-form-urlencoded` in memory that is wiped; grown by copying, so room is made at the start.
pub struct Form(Zeroizing<String>);

impl Default for Form {
    fn default() -> Self {
        Self(Zeroizing::new(String::with_capacity(ROOM)))
    }
}

impl Form {
    /// Whole, as a body.
    #[must_use]
    pub fn into_body(self) -> Zeroizing<String> {
        self.0
    }

    /// Adds a field.
    pub fn add(&mut self, key: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.push(key);
        self.0.push('=');
        self.push(value);
    }

    fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                    self.0.push(char::from(byte));
                }
                b' ' => self.0.push('+'),
                _ => {
                    const HEX: &[u8; 16] = b"0123456789ABCDEF";
                    self.0.push('%');
                    self.0.push(char::from(HEX[usize::from(byte >> 4)]));
                    self.0.push(char::from(HEX[usize::from(byte & 15)]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_basic() {
        let mut form = Form::default();
        form.add("a", "x y&z=%ü");
        form.add("b", "1");
        assert_eq!(form.0.as_str(), "a=x+y%26z%3D%25%C3%BC&b=1");
        assert_eq!(
            basic("a:b", "c d").as_str(),
            format!("Basic {}", STANDARD.encode("a%3Ab:c+d"))
        );
    }
}
