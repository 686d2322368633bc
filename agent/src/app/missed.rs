//! Runs of the guard's programs that the kernel left out: what came by meanwhile was not seen. On record, and a problem.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::json;

use super::agent::Agent;
use crate::model::EntryKind;

/// How often they are looked for.
const EACH: Duration = Duration::from_secs(5);

impl Agent {
    /// What operators have to know of it.
    pub(super) fn missed(&self) -> Vec<String> {
        let missed = self.control.missed().into_iter().filter(|(_, runs)| *runs > 0);
        let told = missed.map(|(program, runs)| {
            format!(
                "the kernel did not run {program} {runs} times since the daemon started, as it was busy with another run: \
                 what processes did there was not looked at (entries `programs_missed`)"
            )
        });
        told.collect()
    }
}

/// Puts it on record, until the daemon ends.
pub(super) async fn follow(agent: Arc<Agent>) {
    let mut known: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ticks = tokio::time::interval(EACH);
    loop {
        ticks.tick().await;
        let control = agent.control.clone();
        let Ok(missed) = tokio::task::spawn_blocking(move || control.missed()).await else {
            return;
        };
        for (program, runs) in missed {
            let before = known.insert(program, runs).unwrap_or_default();
            if runs <= before {
                continue;
            }
            let more = runs - before;
            tracing::error!(program, more, "runs of a program were left out");
            let entry = json!({ "event": "programs_missed", "detail": { "program": program, "runs": more } });
            if let Err(error) = agent.record(EntryKind::Agent, entry).await {
                tracing::error!(program, "not recorded: {error:#}");
            }
        }
    }
}
