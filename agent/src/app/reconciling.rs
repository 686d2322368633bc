//! Completeness in the running agent: its start, and its route of the control socket.

use std::sync::Arc;

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{ConnectInfo, State},
    routing::post,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Core,
    agent::{Agent, boot_id},
    control::{Caller, Refused},
};
use crate::{
    config::Config,
    identity::Actor,
    model::EntryKind,
    reconcile::{Parts, ReconcileStatus, Reconciler},
    redirect::Control,
};

/// Looks at what an earlier run has left unaccounted for.
pub(super) fn start(core: &Core, config: &Config, control: &Control) -> anyhow::Result<Reconciler> {
    let front = &core.front;
    Reconciler::start(Parts {
        kernel: Arc::new(control.clone()),
        tally: front.tally.clone(),
        workloads: front.workloads.clone(),
        ledger: front.shared.ledger.clone(),
        dir: config.host.data_dir.clone(),
        clock: front.shared.clock.clone(),
        boot: boot_id(),
    })
    .context("the kernel's counters cannot be held against the record")
}

pub(super) fn routes(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/v1/reconcile", post(reconcile))
        .with_state(agent)
}

/// What is asked of `POST /v1/reconcile`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    /// Whether differences that are known are understood, and no longer problems.
    pub acknowledge: bool,
}

/// Acknowledges what is known, on record, and then compares.
async fn reconcile(
    State(agent): State<Arc<Agent>>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(asked): Json<Reconcile>,
) -> Result<Json<ReconcileStatus>, Refused> {
    if asked.acknowledge {
        let known = agent.reconciler.status().differences;
        let detail = json!({ "act": "acknowledge", "differences": known });
        let change = json!({ "subject": "reconciliation", "actor": Actor::from(caller), "detail": detail });
        agent
            .record(EntryKind::Change, change)
            .await
            .map_err(Refused::new)?;
        agent.reconciler.acknowledge();
    }
    Ok(Json(agent.reconciler.run().await.map_err(Refused::new)?))
}
