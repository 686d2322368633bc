//! Text of others, made safe to look at: what a workload wrote must not read as anything else than it is, neither in a
//! browser nor in a terminal.
//!
//! Characters that cannot be seen, reorder what is around them (CVE-2021-42574) or drive a terminal are written as
//! `\u{202e}`. Line ends and tabs stay.

use std::{
    borrow::Cow,
    fmt::{self, Write},
};

/// Whether a character is not shown as itself.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    if c.is_control() {
        return !matches!(c, '\n' | '\t');
    }
    matches!(
        u32::from(c),
        // Soft hyphen, combining joiner, Arabic letter mark, Hangul and Mongolian fillers.
        0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f | 0x3164 | 0xffa0
        // Zero width, directional marks; line separators and embeddings; invisible operators and isolates.
        | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f
        // Byte order mark, interlinear annotation, what is no character; tags and further variation selectors.
        | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff | 0xe0000..=0xe0fff
    )
}

/// Text with what is hidden written out.
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The same on one line.
#[must_use]
pub fn one_line(text: &str) -> String {
    visible(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// The templates' escaper: hidden characters written out, and what HTML has a meaning for escaped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown;

impl askama::filters::Escaper for Shown {
    fn write_escaped_str<W: Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            let entity = match c {
                '<' => "&lt;",
                '>' => "&gt;",
                '&' => "&amp;",
                '"' => "&quot;",
                '\'' => "&#39;",
                c if is_hidden(c) => "",
                _ => continue,
            };
            dest.write_str(&text[plain..at])?;
            plain = at + c.len_utf8();
            if entity.is_empty() {
                write!(dest, "{}", c.escape_unicode())?;
            } else {
                dest.write_str(entity)?;
            }
        }
        dest.write_str(&text[plain..])
    }
}

#[cfg(test)]
mod tests {
    use askama::filters::Escaper as _;
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let mut out = String::new();
        Shown.write_escaped_str(&mut out, text).unwrap();
        out
    }

    #[test]
    fn nothing_reads_as_something_else() {
        assert_eq!(
            shown("<script>\"'&\u{202e}\u{1b}[2Jx\u{200b}\r\n\ty é 😀"),
            "&lt;script&gt;&quot;&#39;&amp;\\u{202e}\\u{1b}[2Jx\\u{200b}\\u{d}\n\ty é 😀"
        );
        assert_eq!(visible("a\u{e0041}b\u{2066}c"), "a\\u{e0041}b\\u{2066}c");
        assert_eq!(one_line("a\nb\tc"), "a\\nb\\tc");
        assert!(matches!(visible("plain"), Cow::Borrowed("plain")));
    }

    proptest! {
        #[test]
        fn no_markup_and_nothing_hidden_comes_out(text in "\\PC{0,20}.{0,20}") {
            let out = shown(&text);
            prop_assert!(!out.contains(['<', '>', '"', '\'']) && !out.contains(is_hidden));
        }
    }
}
