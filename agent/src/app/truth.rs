//! Routes of the control socket about what the ledger's truth rests on: its key.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    routing::post,
};
use serde_json::json;

use super::{
    Agent,
    control::{Caller, Refused},
};
use crate::{identity::Actor, ledger::Rotated};

pub(super) fn routes(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/v1/ledger/rotate-key", post(rotate_key))
        .with_state(agent)
}

/// Replaces the host key.
async fn rotate_key(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Result<Json<Rotated>, Refused> {
    let ledger = agent.front.shared.ledger.clone();
    let actor = json!(Actor::from(caller));
    let rotated = tokio::task::spawn_blocking(move || ledger.rotate_key(&actor)).await;
    Ok(Json(rotated.map_err(Refused::new)?.map_err(Refused::new)?))
}
