//! Wiring: the only place that names every module.

mod agent;
mod approving;
pub mod control;
mod core;
mod credentials;
mod events;
mod execs;
mod exporting;
mod reload;
mod retention;
mod shipping;
mod status;
mod truth;

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use self::{
    agent::{Agent, Sides},
    approving::Approving,
    status as report,
};
pub use self::{core::Core, credentials::CredentialStatus, status::Status, truth::Truth};
use crate::{
    config,
    redirect::{BpfRedirector, Options, Tags, cgroup},
    telemetry,
};

pub use report::{
    ApprovalStatus, DoorStatus, LedgerStatus, PolicyStatus, ProgramStatus, TagStatus, WorkloadStatus,
};

/// Runs the agent until it is told to stop.
///
/// # Errors
/// When something without which nothing could be enforced cannot be had; the message says what to do.
pub async fn run(config_path: &Path) -> anyhow::Result<()> {
    let config = config::load(config_path)?;
    telemetry::init(&config.log)?;
    let mount = cgroup::find_mount()?;
    // Before anything opens a socket: sockets belong to the cgroup they were made in.
    let redirector = BpfRedirector::start(&Options {
        pin_dir: config.redirect.pin_dir.clone(),
        port: config.redirect.port,
        cgroup_mount: mount.clone(),
        agent_cgroup: config.redirect.agent_cgroup.clone(),
    })
    .context("sockets cannot be redirected")?;
    let control = redirector.control();
    let listener = control::listen(&config.host.run_dir).context("the control socket cannot be made")?;
    let core = Core::start(&config)?;
    let globs = config.workload.iter().filter(|w| !w.cgroup.is_empty());
    let globs = globs.map(|w| (w.name.clone(), w.cgroup.clone())).collect();
    let (present, events) = Tags::start(&mount, globs).context("cgroups cannot be followed")?;
    let (approving, console) = Approving::start(&core.desk, &config).await?;
    let shipping = shipping::start(&core, &config)?;
    let retention = retention::make(&config, &core)?;
    retention.wait_for(shipping::untaken(&shipping));
    let sides = Sides {
        approving,
        retention,
        shipping,
        truth: core.truth,
    };
    let agent = Agent::new(config_path.into(), config, core.front, sides, control, mount);
    let agent = Arc::new(agent);
    agent.record_started().await?;
    // Once, and before anything of a workload is served.
    let _first = agent.front.processes.set(agent.control.processes());
    agent.lapse_orphans();
    agent.enforce_all(present).await;
    agent.follow(events);
    // When every tag has its workload: of another one nobody could say what its programs may do.
    let following = tokio::spawn(execs::follow(Arc::clone(&agent)));
    let drain = agent.front.shared.drain.clone();
    retention::start(&agent.retention, &drain);
    let answering = tokio::spawn(control::serve(listener, Arc::clone(&agent)));
    if let Some(console) = console {
        tokio::spawn(console.serve(drain.clone()));
    }
    let accepting = tokio::spawn(Arc::clone(&agent.front).accept(Box::new(redirector)));
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!(workloads = agent.front.workloads.all().len(), "ready");

    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading, sd_notify::NotifyState::monotonic_usec_now()?]);
                agent.reload().await;
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let deadline = agent.front.limits.load().drain_timeout;
    tracing::info!(
        live = drain.live(),
        "stopping; live connections have {deadline:?}"
    );
    accepting.abort();
    agent.front.shared.approvals.stop();
    let cut = drain.stop(deadline).await;
    // They saw the drain begin; what they hold is recorded before the ledger closes.
    let _ended = following.await;
    answering.abort();
    // Before the end is on record, which the next run ships: otherwise it would wait for itself.
    agent.shipping.close().await;
    agent.front.shared.credentials.close().await;
    agent.record_stopped(cut).await;
    let ledger = agent.front.shared.ledger.clone();
    tokio::task::spawn_blocking(move || ledger.close()).await?;
    tracing::info!("stopped; enforcement stays: sockets of workloads are refused until the agent runs again");
    Ok(())
}
