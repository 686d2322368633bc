//! Workloads that make more network namespaces than their share: on record, and told in `status`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use super::agent::Agent;
use crate::{model::CgroupId, redirect::bpf::MAX_NAMESPACES_EACH};

/// How often one workload has an entry, however often it goes beyond its share.
const EACH: Duration = Duration::from_secs(60);

impl Agent {
    /// What operators have to know of it.
    pub(super) fn crowded(&self) -> Vec<String> {
        let told = self.control.namespaces_refused().into_iter().map(|(id, refused)| {
            format!(
                "cgroup {} has {MAX_NAMESPACES_EACH} network namespaces, as many as one workload may, and {refused} more: \
                 connects in those are denied",
                id.0
            )
        });
        told.collect()
    }
}

/// Puts it on record, until the daemon ends.
pub(super) async fn follow(agent: Arc<Agent>) {
    let mut refused = agent.control.namespaces_watched();
    let mut recorded: BTreeMap<CgroupId, Instant> = BTreeMap::new();
    while refused.changed().await {
        recorded.retain(|_, since| since.elapsed() < EACH);
        for (id, refused) in agent.control.namespaces_refused() {
            if let Some(workload) = agent.front.workloads.get(id)
                && !recorded.contains_key(&id)
            {
                recorded.insert(id, Instant::now());
                let detail = json!({ "cgroup_id": id.0, "share": MAX_NAMESPACES_EACH, "refused": refused });
                agent.lifecycle(&workload, "namespaces_refused", detail).await;
            }
        }
    }
}
