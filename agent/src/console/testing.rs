//! A request whose every text is the same, for tests of how it is shown.

use serde_json::json;
use uuid::Uuid;

use crate::approval::{AnswerView, RequirementView, State, View};

/// What somebody writes who wants it to be read as something else: by a browser, by a terminal, by eyes.
pub const HOSTILE: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)> \u{202e}\u{1b}[31m <!channel> \" onload=x </textarea>";

/// A request.
#[must_use]
pub fn view(text: &str) -> View {
    let t = || text.to_owned();
    View {
        id: Uuid::nil(),
        state: State::Open,
        asked_at: "2026-11-21T06:30:00Z".into(),
        expires_at: "2026-11-21T07:30:00Z".into(),
        ended_at: None,
        workload: t(),
        issuer: t(),
        subject: t(),
        on_behalf_of: Some(t()),
        action: t(),
        resource: t(),
        summary: t(),
        message: Some(t()),
        requirements: vec![RequirementView {
            policy: t(),
            groups: vec![t()],
            quorum: 2,
            approved_by: Vec::new(),
        }],
        policy_set: t(),
        digest: t(),
        operation: Uuid::nil(),
        session: Uuid::nil(),
        waiting: 2,
        waits_until: None,
        destination: t(),
        process: t(),
        context: json!({ text: [text] }),
        payload: t(),
        payload_bytes: 7,
        payload_truncated: false,
        shapes: vec![t()],
        answers: vec![AnswerView {
            approver: t(),
            name: t(),
            groups: vec![t()],
            approve: true,
            reason: t(),
            via: t(),
            at: "2026-11-21T06:31:00Z".into(),
        }],
    }
}
