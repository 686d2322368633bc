//! What the ledger's truth rests on besides itself: its key, and witnesses. Their tasks, and their routes of the control
//! socket.

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
use crate::{
    config::Config,
    identity::Actor,
    ledger::{
        Ledger, Rotated,
        witness::{WitnessStatus, Witnesses},
    },
};

/// The tasks that have others vouch for the ledger.
#[derive(Default)]
pub struct Truth {
    witnesses: Witnesses,
}

impl Truth {
    /// Starts what the configuration names.
    ///
    /// # Errors
    /// When the configuration cannot be used; nobody is waited for.
    pub(super) fn start(ledger: &Ledger, config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            witnesses: Witnesses::start(ledger, &config.ledger.witness)?,
        })
    }

    pub(super) fn witnesses(&self) -> Vec<WitnessStatus> {
        self.witnesses.status()
    }
}

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
