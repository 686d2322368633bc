//! Decisions that the kernel may remember, and when it must forget them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    gate::Gate,
    identity::{Ended, IdentityHandle},
    model::{Identity, WorkloadName},
    policy::PolicyStore,
    redirect::{Executed, Processes, Program},
};

/// What of an exec is the same for each of a file, as long as the file is.
/// A new hard link, and on most file systems a new name, changes the inode and so makes it another file.
const OF_THE_FILE: [&str; 5] = ["path", "host", "sha256", "memfd", "loader"];
/// The longest that a verdict holds.
const MOST: Duration = Duration::from_secs(3600);
/// How often it is looked whether policy or a workload's groups have changed.
const LOOK: Duration = Duration::from_millis(250);

/// The verdicts of this agent.
pub(super) struct Verdicts {
    processes: Processes,
    /// Under which generation something watches over a workload's verdicts.
    watched: Mutex<HashMap<WorkloadName, u32>>,
}

/// What was in force when an exec was asked about.
pub(super) struct Asked {
    generation: u32,
    policy: u64,
    identity: std::sync::Arc<Identity>,
    handle: IdentityHandle,
    ended: Ended,
    store: PolicyStore,
}

impl Verdicts {
    pub(super) fn new(processes: Processes) -> Self {
        Self {
            processes,
            watched: Mutex::default(),
        }
    }

    /// To be called before the question; `None` where nothing could be remembered.
    pub(super) fn asked(&self, handle: &IdentityHandle, store: &PolicyStore) -> Option<Asked> {
        let generation = self.processes.generation();
        let policy = store.current().generation();
        let (identity, ended) = handle.bind().ok()?;
        Some(Asked {
            generation,
            policy,
            identity,
            handle: handle.clone(),
            ended,
            store: store.clone(),
        })
    }

    /// Remembers an answer, where it depends on the file alone and what was in force then still is.
    pub(super) fn answered(
        &self,
        asked: Asked,
        gate: &Gate,
        (executed, program): (&Executed, &Program),
        allow: bool,
        now_ns: i64,
    ) {
        if !gate.depends_only_on("exec:run", "exec", &OF_THE_FILE)
            || asked.store.current().generation() != asked.policy
            || self.processes.generation() != asked.generation
        {
            return;
        }
        let left = asked.identity.expires_at.saturating_sub(now_ns / 1_000_000_000);
        let holds = Duration::from_secs(u64::try_from(left).unwrap_or_default()).min(MOST);
        let generation = asked.generation;
        // Something watches before there is anything to be forgotten.
        self.watch(gate.workload(), asked);
        self.processes
            .remember(executed, program, allow, (generation, holds));
    }

    fn watch(&self, workload: &WorkloadName, asked: Asked) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.insert(workload.clone(), asked.generation) == Some(asked.generation) {
            return;
        }
        let processes = self.processes.clone();
        tokio::spawn(async move {
            let Asked {
                generation,
                policy,
                identity,
                handle,
                ended,
                store,
            } = asked;
            tokio::pin!(ended);
            loop {
                tokio::select! {
                    _ = &mut ended => break,
                    () = tokio::time::sleep(LOOK) => {}
                }
                if processes.generation() != generation {
                    return;
                }
                let same = handle.check().is_ok_and(|now| now.groups == identity.groups);
                if !same || store.current().generation() != policy {
                    break;
                }
            }
            processes.forget_verdicts();
        });
    }
}
