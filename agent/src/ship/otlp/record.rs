//! Events as log records.

use super::{
    super::{
        Event,
        form::{Form, view},
        view::Severity,
    },
    proto::{AnyValue, KeyValue, LogRecord, Request, Resource, ResourceLogs, Scope, ScopeLogs, Value},
};
use crate::config::ship::EventFormat;

/// A batch, as it is exported.
pub(super) fn request(batch: &[Event], form: &Form, now_ns: i64) -> Request {
    let facts = &form.facts;
    let resource = Resource {
        attributes: vec![
            KeyValue::text("service.name", "portcullis"),
            KeyValue::text("service.version", &facts.version),
            // A host has one agent.
            KeyValue::text("service.instance.id", &facts.host),
            KeyValue::text("host.name", &facts.host),
        ],
    };
    let scope = Scope {
        name: "portcullis.ledger".into(),
        version: facts.version.clone(),
    };
    Request {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![ScopeLogs {
                scope: Some(scope),
                log_records: batch.iter().map(|event| record(event, form, now_ns)).collect(),
            }],
        }],
    }
}

fn record(event: &Event, form: &Form, now_ns: i64) -> LogRecord {
    let view = view(event);
    let severity = view.severity();
    let body = form.body(event);
    let body = match form.format {
        // A value that a pipeline can look into.
        EventFormat::Ocsf => serde_json::from_str::<serde_json::Value>(&body)
            .map_or_else(|_| Value::String(body).into(), |json| AnyValue::from(&json)),
        // The text that is hashed, to the byte.
        EventFormat::Json | EventFormat::Cef => Value::String(body).into(),
    };
    let mut attributes = vec![
        KeyValue::text("log.record.uid", view.id()),
        KeyValue::int("portcullis.seq", i64::try_from(view.seq).unwrap_or(i64::MAX)),
        KeyValue::text("portcullis.kind", view.kind()),
    ];
    for (key, text) in [
        ("portcullis.workload", view.workload()),
        ("portcullis.correlation", view.correlation()),
        ("portcullis.reason", view.text("reason")),
    ] {
        if !text.is_empty() {
            attributes.push(KeyValue::text(key, text));
        }
    }
    LogRecord {
        time_unix_nano: u64::try_from(view.at_ns()).unwrap_or_default(),
        observed_time_unix_nano: u64::try_from(now_ns).unwrap_or_default(),
        severity_number: match severity {
            Severity::Informational => 9,
            Severity::Low => 10,
            Severity::Medium => 13,
            Severity::High => 17,
            Severity::Critical => 21,
        },
        severity_text: severity.as_str().into(),
        body: Some(body),
        attributes,
        event_name: format!("portcullis.{}", view.code()),
    }
}
