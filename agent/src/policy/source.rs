//! Policy files, and the single policies in them with their lines.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::PolicyError;

/// One policy file.
#[derive(Clone, Debug)]
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// Its name without directory: what counts for the order, the hash and made-up ids.
    pub name: Arc<str>,
    /// What it says.
    pub text: String,
}

/// The `*.cedar` files right in these directories, by name; of the same name, in the order of the directories.
///
/// # Errors
/// When a directory or file cannot be read, or is not UTF-8.
pub fn files(dirs: &[PathBuf]) -> Result<Vec<File>, PolicyError> {
    let mut found = Vec::new();
    for dir in dirs {
        let read = |source| PolicyError::Read {
            path: dir.clone(),
            source,
        };
        for item in std::fs::read_dir(dir).map_err(read)? {
            let path = item.map_err(read)?.path();
            if path.extension().is_some_and(|e| e == "cedar") {
                found.push(file(&path)?);
            }
        }
    }
    // Names before directories, so that `00-deny.cedar` comes first wherever it lies. The sort is stable.
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn file(path: &Path) -> Result<File, PolicyError> {
    let text = std::fs::read_to_string(path).map_err(|source| PolicyError::Read {
        path: path.into(),
        source,
    })?;
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(File {
        path: path.into(),
        name: name.into(),
        text,
    })
}

/// One policy's text, from its first annotation or word to its semicolon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The text.
    pub text: &'a str,
    /// Where it starts, in bytes.
    pub offset: usize,
}

/// Cuts a file into policies. A semicolon ends one unless it is in a string or a comment: Cedar's grammar has it
/// nowhere else. What follows the last semicolon is one more statement if it is more than comments, so that the parser
/// refuses it.
#[must_use]
pub fn statements(text: &str) -> Vec<Statement<'_>> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut start, mut at) = (None, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at = memchr::memchr2(b'\n', b'\r', &bytes[at..]).map_or(bytes.len(), |n| at + n);
                continue;
            }
            b'"' => {
                start.get_or_insert(at);
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b';' => {
                let from = start.take().unwrap_or(at);
                found.push(Statement {
                    text: &text[from..=at],
                    offset: from,
                });
            }
            b if b.is_ascii_whitespace() => {}
            _ => {
                start.get_or_insert(at);
            }
        }
        at += 1;
    }
    if let Some(from) = start {
        found.push(Statement {
            text: &text[from..],
            offset: from,
        });
    }
    found
}

/// The line, from 1, of a byte.
#[must_use]
pub fn line(text: &str, offset: usize) -> usize {
    let upto = &text.as_bytes()[..offset.min(text.len())];
    memchr::memchr_iter(b'\n', upto).count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_comments_hide_semicolons() {
        let text = "// a; b\npermit(principal, action, resource) // ;\n  when { \"a;\\\"b;\" == \"x\" };\n\n@id(\"é;\")\nforbid(principal,action,resource);\n// end;\n";
        let found = statements(text);
        assert_eq!(found.len(), 2);
        assert_eq!(line(text, found[0].offset), 2);
        assert_eq!(line(text, found[1].offset), 5);
        assert!(found[1].text.starts_with("@id") && found[1].text.ends_with(");"));
    }

    #[test]
    fn what_is_left_over_is_a_statement() {
        assert_eq!(statements("permit(principal,action,resource); junk").len(), 2);
        assert_eq!(statements("permit(principal,action,resource); // fine").len(), 1);
        assert_eq!(statements("\"open").len(), 1);
        assert_eq!(statements(";").len(), 1);
    }

    proptest::proptest! {
        /// Nothing but white space and comments lies between statements, whatever the text.
        #[test]
        fn nothing_is_lost(text in "([a-z\"\\\\;/é\n ]|//){0,40}") {
            let mut at = 0;
            for statement in statements(&text) {
                let between = &text[at..statement.offset];
                proptest::prop_assert!(
                    between.lines().all(|l| l.trim().is_empty() || l.trim().starts_with("//"))
                );
                at = statement.offset + statement.text.len();
            }
            let rest = &text[at..];
            proptest::prop_assert!(rest.lines().all(|l| l.trim().is_empty() || l.trim().starts_with("//")));
        }
    }

    #[test]
    fn names_order_the_files() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(a.path().join("20.cedar"), "").unwrap();
        std::fs::write(b.path().join("10.cedar"), "").unwrap();
        std::fs::write(b.path().join("README.md"), "").unwrap();
        let names: Vec<_> = files(&[a.path().into(), b.path().into()])
            .unwrap()
            .iter()
            .map(|f| f.name.to_string())
            .collect();
        assert_eq!(names, ["10.cedar", "20.cedar"]);
        assert!(files(&["/nonexistent".into()]).is_err());
    }
}
