//! What a time-boxed grant covers: a shape that the approver sees spelled out, and that is matched by what the
//! protocol understood. A member that a shape does not speak of may be anything, so each shape speaks of all that
//! could make an operation worse than the one that was shown.

use std::{collections::BTreeMap, sync::Arc};

use super::show::authority;
use crate::model::{Operation, Value};

/// What must hold of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// The resource is this one.
    Resource,
    /// A member of the protocol's record is the same (absent if it was absent).
    Same(&'static str),
    /// A set has nothing that the shown one did not have; an absent set is empty.
    Within(&'static str),
    /// A text member begins so.
    Begins(&'static str, Arc<str>),
}

/// A kind of operations.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Spelled out for people.
    pub text: String,
    like: Arc<Operation>,
    conditions: Vec<Condition>,
}

impl Shape {
    /// Whether an operation is of this kind. What was not understood as a whole never is.
    #[must_use]
    pub fn covers(&self, operation: &Operation) -> bool {
        let like = &*self.like;
        like.action == operation.action
            && like.protocol == operation.protocol
            && like.context.0 == operation.context.0
            && same_destination(like, operation)
            && complete(operation)
            && self.conditions.iter().all(|c| c.holds(like, operation))
    }
}

/// What a grant could cover, narrowest first. Empty where the operation is not understood as a whole.
#[must_use]
pub fn shapes(operation: &Arc<Operation>) -> Vec<Shape> {
    if !complete(operation) {
        return Vec::new();
    }
    let kinds = match operation.action {
        "http:request" => http(operation),
        "sql:statement" => sql(operation),
        "aws:call" => aws(operation),
        "exec:run" => exec(operation),
        _ => vec![(
            format!("any {} to {}", operation.action, operation.resource.id),
            vec![Condition::Resource],
        )],
    };
    let shape = |(text, conditions)| Shape {
        text,
        like: Arc::clone(operation),
        conditions,
    };
    kinds.into_iter().map(shape).collect()
}

type Kind = (String, Vec<Condition>);

fn http(operation: &Operation) -> Vec<Kind> {
    let facts = record(operation);
    let (method, path) = (text(facts, "method"), text(facts, "path"));
    let port = match facts.get("port") {
        Some(Value::Long(port)) => Some(*port),
        _ => None,
    };
    let place = authority(text(facts, "scheme"), text(facts, "host"), port);
    let fixed = ["method", "scheme", "host", "port", "host_verified"].map(Condition::Same);
    let mut kinds = vec![(
        format!("any {method} of {place}{path}, with any query and body"),
        fixed.iter().cloned().chain([Condition::Same("path")]).collect(),
    )];
    if let Some(end) = path.trim_end_matches('/').rfind('/').filter(|end| *end > 0) {
        let folder = &path[..=end];
        kinds.push((
            format!("any {method} below {place}{folder}, with any query and body"),
            fixed
                .iter()
                .cloned()
                .chain([Condition::Begins("path", folder.into())])
                .collect(),
        ));
    }
    kinds
}

fn sql(operation: &Operation) -> Vec<Kind> {
    let facts = record(operation);
    // Statements without WHERE are never granted as a kind.
    if facts.get("has_where") == Some(&Value::Bool(false)) {
        return Vec::new();
    }
    let verbs = list(facts, "verbs").join(", ");
    let database = &operation.resource.id;
    let mut also = String::new();
    for (member, words) in [
        ("sensitive", " and reading no sensitive data but "),
        (
            "unknown_functions",
            " and calling no functions that may do more than compute but ",
        ),
    ] {
        let words = (words, list(facts, member).join(", "));
        if !words.1.is_empty() {
            also.push_str(words.0);
            also.push_str(&words.1);
        }
    }
    let mut fixed = vec![Condition::Resource, Condition::Same("role")];
    fixed.extend(["verbs", "sensitive", "copied", "unknown_functions"].map(Condition::Within));
    // With a WHERE if it had one; without UPDATE and DELETE otherwise, as their verbs are not among its own.
    fixed.push(Condition::Same("has_where"));
    let kind = |places: Vec<String>, members: [&'static str; 2]| {
        let places = if places.is_empty() {
            "no relation".to_owned()
        } else {
            places.join(", ")
        };
        let conditions = fixed.iter().cloned().chain(members.map(Condition::Within));
        (
            format!("any {verbs} on {places} in {database}{also}"),
            conditions.collect(),
        )
    };
    let mut relations = list(facts, "reads");
    relations.extend(list(facts, "writes"));
    relations.sort_unstable();
    relations.dedup();
    let mut schemas = list(facts, "read_schemas");
    schemas.extend(list(facts, "write_schemas"));
    schemas.sort_unstable();
    schemas.dedup();
    let mut kinds = vec![kind(relations, ["reads", "writes"])];
    if !schemas.is_empty() {
        let places = schemas.iter().map(|s| format!("{s}.*")).collect();
        kinds.push(kind(places, ["read_schemas", "write_schemas"]));
    }
    kinds
}

/// The same file, given the same script or program to run; with any arguments.
fn exec(operation: &Operation) -> Vec<Kind> {
    let facts = record(operation);
    let (path, hash) = (text(facts, "path"), text(facts, "sha256"));
    let given = match text(facts, "given") {
        "" => String::new(),
        given => format!(" of {given}"),
    };
    let fixed = ["sha256", "host", "kind", "given", "given_sha256", "uid", "memfd"].map(Condition::Same);
    let conditions = fixed.into_iter().chain([Condition::Resource]).collect();
    vec![(
        format!("any run of {path}{given} as it is now (SHA-256 {hash}), with any arguments"),
        conditions,
    )]
}

fn aws(operation: &Operation) -> Vec<Kind> {
    let facts = record(operation);
    let action = text(facts, "action");
    let fixed = ["service", "action", "region", "account", "access"].map(Condition::Same);
    let region = match text(facts, "region") {
        "" => String::new(),
        region => format!(" in {region}"),
    };
    let mut kinds = Vec::new();
    let resource = text(facts, "resource");
    if !resource.is_empty() {
        kinds.push((
            format!("any {action} of {resource}{region}"),
            fixed
                .iter()
                .cloned()
                .chain([Condition::Same("resource")])
                .collect(),
        ));
    }
    kinds.push((format!("any {action}{region}, whatever it is of"), fixed.to_vec()));
    kinds
}

impl Condition {
    fn holds(&self, like: &Operation, operation: &Operation) -> bool {
        let (shown, facts) = (record(like), record(operation));
        match self {
            Self::Resource => {
                like.resource.kind == operation.resource.kind && like.resource.id == operation.resource.id
            }
            Self::Same(member) => shown.get(member) == facts.get(member),
            Self::Within(member) => match (set(shown, member), set(facts, member)) {
                (Some(shown), Some(facts)) => facts.iter().all(|f| shown.contains(f)),
                _ => false,
            },
            Self::Begins(member, prefix) => {
                matches!(facts.get(member), Some(Value::String(t)) if t.starts_with(&**prefix))
            }
        }
    }
}

fn same_destination(a: &Operation, b: &Operation) -> bool {
    let (a, b) = (&a.destination, &b.destination);
    a.port == b.port
        && a.name_verified == b.name_verified
        && a.name == b.name
        && (a.name_verified || a.address == b.address)
}

/// Whether the protocol understood everything; HTTP says so only where it did not.
fn complete(operation: &Operation) -> bool {
    match record(operation).get("complete") {
        Some(Value::Bool(complete)) => *complete,
        None => matches!(operation.action, "http:request" | "sql:connect" | "tcp:connect"),
        Some(_) => false,
    }
}

fn record(operation: &Operation) -> &BTreeMap<&'static str, Value> {
    static NONE: BTreeMap<&'static str, Value> = BTreeMap::new();
    match &operation.context.1 {
        Value::Record(record) => record,
        _ => &NONE,
    }
}

fn text<'a>(facts: &'a BTreeMap<&'static str, Value>, member: &str) -> &'a str {
    match facts.get(member) {
        Some(Value::String(text)) => text,
        _ => "",
    }
}

/// A set; empty where it is absent, `None` where it is no set.
fn set<'a>(facts: &'a BTreeMap<&'static str, Value>, member: &str) -> Option<&'a [Value]> {
    match facts.get(member) {
        Some(Value::Set(items)) => Some(items),
        None => Some(&[]),
        Some(_) => None,
    }
}

fn list(facts: &BTreeMap<&'static str, Value>, member: &str) -> Vec<String> {
    let items = set(facts, member).unwrap_or_default().iter();
    items
        .filter_map(|v| match v {
            Value::String(text) => Some(text.to_string()),
            _ => None,
        })
        .collect()
}
