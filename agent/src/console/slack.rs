//! Answers by a click in Slack. A Slack account is no identity: it only names one, whose own sign-in at this agent must
//! be fresh, and whose groups that sign-in said.
//!
//! Signatures: Slack's "Verifying requests", version v0.

mod payload;
mod signature;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use self::{
    payload::{Click, read},
    signature::{Replays, Wrong},
};
use super::{desk::Desk, notify::escape_slack, refusal::Refusal};
use crate::{
    approval::{Answer, Scope},
    config,
    model::Approver,
};

/// Slack's actions, once the configuration has its signing secret.
#[derive(Clone)]
pub struct Slack(Arc<Inner>);

struct Inner {
    desk: Desk,
    credential: String,
    users: BTreeMap<String, String>,
    origin: Arc<str>,
    replays: Mutex<Replays>,
}

impl Slack {
    /// `None` where Slack cannot answer.
    pub fn new(desk: Desk, console: &config::Console, origin: &str) -> Option<Self> {
        Some(Self(Arc::new(Inner {
            desk,
            credential: console.slack_signing_credential.clone()?,
            users: console.slack_users.clone(),
            origin: origin.into(),
            replays: Mutex::default(),
        })))
    }

    /// Whether Slack itself sent it, now, and not before.
    async fn verify(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Wrong> {
        let inner = &self.0;
        let parts = inner.desk.parts();
        let secret = inner.desk.secret(&inner.credential).await.map_err(|error| {
            tracing::error!("Slack's signing secret: {error}");
            Wrong::NoSecret
        })?;
        let text = |name: &str| {
            headers
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
        };
        let (at, signature) = (text("x-slack-request-timestamp"), text("x-slack-signature"));
        let now = parts.clock.now_seconds();
        signature::verify(&secret, at, signature, body, now)?;
        let mut replays = inner.replays.lock().unwrap_or_else(PoisonError::into_inner);
        replays.first_time(signature, now)
    }

    /// Whom a Slack account stands for.
    fn approver(&self, user: &str) -> Result<Approver, String> {
        let inner = &self.0;
        let Some(subject) = inner.users.get(user) else {
            return Err("This Slack account is nobody's whom this host knows. Answer on the page.".into());
        };
        let Some(recent) = inner.desk.recent(subject) else {
            return Err(
                "Sign in on the page first; then a click here counts until that sign-in is too old.".into(),
            );
        };
        let mut approver = (*recent).clone();
        approver.via = "slack";
        Ok(approver)
    }

    async fn act(&self, click: Click) -> Result<String, String> {
        let approver = self.approver(&click.user)?;
        if click.reason.trim().is_empty() {
            return Err("Write a reason into the field first: it goes on record.".into());
        }
        let answer = Answer {
            approve: click.approve,
            reason: click.reason,
            scope: Scope::Once,
        };
        let approvals = &self.0.desk.parts().approvals;
        match approvals.answer(click.request, &approver, answer).await {
            Ok(view) => Ok(format!(
                "{} said {}: {} ({})",
                approver.name,
                if click.approve { "yes" } else { "no" },
                view.summary,
                view.state.as_str()
            )),
            Err(error) => Err(Refusal::from(error).to_string()),
        }
    }

    fn said(&self, result: &Result<String, String>, request: uuid::Uuid) -> Value {
        let link = format!("{}/requests/{request}", self.0.origin);
        let text = match result {
            Ok(text) => escape_slack(text),
            Err(why) => format!(
                "Nothing was done. {} <{link}|Open the request>",
                escape_slack(why)
            ),
        };
        json!({ "response_type": "ephemeral", "replace_original": false, "text": text })
    }
}

/// `POST /slack/actions`
pub async fn actions(State(slack): State<Slack>, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(wrong) = slack.verify(&headers, &body).await {
        slack.0.desk.refused("slack", &wrong.to_string());
        return (StatusCode::UNAUTHORIZED, format!("{wrong}\n")).into_response();
    }
    let (click, answer_to) = match read(&body) {
        Ok(Some(read)) => read,
        // A link was followed, or something else that asks for nothing.
        Ok(None) => return StatusCode::OK.into_response(),
        Err(why) => return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    };
    let request = click.request;
    let result = slack.act(click).await;
    let said = slack.said(&result, request);
    if let Some(url) = answer_to {
        // Slack shows what is sent there; what is answered here it does not show for a click.
        let told = said.clone();
        tokio::spawn(async move { super::notify::answer_slack(url, &told).await });
    }
    Json(said).into_response()
}
