//! The API: JSON, for `portcullis approvals` and for programs. On the control socket and on the page's listener.
//!
//! Invariants: an answer always needs an ID token of its own in `Authorization`; a session's cookie counts for nothing
//! here, so that no page in a browser can use the API behind its user's back.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{FromRequest, Path, Query, Request, State},
    http::{HeaderMap, header},
    middleware::{self, Next},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use super::{desk::Desk, refusal::Refusal};
use crate::{
    approval::{Answer, BreakGlassView, GrantView, Overview, View},
    identity::SignInTerms,
    model::{Approver, WorkloadName},
};

/// How long a watcher waits for something new before it is answered all the same.
const WATCH: Duration = Duration::from_secs(25);
/// Bytes of a request's body.
const MAX_BODY: usize = 64 * 1024;

/// What must be shown to look on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looking {
    /// Nothing: only admins of this host get here.
    Free,
    /// An approver's ID token.
    SignedIn,
}

/// The routes, below `/v1/approvals`.
pub fn router(desk: Desk, looking: Looking) -> Router {
    let look = Router::new()
        .route("/v1/approvals", get(overview))
        .route("/v1/approvals/watch", get(watch))
        .route("/v1/approvals/{id}", get(show));
    let look = match looking {
        Looking::Free => look,
        Looking::SignedIn => look.layer(middleware::from_fn_with_state(desk.clone(), signed_in_only)),
    };
    look.route("/v1/approvals/sign-in", get(terms))
        .route("/v1/approvals/{id}/answer", post(answer))
        .route("/v1/approvals/grants/{id}/end", post(end_grant))
        .route("/v1/approvals/break-glass", post(break_glass))
        .route(
            "/v1/approvals/break-glass/{id}/confirm",
            post(confirm_break_glass),
        )
        .layer(axum::extract::DefaultBodyLimit::max(MAX_BODY))
        .with_state(desk)
}

/// The approver that a request's token names (`Authorization: Bearer`), verified for this request.
///
/// # Errors
/// When there is none, or it is no sign-in that may be used.
pub async fn approver(desk: &Desk, headers: &HeaderMap) -> Result<Arc<Approver>, Refusal> {
    let value = headers.get(header::AUTHORIZATION).ok_or(Refusal::NotSignedIn)?;
    let token = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or(Refusal::NotSignedIn)?;
    let verified = desk.parts().approvers.verify(token, "cli").await;
    let approver = Arc::new(verified.inspect_err(|e| desk.refused("cli", &e.to_string()))?);
    desk.signed_in(&approver);
    Ok(approver)
}

async fn signed_in_only(State(desk): State<Desk>, request: Request, next: Next) -> Result<Response, Refusal> {
    let approver = approver(&desk, request.headers()).await?;
    if !desk.admits(&approver) {
        return Err(no_approver(&approver));
    }
    Ok(next.run(request).await)
}

/// What somebody is told who is signed in and may not look.
pub(super) fn no_approver(approver: &Approver) -> Refusal {
    Refusal::NoApprover {
        name: approver.name.to_string(),
        groups: approver.groups.join(", "),
    }
}

/// A JSON body whose errors are JSON, too.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let read = Json::<T>::from_request(request, state).await;
        read.map(|Json(body)| Self(body))
            .map_err(|e| Refusal::Malformed(e.body_text()))
    }
}

async fn terms(State(desk): State<Desk>) -> Result<Json<SignInTerms>, Refusal> {
    let terms = desk.parts().approvers.terms();
    Ok(Json(terms.ok_or(crate::identity::SignInError::NotConfigured)?))
}

async fn overview(State(desk): State<Desk>) -> Json<Overview> {
    Json(desk.parts().approvals.overview())
}

async fn show(State(desk): State<Desk>, Path(id): Path<Uuid>) -> Result<Json<Arc<View>>, Refusal> {
    let view = desk.parts().approvals.get(id);
    Ok(Json(view.ok_or(Refusal::NotFound("request"))?))
}

/// What a watcher is answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Watched {
    /// What to ask with next time: the answer comes when the overview is another one.
    pub seen: String,
    /// Everything, as it is now.
    pub overview: Overview,
}

#[derive(Deserialize)]
struct Seen {
    #[serde(default)]
    seen: String,
}

/// Answers when the overview is not the one that was seen, or after [`WATCH`].
async fn watch(State(desk): State<Desk>, Query(asked): Query<Seen>) -> Result<Response, Refusal> {
    use axum::response::IntoResponse as _;
    let approvals = &desk.parts().approvals;
    // Before the first look: what happens in between is not missed.
    let mut notices = approvals.subscribe();
    let deadline = tokio::time::Instant::now() + WATCH;
    loop {
        let overview = approvals.overview();
        let text = serde_json::to_vec(&overview).map_err(|e| Refusal::Malformed(e.to_string()))?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
        let seen = hex::encode(&digest.as_ref()[..16]);
        let over = tokio::time::Instant::now() >= deadline;
        if seen != asked.seen || over {
            return Ok(Json(Watched { seen, overview }).into_response());
        }
        match tokio::time::timeout_at(deadline, notices.recv()).await {
            Ok(Err(RecvError::Closed)) => return Ok(Json(Watched { seen, overview }).into_response()),
            // Something happened, or much of it, or time is up.
            Ok(Ok(_) | Err(RecvError::Lagged(_))) | Err(_) => {}
        }
    }
}

async fn answer(
    State(desk): State<Desk>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    Body(body): Body<Answer>,
) -> Result<Json<Arc<View>>, Refusal> {
    let approver = approver(&desk, &headers).await?;
    Ok(Json(desk.parts().approvals.answer(id, &approver, body).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    reason: String,
}

async fn end_grant(
    State(desk): State<Desk>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    Body(body): Body<Why>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let approver = approver(&desk, &headers).await?;
    desk.parts()
        .approvals
        .end_grant(id, &approver, &body.reason)
        .await?;
    Ok(Json(serde_json::json!({})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BreakGlass {
    workload: WorkloadName,
    minutes: u32,
    reason: String,
}

async fn break_glass(
    State(desk): State<Desk>,
    headers: HeaderMap,
    Body(body): Body<BreakGlass>,
) -> Result<Json<BreakGlassView>, Refusal> {
    let approver = approver(&desk, &headers).await?;
    let approvals = &desk.parts().approvals;
    let asked = approvals.break_glass(&approver, &body.workload, body.minutes, &body.reason);
    Ok(Json(asked.await?))
}

async fn confirm_break_glass(
    State(desk): State<Desk>,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    Body(body): Body<Why>,
) -> Result<Json<GrantView>, Refusal> {
    let approver = approver(&desk, &headers).await?;
    let given = desk
        .parts()
        .approvals
        .confirm_break_glass(id, &approver, &body.reason)
        .await?;
    Ok(Json(given))
}
