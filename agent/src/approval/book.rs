//! What is open, what waits for it, and what was granted: state without IO, under one lock.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    ask::Ask,
    deadline::Deadline,
    grant::Grant,
    rules::Given,
    shape::Shape,
    view::{State, View},
};
use crate::{
    model::{Reason, WorkloadName},
    policy::Approval,
};

/// Ended requests that are kept for the page.
const ENDED: usize = 500;
/// Digests that were denied and are not asked again for a while.
const DENIED: usize = 4_096;

/// What a waiting operation is told.
#[derive(Clone, Debug)]
pub enum Word {
    /// It may be decided again, with this.
    Approved(Arc<Approval>),
    /// A human said no.
    Denied(Arc<str>),
    /// Something was granted that may cover it, or its turn went to another: ask again.
    Again,
    /// What was asked is over.
    Over(Reason),
}

/// An operation in flight.
pub struct Waiter {
    /// Its number.
    pub number: u64,
    /// Until when it waits, nanoseconds since 1970 UTC; for people.
    pub until_ns: i64,
    /// Bytes that it keeps in memory.
    pub bytes: u64,
    /// Where it is told.
    pub told: oneshot::Sender<Word>,
}

/// An open request.
pub struct Request {
    /// Its id.
    pub id: Uuid,
    /// What is asked.
    pub ask: Ask,
    /// What the answer is bound to.
    pub digest: [u8; 32],
    /// When, nanoseconds since 1970 UTC.
    pub asked_ns: i64,
    /// Until when it can be answered.
    pub until: Deadline,
    /// What a grant could cover.
    pub shapes: Vec<Shape>,
    /// Answers so far.
    pub given: Vec<Given>,
    /// Who waits for it, first come first served.
    pub waiters: VecDeque<Waiter>,
    /// Whether it is on record, and so can be seen and answered.
    pub recorded: bool,
    /// Its entry is on its way to the record: should it end meanwhile, that is to be on record as well.
    pub asking: bool,
}

/// What one workload has here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Open requests.
    pub open: usize,
    /// Operations in flight.
    pub held: usize,
    /// Bytes that requests and operations keep.
    pub bytes: u64,
    /// Operations turned away since there was last room.
    pub refused: u64,
}

/// All of it.
#[derive(Default)]
pub struct Book {
    /// By id, which is by time.
    pub requests: BTreeMap<Uuid, Request>,
    /// By id.
    pub grants: BTreeMap<Uuid, Grant>,
    /// Ended requests, newest first.
    pub ended: VecDeque<Arc<View>>,
    by_digest: HashMap<[u8; 32], Uuid>,
    loads: HashMap<WorkloadName, Load>,
    denied: HashMap<[u8; 32], (Deadline, Arc<str>)>,
    numbers: u64,
}

impl Book {
    /// What a workload has here.
    #[must_use]
    pub fn load(&self, workload: &WorkloadName) -> Load {
        self.loads.get(workload).copied().unwrap_or_default()
    }

    /// Every workload's.
    pub fn loads(&self) -> impl Iterator<Item = (&WorkloadName, &Load)> {
        self.loads.iter()
    }

    /// Counts an operation that is turned away; whether it is the first since there was room.
    pub fn refuse(&mut self, workload: &WorkloadName) -> bool {
        let load = self.loads.entry(workload.clone()).or_default();
        load.refused += 1;
        load.refused == 1
    }

    /// A grant that serves this; its use is counted.
    pub fn serve(&mut self, ask: &Ask, digest: &[u8; 32], now_ns: i64) -> Option<Arc<Approval>> {
        let grant = self
            .grants
            .values_mut()
            .filter(|g| g.serves(ask, digest, now_ns))
            // The most particular one is used up first.
            .min_by_key(|g| g.breadth())?;
        Some(grant.take())
    }

    /// What a human said to exactly this a short while ago.
    #[must_use]
    pub fn denied(&self, digest: &[u8; 32], now_ns: i64) -> Option<Arc<str>> {
        let (until, why) = self.denied.get(digest)?;
        (!until.is_over(now_ns)).then(|| Arc::clone(why))
    }

    /// Remembers a no.
    pub fn deny(&mut self, digest: [u8; 32], until: Deadline, why: Arc<str>, now_ns: i64) {
        if self.denied.len() >= DENIED {
            self.denied.retain(|_, (until, _)| !until.is_over(now_ns));
        }
        // Forgetting one means that humans are asked once more, which is safe.
        if self.denied.len() < DENIED {
            self.denied.insert(digest, (until, why));
        }
    }

    /// The open request for this, if there is one.
    #[must_use]
    pub fn find(&self, digest: &[u8; 32]) -> Option<Uuid> {
        self.by_digest.get(digest).copied()
    }

    /// Opens a request.
    pub fn open(&mut self, request: Request) {
        let load = self.loads.entry(request.ask.workload.clone()).or_default();
        load.open += 1;
        load.bytes = load.bytes.saturating_add(request.ask.kept_bytes());
        self.by_digest.insert(request.digest, request.id);
        self.requests.insert(request.id, request);
    }

    /// Puts an operation into the line of a request; its number.
    pub fn wait(&mut self, id: Uuid, bytes: u64, until_ns: i64, told: oneshot::Sender<Word>) -> Option<u64> {
        let request = self.requests.get_mut(&id)?;
        self.numbers += 1;
        request.waiters.push_back(Waiter {
            number: self.numbers,
            until_ns,
            bytes,
            told,
        });
        let load = self.loads.entry(request.ask.workload.clone()).or_default();
        load.held += 1;
        load.bytes = load.bytes.saturating_add(bytes);
        Some(self.numbers)
    }

    /// Takes an operation out of its line.
    pub fn leave(&mut self, id: Uuid, number: u64) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let Some(at) = request.waiters.iter().position(|w| w.number == number) else {
            return;
        };
        let left = request.waiters.remove(at);
        let workload = request.ask.workload.clone();
        if let Some(waiter) = left {
            self.unload(&workload, &waiter);
        }
    }

    /// The first in a request's line.
    pub fn next(&mut self, id: Uuid) -> Option<Waiter> {
        let request = self.requests.get_mut(&id)?;
        let waiter = request.waiters.pop_front()?;
        let workload = request.ask.workload.clone();
        self.unload(&workload, &waiter);
        Some(waiter)
    }

    /// Ends a request: everyone still in its line is told this.
    pub fn end(&mut self, id: Uuid, state: State, word: &Word, now_ns: i64) -> Option<Arc<View>> {
        while let Some(waiter) = self.next(id) {
            // Whoever left in this moment needs no word.
            let _ = waiter.told.send(word.clone());
        }
        let request = self.requests.remove(&id)?;
        if self.by_digest.get(&request.digest) == Some(&id) {
            self.by_digest.remove(&request.digest);
        }
        if let Some(load) = self.loads.get_mut(&request.ask.workload) {
            load.open = load.open.saturating_sub(1);
            load.bytes = load.bytes.saturating_sub(request.ask.kept_bytes());
            load.refused = 0;
        }
        self.settle(&request.ask.workload);
        if !request.recorded && !request.asking {
            return None;
        }
        let view = Arc::new(request.view(state, Some(now_ns)).brief());
        self.ended.push_front(Arc::clone(&view));
        self.ended.truncate(ENDED);
        Some(view)
    }

    fn unload(&mut self, workload: &WorkloadName, waiter: &Waiter) {
        if let Some(load) = self.loads.get_mut(workload) {
            load.held = load.held.saturating_sub(1);
            load.bytes = load.bytes.saturating_sub(waiter.bytes);
            load.refused = 0;
        }
        self.settle(workload);
    }

    /// Forgets a workload that has nothing here.
    fn settle(&mut self, workload: &WorkloadName) {
        if self
            .loads
            .get(workload)
            .is_some_and(|l| l.open == 0 && l.held == 0)
        {
            self.loads.remove(workload);
        }
    }
}
