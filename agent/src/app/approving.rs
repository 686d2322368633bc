//! The approvers' side, as the daemon starts, reloads and shows it.

use std::sync::Arc;

use anyhow::Context as _;

use super::status::ApprovalStatus;
use crate::{
    config::Config,
    console::{Console, Desk, Notifier},
    tls::ListenerTls,
};

/// What of it a reload changes and a status shows.
pub(super) struct Approving {
    pub(super) desk: Desk,
    notifier: Notifier,
    tls: Option<Arc<ListenerTls>>,
    url: Option<String>,
}

impl Approving {
    /// Makes the page's listener and tells targets from now on.
    pub(super) async fn start(desk: &Desk, config: &Config) -> anyhow::Result<(Self, Option<Console>)> {
        let console = Console::bind(desk, config)
            .await
            .context("the page cannot be had")?;
        let approving = Self {
            desk: desk.clone(),
            notifier: Notifier::start(desk, config)?,
            tls: console.as_ref().and_then(Console::tls),
            url: config.console.listen.and_then(|_| config.console.origin()),
        };
        Ok((approving, console))
    }

    /// Follows a changed configuration. The page's address and name stay until the next start.
    pub(super) fn reload(&self, config: &Config) -> anyhow::Result<()> {
        self.desk.parts().approvers.reload(config)?;
        self.desk.reload(&config.approvals);
        self.notifier.reload(config)?;
        if let Some(tls) = &self.tls {
            tls.reload()?;
        }
        Ok(())
    }

    pub(super) fn status(&self) -> ApprovalStatus {
        let parts = self.desk.parts();
        let overview = parts.approvals.overview();
        ApprovalStatus {
            issuer: parts.approvers.terms().map(|terms| terms.issuer),
            page: self.url.clone(),
            open: overview.open.len(),
            oldest: overview.open.first().map(|view| view.asked_at.clone()),
            grants: overview.grants.len(),
            flooding: overview.floods.into_iter().map(|flood| flood.workload).collect(),
            notify: self.notifier.status(),
        }
    }
}
