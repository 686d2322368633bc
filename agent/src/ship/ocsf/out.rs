//! Writes JSON member by member. What turns out empty is left out, so that optional parts need no conditions.

use serde_json::Value;

/// JSON being written.
pub(super) struct Out(Vec<u8>);

impl Out {
    /// An object, written by `fill`.
    pub(super) fn document(capacity: usize, fill: impl FnOnce(&mut Self)) -> String {
        let mut out = Self(Vec::with_capacity(capacity));
        out.0.push(b'{');
        fill(&mut out);
        out.0.push(b'}');
        // Only JSON text and what serde_json wrote went in.
        String::from_utf8(out.0).unwrap_or_default()
    }

    fn next(&mut self) {
        // A string's last byte is its quote, so these two are never a value's.
        if !matches!(self.0.last(), Some(b'{' | b'[') | None) {
            self.0.push(b',');
        }
    }

    fn key(&mut self, key: &str) {
        self.next();
        self.write(&key);
        self.0.push(b':');
    }

    fn write<T: serde::Serialize>(&mut self, value: &T) {
        // Writing text, numbers and parsed JSON to memory cannot fail.
        let _ = serde_json::to_writer(&mut self.0, value);
    }

    /// Opens, fills and closes; takes everything back when nothing was put in.
    fn within(&mut self, before: usize, ends: [u8; 2], fill: impl FnOnce(&mut Self)) {
        self.0.push(ends[0]);
        let empty = self.0.len();
        fill(self);
        if self.0.len() == empty {
            self.0.truncate(before);
        } else {
            self.0.push(ends[1]);
        }
    }

    /// A member object.
    pub(super) fn object(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        let before = self.0.len();
        self.key(key);
        self.within(before, *b"{}", fill);
    }

    /// A member array.
    pub(super) fn array(&mut self, key: &str, fill: impl FnOnce(&mut Self)) {
        let before = self.0.len();
        self.key(key);
        self.within(before, *b"[]", fill);
    }

    /// An element object of an array.
    pub(super) fn element(&mut self, fill: impl FnOnce(&mut Self)) {
        let before = self.0.len();
        self.next();
        self.within(before, *b"{}", fill);
    }

    /// An element text of an array.
    pub(super) fn item(&mut self, text: &str) {
        self.next();
        self.write(&text);
    }

    /// A text; none where it is empty.
    pub(super) fn text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.key(key);
            self.write(&text);
        }
    }

    /// A number.
    pub(super) fn number(&mut self, key: &str, number: i64) {
        self.key(key);
        self.write(&number);
    }

    /// The number that a parsed value is; none where it is none.
    pub(super) fn number_of(&mut self, key: &str, value: &Value) {
        if let Some(number) = value.as_i64() {
            self.number(key, number);
        }
    }

    /// A truth.
    pub(super) fn flag(&mut self, key: &str, flag: bool) {
        self.key(key);
        self.write(&flag);
    }

    /// A value as it is; none where it is null.
    pub(super) fn value(&mut self, key: &str, value: &Value) {
        if !value.is_null() {
            self.key(key);
            self.write(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_left_out() {
        let text = Out::document(16, |o| {
            o.text("a", "");
            o.object("b", |o| o.object("c", |o| o.text("d", "")));
            o.array("e", |o| o.element(|o| o.value("f", &Value::Null)));
            o.text("g", "{");
            o.array("h", |o| {
                o.item("[");
                o.element(|o| o.number("i", -1));
            });
            o.flag("j", true);
        });
        assert_eq!(text, r#"{"g":"{","h":["[",{"i":-1}],"j":true}"#);
    }
}
