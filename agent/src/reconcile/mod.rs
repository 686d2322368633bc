//! Completeness: what the kernel counted of each workload, held against what is on record, each minute and on demand.
//!
//! Invariants:
//! - The sessions on record are counted in the ledger, not where they were made.
//! - A difference is an entry, a line in the log, and a problem in `status` until somebody acknowledges it.
//! - What an end of the agent explains is bounded by what was missing when the next one began ([`account::Start`]).
//!
//! The bias: while connections go on, a difference that is smaller than what is on its way cannot be told from it. It
//! does not go away, and is found as soon as the workload pauses.

mod account;
mod entry;
mod run;
mod sessions;
mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use self::{
    account::{Account, Start},
    sessions::Sessions,
    state::State,
};
use crate::{
    clock::Clock,
    connection::{Tally, Workloads},
    drain::Drain,
    ledger::{Ledger, LedgerError},
    model::{CgroupId, Rfc3339, Seq, WorkloadName},
    redirect::{Control, Outcome, RedirectError, Unanswered, bpf::Counted},
};

/// How often.
const EACH: Duration = Duration::from_secs(60);
/// Differences that are kept until they are acknowledged; more are counted in the entries alone.
const OPEN_MAX: usize = 100;

/// What counts in the kernel: the programs, or a test.
pub trait Kernel: Send + Sync {
    /// Every tagged cgroup's counters and connections in flight.
    ///
    /// # Errors
    /// When they cannot be read.
    fn counted(&self) -> Result<BTreeMap<CgroupId, Counted>, RedirectError>;

    /// Questions to the agent's resolver that were not answered, and so are on record nowhere else.
    fn unanswered(&self) -> Unanswered;
}

impl Kernel for Control {
    fn counted(&self) -> Result<BTreeMap<CgroupId, Counted>, RedirectError> {
        Self::counted(self)
    }

    fn unanswered(&self) -> Unanswered {
        Self::unanswered(self)
    }
}

/// Why the numbers could not be held against each other.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The kernel's.
    #[error("the kernel's counters cannot be read: {0}")]
    Kernel(#[from] RedirectError),
    /// The ledger's.
    #[error("the ledger cannot be read or written: {0}")]
    Ledger(#[from] LedgerError),
    /// The thread that reads them ended.
    #[error("the reading thread ended")]
    Ended,
}

/// Something that does not add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// When it was found, RFC 3339.
    pub at: String,
    /// The workload.
    pub workload: String,
    /// The tagged cgroup.
    pub cgroup_id: u64,
    /// What does not.
    pub what: What,
    /// How many; negative where there is more on record than was counted.
    pub count: i64,
}

/// What does not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// More connections were sent than were redirected.
    SentUnasked,
    /// Sent to the agent, and neither accepted, nor abandoned, nor in flight.
    Unsettled,
    /// Accepted for the agent, which did not take them.
    Untaken,
    /// Taken by the agent, and not on record.
    Unrecorded,
    /// A counter is smaller than it was: somebody has changed the kernel's maps.
    CounterFell,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.what {
            What::SentUnasked => "more connections were sent than redirected",
            What::Unsettled => "connections were sent and are neither accepted nor abandoned",
            What::Untaken => "connections were accepted and not taken by the agent",
            What::Unrecorded => "connections were taken and are not on record",
            What::CounterFell => "counters are smaller than they were",
        };
        let Self {
            at,
            workload,
            cgroup_id,
            count,
            ..
        } = self;
        write!(
            f,
            "workload {workload}, cgroup {cgroup_id}: {what} ({count}), found {at}"
        )
    }
}

/// What [`Reconciler::start`] needs.
pub struct Parts {
    /// What counts.
    pub kernel: Arc<dyn Kernel>,
    /// What the agent did.
    pub tally: Tally,
    /// Whose cgroups are whose.
    pub workloads: Workloads,
    /// What is on record.
    pub ledger: Ledger,
    /// Where that is.
    pub dir: PathBuf,
    /// The time.
    pub clock: Clock,
    /// The boot's id.
    pub boot: String,
}

/// How the last reconciliation was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcileStatus {
    /// When, RFC 3339; never yet when empty.
    pub at: Option<String>,
    /// Cgroups compared then.
    pub cgroups: usize,
    /// Connections that earlier runs of the agent had accepted when they ended, and that got nowhere.
    pub lost_at_restart: u64,
    /// Differences that nobody has acknowledged yet.
    pub differences: Vec<Difference>,
    /// Why it could not be done, if it could not.
    pub error: Option<String>,
}

/// Compares, each minute and on demand; clones share it.
#[derive(Clone)]
pub struct Reconciler(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// One at a time.
    running: tokio::sync::Mutex<()>,
    books: Mutex<Books>,
    status: Mutex<ReconcileStatus>,
}

/// What is known.
struct Books {
    sessions: Sessions,
    accounts: BTreeMap<CgroupId, Account>,
    starts: HashMap<CgroupId, Start>,
    /// Cgroups whose tag has gone since the last reconciliation, with their last counters.
    closed: BTreeMap<CgroupId, Counted>,
    open: Vec<Difference>,
    /// The first entry of the ledger that no recorded reconciliation speaks of.
    from: Seq,
    /// Reconciliations since the last one that was recorded.
    quiet: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reconciler {
    /// Looks at what an earlier run has left unaccounted for. To be called before the first connection is taken. Blocks
    /// while it reads what was recorded since the last reconciliation.
    ///
    /// # Errors
    /// When the kernel's counters or the ledger cannot be read.
    pub fn start(parts: Parts) -> Result<Self, ReconcileError> {
        let state = State::read(&parts.dir);
        let size = parts.ledger.size();
        let open = state.as_ref().map(|s| s.open.clone()).unwrap_or_default();
        let state = state.filter(|state| state.boot == parts.boot && state.next <= size.0);
        let known = state.is_some();
        let next = state.as_ref().map_or(size.0, |state| state.next);
        let mut sessions = Sessions::new(&parts.dir, Seq(next));
        sessions.read(size)?;
        let mut accounts: BTreeMap<CgroupId, Account> = state
            .map(|state| state.accounts)
            .unwrap_or_default()
            .into_iter()
            .map(|(id, account)| (CgroupId(id), account))
            .collect();
        let counted = parts.kernel.counted()?;
        // Gone while no agent ran, and their counters with them.
        accounts.retain(|id, _| counted.contains_key(id));
        let starts = counted.iter().map(|(id, counted)| {
            let account = accounts.entry(*id).or_default();
            let read = sessions.of(*id);
            let settled = account.recorded + read + account.refused + account.lost;
            let reported = account.reported.untaken + account.reported.unrecorded;
            let start = Start {
                accepted: counted.counters.get(Outcome::TcpAccepted),
                settled: known.then(|| settled.saturating_add_signed(reported)),
                read,
                recorded: account.recorded,
                refused: account.refused,
                base: None,
            };
            // They are part of what this run begins with.
            account.reported.untaken = 0;
            account.reported.unrecorded = 0;
            account.lost = account.lost.saturating_add_signed(reported);
            (*id, start)
        });
        let starts = starts.collect();
        let status = ReconcileStatus {
            differences: open.clone(),
            ..ReconcileStatus::default()
        };
        Ok(Self(Arc::new(Inner {
            parts,
            running: tokio::sync::Mutex::new(()),
            books: Mutex::new(Books {
                sessions,
                accounts,
                starts,
                closed: BTreeMap::new(),
                open,
                from: Seq(next),
                quiet: 0,
            }),
            status: Mutex::new(status),
        })))
    }

    /// Each minute until the agent stops. What arrives after the last one is the next run's to find.
    pub fn run_each_minute(&self, drain: &Drain) {
        let (reconciler, drain) = (self.clone(), drain.clone());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = drain.stopping() => return,
                    () = tokio::time::sleep(EACH) => {}
                }
                if let Err(error) = reconciler.run_and_record(false).await {
                    tracing::error!("the kernel's counters are not reconciled: {error}");
                }
            }
        });
    }

    /// To be called before a tag is taken away, while its counters are still there.
    pub fn closing(&self, cgroup: CgroupId, workload: &WorkloadName) {
        let counted = self.0.parts.kernel.counted();
        let Some(counted) = counted.ok().and_then(|mut all| all.remove(&cgroup)) else {
            return;
        };
        let mut books = lock(&self.0.books);
        books.closed.insert(cgroup, counted);
        books.accounts.entry(cgroup).or_default().workload = workload.to_string();
    }

    /// How the last one was.
    #[must_use]
    pub fn status(&self) -> ReconcileStatus {
        lock(&self.0.status).clone()
    }

    /// What operators have to know.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let status = self.status();
        let told = status.differences.iter().map(|difference| {
            format!("the record is not complete: {difference}; `portcullis reconcile --acknowledge` once it is understood")
        });
        let failed = status
            .error
            .map(|error| format!("the kernel's counters cannot be held against the record: {error}"));
        told.chain(failed).collect()
    }

    fn now(&self) -> String {
        Rfc3339(self.0.parts.clock.now_ns()).to_string()
    }
}
