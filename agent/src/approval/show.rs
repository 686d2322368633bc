//! A request as approvers see it: from the masked forms only.

use serde_json::{Value as Json, json};

use super::{
    book::Request,
    view::{AnswerView, RequirementView, State, View},
};
use crate::model::{Operation, Process, Rfc3339};

impl Request {
    /// As it stands.
    #[must_use]
    pub fn view(&self, state: State, ended_ns: Option<i64>) -> View {
        let (ask, operation) = (&self.ask, &*self.ask.operation);
        let words = |words: &[std::sync::Arc<str>]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let terms = ask.decision.hold.as_deref().cloned().unwrap_or_default();
        let approved_by = |groups: &[std::sync::Arc<str>]| {
            let given = self.given.iter().filter(|g| g.answer.approve);
            given
                .filter(|g| g.groups.iter().any(|group| groups.contains(group)))
                .map(|g| g.by.name.to_string())
                .collect()
        };
        View {
            id: self.id,
            state,
            asked_at: Rfc3339(self.asked_ns).to_string(),
            expires_at: Rfc3339(self.until.at_ns()).to_string(),
            ended_at: ended_ns.map(|at| Rfc3339(at).to_string()),
            workload: ask.workload.to_string(),
            issuer: ask.identity.issuer.to_string(),
            subject: ask.identity.subject.to_string(),
            on_behalf_of: ask.identity.on_behalf_of.as_ref().map(ToString::to_string),
            action: operation.action.into(),
            resource: format!("{}::\"{}\"", operation.resource.kind, resource(operation)),
            summary: summary(operation),
            message: ask.decision.message.as_ref().map(ToString::to_string),
            requirements: terms
                .requirements
                .iter()
                .map(|r| RequirementView {
                    policy: r.policy.to_string(),
                    groups: words(&r.groups),
                    quorum: r.quorum,
                    approved_by: approved_by(&r.groups),
                })
                .collect(),
            policy_set: ask.decision.policy_set.to_string(),
            digest: hex::encode(self.digest),
            operation: operation.id.0,
            session: ask.session.0,
            waiting: self.waiters.len(),
            waits_until: self.waiters.front().map(|w| Rfc3339(w.until_ns).to_string()),
            destination: destination(operation),
            process: process(&ask.process),
            context: context(operation),
            payload: ask.payload.shown.to_string(),
            payload_bytes: ask.payload.bytes,
            payload_truncated: ask.payload.truncated,
            shapes: self.shapes.iter().map(|s| s.text.clone()).collect(),
            answers: self
                .given
                .iter()
                .map(|g| AnswerView {
                    approver: g.by.subject.to_string(),
                    name: g.by.name.to_string(),
                    groups: words(&g.groups),
                    approve: g.answer.approve,
                    reason: g.answer.reason.clone(),
                    via: g.by.via.into(),
                    at: Rfc3339(g.at_ns).to_string(),
                })
                .collect(),
        }
    }
}

/// The longest text of a brief view, in bytes.
const BRIEF: usize = 2 * 1024;

impl View {
    /// With long texts cut: for lists, histories and notices, of which many are kept.
    pub(super) fn brief(mut self) -> Self {
        fn cut_all(json: &mut Json) {
            match json {
                Json::String(text) => cut(text),
                Json::Array(items) => {
                    items.truncate(64);
                    items.iter_mut().for_each(cut_all);
                }
                Json::Object(members) => members.values_mut().for_each(cut_all),
                _ => {}
            }
        }
        cut_all(&mut self.context);
        self.payload_truncated |= self.payload.len() > BRIEF;
        for text in [&mut self.payload, &mut self.summary, &mut self.resource] {
            cut(text);
        }
        self.shapes.iter_mut().for_each(cut);
        self
    }
}

fn cut(text: &mut String) {
    if text.len() <= BRIEF {
        return;
    }
    let whole = text.len();
    let mut end = BRIEF;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(&format!(" [... {whole} bytes]"));
}

/// The resource's id, masked.
pub fn resource(operation: &Operation) -> &str {
    operation
        .recorded_resource
        .as_ref()
        .unwrap_or(&operation.resource.id)
}

/// The protocol's facts, masked.
pub fn context(operation: &Operation) -> Json {
    let (name, seen) = &operation.context;
    let kept = operation.recorded_context.as_ref().unwrap_or(seen);
    // A value of a context is always JSON.
    json!({ *name: serde_json::to_value(kept).unwrap_or_default() })
}

/// One line that says what it is.
pub fn summary(operation: &Operation) -> String {
    let facts = context(operation);
    let facts = &facts[operation.context.0];
    let text = |member: &str| facts[member].as_str().unwrap_or_default();
    let list = |member: &str| -> Vec<String> {
        let items = facts[member].as_array().into_iter().flatten();
        items.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let resource = resource(operation);
    match operation.action {
        "http:request" => {
            let authority = authority(text("scheme"), text("host"), facts["port"].as_i64());
            format!("{} {authority}{}", text("method"), text("path"))
        }
        "sql:statement" => {
            let mut relations = list("writes");
            if relations.is_empty() {
                relations = list("reads");
            }
            let (verbs, relations) = (list("verbs").join(", "), relations.join(", "));
            match (verbs.is_empty(), relations.is_empty()) {
                (false, false) => format!("{verbs} on {relations} in {resource}"),
                (false, true) => format!("{verbs} in {resource}"),
                _ => format!("a statement in {resource}"),
            }
        }
        "aws:call" => match text("resource") {
            "" => text("action").to_owned(),
            of => format!("{} of {of}", text("action")),
        },
        "exec:run" => format!("run {}", text("command")),
        action => format!("{action} to {resource}"),
    }
}

/// `https://api.internal:8443`, the port only where it is not the scheme's own.
pub fn authority(scheme: &str, host: &str, port: Option<i64>) -> String {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    match (scheme, port) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    }
}

fn destination(operation: &Operation) -> String {
    let to = &operation.destination;
    let address = to.address.to_canonical();
    match &to.name {
        Some(name) if to.name_verified => format!("{name}:{} ({address})", to.port),
        Some(name) => format!("{address}:{} (calls itself {name}, not proved)", to.port),
        None => format!("{address}:{}", to.port),
    }
}

fn process(process: &Process) -> String {
    let exe = process
        .exe
        .as_ref()
        .map_or_else(|| "gone".into(), |e| e.to_string_lossy().into_owned());
    format!("{exe}, pid {}, uid {}", process.pid, process.uid)
}
