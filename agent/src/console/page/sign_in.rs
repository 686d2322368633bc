//! Signing in at the issuer, and out.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{AppendHeaders, IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{Form, Frame, Page, SignedIn, foreign, render};
use crate::{console::refusal::Refusal, model::EntryKind};

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    issuer: Option<String>,
    start: String,
    hours: String,
}

#[derive(Deserialize)]
pub(super) struct Then {
    then: Option<Uuid>,
}

pub(super) async fn show(State(page): State<Page>, Query(then): Query<Then>) -> Response {
    let terms = page.desk.parts().approvers.terms();
    let start = then.then.map_or_else(
        || "/sign-in/start".into(),
        |id| format!("/sign-in/start?then={id}"),
    );
    let age = std::time::Duration::from_secs(terms.as_ref().map_or(0, |t| t.max_age));
    let sign_in = SignInPage {
        frame: page.frame(None, ""),
        issuer: terms.map(|t| t.issuer),
        start,
        hours: humantime::format_duration(age).to_string(),
    };
    render(StatusCode::OK, &sign_in)
}

impl Page {
    fn redirect_uri(&self) -> String {
        format!("{}/sign-in/done", self.origin)
    }

    fn failed(&self, error: &Refusal) -> Response {
        self.message(
            error.status(),
            "You are not signed in",
            &error.to_string(),
            ("/sign-in", "Try again"),
        )
    }
}

pub(super) async fn start(State(page): State<Page>, Query(then): Query<Then>) -> Response {
    let attempt = crate::identity::Attempt::new();
    let url = page
        .desk
        .parts()
        .approvers
        .sign_in_url(&attempt, &page.redirect_uri())
        .await;
    let url = match url {
        Ok(url) => url,
        Err(error) => return page.failed(&error.into()),
    };
    let cookie = page.sessions.begin(attempt, then.then, page.now());
    let set = AppendHeaders([(header::SET_COOKIE, page.cookie("sign-in", &cookie))]);
    (set, Redirect::to(&url)).into_response()
}

/// The issuer's answer, brought by the browser (RFC 6749 section 4.1.2, RFC 9207).
#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    state: String,
    #[serde(default)]
    code: String,
    iss: Option<String>,
    error: Option<String>,
}

pub(super) async fn done(
    State(page): State<Page>,
    headers: HeaderMap,
    Query(answer): Query<Answer>,
) -> Response {
    let now = page.now();
    let pending = page
        .cookie_of(&headers, "sign-in")
        .and_then(|cookie| page.sessions.finish(&cookie, &answer.state, now));
    let Some(pending) = pending else {
        page.desk.refused(
            "web",
            "an issuer's answer that belongs to no sign-in of this browser",
        );
        return page.message(
            StatusCode::BAD_REQUEST,
            "You are not signed in",
            "This sign-in is over, or began in another browser.",
            ("/sign-in", "Start again"),
        );
    };
    if let Some(error) = answer.error {
        return page.message(
            StatusCode::FORBIDDEN,
            "You are not signed in",
            &format!("The issuer said: {error}"),
            ("/sign-in", "Try again"),
        );
    }
    let approvers = &page.desk.parts().approvers;
    let redeemed = approvers
        .redeem(
            &pending.attempt,
            &page.redirect_uri(),
            &answer.code,
            answer.iss.as_deref(),
        )
        .await;
    let approver = match redeemed {
        Ok(approver) => Arc::new(approver),
        Err(error) => {
            page.desk.refused("web", &error.to_string());
            return page.failed(&error.into());
        }
    };
    page.desk.signed_in(&approver);
    let admitted = page.desk.admits(&approver);
    page.desk.note(
        EntryKind::Approval,
        json!({
            "event": if admitted { "signed_in" } else { "not_admitted" },
            "approver": {
                "via": "web",
                "issuer": approver.issuer, "subject": approver.subject, "name": approver.name,
                "groups": approver.groups, "token_id": approver.token_id,
            },
        }),
    );
    if !admitted {
        return page.failed(&super::super::api::no_approver(&approver));
    }
    if let Some(former) = page.cookie_of(&headers, "session") {
        page.sessions.close(&former);
    }
    let ends_at = page.desk.ends_at(&approver);
    let cookie = page.sessions.open(approver, ends_at, now);
    let set = AppendHeaders([
        (header::SET_COOKIE, page.cookie("session", &cookie)),
        (header::SET_COOKIE, page.cookie("sign-in", "")),
    ]);
    let to = pending
        .then
        .map_or_else(|| "/".into(), |id| format!("/requests/{id}"));
    (set, Redirect::to(&to)).into_response()
}

#[derive(Deserialize)]
pub(super) struct Out {
    csrf: String,
}

pub(super) async fn out(
    State(page): State<Page>,
    headers: HeaderMap,
    SignedIn(session): SignedIn,
    Form(form): Form<Out>,
) -> Response {
    if let Some(refused) = foreign(&page, &session, &form.csrf) {
        return refused;
    }
    if let Some(cookie) = page.cookie_of(&headers, "session") {
        page.sessions.close(&cookie);
    }
    let set = AppendHeaders([(header::SET_COOKIE, page.cookie("session", ""))]);
    (set, Redirect::to("/sign-in")).into_response()
}
