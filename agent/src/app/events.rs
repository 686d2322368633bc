//! What happens by itself: cgroups come and go, identities are refreshed and expire.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::agent::Agent;
use crate::redirect::TagEvent;

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
