//! What happens by itself: cgroups come and go, identities are refreshed and expire.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;

use super::agent::Agent;
use crate::{identity::LifecycleEvent, model::EntryKind, redirect::TagEvent};

/// Enforces tags as they come and go.
pub(super) async fn follow_tags(agent: Arc<Agent>, mut events: mpsc::Receiver<TagEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            TagEvent::Added(tagged) => {
                let path = tagged.path.clone();
                if let Err(e) = agent.enforce(tagged).await {
                    tracing::error!(cgroup = path, "{e:#}");
                }
            }
            TagEvent::Removed { id, .. } => agent.release(id).await,
        }
    }
}

/// Records what happens to identities (AC-2).
pub(super) async fn follow_identities(agent: Arc<Agent>, mut events: mpsc::Receiver<LifecycleEvent>) {
    while let Some(event) = events.recv().await {
        let entry = json!({
            "workload": event.workload,
            "event": event.kind.as_str(),
            "reason": event.reason,
            "detail": event.detail,
        });
        if let Err(e) = agent.record(EntryKind::Workload, entry).await {
            tracing::error!(workload = %event.workload, "not recorded: {e:#}");
        }
    }
}
