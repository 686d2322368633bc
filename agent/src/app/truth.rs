//! What the ledger's truth rests on besides itself: its key, and witnesses. Their tasks, and their routes of the control
//! socket.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    routing::post,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
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
        timestamp::{Stamped, TimestampStatus, Timestamps, TsaRoots},
        witness::{WitnessStatus, Witnesses},
    },
};

/// The tasks that have others vouch for the ledger.
#[derive(Default)]
pub struct Truth {
    witnesses: Witnesses,
    timestamps: Option<Timestamps>,
}

impl Truth {
    /// Starts what the configuration names.
    ///
    /// # Errors
    /// When the configuration cannot be used; nobody is waited for.
    pub(super) fn start(ledger: &Ledger, config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            witnesses: Witnesses::start(ledger, &config.ledger.witness)?,
            timestamps: config
                .ledger
                .timestamp
                .as_ref()
                .map(|timestamp| Timestamps::start(ledger, timestamp))
                .transpose()?,
        })
    }

    pub(super) fn timestamps(&self) -> Option<TimestampStatus> {
        self.timestamps.as_ref().map(Timestamps::status)
    }

    pub(super) fn witnesses(&self) -> Vec<WitnessStatus> {
        self.witnesses.status()
    }
}

pub(super) fn routes(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/v1/ledger/rotate-key", post(rotate_key))
        .route("/v1/ledger/timestamp", post(timestamp))
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

/// A timestamp that was brought by hand: base64 of the answer, and the roots in PEM if any.
#[derive(serde::Deserialize)]
struct Brought {
    answer: String,
    #[serde(default)]
    ca: Option<String>,
}

async fn timestamp(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(brought): Json<Brought>,
) -> Result<Json<Stamped>, Refused> {
    let answer = STANDARD.decode(&brought.answer).map_err(Refused::new)?;
    let roots = brought.ca.as_ref().map(|pem| TsaRoots::from_pem(pem.as_bytes()));
    let roots = roots.transpose().map_err(Refused::new)?;
    let ledger = &agent.front.shared.ledger;
    let stamped = ledger
        .add_timestamp(answer, roots, json!(Actor::from(caller)))
        .await;
    Ok(Json(stamped.map_err(Refused::new)?))
}
