//! A call as an operation: what policy decides on, and what of it may be kept.

use std::{collections::BTreeMap, sync::Arc};

use super::{Claim, Place, call::Call};
use crate::{
    mask::MaskRules,
    model::{Operation, Resource, Value},
    protocol::http::mask,
};

/// The operation of a call, made from that of its request; `brokered` says whether the agent signs it.
#[must_use]
pub fn of(
    call: &Call,
    claim: &Claim,
    brokered: bool,
    http: Operation,
    query: Option<&str>,
    rules: &Arc<MaskRules>,
) -> Operation {
    let masked = |text: &str| mask::path(rules, text);
    let shown = |text: &String| masked(text).unwrap_or_else(|| text.clone());
    let one = call.resources.first().filter(|_| call.resources.len() == 1);
    let masked_query = query.and_then(|q| mask::query(rules, q));
    let record = |http: &Value, query: Option<&str>, text: &dyn Fn(&String) -> String| {
        let mut record = BTreeMap::new();
        if let Value::Record(http) = http {
            for name in ["method", "host", "path", "host_verified"] {
                record.extend(http.get(name).map(|v| (name, v.clone())));
            }
        }
        record.extend([
            ("service", call.service.as_str().into()),
            ("action", call.action().into()),
            ("access", call.class.access.as_str().into()),
            ("complete", call.complete().into()),
            ("destructive", call.class.destructive.into()),
            ("spend", call.class.spend.into()),
            ("secret", call.class.secret.into()),
            ("brokered", brokered.into()),
            ("signed", signed(claim).into()),
            ("resources", set(call.resources.iter().map(text))),
            ("incomplete", set(call.why.iter().map(|w| w.as_str().to_owned()))),
        ]);
        record.extend(query.map(|q| ("query", q.into())));
        record.extend(call.region.as_deref().map(|r| ("region", r.into())));
        record.extend(call.account.as_deref().map(|a| ("account", a.into())));
        record.extend(one.map(|r| ("resource", text(r).into())));
        Value::Record(record)
    };
    let changed = http.recorded_context.is_some()
        || masked_query.is_some()
        || call.resources.iter().any(|r| masked(r).is_some());
    let context = record(&http.context.1, query, &Clone::clone);
    let recorded = changed.then(|| {
        let kept = http.recorded_context.as_ref().unwrap_or(&http.context.1);
        record(kept, masked_query.as_deref().or(query), &shown)
    });
    let resource = resource(call, one);
    let recorded_resource = one
        .and_then(|name| masked(name))
        .map(|name| format!("{}/{name}", call.service).into());
    Operation {
        action: "aws:call",
        resource,
        context: ("aws", context),
        recorded_context: recorded,
        recorded_resource,
        ..http
    }
}

/// What it is asked of: the one thing that it names, in everything that this is part of, or the service.
fn resource(call: &Call, one: Option<&String>) -> Resource {
    let service: Arc<str> = call.service.as_str().into();
    let Some(name) = one else {
        return Resource {
            kind: "AwsService",
            id: service,
            attributes: Vec::new(),
            parents: Vec::new(),
        };
    };
    let mut parents = Vec::new();
    // An object is part of its bucket; of what is in between nothing is known.
    if call.service.starts_with("s3")
        && let Some((bucket, _)) = name.split_once('/')
    {
        parents.push(("AwsResource", format!("{service}/{bucket}").into()));
    }
    parents.push(("AwsService", Arc::clone(&service)));
    Resource {
        kind: "AwsResource",
        id: format!("{service}/{name}").into(),
        attributes: Vec::new(),
        parents,
    }
}

fn set(words: impl Iterator<Item = String>) -> Value {
    Value::Set(words.map(Value::from).collect())
}

fn signed(claim: &Claim) -> &'static str {
    match claim.auth.place {
        Place::None => "none",
        Place::Header => "header",
        Place::Query => "query",
    }
}
