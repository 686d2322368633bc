//! The guard, as the configuration wants it: a workload's switches, its UNIX sockets, and what the kernel tells of
//! processes.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use serde_json::json;

use super::agent::Agent;
use crate::{
    config::{self, Config},
    model::{CgroupId, EntryKind, WorkloadName},
    redirect::{
        Outcome, UnixDestination,
        guard::{self, UnixAddress, UnixListeners, UnixRedirect},
    },
};

/// The paths that are redirected.
pub(super) fn redirects(config: &Config) -> Vec<UnixRedirect> {
    let one = |unix: &config::Unix| {
        let upstream = unix.redirect.as_ref()?;
        let port = config.upstream.iter().find(|u| u.name == *upstream)?.port;
        Some(UnixRedirect {
            destination: UnixDestination {
                path: unix.path.clone().into(),
                upstream: upstream.clone(),
            },
            port,
        })
    };
    config.unix.iter().filter_map(one).collect()
}

/// What every workload may write to: the journal and the syslog, which take lines and give nothing back, and the service
/// manager's notifications, without which a unit would not be seen to start. systemd itself connects a unit's standard
/// output from within the unit's cgroup.
const ALWAYS: [&str; 5] = [
    "/dev/log",
    "/run/systemd/journal/dev-log",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
    "/run/systemd/notify",
];

/// What a workload may connect to. A rule of the configuration is put in place of one that is always there.
pub(super) fn addresses(
    config: &Config,
    workload: &WorkloadName,
    listener: impl Fn(&std::path::Path) -> PathBuf,
) -> Vec<UnixAddress> {
    let always = ALWAYS.iter().map(|path| UnixAddress {
        path: (*path).to_owned(),
        redirect: None,
    });
    let listed = config
        .unix
        .iter()
        .filter(|unix| unix.workload.as_ref().is_none_or(|name| name == workload))
        .map(|unix| UnixAddress {
            path: unix.path.clone(),
            redirect: unix.redirect.as_ref().map(|_| listener(unix.path.as_ref())),
        });
    always.chain(listed).collect()
}

impl Agent {
    /// Listens for the UNIX sockets that the configuration redirects.
    pub(super) fn listen_unix(&self, config: &Config) -> anyhow::Result<()> {
        let mut listeners = self
            .unix
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        listeners
            .set(&redirects(config))
            .context("UNIX sockets cannot be redirected")
    }

    /// What the configuration lists for a workload.
    pub(super) fn unix_addresses(&self, workload: &WorkloadName) -> Vec<UnixAddress> {
        let listeners = self
            .unix
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let config = self
            .config
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        addresses(&config, workload, |path| listeners.path(path))
    }

    /// Tells the kernel again what the configuration says of each workload that is enforced already.
    pub(super) async fn rearm(&self) -> anyhow::Result<()> {
        for (id, tag) in self.front.workloads.all() {
            let (control, switches) = (self.control.clone(), self.switches(&tag.workload));
            let addresses = self.unix_addresses(&tag.workload);
            let directory = self.mount.join(tag.cgroup.trim_start_matches('/'));
            let armed = tokio::task::spawn_blocking(move || {
                control.set_unix(id, &addresses)?;
                control.tag_as(&directory, switches)
            });
            armed
                .await
                .context("the attaching thread ended")?
                .with_context(|| format!("{} cannot be enforced as configured", tag.cgroup))?;
        }
        Ok(())
    }
}

/// Puts on record what the kernel tells of processes, until it tells no more.
pub(super) async fn follow(agent: Arc<Agent>) {
    let mut events = match agent.control.guard_events() {
        Ok(Some(events)) => events,
        Ok(None) => return,
        Err(error) => return tracing::error!("processes cannot be followed: {error}"),
    };
    loop {
        let event = match events.next().await {
            Ok(event) => event,
            Err(error) => return tracing::error!("processes can no longer be followed: {error}"),
        };
        let Some(outcome) = guard::outcome(&event) else {
            continue;
        };
        if outcome == Outcome::ProcessArrived {
            agent.older.arrived(CgroupId(event.tagged), event.pid).await;
            continue;
        }
        let workload = agent.front.workloads.get(CgroupId(event.tagged));
        let detail = json!({
            "outcome": outcome.as_str(),
            "cgroup_id": event.tagged,
            "to_cgroup_id": event.to,
            "pid": event.pid,
            "start_ns": event.start_ns,
            "by_pid": event.by,
            "by_uid": event.uid,
            "syscall": event.syscall,
        });
        let said = match outcome {
            Outcome::EscapeKilled | Outcome::EscapeMoved => "escaped",
            _ => "killed",
        };
        let entry = json!({ "workload": workload, "event": said, "detail": detail });
        if let Err(e) = agent.record(EntryKind::Workload, entry).await {
            tracing::error!(event = said, "not recorded: {e:#}");
        }
    }
}

/// The listeners, in their place below `[host] run_dir`.
pub(super) fn listeners(
    config: &Config,
    control: crate::redirect::Control,
) -> anyhow::Result<(UnixListeners, guard::UnixRedirector)> {
    UnixListeners::new(config.host.run_dir.join("unix"), control).context("UNIX sockets cannot be redirected")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_for_whom_it_names() {
        let unix = |path: &str, workload: Option<&str>, redirect: Option<&str>| config::Unix {
            path: path.into(),
            owner: "me".into(),
            workload: workload.map(|name| WorkloadName::new(name).unwrap()),
            redirect: redirect.map(Into::into),
        };
        let config = Config {
            unix: vec![unix("/a", Some("one"), None), unix("/b", None, Some("db"))],
            ..Config::default()
        };
        let paths = |workload: &str| {
            let all = addresses(&config, &WorkloadName::new(workload).unwrap(), |_| "/to".into());
            let listed = all.into_iter().skip(ALWAYS.len());
            listed
                .map(|a| (a.path, a.redirect.map(|to| to.display().to_string())))
                .collect::<Vec<_>>()
        };
        let redirected = ("/b".to_owned(), Some("/to".to_owned()));
        assert_eq!(paths("one"), [("/a".to_owned(), None), redirected.clone()]);
        assert_eq!(paths("two"), [redirected]);
        // Without its upstream there is no port, and nothing to listen for.
        assert!(redirects(&config).is_empty());
    }
}
