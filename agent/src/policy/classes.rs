//! Which data classes a set of `reveal` policies can be about, so that no others have to be asked for.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::rule::Rule;

/// Data classes by name, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Classes {
    /// Only these.
    Some(BTreeSet<Box<str>>),
    /// Any class.
    All,
}

impl Default for Classes {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Classes {
    /// Whether the class can be permitted.
    #[must_use]
    pub fn may(&self, class: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.contains(class),
        }
    }

    /// The classes that are named.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::Some(names) => Some(names),
            Self::All => None,
        }
        .into_iter()
        .flatten()
        .map(|n| &**n)
    }

    /// Adds what a rule can be about: the classes that a condition compares `context.class` with, where one does so
    /// alone or as a part of `&&`; otherwise all.
    pub fn add(&mut self, rule: &Rule) {
        let Self::Some(names) = self else { return };
        let json = rule.policy.to_json().unwrap_or_default();
        let only = json["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|c| c["kind"] == "when")
            .find_map(|c| compared(&c["body"]));
        match only {
            Some(only) => names.extend(only),
            None => *self = Self::All,
        }
    }
}

/// The classes that an expression is true for at most, if it is that simple.
fn compared(node: &Json) -> Option<Vec<Box<str>>> {
    if let Some(both) = node.get("&&") {
        return compared(&both["left"]).or_else(|| compared(&both["right"]));
    }
    if let Some(equal) = node.get("==") {
        let (left, right) = (&equal["left"], &equal["right"]);
        return if is_class(left) {
            text(right).map(|t| vec![t])
        } else if is_class(right) {
            text(left).map(|t| vec![t])
        } else {
            None
        };
    }
    let contains = node.get("contains")?;
    if !is_class(&contains["right"]) {
        return None;
    }
    contains["left"]["Set"].as_array()?.iter().map(text).collect()
}

fn is_class(node: &Json) -> bool {
    let member = &node["."];
    member["attr"] == "class" && member["left"]["Var"] == "context"
}

fn text(node: &Json) -> Option<Box<str>> {
    node["Value"].as_str().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{fixture::file, rule::rules},
        *,
    };

    fn of(condition: &str) -> Classes {
        let text = format!("permit(principal, action == Action::\"reveal\", resource) {condition};");
        let (rules, _) = rules(&[file("a.cedar", &text)]).unwrap();
        let mut classes = Classes::default();
        classes.add(&rules[0]);
        classes
    }

    #[test]
    fn simple_comparisons_are_seen() {
        for condition in [
            "when { context.class == \"email\" }",
            "when { \"email\" == context.class }",
            "when { context.complete && context.class == \"email\" && context.process.uid == 0 }",
            "unless { context.complete } when { [\"email\"].contains(context.class) }",
        ] {
            assert_eq!(
                of(condition),
                Classes::Some(["email".into()].into()),
                "{condition}"
            );
        }
    }

    #[test]
    fn anything_else_is_all() {
        for condition in [
            "",
            "unless { context.class == \"email\" }",
            "when { context.class == \"email\" || context.complete }",
            "when { !(context.class == \"email\") }",
            "when { context.class like \"e*\" }",
        ] {
            assert_eq!(of(condition), Classes::All, "{condition}");
        }
    }
}
