//! Grants in force, how to end one, and break-glass.

use askama::Template;
use axum::{
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{Form, Frame, Page, SignedIn, done, foreign, render, when::When};
use crate::{
    approval::{BreakGlassView, GrantView},
    console::{refusal::Refusal, session::Session},
    model::WorkloadName,
};

#[derive(Template)]
#[template(path = "grants.html")]
struct GrantsPage {
    frame: Frame,
    grants: Vec<Grant>,
    done: &'static str,
    problem: String,
}

struct Grant {
    view: GrantView,
    scope: String,
    glass: bool,
    by: String,
    because: String,
    expires: When,
}

#[derive(Template)]
#[template(path = "break_glass.html")]
struct GlassPage {
    frame: Frame,
    waiting: Vec<Waiting>,
    most: u64,
    suggested: u64,
    workload: String,
    reason: String,
    done: &'static str,
    problem: String,
}

struct Waiting {
    view: BreakGlassView,
    expires: When,
}

pub(super) async fn show(State(page): State<Page>, SignedIn(session): SignedIn, query: RawQuery) -> Response {
    let done = done(&query, &[("ended", "The grant has ended.")]);
    render(StatusCode::OK, &grants_page(&page, &session, done, String::new()))
}

fn grants_page(page: &Page, session: &Session, done: &'static str, problem: String) -> GrantsPage {
    let now = page.now();
    let grants = page.desk.parts().approvals.overview().grants.into_iter();
    let grants = grants.map(|view| Grant {
        scope: view.scope.replace('_', "-"),
        glass: view.scope == "break_glass",
        by: view.approvers.join(", "),
        because: view.reasons.join("; "),
        expires: When::new(&view.expires_at, now),
        view,
    });
    GrantsPage {
        grants: grants.collect(),
        frame: page.frame(Some(session), "grants"),
        done,
        problem,
    }
}

#[derive(Deserialize)]
pub(super) struct Why {
    csrf: String,
    #[serde(default)]
    reason: String,
}

pub(super) async fn end(
    State(page): State<Page>,
    SignedIn(session): SignedIn,
    Path(id): Path<Uuid>,
    Form(form): Form<Why>,
) -> Response {
    if let Some(refused) = foreign(&page, &session, &form.csrf) {
        return refused;
    }
    let approvals = &page.desk.parts().approvals;
    match approvals.end_grant(id, &session.approver, &form.reason).await {
        Ok(()) => Redirect::to("/grants?done=ended").into_response(),
        Err(error) => {
            let refusal = Refusal::from(error);
            let problem = format!("Nothing was done: {refusal}");
            render(refusal.status(), &grants_page(&page, &session, "", problem))
        }
    }
}

pub(super) async fn glass(
    State(page): State<Page>,
    SignedIn(session): SignedIn,
    query: RawQuery,
) -> Response {
    let said = [
        ("asked", "Asked. A second person of the group confirms it."),
        (
            "given",
            "The glass is broken. It is among the grants, where it can be ended.",
        ),
    ];
    let asked = Asked::default();
    let glass = glass_page(&page, &session, done(&query, &said), &asked, String::new());
    render(StatusCode::OK, &glass)
}

fn glass_page(
    page: &Page,
    session: &Session,
    done: &'static str,
    asked: &Asked,
    problem: String,
) -> GlassPage {
    let now = page.now();
    let most = page.desk.break_glass_minutes().unwrap_or(0);
    let waiting = page.desk.parts().approvals.overview().break_glass.into_iter();
    let waiting = waiting.map(|view| Waiting {
        expires: When::new(&view.expires_at, now),
        view,
    });
    GlassPage {
        frame: page.frame(Some(session), "break-glass"),
        waiting: waiting.collect(),
        most,
        suggested: most.min(15),
        workload: asked.workload.clone(),
        reason: asked.reason.clone(),
        done,
        problem,
    }
}

#[derive(Default, Deserialize)]
pub(super) struct Asked {
    csrf: String,
    #[serde(default)]
    workload: String,
    #[serde(default)]
    minutes: u32,
    #[serde(default)]
    reason: String,
}

pub(super) async fn ask_glass(
    State(page): State<Page>,
    SignedIn(session): SignedIn,
    Form(form): Form<Asked>,
) -> Response {
    if let Some(refused) = foreign(&page, &session, &form.csrf) {
        return refused;
    }
    let approvals = &page.desk.parts().approvals;
    let asked = match WorkloadName::new(form.workload.trim()) {
        Ok(workload) => approvals
            .break_glass(&session.approver, &workload, form.minutes, &form.reason)
            .await
            .map_err(Refusal::from),
        Err(error) => Err(Refusal::Malformed(error.to_string())),
    };
    match asked {
        Ok(_) => Redirect::to("/break-glass?done=asked").into_response(),
        Err(refusal) => {
            let problem = format!("Nothing was done: {refusal}");
            render(refusal.status(), &glass_page(&page, &session, "", &form, problem))
        }
    }
}

pub(super) async fn confirm_glass(
    State(page): State<Page>,
    SignedIn(session): SignedIn,
    Path(id): Path<Uuid>,
    Form(form): Form<Why>,
) -> Response {
    if let Some(refused) = foreign(&page, &session, &form.csrf) {
        return refused;
    }
    let approvals = &page.desk.parts().approvals;
    match approvals
        .confirm_break_glass(id, &session.approver, &form.reason)
        .await
    {
        Ok(_) => Redirect::to("/break-glass?done=given").into_response(),
        Err(error) => {
            let refusal = Refusal::from(error);
            let problem = format!("Nothing was done: {refusal}");
            render(
                refusal.status(),
                &glass_page(&page, &session, "", &Asked::default(), problem),
            )
        }
    }
}
