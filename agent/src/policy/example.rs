//! Examples: questions with the answers that their authors expect, beside the policies, run as tests.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{PolicySet, Question};
use crate::model::{ClassTable, Decision, Effect};

/// One example.
#[derive(Clone, Debug)]
pub struct Example {
    /// The file.
    pub file: PathBuf,
    /// What it shows.
    pub name: String,
    /// What is asked.
    pub question: Question,
    /// What is to come out.
    pub expect: Expect,
}

/// What is to come out. What is left out may be anything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// `allow`, `hold` or `deny`.
    pub decision: String,
    /// The reason's word, e.g. `policy_forbid`.
    #[serde(default)]
    pub reason: Option<String>,
    /// Ids of exactly the policies that determine it, in any order.
    #[serde(default)]
    pub policies: Option<Vec<String>>,
    /// Data classes that must be masked.
    #[serde(default)]
    pub masked: Vec<String>,
    /// Data classes that must not be masked.
    #[serde(default)]
    pub revealed: Vec<String>,
    /// Exactly the groups that are asked for approval, in any order.
    #[serde(default)]
    pub approval: Option<Vec<String>>,
}

/// Why examples cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ExampleError {
    /// A file or directory cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {message}")]
    Form {
        /// Which.
        path: PathBuf,
        /// Where and what.
        message: String,
    },
}

/// The examples in `examples/*.toml` and `examples/*.json` of a policy directory, by file name; none without that
/// directory.
///
/// # Errors
/// When a file cannot be read, is not TOML or JSON, or has unknown keys.
pub fn examples(dir: &Path) -> Result<Vec<Example>, ExampleError> {
    let dir = dir.join("examples");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| ExampleError::Read { path, source }
    };
    let mut paths = Vec::new();
    for item in std::fs::read_dir(&dir).map_err(read(&dir))? {
        paths.push(item.map_err(read(&dir))?.path());
    }
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let json = path.extension().is_some_and(|e| e == "json");
        if json || path.extension().is_some_and(|e| e == "toml") {
            let text = std::fs::read_to_string(&path).map_err(read(&path))?;
            found.extend(parse(&path, &text, json)?);
        }
    }
    Ok(found)
}

fn parse(path: &Path, text: &str, json: bool) -> Result<Vec<Example>, ExampleError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        example: Vec<serde_json::Map<String, serde_json::Value>>,
    }
    let form = |message: String| ExampleError::Form {
        path: path.into(),
        message,
    };
    let file: File = if json {
        serde_json::from_str(text).map_err(|e| form(e.to_string()))?
    } else {
        toml::from_str(text).map_err(|e| form(e.to_string()))?
    };
    let one = |(at, mut map): (usize, serde_json::Map<String, serde_json::Value>)| {
        let name = match map.remove("name") {
            Some(serde_json::Value::String(name)) => name,
            _ => return Err(form(format!("example {} has no name", at + 1))),
        };
        let of = |e: serde_json::Error| form(format!("'{name}': {e}"));
        let expect = map
            .remove("expect")
            .ok_or_else(|| form(format!("'{name}' has no expect")))?;
        Ok(Example {
            file: path.into(),
            expect: serde_json::from_value(expect).map_err(of)?,
            question: serde_json::from_value(map.into()).map_err(of)?,
            name,
        })
    };
    file.example.into_iter().enumerate().map(one).collect()
}

impl Example {
    /// Asks it. No text: as expected; otherwise each difference.
    #[must_use]
    pub fn run(&self, set: &PolicySet) -> Vec<String> {
        let asked = match self.question.ask() {
            Ok(asked) => asked,
            Err(error) => return vec![error.to_string()],
        };
        let expect = &self.expect;
        let mut names: Vec<&str> = expect
            .masked
            .iter()
            .chain(&expect.revealed)
            .map(|n| &**n)
            .collect();
        names.sort_unstable();
        names.dedup();
        let Some(classes) = ClassTable::new(names.into_iter().map(Into::into)) else {
            return vec![format!("it names more than {} data classes", ClassTable::MAX)];
        };
        expect.differences(&set.decide(&asked.query(&classes)), &classes)
    }
}

impl Expect {
    fn differences(&self, decision: &Decision, classes: &ClassTable) -> Vec<String> {
        let mut found = Vec::new();
        let mut differ = |what: &str, expected: String, got: String| {
            if expected != got {
                found.push(format!("{what}: expected {expected}, got {got}"));
            }
        };
        let known = [Effect::Allow, Effect::Hold, Effect::Deny].map(Effect::as_str);
        if known.contains(&&*self.decision) {
            differ("decision", self.decision.clone(), decision.effect.as_str().into());
        } else {
            differ("decision", known.join(" or "), self.decision.clone());
        }
        if let Some(reason) = &self.reason {
            differ("reason", reason.clone(), decision.reason.to_string());
        }
        if let Some(policies) = &self.policies {
            differ("policies", list(policies), list(&decision.policies));
        }
        if let Some(groups) = &self.approval {
            differ("approval", list(groups), list(&decision.approval));
        }
        for (class, name) in classes.iter() {
            let masked = decision.obligations.mask.contains(class);
            let word = |masked| if masked { "masked" } else { "revealed" };
            let expected = self.masked.iter().any(|m| **m == **name);
            differ(name, word(expected).into(), word(masked).into());
        }
        if let (false, Some(message)) = (found.is_empty(), &decision.message) {
            found.push(format!("message: {message}"));
        }
        found
    }
}

fn list<T: AsRef<str>>(words: &[T]) -> String {
    let mut words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    words.sort_unstable();
    format!("[{}]", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_packs_do_as_their_examples_say() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        let mut packs = 0;
        for item in std::fs::read_dir(root).unwrap() {
            let dir = item.unwrap().path();
            if !dir.is_dir() {
                continue;
            }
            packs += 1;
            let set = PolicySet::load(std::slice::from_ref(&dir)).unwrap();
            assert!(set.warnings().is_empty(), "{:?}", set.warnings());
            let examples = examples(&dir).unwrap();
            assert!(examples.len() >= 3, "{}", dir.display());
            // A policy that decides in no example is one whose effect nobody has seen.
            for rule in set.rules() {
                let shown = examples.iter().any(|e| match &e.expect.policies {
                    Some(ids) => ids.iter().any(|id| **id == *rule.id),
                    None => false,
                });
                let reveals = rule.text.contains("Action::\"reveal\"");
                assert!(shown || reveals, "{}: no example of '{}'", dir.display(), rule.id);
            }
            for example in examples {
                let differences = example.run(&set);
                assert!(
                    differences.is_empty(),
                    "{}: {}: {differences:?}",
                    dir.display(),
                    example.name
                );
            }
        }
        assert!(packs >= 4);
    }

    #[test]
    fn differences_are_named() {
        let text = "[[example]]\nname = \"x\"\nurl = \"https://a/\"\nexpect = { decision = \"allow\", policies = [\"p\"], revealed = [\"email\"] }";
        let examples = parse(Path::new("x.toml"), text, false).unwrap();
        let found = examples[0].run(&PolicySet::new(&[]).unwrap());
        assert_eq!(
            found,
            [
                "decision: expected allow, got deny",
                "policies: expected [p], got []",
                "email: expected revealed, got masked"
            ]
        );
    }

    #[test]
    fn typing_errors_are_refused() {
        for text in [
            "[[exampel]]",
            "[[example]]\nname = \"x\"\nurll = \"https://a/\"\nexpect = { decision = \"allow\" }",
            "[[example]]\nname = \"x\"\nurl = \"https://a/\"\nexpect = { decison = \"allow\" }",
            "[[example]]\nname = \"x\"\nurl = \"https://a/\"",
        ] {
            assert!(parse(Path::new("x.toml"), text, false).is_err(), "{text}");
        }
        let text = "[[example]]\nname = \"x\"\nurl = \"https://a/\"\nexpect = { decision = \"alow\" }";
        let examples = parse(Path::new("x.toml"), text, false).unwrap();
        assert_eq!(examples[0].run(&PolicySet::new(&[]).unwrap()).len(), 1);
    }
}
