//! Execs of workloads, as operations: each recorded, and decided where its workload's configuration says so.

mod operation;
mod run;
mod verdicts;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::json;
use tokio::{
    sync::{Semaphore, oneshot},
    task::JoinSet,
};

use self::{run::Run, verdicts::Verdicts};
use super::agent::Agent;
use crate::{
    config::{ExecLoss, ExecMode},
    model::{CgroupId, SessionId, WorkloadName},
    redirect::{Happened, Outcome, Processes},
};

/// Execs that are being looked at, decided and recorded at once.
const AT_ONCE: usize = 256;
/// How often losses are looked for.
const LOSSES: Duration = Duration::from_secs(1);

/// How a program's run ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// Nanoseconds since boot, and as wait(2) has it.
    Exited(u64, u32),
    /// The process has another program, nanoseconds since boot.
    Replaced(u64),
    /// It is no longer in the workload, nanoseconds since boot.
    Left(u64),
}

/// What all execs share.
pub(super) struct Execs {
    agent: Arc<Agent>,
    processes: Processes,
    verdicts: Verdicts,
    /// One for each exec that is looked at, decided and recorded, but while a file is late, or a human.
    slots: Arc<Semaphore>,
    /// Execs of one tagged cgroup are one session, for as long as this agent runs.
    sessions: Mutex<HashMap<CgroupId, SessionId>>,
}

/// Follows the processes of workloads until the agent stops.
pub(super) async fn follow(agent: Arc<Agent>) {
    let processes = agent.control.processes();
    let orphans = processes.end_orphans();
    if orphans > 0 {
        tracing::warn!(orphans, "processes that an earlier run held have been ended");
    }
    let drain = agent.front.shared.drain.clone();
    let execs = Arc::new(Execs {
        verdicts: Verdicts::new(processes.clone()),
        processes,
        agent,
        slots: Arc::new(Semaphore::new(AT_ONCE)),
        sessions: Mutex::default(),
    });
    let watching = tokio::spawn(losses(Arc::clone(&execs)));
    let (mut running, mut tasks) = (HashMap::new(), JoinSet::new());
    loop {
        tokio::select! {
            () = drain.stopping() => break,
            happened = execs.processes.next() => match happened {
                Happened::Forked { .. } => {}
                Happened::Exited { process, at_ns, status } => {
                    end(running.remove(&process), End::Exited(at_ns, status));
                }
                Happened::Left { process, at_ns } => end(running.remove(&process), End::Left(at_ns)),
                Happened::Executed(executed) => {
                    let (ended, ends) = oneshot::channel();
                    end(running.insert(executed.process, ended), End::Replaced(executed.at_ns));
                    // Beyond them the buffer fills, and the programs count what is lost.
                    let Ok(slot) = Arc::clone(&execs.slots).acquire_owned().await else { break };
                    let run = Run::new(Arc::clone(&execs), executed);
                    tasks.spawn(run.serve(ends, slot));
                }
            },
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
        }
    }
    watching.abort();
    // What still runs is recorded as not seen to its end.
    tasks.shutdown().await;
}

fn end(running: Option<oneshot::Sender<End>>, how: End) {
    if let Some(running) = running {
        // Whose record has failed waits no longer.
        let _nobody = running.send(how);
    }
}

/// Records, for each workload, that the agent could not be told of everything.
async fn losses(execs: Arc<Execs>) {
    let mut seen: BTreeMap<CgroupId, u64> = BTreeMap::new();
    let mut ticks = tokio::time::interval(LOSSES);
    loop {
        ticks.tick().await;
        let control = execs.agent.control.clone();
        let looked = tokio::task::spawn_blocking(move || {
            if let Err(error) = control.let_go() {
                tracing::error!(%error, "what is on the host and not needed any more stays there");
            }
            control.counters()
        });
        let Ok(Ok(counters)) = looked.await else {
            continue;
        };
        seen.retain(|id, _| counters.iter().any(|(known, _)| known == id));
        for (id, counters) in counters {
            let lost = counters.get(Outcome::ExecLost);
            // What was lost before this agent began is recorded by it, too: nobody else was there.
            let before = seen.insert(id, lost).unwrap_or_default();
            let Some(workload) = execs.agent.front.workloads.get(id).filter(|_| lost > before) else {
                continue;
            };
            tracing::error!(%workload, lost = lost - before, "events of processes were lost");
            let detail = json!({ "cgroup_id": id.0, "lost": lost - before });
            execs.agent.lifecycle(&workload, "exec_lost", detail).await;
        }
    }
}

impl Execs {
    fn session(&self, tagged: CgroupId) -> SessionId {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        *sessions.entry(tagged).or_default()
    }
}

impl Agent {
    /// What the programs are told of a workload's execs.
    pub(super) fn exec_switches(&self, workload: &WorkloadName) -> u64 {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(workload) = config.workload.iter().find(|w| w.name == *workload) else {
            return 0;
        };
        let mode = match workload.exec {
            ExecMode::Off => return 0,
            ExecMode::Audit => portcullis_abi::EXEC_AUDIT,
            ExecMode::Enforce => portcullis_abi::EXEC_AUDIT | portcullis_abi::EXEC_ENFORCE,
        };
        match workload.exec_loss {
            ExecLoss::Count => mode,
            ExecLoss::Kill => mode | portcullis_abi::EXEC_LOSS_KILLS,
        }
    }
}
