//! An operation as Cedar's context: exactly the members that the policy set can see.

use cedar_policy::{Context, RestrictedExpression};

use super::{
    Query,
    access::access,
    shape::{Members, Shape},
};
use crate::model::{Rfc3339, Value};

/// Why a question cannot be put to Cedar. Every one of them denies.
#[derive(Debug, thiserror::Error)]
pub enum Unaskable {
    /// No such action.
    #[error("the schema has no action '{0}'")]
    Action(Box<str>),
    /// No such resource for the action.
    #[error("the schema has no resource '{0}' for this action")]
    Resource(Box<str>),
    /// A member that policies may rely on is missing.
    #[error("the operation has no '{0}', which the schema requires")]
    Missing(Box<str>),
    /// A member has another type than the schema says.
    #[error("the operation's '{0}' has another type than the schema says")]
    Type(Box<str>),
    /// Cedar does not accept a value.
    #[error("{0}")]
    Cedar(String),
}

/// The context of an operation.
///
/// # Errors
/// When the operation does not have what the schema says it has.
pub fn context(query: &Query<'_>, members: &Members) -> Result<Context, Unaskable> {
    let mut pairs = Vec::with_capacity(members.len());
    let (access, complete) = access(query.operation);
    for (name, member) in members {
        let value = match &**name {
            "access" => Some(RestrictedExpression::new_string(access.as_str().into())),
            "complete" => Some(RestrictedExpression::new_bool(complete)),
            "operation" => Some(RestrictedExpression::new_string(query.operation.action.into())),
            "time" => Some(time(query.now_ns)),
            "process" => Some(convert(name, &process(query), &member.shape)?),
            "destination" => Some(convert(name, &destination(query), &member.shape)?),
            "approval" => match approval(query) {
                Some(approval) => Some(convert(name, &approval, &member.shape)?),
                None => None,
            },
            // Added for each class by whoever asks `reveal`.
            "class" => continue,
            protocol if protocol == query.operation.context.0 => {
                Some(convert(name, &query.operation.context.1, &member.shape)?)
            }
            _ => None,
        };
        match value {
            Some(value) => pairs.push((name.to_string(), value)),
            None if member.required => return Err(Unaskable::Missing(name.clone())),
            None => {}
        }
    }
    Context::from_pairs(pairs).map_err(|e| Unaskable::Cedar(e.to_string()))
}

/// `context.class`, to be put beside the rest.
///
/// # Errors
/// Never in practice: a string is a value.
pub fn class(name: &str) -> Result<Context, Unaskable> {
    let name = RestrictedExpression::new_string(name.into());
    Context::from_pairs([("class".into(), name)]).map_err(|e| Unaskable::Cedar(e.to_string()))
}

/// `context.process`
pub fn process(query: &Query<'_>) -> Value {
    let mut record = Value::record([("uid", i64::from(query.process.uid).into())]);
    if let (Value::Record(record), Some(exe)) = (&mut record, &query.process.exe) {
        record.insert("exe", (&*exe.to_string_lossy()).into());
    }
    record
}

/// `context.destination`
pub fn destination(query: &Query<'_>) -> Value {
    let destination = &query.operation.destination;
    let mut record = Value::record([
        ("address", Value::Ip(destination.address)),
        ("port", i64::from(destination.port).into()),
        ("name_verified", destination.name_verified.into()),
    ]);
    if let (Value::Record(record), Some(name)) = (&mut record, &destination.name) {
        record.insert("name", name.clone().into());
    }
    record
}

/// `context.approval`
pub fn approval(query: &Query<'_>) -> Option<Value> {
    query.approval.map(|approval| {
        Value::record([
            ("id", approval.id.clone().into()),
            ("approver", approval.approver.clone().into()),
            ("group", approval.group.clone().into()),
            ("at", Value::Time(approval.at_ns)),
            ("approvers", words(&approval.approvers)),
            ("groups", words(&approval.groups)),
            ("scope", approval.scope.as_str().into()),
        ])
    })
}

fn words(words: &[std::sync::Arc<str>]) -> Value {
    Value::Set(words.iter().map(|w| Value::String(w.clone())).collect())
}

/// Whole seconds: what decisions and cache keys see of time.
fn time(ns: i64) -> RestrictedExpression {
    let text = Rfc3339(ns - ns.rem_euclid(1_000_000_000)).to_string();
    RestrictedExpression::new_datetime(text.split('.').next().unwrap_or_default().to_owned() + "Z")
}

/// A value as the schema has it. Members that the shape does not have are left out: no policy can name them.
///
/// # Errors
/// When the value does not fit the shape; `name` says where.
pub fn convert(name: &str, value: &Value, shape: &Shape) -> Result<RestrictedExpression, Unaskable> {
    match (shape, value) {
        (Shape::Bool, Value::Bool(v)) => Ok(RestrictedExpression::new_bool(*v)),
        (Shape::Long, Value::Long(v)) => Ok(RestrictedExpression::new_long(*v)),
        (Shape::String, Value::String(v)) => Ok(RestrictedExpression::new_string(v.as_ref().into())),
        (Shape::Ip, Value::Ip(v)) => Ok(RestrictedExpression::new_ip(v.to_string())),
        (Shape::Time, Value::Time(v)) => Ok(time(*v)),
        (Shape::Set(of), Value::Set(items)) => {
            let items = items
                .iter()
                .map(|i| convert(name, i, of))
                .collect::<Result<Vec<_>, _>>()?;
            Ok(RestrictedExpression::new_set(items))
        }
        (Shape::Record(members), Value::Record(record)) => {
            let mut pairs = Vec::with_capacity(members.len());
            for (key, member) in members {
                match record.get(&**key) {
                    Some(value) => pairs.push((key.to_string(), convert(key, value, &member.shape)?)),
                    None if member.required => return Err(Unaskable::Missing(key.clone())),
                    None => {}
                }
            }
            RestrictedExpression::new_record(pairs).map_err(|e| Unaskable::Cedar(e.to_string()))
        }
        _ => Err(Unaskable::Type(name.into())),
    }
}
