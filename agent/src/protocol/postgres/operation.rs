//! A statement as policy and ledger see it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    lineage::Resolved,
    login::Target,
    sql::{Access, Facts, Name, is_pure},
};
use crate::model::{ClassTable, Operation, OperationId, Resource, Value};

/// How a statement comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In a simple query.
    Simple,
    /// A Parse or Bind that is not executed in the same batch.
    Prepare,
    /// An Execute.
    Execute,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Prepare => "prepare",
            Self::Execute => "execute",
        }
    }
}

/// What is said of a statement beside what it means.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// How it comes.
    pub phase: Phase,
    /// The transaction's state before it: `idle`, `active` or `failed`.
    pub transaction: &'static str,
    /// How many statements came in the same message.
    pub statements: usize,
}

/// The members of `context.sql` that depend on the statement alone.
pub fn meaning(
    facts: &Facts,
    resolved: &Resolved,
    classes: &ClassTable,
    text: Arc<str>,
) -> BTreeMap<&'static str, Value> {
    let access = if resolved.incomplete.is_empty() {
        facts.access
    } else {
        facts.access.max(Access::Write)
    };
    let sensitive = resolved.sensitive.iter().filter_map(|c| classes.name(c));
    let mut members = BTreeMap::from([
        ("access", access.as_str().into()),
        ("columns", names(&resolved.columns)),
        ("complete", resolved.incomplete.is_empty().into()),
        ("functions", names(&resolved.functions)),
        ("incomplete", words(&resolved.incomplete)),
        ("read_schemas", names(&resolved.read_schemas)),
        ("reads", names(&resolved.reads)),
        ("sensitive", sorted(sensitive.cloned())),
        // For the record, not for policy: the schema has no such member.
        ("text", Value::String(text)),
        ("verbs", words(&facts.verbs)),
        ("write_schemas", names(&resolved.write_schemas)),
        ("writes", names(&resolved.writes)),
    ]);
    if let Some(has_where) = facts.has_where {
        members.insert("has_where", has_where.into());
    }
    let copied = resolved.copied.iter().filter_map(|c| classes.name(c));
    let unknown = resolved.functions.iter().filter(|f| !known(f));
    for (name, words) in [
        ("copied", sorted(copied.cloned())),
        ("unknown_functions", sorted(unknown.cloned())),
    ] {
        // Absent rather than empty, so that `has` is all that a policy asks.
        if words != Value::Set([].into()) {
            members.insert(name, words);
        }
    }
    members
}

/// Whether a function (`schema.name`, or as written) does nothing but compute from its arguments.
fn known(function: &str) -> bool {
    let (schema, name) = match function.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, function),
    };
    is_pure(&Name::new(schema, name))
}

fn names(set: &BTreeSet<Arc<str>>) -> Value {
    Value::Set(set.iter().map(|n| Value::String(Arc::clone(n))).collect())
}

fn words(set: &BTreeSet<&'static str>) -> Value {
    Value::Set(set.iter().map(|w| (*w).into()).collect())
}

fn sorted(items: impl Iterator<Item = Arc<str>>) -> Value {
    Value::Set(
        items
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(Value::String)
            .collect(),
    )
}

/// The operation of a statement.
pub fn operation(
    target: &Target,
    resource: &Resource,
    meaning: &BTreeMap<&'static str, Value>,
    circumstances: Circumstances,
) -> Operation {
    let mut record = meaning.clone();
    record.insert("database", Value::String(Arc::clone(&target.database)));
    record.insert("phase", circumstances.phase.as_str().into());
    record.insert("role", Value::String(Arc::clone(&target.role)));
    record.insert(
        "statements",
        i64::try_from(circumstances.statements).unwrap_or(i64::MAX).into(),
    );
    record.insert("transaction", circumstances.transaction.into());
    Operation {
        id: OperationId::new(),
        protocol: "postgres",
        action: "sql:statement",
        resource: resource.clone(),
        destination: target.destination.clone(),
        context: ("sql", Value::Record(record)),
        recorded_context: None,
        recorded_resource: None,
        credential: None,
    }
}

/// A statement of which nothing is known but that it came: what is refused unread is recorded as this.
pub fn unknown(why: &'static str) -> BTreeMap<&'static str, Value> {
    let none = || Value::Set([].into());
    BTreeMap::from([
        ("access", Access::Admin.as_str().into()),
        ("columns", none()),
        ("complete", false.into()),
        ("functions", none()),
        ("incomplete", Value::Set([why.into()].into())),
        ("read_schemas", none()),
        ("reads", none()),
        ("sensitive", none()),
        ("text", "".into()),
        ("verbs", none()),
        ("write_schemas", none()),
        ("writes", none()),
    ])
}
