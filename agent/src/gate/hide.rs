//! Secrets in use, kept out of what is recorded of an operation.

use std::sync::Arc;

use crate::{
    mask::{INJECTED_SECRET, Secrets, percent_decoded},
    model::{Operation, Value},
};

/// Makes the recorded parts of an operation free of them. Policy decides on what was sent.
pub(super) fn hide(secrets: &Secrets, operation: &mut Operation) {
    if !secrets.is_active() {
        return;
    }
    let context = operation
        .recorded_context
        .as_ref()
        .unwrap_or(&operation.context.1);
    if let Some(hidden) = without(secrets, context) {
        operation.recorded_context = Some(hidden);
    }
    let resource = operation
        .recorded_resource
        .as_ref()
        .unwrap_or(&operation.resource.id);
    if let Some(hidden) = text(secrets, resource) {
        operation.recorded_resource = Some(hidden.into());
    }
    if let Some(hidden) = operation
        .destination
        .name
        .as_deref()
        .and_then(|n| text(secrets, n))
    {
        operation.destination.name = Some(hidden.into());
    }
}

fn text(secrets: &Secrets, text: &str) -> Option<String> {
    if let Some(masked) = secrets.mask_text(text) {
        return Some(masked);
    }
    // Written in a mixture of encodings: nothing of it is kept.
    let mixed = || {
        secrets.holds(&percent_decoded(text.as_bytes()))
            || (text.contains('+') && secrets.holds(&percent_decoded(text.replace('+', " ").as_bytes())))
    };
    (text.contains(['%', '+']) && mixed()).then(|| format!("[masked:{INJECTED_SECRET}]"))
}

fn without(secrets: &Secrets, value: &Value) -> Option<Value> {
    match value {
        Value::String(one) => text(secrets, one).map(|t| Value::String(Arc::from(t))),
        Value::Set(members) => {
            let mut changed = None;
            for (at, member) in members.iter().enumerate() {
                if let Some(hidden) = without(secrets, member) {
                    changed.get_or_insert_with(|| members.to_vec())[at] = hidden;
                }
            }
            changed.map(|members| Value::Set(members.into()))
        }
        Value::Record(members) => {
            let mut changed = None;
            for (key, member) in members {
                if let Some(hidden) = without(secrets, member) {
                    changed.get_or_insert_with(|| members.clone()).insert(key, hidden);
                }
            }
            changed.map(Value::Record)
        }
        Value::Bool(_) | Value::Long(_) | Value::Ip(_) | Value::Time(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Destination, OperationId, Resource, SecretSink as _};

    #[test]
    fn every_text_of_an_operation_is_looked_at() {
        let secrets = Secrets::default();
        let mut operation = Operation {
            id: OperationId::new(),
            protocol: "http",
            action: "http:request",
            resource: Resource {
                kind: "HttpEndpoint",
                id: "a/b-secret-c".into(),
                attributes: Vec::new(),
                parents: Vec::new(),
            },
            destination: Destination {
                address: [127, 0, 0, 1].into(),
                port: 80,
                name: Some("b-secret".into()),
                name_verified: false,
            },
            context: (
                "http",
                Value::record([
                    (
                        "set",
                        Value::Set([Value::from("b-secret"), Value::from("x")].into()),
                    ),
                    ("path", Value::from("/%62-secret")),
                    ("method", Value::from("GET")),
                ]),
            ),
            recorded_context: None,
            recorded_resource: None,
            credential: None,
        };
        hide(&secrets, &mut operation);
        assert!(operation.recorded_context.is_none() && operation.recorded_resource.is_none());
        secrets.replace("a", &[b"b-secret"]);
        hide(&secrets, &mut operation);
        let kept = serde_json::to_string(&operation.recorded_context).unwrap();
        assert_eq!(
            kept,
            r#"{"method":"GET","path":"[masked:injected_secret]","set":["********","x"]}"#
        );
        assert_eq!(operation.recorded_resource.as_deref(), Some("a/********-c"));
        assert_eq!(operation.destination.name.as_deref(), Some("********"));
    }
}
