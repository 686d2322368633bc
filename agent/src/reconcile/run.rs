//! One reconciliation.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Books, Difference, OPEN_MAX, ReconcileError, ReconcileStatus, Reconciler, What,
    account::{Account, Best, Reading, Start, outcomes},
    entry, lock,
    state::State,
};
use crate::{
    connection::Tallied,
    model::{CgroupId, Seq},
    redirect::bpf::Counted,
};

/// How long what is on its way has to arrive.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5000 });
/// Reconciliations without any change, of which one is recorded all the same: one an hour.
const QUIET: u32 = 60;
/// Between two readings.
const PAUSE: Duration = Duration::from_millis(20);

/// What came of one cgroup.
pub(super) struct Compared {
    pub cgroup: CgroupId,
    pub counted: Counted,
    pub best: Best,
    /// Accepted and not taken, at its smallest.
    untaken: i64,
    /// Lost when an earlier run ended, found just now.
    pub lost: u64,
    pub fell: u64,
    pub closed: bool,
    /// Whether anything was counted since the last time.
    pub changed: bool,
}

impl Reconciler {
    /// Compares now, records what came of it, and answers how it is. Waits for what is on its way, some seconds at most.
    ///
    /// # Errors
    /// When something cannot be read, or not be recorded.
    pub async fn run(&self) -> Result<ReconcileStatus, ReconcileError> {
        self.run_and_record(true).await
    }

    /// Without `always`, what is as it was is not recorded again until some time has passed.
    pub(super) async fn run_and_record(&self, always: bool) -> Result<ReconcileStatus, ReconcileError> {
        let _alone = self.0.running.lock().await;
        let done = self.run_alone(always).await;
        let mut status = lock(&self.0.status);
        status.error = done.as_ref().err().map(ToString::to_string);
        done.map(|()| status.clone())
    }

    async fn run_alone(&self, always: bool) -> Result<(), ReconcileError> {
        let mut compared = self.compare().await?;
        let (found, read) = self.settle(&mut compared);
        let at = self.now();
        let parts = &self.0.parts;
        let bodies = {
            let mut books = lock(&self.0.books);
            let changed = compared.iter().any(|one| one.changed || one.closed);
            books.quiet = if always || changed || !found.is_empty() {
                0
            } else {
                (books.quiet + 1) % QUIET
            };
            let unanswered = parts.kernel.unanswered();
            let bodies = || entry::bodies(&compared, &books.accounts, &found, read, unanswered);
            if books.quiet == 0 { bodies() } else { Vec::new() }
        };
        for body in bodies {
            parts.ledger.append(entry::made(&parts.clock, body)).await?;
        }
        for difference in &found {
            tracing::error!("the record is not complete: {difference}");
        }
        self.close(&compared);
        let books = lock(&self.0.books);
        let lost = compared.iter().map(|c| c.lost).sum::<u64>();
        let mut status = lock(&self.0.status);
        status.at = Some(at);
        status.cgroups = compared.len();
        status.lost_at_restart += lost;
        status.differences.clone_from(&books.open);
        Ok(())
    }

    /// Reads until nothing differs, or for as long as patience lasts.
    async fn compare(&self) -> Result<Vec<Compared>, ReconcileError> {
        let until = Instant::now() + PATIENCE;
        let mut first = BTreeMap::new();
        let mut found: BTreeMap<CgroupId, Compared> = BTreeMap::new();
        loop {
            let reconciler = self.clone();
            let known = first;
            let read = tokio::task::spawn_blocking(move || reconciler.read(known)).await;
            let (readings, next) = read.map_err(|_| ReconcileError::Ended)??;
            first = next;
            let done = self.judge(readings, &mut found);
            if done || Instant::now() >= until {
                return Ok(found.into_values().collect());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One reading of every cgroup. `first` has the tallies of the first reading, and gets those of new cgroups.
    #[expect(clippy::type_complexity, reason = "named where it is used")]
    fn read(
        &self,
        mut first: BTreeMap<CgroupId, Tallied>,
    ) -> Result<(Vec<(CgroupId, Reading, bool)>, BTreeMap<CgroupId, Tallied>), ReconcileError> {
        let parts = &self.0.parts;
        let cgroups: BTreeSet<CgroupId> = {
            let books = lock(&self.0.books);
            let tagged = parts.workloads.all().into_iter().map(|(id, _)| id);
            tagged
                .chain(books.closed.keys().copied())
                .chain(books.accounts.keys().copied())
                .collect()
        };
        let tally = |id: &CgroupId| (*id, parts.tally.get(*id));
        let before: BTreeMap<_, _> = cgroups.iter().map(tally).collect();
        let live = parts.kernel.counted()?;
        let after: BTreeMap<_, _> = cgroups.iter().map(tally).collect();
        for (id, tallied) in &before {
            first.entry(*id).or_insert(*tallied);
        }
        let mut books = lock(&self.0.books);
        books.sessions.read(parts.ledger.size())?;
        let mut readings = Vec::new();
        for id in cgroups {
            // What is closed has its last counters, whatever has been made since.
            let closed = books.closed.get(&id).copied();
            let Some(counted) = closed.or_else(|| live.get(&id).copied()) else {
                continue;
            };
            let read = books.starts.get(&id).map_or(0, |start| start.read);
            let reading = Reading {
                first: first.get(&id).copied().unwrap_or_default(),
                before: before.get(&id).copied().unwrap_or_default(),
                counted,
                after: after.get(&id).copied().unwrap_or_default(),
                recorded: books.sessions.of(id).saturating_sub(read),
            };
            readings.push((id, reading, closed.is_some()));
        }
        Ok((readings, first))
    }

    /// Keeps the best of what was found so far; whether nothing differs.
    fn judge(
        &self,
        readings: Vec<(CgroupId, Reading, bool)>,
        found: &mut BTreeMap<CgroupId, Compared>,
    ) -> bool {
        let mut books = lock(&self.0.books);
        let mut none = true;
        for (id, reading, closed) in readings {
            // Tagged in this run: nothing was before it.
            let start = *books.starts.entry(id).or_insert(Start {
                settled: Some(0),
                base: Some(0),
                ..Start::default()
            });
            let account = books.accounts.entry(id).or_default();
            let untaken = reading.untaken();
            let base = start
                .base
                .unwrap_or_else(|| start.settled.unwrap_or_else(|| untaken.max(0).cast_unsigned()));
            let mut best = reading.differences(&account.reported, base);
            if closed {
                best = best.closed();
            }
            let compared = found.entry(id).or_insert(Compared {
                cgroup: id,
                counted: reading.counted,
                best,
                untaken,
                lost: 0,
                fell: 0,
                closed,
                changed: false,
            });
            compared.best = compared.best.and(best);
            compared.untaken = compared.untaken.min(untaken);
            compared.counted = reading.counted;
            compared.closed = closed;
            none &= compared.best.is_none();
        }
        none
    }

    /// What the differences come to, and which entries of the ledger were read for it since the last time that one was
    /// recorded. From here on the differences are known.
    fn settle(&self, compared: &mut [Compared]) -> (Vec<Difference>, (Seq, Seq)) {
        let at = self.now();
        let names: BTreeMap<_, _> = self.0.parts.workloads.all().into_iter().collect();
        let mut guard = lock(&self.0.books);
        let books = &mut *guard;
        let mut found = Vec::new();
        for one in compared {
            let id = one.cgroup;
            let tallied = self.0.parts.tally.get(id);
            let start = books.starts.entry(id).or_default();
            let account = books.accounts.entry(id).or_default();
            if let Some(tag) = names.get(&id) {
                account.workload = tag.workload.to_string();
            }
            let mut newly = one.best;
            if start.base.is_none() {
                let (lost, rest) = start.lost(one.untaken);
                account.lost += lost;
                one.lost = lost;
                one.best.untaken = rest;
                start.base = Some(one.untaken.max(0).cast_unsigned());
                // It is in the base from now on.
                newly.untaken = 0;
            }
            account.reported = account.reported.plus(newly);
            let recorded = start.recorded + books.sessions.of(id);
            account.refused = start.refused + tallied.turned_away + tallied.unrecorded;
            one.fell = fell(account, &one.counted);
            let now = outcomes(&one.counted.counters);
            one.changed = now != account.outcomes || recorded != account.recorded;
            account.outcomes = now;
            account.recorded = recorded;
            found.extend(differences(one, account, &at));
        }
        let room = OPEN_MAX.saturating_sub(books.open.len());
        books.open.extend(found.iter().take(room).cloned());
        let read = (books.from, books.sessions.next());
        books.from = read.1;
        (found, read)
    }

    /// Forgets what is closed, and keeps the rest for the next run.
    fn close(&self, compared: &[Compared]) {
        let mut guard = lock(&self.0.books);
        let books = &mut *guard;
        let there: BTreeSet<CgroupId> = compared
            .iter()
            .filter(|one| !one.closed)
            .map(|one| one.cgroup)
            .collect();
        for one in compared.iter().filter(|one| one.closed) {
            books.closed.remove(&one.cgroup);
            books.sessions.forget(one.cgroup);
            self.0.parts.tally.forget(one.cgroup);
        }
        // Also those that an earlier agent had tagged, and this one does not.
        let closed = &books.closed;
        let kept = |id: &CgroupId| there.contains(id) || closed.contains_key(id);
        books.accounts.retain(|id, _| kept(id));
        books.starts.retain(|id, _| kept(id));
        self.keep(books);
    }

    /// Acknowledges every difference: they are problems no more.
    pub fn acknowledge(&self) {
        let mut books = lock(&self.0.books);
        books.open.clear();
        self.keep(&books);
        lock(&self.0.status).differences.clear();
    }

    fn keep(&self, books: &Books) {
        let accounts = books.accounts.iter().map(|(id, account)| (id.0, account.clone()));
        let state = State {
            boot: self.0.parts.boot.clone(),
            next: books.sessions.next().0,
            accounts: accounts.collect(),
            open: books.open.clone(),
        };
        if let Err(error) = state.write(&self.0.parts.dir) {
            tracing::warn!("what the next run should know of the reconciliation is not kept: {error}");
        }
    }
}

/// By how much counters are smaller than they were.
fn fell(account: &Account, counted: &Counted) -> u64 {
    let now = outcomes(&counted.counters);
    let before = account.outcomes.iter();
    before
        .map(|(name, count)| count.saturating_sub(now.get(name).copied().unwrap_or(0)))
        .sum()
}

fn differences(one: &Compared, account: &Account, at: &str) -> Vec<Difference> {
    [
        (What::SentUnasked, one.best.sent),
        (What::Unsettled, one.best.unsettled),
        (What::Untaken, one.best.untaken),
        (What::Unrecorded, one.best.unrecorded),
        (What::CounterFell, one.fell.cast_signed()),
    ]
    .into_iter()
    .filter(|(_, count)| *count != 0)
    .map(|(what, count)| Difference {
        at: at.to_owned(),
        workload: account.workload.clone(),
        cgroup_id: one.cgroup.0,
        what,
        count,
    })
    .collect()
}
