//! Wiring: the only place that names every module.

mod agent;
mod approving;
pub mod control;
mod core;
mod credentials;
mod crowding;
mod events;
mod execs;
mod exempting;
mod exporting;
mod guarding;
mod missed;
mod older;
mod pulse;
mod reconciling;
mod reload;
mod retention;
mod selftesting;
mod service;
mod shipping;
mod status;
mod truth;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use self::{
    agent::{Agent, Sides},
    approving::Approving,
    status as report,
};
pub use self::{
    core::Core, credentials::CredentialStatus, exempting::ExemptStatus, older::OlderStatus, status::Status,
    truth::Truth,
};
use crate::{
    config,
    redirect::{BpfRedirector, Kept, Options, Tags, cgroup},
    telemetry,
};

pub use reconciling::Reconcile;
pub use report::{
    ApprovalStatus, DoorStatus, LedgerStatus, PolicyStatus, ProgramStatus, TagStatus, WorkloadStatus,
};

/// How long starting may take: after a crash the ledger's last part is read whole.
const STARTING: Duration = Duration::from_mins(15);
/// How long stopping may take, beside the time that live connections get: sinks and the ledger are closed.
const CLOSING: Duration = Duration::from_mins(2);

/// Runs the agent until it is told to stop.
///
/// # Errors
/// When something without which nothing could be enforced cannot be had; the message says what to do.
pub async fn run(config_path: &Path) -> anyhow::Result<()> {
    let config = config::load(config_path)?;
    telemetry::init(&config.log)?;
    let starting = service::extend(STARTING);
    let mut kept = Kept::inherited();
    let mount = cgroup::find_mount()?;
    // Before anything opens a socket: sockets belong to the cgroup they were made in.
    let options = Options {
        pin_dir: config.redirect.pin_dir.clone(),
        port: config.redirect.port,
        cgroup_mount: mount.clone(),
        agent_cgroup: config.redirect.agent_cgroup.clone(),
    };
    let redirector = BpfRedirector::start_with(&options, &mut kept, Arc::new(service::ServiceStore::new()))
        .context("sockets cannot be redirected")?;
    let control = redirector.control();
    let socket = control::socket(&config.host.run_dir);
    let listener =
        control::listen(&config.host.run_dir, &mut kept).context("the control socket cannot be made")?;
    // First what is of no use any more: its name may be that of what is kept from now on.
    service::let_go(&kept.left());
    drop(kept);
    let (name, listeners) = redirector.to_keep();
    service::keep(name, &listeners);
    let core = Core::start(&config)?;
    let globs = config.workload.iter().filter(|w| !w.cgroup.is_empty());
    let globs = globs.map(|w| (w.name.clone(), w.cgroup.clone())).collect();
    let (present, events) = Tags::start(&mount, globs).context("cgroups cannot be followed")?;
    let (approving, console) = Approving::start(&core.desk, &config).await?;
    let shipping = shipping::start(&core, &config)?;
    let retention = retention::make(&config, &core)?;
    retention.wait_for(shipping::untaken(&shipping));
    // Before the first connection is taken.
    let reconciler = reconciling::start(&core, &config, &control)?;
    let sides = Sides {
        approving,
        reconciler,
        retention,
        shipping,
        truth: core.truth,
    };
    let (unix, unix_redirector) = guarding::listeners(&config, control.clone())?;
    let agent = Agent::new(
        config_path.into(),
        config,
        core.front,
        sides,
        (control, unix),
        mount,
    );
    let agent = Arc::new(agent);
    agent.record_started().await?;
    // Once, and before anything of a workload is served.
    let _first = agent.front.processes.set(agent.control.processes());
    agent.lapse_orphans();
    let present_config = agent.config.lock().map(|c| c.clone()).unwrap_or_default();
    agent.listen_unix(&present_config)?;
    agent.exempt_at_start().await.context("[[exempt]]")?;
    tokio::spawn(older::follow(Arc::clone(&agent)));
    agent.enforce_all(present).await;
    agent.follow(events);
    // When every tag has its workload, as below.
    tokio::spawn(guarding::follow(Arc::clone(&agent)));
    tokio::spawn(crowding::follow(Arc::clone(&agent)));
    tokio::spawn(missed::follow(Arc::clone(&agent)));
    // When every tag has its workload: of another one nobody could say what its programs may do.
    let following = tokio::spawn(execs::follow(Arc::clone(&agent)));
    let drain = agent.front.shared.drain.clone();
    retention::start(&agent.retention, &drain);
    agent.reconciler.run_each_minute(&drain);
    let answering = tokio::spawn(control::serve(listener, Arc::clone(&agent)));
    if let Some(console) = console {
        tokio::spawn(console.serve(drain.clone()));
    }
    let (redirector, pulse) = pulse::answering(redirector);
    let accepting = tokio::spawn(Arc::clone(&agent.front).accept(Box::new(redirector)));
    let accepting_unix = tokio::spawn(Arc::clone(&agent.front).accept(Box::new(unix_redirector)));
    tokio::spawn(pulse::watch(pulse, Arc::clone(&agent), socket));
    drop(starting);
    service::tell(&[NotifyState::Ready]);
    tracing::info!(workloads = agent.front.workloads.all().len(), "ready");

    until_told(&agent).await?;
    service::tell(&[NotifyState::Stopping]);
    let deadline = agent.front.limits.load().drain_timeout;
    let _stopping = service::extend(deadline + CLOSING);
    tracing::info!(
        live = drain.live(),
        "stopping; live connections have {deadline:?}"
    );
    accepting.abort();
    // Until it has ended it may have taken one more from the queue, which would be turned away: the next daemon serves
    // what is left there.
    accepting_unix.abort();
    let _aborted = (accepting.await, accepting_unix.await);
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

/// Reloads when it is told to, until it is told to stop.
async fn until_told(agent: &Arc<Agent>) -> anyhow::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                service::tell(&[NotifyState::Reloading, NotifyState::monotonic_usec_now()?]);
                agent.reload().await;
                service::tell(&[NotifyState::Ready]);
            }
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}
