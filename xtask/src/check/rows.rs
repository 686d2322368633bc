//! The direction of imports: a module names only modules of rows above its own.
//!
//! Found are `crate::x`, `crate::{x, y::z}`, and `super::x` where that reaches the crate's root. A path made by a
//! macro is not found; the house has none.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, bail};

use super::source;

/// The rows, lowest first. `model` is the vocabulary that the rest of the first row may use too; in the last,
/// arguments name the wiring and `main` names both.
const ROWS: [&[&str]; 14] = [
    &["model"],
    &["io", "clock"],
    &["config"],
    &["telemetry", "drain"],
    &[
        "redirect",
        "identity",
        "policy",
        "mask",
        "credential",
        "ledger",
        "tls",
    ],
    &["approval"],
    &["gate"],
    &["protocol"],
    &["detect"],
    &["connection"],
    &["ship", "console", "doctor", "reconcile", "selftest"],
    &["app"],
    &["cli"],
    &["main"],
];

pub fn check() -> anyhow::Result<()> {
    let src = Path::new("agent/src");
    let mut wrong = Vec::new();
    let mut names = 0;
    for path in source::files(src)? {
        let module: Vec<String> = module_path(path.strip_prefix(src)?);
        let Some(own) = module.first().filter(|m| *m != "lib") else {
            continue;
        };
        if source::is_test(&path) {
            continue;
        }
        let Some(row) = row(own) else {
            wrong.push(format!(
                "{}: module `{own}` is in no row; DESIGN says which it belongs to",
                path.display()
            ));
            continue;
        };
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for name in imports(&source::code_only(source::without_tests(&text)), module.len()) {
            names += 1;
            match self::row(&name) {
                _ if name == *own => {}
                Some(other) if other < row => {}
                Some(other) if other == row => {
                    wrong.push(format!(
                        "{}: `{own}` names `{name}`, of its own row",
                        path.display()
                    ));
                }
                Some(_) => wrong.push(format!(
                    "{}: `{own}` names `{name}`, of a later row",
                    path.display()
                )),
                // A macro or an item of the crate's root.
                None => {}
            }
        }
    }
    if !wrong.is_empty() {
        bail!("\n      {}", wrong.join("\n      "));
    }
    eprintln!("    {names} imports between modules, all upwards");
    Ok(())
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// `mask/scan.rs` is `[mask, scan]`, `mask/mod.rs` is `[mask]`.
fn module_path(path: &Path) -> Vec<String> {
    let mut parts: Vec<_> = path
        .with_extension("")
        .components()
        .map(|c| c.as_os_str().to_string_lossy().into_owned())
        .collect();
    if parts.last().is_some_and(|p| p == "mod") {
        parts.pop();
    }
    parts
}

/// The top-level modules that code names; `depth` is how deep below the root the file's module is.
fn imports(code: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for root in ["crate", "portcullis"] {
        for at in starts(code, root) {
            names_after(&code[at + root.len()..], &mut found);
        }
    }
    let up = vec!["super"; depth].join("::");
    for at in starts(code, &up) {
        names_after(&code[at + up.len()..], &mut found);
    }
    found.remove("super");
    found
}

/// Where a path starts with these words: not in the middle of another path or word.
fn starts<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|m| m.0).filter(move |at| {
        let before = code[..*at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            && code[at + word.len()..].trim_start().starts_with("::")
    })
}

/// The first segments after `::`: one name, or one for each member of a group.
fn names_after(rest: &str, found: &mut BTreeSet<String>) {
    let Some(rest) = rest.trim_start().strip_prefix("::") else {
        return;
    };
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        found.extend(first_word(rest));
        return;
    };
    let (mut depth, mut member) = (1, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (depth == 1 && c == ',') || depth == 0 {
            found.extend(first_word(group[member..at].trim_start()));
            member = at + 1;
        }
        if depth == 0 {
            return;
        }
    }
}

fn first_word(text: &str) -> Option<String> {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str, depth: usize) -> Vec<String> {
        imports(code, depth).into_iter().collect()
    }

    #[test]
    fn every_form_is_seen() {
        assert_eq!(
            found("use crate::model::X; let y = crate::gate::Gate::new();", 1),
            ["gate", "model"]
        );
        assert_eq!(
            found("use crate::{io, model::{A, B}, tls::{self, x::{Y}}, };", 1),
            ["io", "model", "tls"]
        );
        assert_eq!(found("use super::ledger::X;", 1), ["ledger"]);
        assert_eq!(found("use super::ledger::X;", 2), Vec::<String>::new());
        assert_eq!(found("use super::super::ledger::X;", 2), ["ledger"]);
        assert_eq!(
            found("use other::crate_thing; mycrate::x(); $crate::y!()", 1),
            ["y"]
        );
    }

    #[test]
    fn rows_name_each_module_once() {
        let all: Vec<_> = ROWS.iter().flat_map(|r| r.iter()).collect();
        assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len());
    }
}
