//! Rust source as the checks see it: without comments, literals and tests.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// All `.rs` files below a directory, sorted.
pub fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    dirs.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a file holds nothing but tests or test material, by its name.
pub fn is_test(path: &Path) -> bool {
    path.components().any(|c| {
        let part = c.as_os_str().to_string_lossy();
        let part = part.strip_suffix(".rs").unwrap_or(&part);
        part == "tests" || part == "fixtures" || part.ends_with("_tests")
    })
}

/// The text up to the first `#[cfg(test)]` module: the house keeps tests at the end of a file.
pub fn without_tests(text: &str) -> &str {
    let mut from = 0;
    while let Some(at) = text[from..].find("#[cfg(test)]") {
        let at = from + at;
        let rest = text[at + "#[cfg(test)]".len()..].trim_start();
        // `mod tests;` stands at the top of a file and holds nothing here; one with a body is the end.
        let head = rest.split(['{', ';']).next().unwrap_or_default();
        if head.contains("mod ") && rest[head.len()..].starts_with('{') {
            return &text[..at];
        }
        from = at + 1;
    }
    text
}

/// Replaces comments and the insides of literals with blanks; every other byte stays where it was.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => line_end(bytes, at),
            b'/' if bytes.get(at + 1) == Some(&b'*') => block_end(bytes, at),
            b'"' => string_end(bytes, at + 1),
            b'r' if starts_raw(bytes, at) => raw_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => {
                out.push(bytes[at]);
                at += 1;
                continue;
            }
        };
        out.extend(
            bytes[at..end]
                .iter()
                .map(|b| if *b == b'\n' { b'\n' } else { b' ' }),
        );
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(bytes.len(), |n| at + n)
}

fn block_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i + 1 < bytes.len() {
        match &bytes[i..i + 2] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], mut i: usize) -> usize {
    while i < bytes.len() {
        match bytes[i] {
            b'\\' => i += 2,
            b'"' => return i + 1,
            _ => i += 1,
        }
    }
    bytes.len()
}

fn starts_raw(bytes: &[u8], at: usize) -> bool {
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    let byte_string = at > 0 && bytes[at - 1] == b'b' && (at < 2 || !bytes[at - 2].is_ascii_alphanumeric());
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    (!word_before || byte_string) && bytes.get(at + 1 + hashes) == Some(&b'"')
}

fn raw_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    let mut end = vec![b'"'];
    end.resize(hashes + 1, b'#');
    let body = at + hashes + 2;
    bytes[body..]
        .windows(end.len())
        .position(|w| w == end)
        .map_or(bytes.len(), |n| body + n + end.len())
}

/// A character literal, or just the quote of a lifetime.
fn char_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => bytes[at + 3..]
            .iter()
            .position(|b| *b == b'\'')
            .map_or(bytes.len(), |n| at + n + 4),
        // Up to four bytes of UTF-8 and the closing quote; a lifetime has no quote there.
        Some(_) => bytes[at + 2..]
            .iter()
            .take(4)
            .position(|b| *b == b'\'')
            .map_or(at + 1, |n| {
                let inside = &bytes[at + 1..at + 2 + n];
                if std::str::from_utf8(inside).is_ok_and(|s| s.chars().count() == 1) {
                    at + n + 3
                } else {
                    at + 1
                }
            }),
        None => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_go() {
        let text = "a // crate::x\n/* crate::y /* */ */ b \"crate::z \\\" crate::\" r#\"crate::\"\"# c '\"' d 'a str";
        let code = code_only(text);
        assert_eq!(
            code.split_whitespace().collect::<Vec<_>>(),
            ["a", "b", "c", "d", "'a", "str"].map(|w| {
                // A lifetime loses its quote, no more.
                w.trim_start_matches('\'')
            })
        );
        assert_eq!(code.len(), text.len());
    }

    #[test]
    fn tests_go() {
        assert_eq!(
            without_tests("a\n#[cfg(test)]\nmod tests;\nb"),
            "a\n#[cfg(test)]\nmod tests;\nb"
        );
        assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\nb"), "a\n");
    }
}
