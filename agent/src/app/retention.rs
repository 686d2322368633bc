//! Retention in the running agent: its tasks, its part of the control socket, what status and metrics say of it.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{ConnectInfo, Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{
    agent::Agent,
    control::{Caller, Refused},
    core::{Core, mask_rules, words_mask},
};
use crate::{
    config::Config,
    console::{Refusal, signed_in},
    drain::Drain,
    ledger::retention::{
        self, By, EntriesPurge, Hold, HoldScope, Pass, Retention, RetentionError, RetentionStatus,
    },
    model::{Rfc3339, WorkloadName},
};

/// The first pass comes so long after the start.
const FIRST: Duration = Duration::from_secs(300);
/// And then one a day.
const DAILY: Duration = Duration::from_secs(24 * 3600);
/// The room is looked at so often: what can be written in between has to fit into the reserve.
const LOOK: Duration = Duration::from_secs(1);

/// Retention of the core's ledger.
pub(super) fn make(config: &Config, core: &Core) -> anyhow::Result<Retention> {
    let shared = &core.front.shared;
    Ok(Retention::new(retention::Parts {
        dir: config.host.data_dir.clone(),
        ledger: shared.ledger.clone(),
        clock: shared.clock.clone(),
        config: config.retention.clone(),
        mask: words_mask(mask_rules(config)?, &shared.secrets),
    }))
}

/// Looks at the room every second, and over all segments once a day, until the agent stops.
pub(super) fn start(retention: &Retention, drain: &Drain) {
    let (watching, stopping) = (retention.clone(), drain.clone());
    tokio::spawn(async move {
        loop {
            if let Err(error) = watching.watch().await {
                tracing::error!("the room for the ledger cannot be looked at: {error}");
            }
            tokio::select! {
                () = stopping.stopping() => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        watching.stop();
    });
    let (passing, stopping) = (retention.clone(), drain.clone());
    tokio::spawn(async move {
        let mut wait = FIRST;
        loop {
            tokio::select! {
                () = stopping.stopping() => break,
                () = tokio::time::sleep(wait) => {}
            }
            wait = DAILY;
            match passing.run(false).await {
                Ok(pass) => tracing::info!(
                    segments = pass.purged.len(),
                    "retention has looked over all segments"
                ),
                Err(error) => tracing::error!("retention could not look over all segments: {error}"),
            }
        }
    });
}

/// What operators have to know.
pub(super) fn problems(retention: &Retention) -> Vec<String> {
    let room = retention.room().and_then(|room| room.problem());
    let failed = retention.last().map(|pass| pass.failed).unwrap_or_default();
    let failed = failed
        .into_iter()
        .map(|why| format!("retention could not purge payload: {why}"));
    room.into_iter().chain(failed).collect()
}

/// In the OpenMetrics text form.
pub(super) fn metrics(retention: &Retention) -> String {
    let mut text = String::new();
    let mut put = |kind: &str, name: &str, help: &str, suffix: &str, value: u64| {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "# TYPE portcullis_{name} {kind}\n# HELP portcullis_{name} {help}\nportcullis_{name}{suffix} {value}\n"
        );
    };
    if let Some(room) = retention.room() {
        put(
            "gauge",
            "ledger_used_bytes",
            "Bytes of all parts of the ledger.",
            "",
            room.used_bytes,
        );
        put(
            "gauge",
            "ledger_free_bytes",
            "Bytes left on its file system.",
            "",
            room.free_bytes,
        );
        if let Some(budget) = room.budget_bytes {
            put(
                "gauge",
                "ledger_budget_bytes",
                "The configured disk budget.",
                "",
                budget,
            );
        }
        if let Some(growth) = room.growth_per_day {
            put(
                "gauge",
                "ledger_growth_bytes_per_day",
                "Growth over the last days.",
                "",
                growth,
            );
        }
        if let Some(days) = room.days_left {
            put(
                "gauge",
                "ledger_days_left",
                "Days until the budget is used up.",
                "",
                days,
            );
        }
        let help = "What is not recorded for want of room: 0 nothing, 1 payload, 2 operations, 3 all but what tells.";
        put("gauge", "ledger_limit", help, "", room.limit as u64);
    }
    let (frames, bytes) = retention.purged();
    put(
        "counter",
        "retention_frames_purged",
        "Payload frames purged.",
        "_total",
        frames,
    );
    put(
        "counter",
        "retention_bytes_purged",
        "Stored bytes of payload purged.",
        "_total",
        bytes,
    );
    text
}

/// The routes, below `/v1/retention`.
pub(super) fn router(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/v1/retention", get(status))
        .route("/v1/retention/run", post(run))
        .route("/v1/retention/holds", post(hold))
        .route("/v1/retention/holds/{id}/release", post(release))
        .route("/v1/retention/entries", post(request))
        .route("/v1/retention/entries/{id}/confirm", post(confirm))
        .with_state(agent)
}

/// Why a request was not carried out.
enum No {
    SignIn(Refusal),
    Retention(RetentionError),
    Malformed(String),
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::SignIn(refusal)
    }
}

impl From<RetentionError> for No {
    fn from(error: RetentionError) -> Self {
        Self::Retention(error)
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let error = match self {
            Self::SignIn(refusal) => return refusal.into_response(),
            Self::Malformed(why) => return Refused::new(why).into_response(),
            Self::Retention(error) => error,
        };
        let status = match &error {
            RetentionError::Off | RetentionError::NotInGroup { .. } | RetentionError::SamePerson => {
                StatusCode::FORBIDDEN
            }
            RetentionError::RequestUnknown | RetentionError::HoldUnknown => StatusCode::NOT_FOUND,
            RetentionError::Nothing { .. }
            | RetentionError::Moved { .. }
            | RetentionError::Changed { .. }
            | RetentionError::Damaged { .. } => StatusCode::CONFLICT,
            RetentionError::HoldEmpty | RetentionError::Reason => StatusCode::BAD_REQUEST,
            RetentionError::Ledger(_)
            | RetentionError::Stopping
            | RetentionError::Derived { .. }
            | RetentionError::TooMany => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(json!({ "error": error.to_string() }))).into_response()
    }
}

async fn status(State(agent): State<Arc<Agent>>) -> Result<Json<RetentionStatus>, No> {
    Ok(Json(agent.retention.status().await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    dry: bool,
}

async fn run(State(agent): State<Arc<Agent>>, Json(body): Json<Run>) -> Result<Json<Pass>, No> {
    Ok(Json(agent.retention.run(body.dry).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldRequest {
    workload: Option<WorkloadName>,
    session: Option<Uuid>,
    since: Option<String>,
    until: Option<String>,
    reason: String,
}

async fn hold(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(body): Json<HoldRequest>,
) -> Result<Json<Hold>, No> {
    let time = |text: Option<String>| text.map(|text| moment(&text)).transpose();
    let scope = HoldScope {
        workload: body.workload.map(|w| w.to_string()),
        session: body.session.map(|s| s.to_string()),
        since: time(body.since)?.map(|ns| Rfc3339(ns).to_string()),
        until: time(body.until)?.map(|ns| Rfc3339(ns).to_string()),
    };
    Ok(Json(agent.retention.hold(scope, &body.reason, by(caller)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    reason: String,
}

async fn release(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(id): Path<Uuid>,
    Json(body): Json<Why>,
) -> Result<Json<Hold>, No> {
    Ok(Json(agent.retention.release(id, &body.reason, by(caller)).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntriesRequest {
    before: String,
    reason: String,
}

async fn request(
    State(agent): State<Arc<Agent>>,
    headers: HeaderMap,
    Json(body): Json<EntriesRequest>,
) -> Result<Json<EntriesPurge>, No> {
    let person = signed_in(&agent.approving.desk, &headers).await?;
    let before = moment(&body.before)?;
    Ok(Json(
        agent
            .retention
            .request_entries(&person, before, &body.reason)
            .await?,
    ))
}

async fn confirm(
    State(agent): State<Arc<Agent>>,
    headers: HeaderMap,
    Path(id): Path<Uuid>,
    Json(body): Json<Why>,
) -> Result<Json<EntriesPurge>, No> {
    let person = signed_in(&agent.approving.desk, &headers).await?;
    Ok(Json(
        agent.retention.confirm_entries(id, &person, &body.reason).await?,
    ))
}

fn by(caller: Caller) -> By {
    By {
        pid: caller.pid,
        uid: caller.uid,
    }
}

/// RFC 3339, in nanoseconds since 1970 UTC.
fn moment(text: &str) -> Result<i64, No> {
    let at: Result<jiff::Timestamp, _> = text.parse();
    at.ok()
        .and_then(|at| i64::try_from(at.as_nanosecond()).ok())
        .filter(|ns| *ns >= 0)
        .ok_or_else(|| No::Malformed(format!("'{text}' is no time in RFC 3339, from 1970 to 2262")))
}
