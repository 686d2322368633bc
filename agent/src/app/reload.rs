//! SIGHUP: everything that can change without dropping a connection. What cannot be loaded stays as it was.

use std::sync::Arc;

use serde_json::json;

use super::{
    agent::Agent,
    core::{mask_rules, words_mask},
};
use crate::{config, gate::Upstreams, model::EntryKind, redirect::Tags, tls::Connector};

impl Agent {
    /// Reads configuration and policy again.
    pub(super) async fn reload(self: &Arc<Self>) {
        self.reload_policy().await;
        if let Err(e) = self.reload_config().await {
            tracing::error!("the configuration stays as it was: {e:#}");
        }
    }

    async fn reload_policy(&self) {
        let shared = &self.front.shared;
        match shared.policy.reload() {
            Ok(change) if change.before == change.after => tracing::info!("policy unchanged"),
            Ok(change) => {
                let set = shared.policy.current();
                if let Err(e) = shared.ledger.policy_set(set.hash(), set.text()).await {
                    tracing::error!("the policy set is not stored: {e}");
                }
                tracing::info!(policies = set.rules().len(), hash = %set.hash(), "policy reloaded");
                let entry = json!({
                    "subject": "policy",
                    "before": change.before,
                    "after": change.after,
                    "detail": { "added": change.added, "removed": change.removed, "changed": change.changed },
                });
                self.note(entry).await;
                // What was asked and granted under the former set ends with it.
                shared.approvals.sweep();
                self.control.processes().forget_verdicts();
            }
            Err(e) => {
                tracing::error!("the policy set before stays in force: {e}");
                self.note(json!({ "subject": "policy", "detail": { "refused": e.to_string() } }))
                    .await;
            }
        }
    }

    async fn reload_config(self: &Arc<Self>) -> anyhow::Result<()> {
        let new = config::load(&self.config_path)?;
        let mask = mask_rules(&new)?;
        let connector = Connector::new(&new.tls)?;
        self.front.identities.reload(&new)?;
        self.approving.reload(&new)?;
        let shared = &self.front.shared;
        shared
            .approvals
            .mask_by(words_mask(Arc::clone(&mask), &shared.secrets));
        let words = words_mask(Arc::clone(&mask), &shared.secrets);
        self.retention.reload(&new.retention, words);
        self.front.mask.store(mask);
        self.front.connector.store(connector.into());
        // Secrets are read at use; a new upstream must not meet old references.
        self.front.shared.credentials.reload(&new.credential);
        self.front.shared.approvals.reload(new.approvals.clone());
        self.shipping.reload(&new.ship).await?;
        self.front.upstreams.store(Upstreams::new(&new.upstream).into());
        self.front.limits.store(new.limits.clone().into());
        shared.names.configure(&new.dns);
        let globs = new.workload.iter().filter(|w| !w.cgroup.is_empty());
        let (present, events) = Tags::start(
            &self.mount,
            globs.map(|w| (w.name.clone(), w.cgroup.clone())).collect(),
        )?;
        self.listen_unix(&new)?;
        self.exempt(&new.exempt).await?;
        if let Ok(mut config) = self.config.lock() {
            *config = new;
        }
        self.enforce_all(present).await;
        self.follow(events);
        self.rearm().await?;
        self.note(json!({ "subject": "config", "after": self.config_hash() }))
            .await;
        tracing::info!("configuration reloaded");
        Ok(())
    }

    async fn note(&self, entry: serde_json::Value) {
        if let Err(e) = self.record(EntryKind::Change, entry).await {
            tracing::error!("a change is not on record: {e:#}");
        }
    }
}
