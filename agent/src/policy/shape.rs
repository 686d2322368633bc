//! What the schema says of each action's context, and which part of it a policy set can see at all.
//!
//! Policies are validated strictly, so they can only name members that the schema has. Therefore a member that no
//! policy names cannot change a decision: it is neither handed to Cedar nor part of a cache key. Names are compared
//! without their place (`path` anywhere keeps `path` everywhere), which errs toward keeping too much.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

/// The shape of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `Bool`
    Bool,
    /// `Long`
    Long,
    /// `String`
    String,
    /// `ipaddr`
    Ip,
    /// `datetime`
    Time,
    /// `Set<..>`
    Set(Box<Shape>),
    /// A record.
    Record(Members),
}

/// A record's members by name.
pub type Members = BTreeMap<Box<str>, Member>;

/// A record's member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its shape.
    pub shape: Shape,
    /// Whether it is always there.
    pub required: bool,
}

/// The attribute names that policies use.
#[derive(Clone, Debug, Default)]
pub struct Mentions {
    names: BTreeSet<Box<str>>,
    /// A record is used as a whole somewhere (compared, put into a set): everything counts as used.
    whole: bool,
}

impl Mentions {
    /// Adds what a policy's condition uses, from Cedar's JSON form of it; `records` names the members that are
    /// records themselves.
    pub fn add(&mut self, condition: &Json, records: &BTreeSet<Box<str>>) {
        self.walk(condition, false, records);
    }

    fn walk(&mut self, node: &Json, member_of: bool, records: &BTreeSet<Box<str>>) {
        let Json::Object(map) = node else {
            if let Json::Array(items) = node {
                items.iter().for_each(|i| self.walk(i, false, records));
            }
            return;
        };
        for (key, value) in map {
            match key.as_str() {
                "." | "has" => {
                    self.attribute(&value["attr"], key == "." && !member_of, records);
                    self.walk(&value["left"], true, records);
                }
                "Var" => self.whole |= value == "context" && !member_of,
                // A record literal's keys are the author's, and may look like any of these words.
                "Record" => value
                    .as_object()
                    .into_iter()
                    .flatten()
                    .for_each(|(_, v)| self.walk(v, false, records)),
                // A literal may be any JSON, and names no attribute.
                "Value" => {}
                _ => self.walk(value, false, records),
            }
        }
    }

    fn attribute(&mut self, name: &Json, whole: bool, records: &BTreeSet<Box<str>>) {
        let names: &[Json] = match name {
            Json::Array(path) => path,
            one => std::slice::from_ref(one),
        };
        for name in names.iter().filter_map(Json::as_str) {
            self.names.insert(name.into());
            self.whole |= whole && records.contains(name);
        }
    }

    /// Whether a policy can see an attribute of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.whole || self.names.contains(name)
    }

    /// The part of a record that policies can see.
    #[must_use]
    pub fn prune(&self, members: &Members) -> Members {
        members
            .iter()
            .filter(|(name, _)| self.has(name))
            .map(|(name, member)| {
                let shape = match &member.shape {
                    Shape::Record(inner) => Shape::Record(self.prune(inner)),
                    other => other.clone(),
                };
                let required = member.required;
                (name.clone(), Member { shape, required })
            })
            .collect()
    }
}

/// Reads an action's context from the schema in JSON form.
///
/// # Errors
/// With what it does not understand: a kind of type that no value of ours has.
pub fn context(schema: &Json, action: &str) -> Result<Members, String> {
    let context = &schema["actions"][action]["appliesTo"]["context"];
    match shape(context, &schema["commonTypes"], 0)? {
        Shape::Record(members) => Ok(members),
        other => Err(format!("the context of {action} is {other:?}, not a record")),
    }
}

/// Names of all members that are records, anywhere in these.
pub fn records(members: &Members, into: &mut BTreeSet<Box<str>>) {
    for (name, member) in members {
        let inner = match &member.shape {
            Shape::Set(of) => of,
            other => other,
        };
        if let Shape::Record(inner) = inner {
            into.insert(name.clone());
            records(inner, into);
        }
    }
}

fn shape(node: &Json, common: &Json, depth: usize) -> Result<Shape, String> {
    if depth > 16 {
        return Err("types nest deeper than 16".into());
    }
    match node["type"].as_str().unwrap_or_default() {
        "Record" => {
            let mut members = Members::new();
            for (name, member) in node["attributes"].as_object().into_iter().flatten() {
                let required = member["required"].as_bool().unwrap_or(true);
                let shape = shape(member, common, depth + 1)?;
                members.insert(name.as_str().into(), Member { shape, required });
            }
            Ok(Shape::Record(members))
        }
        "Set" => Ok(Shape::Set(Box::new(shape(&node["element"], common, depth + 1)?))),
        "EntityOrCommon" | "Extension" => named(node["name"].as_str().unwrap_or_default(), common, depth),
        "String" => Ok(Shape::String),
        "Long" => Ok(Shape::Long),
        "Boolean" => Ok(Shape::Bool),
        other => named(other, common, depth),
    }
}

fn named(name: &str, common: &Json, depth: usize) -> Result<Shape, String> {
    match name.trim_start_matches("__cedar::") {
        "String" => Ok(Shape::String),
        "Long" => Ok(Shape::Long),
        "Bool" | "Boolean" => Ok(Shape::Bool),
        "ipaddr" => Ok(Shape::Ip),
        "datetime" => Ok(Shape::Time),
        name if common[name].is_object() => shape(&common[name], common, depth + 1),
        name => Err(format!("a context cannot have a value of type '{name}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{fixture::set, schema::schema},
        Shape,
    };

    /// The names left of `http:request`'s context, dotted.
    fn left(condition: &str) -> String {
        let set = set(&format!(
            "permit(principal, action == Action::\"http:request\", resource) {condition};"
        ));
        let mut names = Vec::new();
        for (name, member) in &set.contexts["http:request"] {
            match &member.shape {
                Shape::Record(inner) => names.extend(inner.keys().map(|k| format!("{name}.{k}"))),
                _ => names.push(name.to_string()),
            }
        }
        names.join(" ")
    }

    #[test]
    fn only_what_is_mentioned_is_left() {
        assert_eq!(left(""), "");
        assert_eq!(left("when { context.http.path like \"/a*\" }"), "http.path");
        assert_eq!(left("when { context[\"http\"][\"path\"] == \"/\" }"), "http.path");
        assert_eq!(left("when { context.http has query }"), "http.query");
        assert_eq!(
            left("when { context has approval.approver }"),
            "approval.approver"
        );
        assert_eq!(
            left("when { {\"Value\": context.access, \"has\": true, \".\": 1}.Value == \"read\" }"),
            "access"
        );
    }

    #[test]
    fn sets_are_left_where_they_are_mentioned() {
        let set = set("permit(principal, action == Action::\"sql:statement\", resource)
            when { context.sql.verbs.contains(\"select\") && !context.sql.sensitive.containsAny([\"email\"]) };
            permit(principal, action == Action::\"reveal\", resource)
            when { context has sql && context.sql.functions.isEmpty() };");
        let words = Shape::Set(Box::new(Shape::String));
        for action in ["sql:statement", "reveal"] {
            let Shape::Record(sql) = &set.contexts[action]["sql"].shape else {
                panic!("{action}");
            };
            let left: Vec<_> = sql.iter().map(|(name, m)| (&**name, &m.shape)).collect();
            assert_eq!(
                left,
                [("functions", &words), ("sensitive", &words), ("verbs", &words)],
                "{action}"
            );
        }
        assert!(set.contexts["http:request"].is_empty());
    }

    #[test]
    fn a_record_used_as_a_whole_leaves_everything() {
        let full = &schema().unwrap().actions["http:request"].context;
        for condition in [
            "when { context.http == context.http }",
            "when { [context.process].contains(context.process) }",
            "when { context == context }",
            "when { (if context.complete then context else context).access == \"read\" }",
        ] {
            let set = set(&format!(
                "permit(principal, action == Action::\"http:request\", resource) {condition};"
            ));
            assert_eq!(&set.contexts["http:request"], full, "{condition}");
        }
    }
}
