//! Sockets older than a tag, and those that a process brings along, and what else gets around the hooks: dealt with when a
//! cgroup is tagged and whenever the kernel tells that a process came in, put on record, and told in `status` and to whoever
//! tags.
//!
//! A descriptor that is in flight between UNIX sockets is nobody's at a look. It is not taken to see what it is of: to close
//! it again might wait for whoever serves its file system. Whose socket has one waiting, at a first look or when he came in,
//! is looked at again until it is received, and is ended when that takes [`PASSING`]. What is sent to him later by somebody
//! outside is not looked for here: a UNIX connection to outside is what the guard decides.
//!
//! Between the move of a process and the agent's look it can use what it has brought: some milliseconds on a host that is
//! not busy (`tests/redirect/older.rs` prints them). While no agent runs it is until one does, for what the kernel tells
//! waits; where there is no room for more to wait, the kernel ends the process.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;

use super::agent::Agent;
use crate::{
    config::Brought,
    model::{CgroupId, WorkloadName},
    redirect::older::{Looked, Settled, Who},
};

/// Arrivals that wait for a look; beyond them the kernel's buffer holds the rest.
const WAITING: usize = 256;
/// How long somebody may be between a fork and an exec, with sockets that are not his; or not receive what he was sent.
const PASSING: Duration = Duration::from_secs(10);
/// How soon he is looked at again.
const AGAIN: Duration = Duration::from_millis(200);
/// Processes of one tag that `status` tells of: the last.
const TOLD: usize = 16;

/// What was done for one tag, in this run of the daemon.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OlderStatus {
    /// Sockets destroyed.
    pub destroyed: u64,
    /// Sockets that could not be, or were not to be.
    pub left: u64,
    /// Processes ended for what they had.
    pub ended: u64,
    /// The last processes concerned.
    pub processes: VecDeque<Settled>,
    /// Why sockets could not be listed, if they could not.
    pub error: Option<String>,
}

/// What is known, by tag.
pub(super) struct Older {
    seen: Mutex<BTreeMap<CgroupId, OlderStatus>>,
    arrived: mpsc::Sender<(CgroupId, u32)>,
    arrivals: Mutex<Option<mpsc::Receiver<(CgroupId, u32)>>>,
}

impl Default for Older {
    fn default() -> Self {
        let (arrived, arrivals) = mpsc::channel(WAITING);
        Self {
            seen: Mutex::default(),
            arrived,
            arrivals: Mutex::new(Some(arrivals)),
        }
    }
}

impl Older {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<CgroupId, OlderStatus>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, id: CgroupId) -> OlderStatus {
        self.seen().get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn forget(&self, id: CgroupId) {
        self.seen().remove(&id);
    }

    /// A process came in: it is looked at soon.
    pub(super) async fn arrived(&self, id: CgroupId, pid: u32) {
        let _stopping = self.arrived.send((id, pid)).await;
    }

    fn add(&self, id: CgroupId, settled: &Settled) {
        let mut seen = self.seen();
        let status = seen.entry(id).or_default();
        status.destroyed += settled.destroyed;
        status.left += settled.left;
        status.ended += u64::from(settled.ended);
        status.processes.push_back(settled.clone());
        while status.processes.len() > TOLD {
            status.processes.pop_front();
        }
    }

    /// What was wrong before.
    fn set_error(&self, id: CgroupId, error: Option<String>) -> Option<String> {
        let mut seen = self.seen();
        match error {
            Some(error) => seen.entry(id).or_default().error.replace(error),
            None => seen.get_mut(&id).and_then(|status| status.error.take()),
        }
    }

    /// What operators have to know: what goes on although it should not.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (id, status) in self.seen().iter() {
            if let Some(error) = &status.error {
                problems.push(format!(
                    "sockets older than the tag of cgroup {} go on: {error}",
                    id.0
                ));
            }
            let there = |pid: u32| std::path::Path::new("/proc").join(pid.to_string()).exists();
            for process in status.processes.iter().filter(|p| !p.ended && there(p.pid)) {
                if let Some(error) = &process.error {
                    problems.push(format!(
                        "process {} ({}) has sockets older than its tag, in cgroup {}: {error}; restart it",
                        process.pid, process.command, id.0
                    ));
                }
            }
        }
        problems
    }
}

impl Agent {
    fn brought(&self, workload: &WorkloadName) -> Brought {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let found = config.workload.iter().find(|w| w.name == *workload);
        found.map(|w| w.guard.brought).unwrap_or_default()
    }

    /// Whether a workload's guard lets sockets go on that no hook sees.
    pub(super) fn lets_older(&self, workload: &WorkloadName) -> bool {
        self.brought(workload) != Brought::End
    }

    /// Deals with what is older than a tag that is new.
    pub(super) async fn settle_older(&self, id: CgroupId, workload: &WorkloadName) {
        let (control, brought) = (self.control.clone(), self.brought(workload));
        let looked = tokio::task::spawn_blocking(move || control.settle_older(id, brought)).await;
        for pid in self.settled(id, workload, "tag", looked).await {
            self.older.arrived(id, pid).await;
        }
    }

    /// Deals with what came in: the processes to be looked at again.
    async fn settle_arrivals(&self, id: CgroupId, who: Who) -> BTreeSet<u32> {
        let Some(tag) = self.front.workloads.get(id) else {
            return BTreeSet::new();
        };
        let (control, brought) = (self.control.clone(), self.brought(&tag));
        let looked = tokio::task::spawn_blocking(move || control.settle_arrivals(id, brought, &who)).await;
        self.settled(id, &tag, "arrival", looked).await
    }

    /// Has it on record: an entry for each process.
    async fn settled<E: std::fmt::Display>(
        &self,
        id: CgroupId,
        workload: &WorkloadName,
        on: &str,
        looked: Result<Result<Looked, E>, tokio::task::JoinError>,
    ) -> BTreeSet<u32> {
        let failed = |error: &dyn std::fmt::Display| Looked {
            error: Some(error.to_string()),
            ..Looked::default()
        };
        let looked = match looked {
            Ok(Ok(looked)) => looked,
            Ok(Err(error)) => failed(&error),
            Err(error) => failed(&error),
        };
        for settled in &looked.processes {
            self.older.add(id, settled);
            self.lifecycle(workload, "older_sockets", entry(id, on, settled))
                .await;
        }
        let before = self.older.set_error(id, looked.error.clone());
        if let Some(error) = looked.error.filter(|error| before.as_ref() != Some(error)) {
            tracing::error!(cgroup_id = id.0, "{error}");
            let detail = json!({ "outcome": "sockets_left", "cgroup_id": id.0, "on": on, "error": error });
            self.lifecycle(workload, "older_sockets", detail).await;
        }
        looked.passing
    }
}

/// What an entry says of one process.
fn entry(id: CgroupId, on: &str, settled: &Settled) -> serde_json::Value {
    let outcome = match settled {
        Settled { ended: true, .. } => "process_ended",
        Settled {
            left: 0, error: None, ..
        } => "sockets_destroyed",
        _ => "sockets_left",
    };
    let truncated = settled.destroyed + settled.left > settled.sockets.len() as u64;
    json!({
        "outcome": outcome, "cgroup_id": id.0, "on": on, "pid": settled.pid, "start_ns": settled.start_ns,
        "command": settled.command, "exe": settled.exe, "parents": settled.parents,
        "destroyed": settled.destroyed, "left": settled.left, "sockets": settled.sockets,
        "truncated": truncated, "error": settled.error,
    })
}

/// Looks at whoever came in, until the daemon ends. Half of the time at most: a workload that many processes come into has
/// one look for all of them.
pub(super) async fn follow(agent: Arc<Agent>) {
    let arrivals = agent
        .older
        .arrivals
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(mut arrivals) = arrivals else { return };
    let mut passing: BTreeMap<(CgroupId, u32), Instant> = BTreeMap::new();
    loop {
        let mut came: BTreeMap<CgroupId, BTreeSet<u32>> = BTreeMap::new();
        tokio::select! {
            arrived = arrivals.recv() => match arrived {
                Some((id, pid)) => drop(came.entry(id).or_default().insert(pid)),
                None => return,
            },
            () = tokio::time::sleep(AGAIN), if !passing.is_empty() => {}
        }
        while let Ok((id, pid)) = arrivals.try_recv() {
            came.entry(id).or_default().insert(pid);
        }
        for (id, pid) in passing.keys() {
            came.entry(*id).or_default().insert(*pid);
        }
        let began = Instant::now();
        for (id, came) in came {
            let own = passing.iter().filter(|((of, _), _)| *of == id);
            let late = own.filter(|(_, since)| since.elapsed() >= PASSING);
            let late: BTreeSet<u32> = late.map(|((_, pid), _)| *pid).collect();
            let who = Who {
                came,
                late: late.clone(),
            };
            let again = agent.settle_arrivals(id, who).await;
            passing.retain(|(of, pid), _| *of != id || again.contains(pid) && !late.contains(pid));
            for pid in again.difference(&late) {
                passing.entry((id, *pid)).or_insert_with(Instant::now);
            }
        }
        tokio::time::sleep(began.elapsed()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_bounded_and_counted() {
        let older = Older::default();
        let id = CgroupId(7);
        for pid in 0..100 {
            let settled = Settled {
                pid,
                destroyed: 2,
                left: 1,
                ended: pid % 2 == 0,
                ..Settled::default()
            };
            older.add(id, &settled);
        }
        let status = older.of(id);
        assert_eq!((status.destroyed, status.left, status.ended), (200, 100, 50));
        assert_eq!(status.processes.len(), TOLD);
        assert_eq!(status.processes.back().unwrap().pid, 99);
        older.forget(id);
        assert_eq!(older.of(id).destroyed, 0);
    }

    #[test]
    fn what_goes_on_is_a_problem_as_long_as_its_process_lives() {
        let older = Older::default();
        let settled = |pid, ended| Settled {
            pid,
            ended,
            error: Some("no".into()),
            ..Settled::default()
        };
        older.add(CgroupId(1), &settled(std::process::id(), false));
        older.add(CgroupId(1), &settled(std::process::id(), true));
        older.add(CgroupId(1), &settled(u32::MAX, false));
        assert_eq!(older.problems().len(), 1);
        older.seen().entry(CgroupId(2)).or_default().error = Some("none".into());
        assert_eq!(older.problems().len(), 2);
    }
}
