//! Shipping, as the control socket shows and steers it.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{ConnectInfo, Path, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde_json::json;

use super::{
    agent::Agent,
    control::{Caller, Refused},
    core::Core,
};
use crate::{
    clock::Clock,
    config::Config,
    identity::Actor,
    ledger::retention::Untaken,
    model::EntryKind,
    ship::{self, DeadLetter, Shipping, ShippingError, SinkStatus},
};

/// A sink that fails for longer than this is a problem of the host.
const PROBLEM_SECONDS: u64 = 180;
/// Dead letters shown at once.
const SHOWN: usize = 1000;

/// Starts the sinks of a configuration.
pub(super) fn start(core: &Core, config: &Config) -> Result<Shipping, ShippingError> {
    let shared = &core.front.shared;
    let context = ship::Context {
        host: Arc::clone(&shared.host),
        credentials: shared.credentials.clone(),
        clock: Clock::System,
    };
    Shipping::start(&config.host.data_dir, &shared.ledger, context, &config.ship)
}

/// What must not be purged yet, for retention to ask.
pub(super) fn untaken(shipping: &Shipping) -> Untaken {
    let shipping = shipping.clone();
    Arc::new(move || {
        let held = shipping.held_back();
        (held.segment, held.entry)
    })
}

/// What admins ask of it.
pub(super) fn routes(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/v1/ship", get(list))
        .route("/v1/ship/{name}/retry", post(retry))
        .route("/v1/ship/{name}/dead-letters", get(dead_letters))
        .route("/v1/ship/{name}/requeue", post(requeue))
        .with_state(agent)
}

async fn list(State(agent): State<Arc<Agent>>) -> Json<Vec<SinkStatus>> {
    Json(agent.shipping.status())
}

async fn dead_letters(
    State(agent): State<Arc<Agent>>,
    Path(name): Path<String>,
) -> Result<Json<Vec<DeadLetter>>, Refused> {
    let shipping = agent.shipping.clone();
    let read = tokio::task::spawn_blocking(move || shipping.dead_letters(&name, SHOWN));
    let letters = read.await.map_err(Refused::new)?;
    letters.map(Json).map_err(Refused::new)
}

async fn retry(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    act(&agent, caller, &name, "retry").await?;
    agent.shipping.retry(&name).map_err(Refused::new)?;
    Ok(Json(json!({})).into_response())
}

async fn requeue(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    act(&agent, caller, &name, "requeue").await?;
    agent.shipping.requeue(&name).map_err(Refused::new)?;
    Ok(Json(json!({})).into_response())
}

/// An admin's act is on record before it is done.
async fn act(agent: &Agent, caller: Caller, name: &str, act: &str) -> Result<(), Refused> {
    agent.shipping.known(name).map_err(Refused::new)?;
    let detail = json!({ "sink": name, "act": act });
    let change = json!({ "subject": "ship", "actor": Actor::from(caller), "detail": detail });
    let recorded = agent.record(EntryKind::Change, change).await;
    recorded.map_err(|e| Refused::new(format!("{e:#}")))
}

/// What of it is not as it should be.
pub(super) fn problems(sinks: &[SinkStatus]) -> Vec<String> {
    let mut problems = Vec::new();
    for sink in sinks {
        let name = &sink.name;
        if let Some(error) = sink.error.as_ref().filter(|e| e.seconds >= PROBLEM_SECONDS) {
            problems.push(format!(
                "[[ship]] {name} has been failing since {} ({}): {}; {} {} wait, and none is lost",
                error.since, error.class, error.why, sink.waiting, sink.unit
            ));
        }
        if sink.state == "stopped" {
            problems.push(format!("[[ship]] {name} has ended: restart the daemon"));
        }
        if sink.dead_letters > 0 {
            problems.push(format!(
                "[[ship]] {name} rejected {} {}: see `portcullis ship dead-letter {name}`",
                sink.dead_letters, sink.unit
            ));
        }
    }
    problems
}
