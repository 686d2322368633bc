//! The mapping from controls (NIST SP 800-53 rev 5) to what the records show of each, as data.
//!
//! One file per control, in `controls/`; its README.md says how to write one. What is built in can be added to or
//! replaced by files of an organisation's own, without code.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The most bytes that one control's file may have.
const FILE_MAX: u64 = 256 << 10;
/// The most files that a directory of overlays may have.
const FILES_MAX: usize = 1_000;
/// The most queries that one control may have.
const QUERIES_MAX: usize = 50;
/// The most characters of an id, and of a query's name.
const NAME_MAX: usize = 64;

/// One control, and what the records can say of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Its id in its catalogue, e.g. `AC-2` or `AC-2(1)`.
    pub id: String,
    /// What it is about, in our own words.
    pub title: String,
    /// The family that it belongs to.
    pub family: String,
    /// What this program claims to do for it.
    pub claim: String,
    /// What an assessor must get elsewhere, one sentence each.
    pub not_shown: Vec<String>,
    /// The questions whose answers support the claim.
    #[serde(rename = "query")]
    pub queries: Vec<Query>,
}

/// One question to the records.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// A name for it, unique within its control: lower-case words with underscores.
    pub name: String,
    /// The question, for a person.
    pub question: String,
    /// The view (or table) of an export that answers it.
    pub view: String,
    /// One SELECT over the views and tables of an export.
    pub sql: String,
    /// Whether a row of it speaks against the claim, or at least needs an explanation. Otherwise rows support the claim.
    #[serde(default)]
    pub exception: bool,
}

/// Why a file of controls cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The directory or file cannot be read.
    #[error("{path}: {why}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It is not TOML, or has not the keys that it should have.
    #[error("{path}: {why}")]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
    /// Two files of one directory speak of one control.
    #[error("{path}: control {id} is in {other} as well; one control has one file")]
    Twice {
        /// The second file.
        path: PathBuf,
        /// The control.
        id: String,
        /// The first file.
        other: PathBuf,
    },
    /// No control has this id.
    #[error("there is no control {id}; there is: {known}")]
    Unknown {
        /// What was asked for.
        id: String,
        /// The ids that there are.
        known: String,
    },
}

macro_rules! built_in {
    ($($id:literal),* $(,)?) => {
        &[$(($id, include_str!(concat!("controls/", $id, ".toml")))),*]
    };
}

/// File name without `.toml`, and text.
const BUILT_IN: &[(&str, &str)] = built_in![
    "AC-2", "AC-3", "AC-6", "AU-2", "AU-3", "AU-4", "AU-5", "AU-6", "AU-9", "AU-10", "AU-11", "AU-12",
    "CM-3", "IA-2", "IA-5", "IA-9", "SC-7", "SC-8", "SI-4", "SI-7",
];

/// The controls built in, in the order of their families and numbers.
#[must_use]
pub fn controls() -> Vec<Control> {
    // A test reads each of them: none is left out here.
    let parsed = BUILT_IN.iter().filter_map(|(_, text)| parse(text).ok());
    parsed.collect()
}

/// The controls built in, with those of each directory added, or in the place of those with the same id.
///
/// # Errors
/// When a directory or file cannot be read, or a file is not one control's.
pub fn with_overlays(dirs: &[PathBuf]) -> Result<Vec<Control>, ControlError> {
    let mut all: BTreeMap<SortKey, Control> = BTreeMap::new();
    for control in controls() {
        all.insert(SortKey::of(&control.id), control);
    }
    for dir in dirs {
        for control in overlay(dir)? {
            all.insert(SortKey::of(&control.id), control);
        }
    }
    Ok(all.into_values().collect())
}

/// Those of `all` that `ids` names (in any case), each once and in the order of `all`; all of them where `ids` is empty.
///
/// # Errors
/// When no control has an id.
pub fn select(all: Vec<Control>, ids: &[String]) -> Result<Vec<Control>, ControlError> {
    for id in ids {
        if !all.iter().any(|c| c.id.eq_ignore_ascii_case(id)) {
            let known: Vec<&str> = all.iter().map(|c| &*c.id).collect();
            return Err(ControlError::Unknown {
                id: id.clone(),
                known: known.join(", "),
            });
        }
    }
    let wanted = |c: &Control| ids.is_empty() || ids.iter().any(|id| c.id.eq_ignore_ascii_case(id));
    Ok(all.into_iter().filter(wanted).collect())
}

/// The controls of one directory: its files `*.toml`.
fn overlay(dir: &Path) -> Result<Vec<Control>, ControlError> {
    let unreadable = |path: &Path, why: String| ControlError::Read {
        path: path.into(),
        why,
    };
    let mut files = Vec::new();
    for file in std::fs::read_dir(dir).map_err(|e| unreadable(dir, e.to_string()))? {
        let path = file.map_err(|e| unreadable(dir, e.to_string()))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(unreadable(dir, format!("it has more than {FILES_MAX} files")));
        }
    }
    files.sort();
    let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut all = Vec::new();
    for path in files {
        let text = read(&path).map_err(|why| unreadable(&path, why))?;
        let control = parse(&text).map_err(|why| ControlError::Form {
            path: path.clone(),
            why,
        })?;
        if let Some(other) = seen.insert(control.id.to_ascii_uppercase(), path.clone()) {
            return Err(ControlError::Twice {
                path,
                id: control.id,
                other,
            });
        }
        all.push(control);
    }
    Ok(all)
}

fn read(path: &Path) -> Result<String, String> {
    use std::{io::Read as _, os::unix::fs::OpenOptionsExt as _};
    // A pipe would wait for its writer.
    let mut options = std::fs::OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.open(path).map_err(|e| e.to_string())?;
    if !file.metadata().is_ok_and(|m| m.is_file()) {
        return Err("it is not a file".into());
    }
    let mut text = String::new();
    file.take(FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("it is larger than {FILE_MAX} bytes"));
    }
    Ok(text)
}

fn parse(text: &str) -> Result<Control, String> {
    let mut control: Control = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
    tidy(&mut control);
    check(&control)?;
    Ok(control)
}

/// Line ends at the edges are how files are written, not what they say.
fn tidy(control: &mut Control) {
    let trim = |text: &mut String| *text = text.trim().to_owned();
    for text in [
        &mut control.id,
        &mut control.title,
        &mut control.family,
        &mut control.claim,
    ] {
        trim(text);
    }
    control.not_shown.iter_mut().for_each(trim);
    for query in &mut control.queries {
        for text in [&mut query.question, &mut query.view, &mut query.sql] {
            trim(text);
        }
    }
}

fn check(control: &Control) -> Result<(), String> {
    if !is_id(&control.id) {
        return Err(format!(
            "id '{}' is not like AC-2, AC-2(1) or CC6.1: a letter, then letters, digits, '-', '.', '_', at most \
             {NAME_MAX}, then perhaps a number in parentheses",
            control.id
        ));
    }
    for (key, text) in [
        ("title", &control.title),
        ("family", &control.family),
        ("claim", &control.claim),
    ] {
        if text.is_empty() {
            return Err(format!("{key} is empty"));
        }
    }
    if control.not_shown.is_empty() || control.not_shown.iter().any(String::is_empty) {
        return Err("not_shown says nothing: write what an assessor must get elsewhere".into());
    }
    if control.queries.is_empty() || control.queries.len() > QUERIES_MAX {
        return Err(format!("a control has 1 to {QUERIES_MAX} [[query]]"));
    }
    let mut names = std::collections::BTreeSet::new();
    for query in &control.queries {
        let name = &query.name;
        if !is_word(name) {
            return Err(format!(
                "query name '{name}' is not made of lower-case letters, digits and '_', at most {NAME_MAX}"
            ));
        }
        if !names.insert(name) {
            return Err(format!("query '{name}' is there twice"));
        }
        if query.question.is_empty() || query.sql.is_empty() {
            return Err(format!("query '{name}': question and sql are not empty"));
        }
        if !is_word(&query.view) {
            return Err(format!("query '{name}': '{}' is no view's name", query.view));
        }
    }
    Ok(())
}

fn is_id(id: &str) -> bool {
    let (base, rest) = id.split_at(id.find('(').unwrap_or(id.len()));
    let number = |n: &str| (1..=3).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit());
    let enhancement = rest.is_empty()
        || rest
            .strip_prefix('(')
            .and_then(|r| r.strip_suffix(')'))
            .is_some_and(number);
    enhancement
        && base.len() <= NAME_MAX
        && base.starts_with(|c: char| c.is_ascii_alphabetic())
        && base
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

fn is_word(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Orders ids as people do: AU-9 before AU-10, whatever their case.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SortKey(Vec<(String, u64)>);

impl SortKey {
    fn of(id: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = id;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (word, after) = rest.split_at(digits);
            let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
            let (number, after) = after.split_at(end);
            parts.push((word.to_ascii_uppercase(), number.parse().unwrap_or(0)));
            rest = after;
        }
        Self(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_built_in_file_is_a_control_and_none_is_left_out() {
        for (name, text) in BUILT_IN {
            let control = parse(text).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(&control.id, name);
        }
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ledger/controls");
        let files = std::fs::read_dir(dir).unwrap();
        let tomls = files.filter(|f| {
            f.as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|e| e == "toml")
        });
        assert_eq!(
            (tomls.count(), controls().len()),
            (BUILT_IN.len(), BUILT_IN.len())
        );
        let keys: Vec<SortKey> = controls().iter().map(|c| SortKey::of(&c.id)).collect();
        assert!(keys.is_sorted());
    }

    const OWN: &str = r#"
id = "X-1(2)"
title = "t"
family = "f"
claim = "c"
not_shown = ["n"]
[[query]]
name = "q"
question = "how many?"
view = "operations"
sql = "SELECT 1"
"#;

    #[test]
    fn overlays_add_and_replace() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("own.toml", OWN);
        write("ac-2.toml", &OWN.replace("X-1(2)", "ac-2"));
        write("notes.txt", "not a control");
        let all = with_overlays(&[dir.path().into()]).unwrap();
        assert_eq!(all.len(), BUILT_IN.len() + 1);
        assert_eq!((&*all[0].id, &*all[0].claim), ("ac-2", "c"));
        assert_eq!(all.last().unwrap().id, "X-1(2)");
        let chosen = select(all.clone(), &["x-1(2)".into(), "AU-10".into(), "au-10".into()]).unwrap();
        let ids: Vec<_> = chosen.iter().map(|c| &*c.id).collect();
        assert_eq!(ids, ["AU-10", "X-1(2)"]);
        let error = select(all, &["AC-99".into()]).unwrap_err().to_string();
        assert!(
            error.starts_with("there is no control AC-99; there is: ac-2, AC-3"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_with_an_overlay_is_said() {
        let wrong = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("own.toml"), text).unwrap();
            with_overlays(&[dir.path().into()]).unwrap_err().to_string()
        };
        for (from, to, says) in [
            ("claim = \"c\"", "", "missing field `claim`"),
            ("claim = \"c\"", "claims = \"c\"", "unknown field `claims`"),
            ("claim = \"c\"", "claim = \" \"", "claim is empty"),
            ("[\"n\"]", "[]", "what an assessor must get elsewhere"),
            ("X-1(2)", "../x", "is not like AC-2"),
            ("X-1(2)", "X-1(2", "is not like AC-2"),
            ("name = \"q\"", "name = \"Q 1\"", "lower-case"),
            ("view = \"operations\"", "view = \"a b\"", "no view's name"),
            ("title = \"t\"", "title = ", "TOML parse error at line 3"),
        ] {
            let error = wrong(&OWN.replace(from, to));
            assert!(error.contains("own.toml: ") && error.contains(says), "{error}");
        }
        let twice = format!(
            "{OWN}{}",
            OWN.split_once("[[query]]")
                .map(|(_, q)| format!("[[query]]{q}"))
                .unwrap()
        );
        assert!(wrong(&twice).contains("query 'q' is there twice"));
        assert!(wrong(&"#".repeat(300_000)).contains("larger than"));
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.toml", "b.toml"] {
            std::fs::write(dir.path().join(name), OWN).unwrap();
        }
        let error = with_overlays(&[dir.path().into()]).unwrap_err().to_string();
        assert!(error.contains("b.toml: control X-1(2) is in "), "{error}");
        assert!(with_overlays(&["/nonexistent/overlays".into()]).is_err());
    }
}
