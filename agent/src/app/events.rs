//! Cgroups come and go; their tags are enforced as they do.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::agent::Agent;
use crate::redirect::TagEvent;

/// Enforces tags as they come and go, until the sender ends.
pub(super) async fn follow_tags(agent: Arc<Agent>, mut events: mpsc::Receiver<TagEvent>) {
    while let Some(event) = events.recv().await {
        match event {
            TagEvent::Added(tagged) => {
                let path = tagged.path.clone();
                match agent.enforce(tagged).await {
                    Ok(_) => {}
                    // Made and gone again before it could be enforced: nothing can have run in it for long.
                    Err(_) if !path.exists() => tracing::debug!(cgroup = %path.display(), "gone already"),
                    Err(e) => tracing::error!(cgroup = %path.display(), "{e:#}"),
                }
            }
            TagEvent::Removed { tag, .. } => agent.release(tag.id).await,
        }
    }
}
