//! Keeps what is used: another one before the one at hand ends, leases given back when nobody needs them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    context::ns,
    error::Failure,
    event::Event,
    slot::{Flight, Held, Slot, jittered},
};

/// The longest pause: the wall clock may be set, and the host may sleep, while a timer runs by another clock.
const STEP: Duration = Duration::from_secs(30);

/// Leases that were replaced and not given back yet; the oldest goes when there are more.
const RETIRED: usize = 8;

/// Starts a task that keeps it, unless there is one. It ends when there is nothing to keep.
pub(super) fn keep(slot: &Arc<Slot>) {
    if slot.kept.swap(true, Ordering::AcqRel) {
        return;
    }
    let weak = Arc::downgrade(slot);
    tokio::spawn(async move {
        loop {
            let Some(slot) = weak.upgrade() else { return };
            let Some(pause) = slot.tend().await else { return };
            drop(slot);
            tokio::time::sleep(pause).await;
        }
    });
}

impl Slot {
    /// Does what is due. The time until something may be due again; `None` where nothing is left to keep.
    async fn tend(self: &Arc<Self>) -> Option<Duration> {
        let mut flight = self.flight.lock().await;
        if self.ended.load(Ordering::Acquire) {
            return None;
        }
        self.settle(&mut flight).await;
        let now = self.context.clock.now_ns();
        if let Some(held) = self.current.load_full() {
            if now >= held.until_ns {
                self.tell(Event::Expired, Some(&held.material), None, None);
                self.drop_current();
            } else if now >= held.renew_ns.max(flight.again_ns) {
                if self.is_wanted(&held, now) {
                    self.prolong(&mut flight, &held).await;
                } else {
                    self.drop_current();
                    self.give_back(&held).await;
                    self.source.forget(&mut flight.memory).await;
                }
            }
        }
        let next = self.next(&flight);
        if next.is_none() {
            // With the lock held: who puts something in from now on starts another task.
            self.kept.store(false, Ordering::Release);
        }
        next
    }

    fn next(&self, flight: &Flight) -> Option<Duration> {
        let now = self.context.clock.now_ns();
        let current = self.current.load_full();
        let due = current.map(|held| held.renew_ns.max(flight.again_ns).min(held.until_ns));
        let retired = (!flight.retired.is_empty())
            .then(|| now.saturating_add(ns(self.context.timing.grace).min(ns(STEP)) / 4));
        let next = due.into_iter().chain(retired).min()?;
        let left = Duration::from_nanos(u64::try_from(next.saturating_sub(now)).unwrap_or(0));
        Some(left.clamp(Duration::from_millis(1), STEP))
    }

    /// Used a short time ago, or in someone's hands.
    fn is_wanted(&self, held: &Held, now: i64) -> bool {
        let idle = now.saturating_sub(self.used_at.load(Ordering::Relaxed));
        idle < ns(self.context.timing.idle) || held.material.is_held()
    }

    /// A longer life, or another one.
    async fn prolong(self: &Arc<Self>, flight: &mut Flight, held: &Arc<Held>) {
        if let Some(lease) = held.lease.as_ref().filter(|lease| lease.renewable) {
            let now = self.context.clock.now_ns();
            match self.source.renew(lease, now).await {
                // Near the longest life that it may have there is little to gain.
                Ok(ends) if ends.saturating_sub(now) > held.span_ns / 3 => {
                    self.extend(flight, held, ends);
                    return;
                }
                Ok(_) => {}
                Err(failure) if failure.gone => {
                    tracing::info!("{}; another one is asked for", failure.of(&self.reference));
                }
                Err(failure) => {
                    self.fail(flight, failure);
                    return;
                }
            }
        }
        let token = self.workload.as_ref().and_then(|w| self.context.token(w));
        match (&self.workload, &token) {
            (Some(_), Some(token)) => {
                self.meet(token);
                self.greet(flight, Some(token)).await;
            }
            (Some(workload), None) => {
                let message = format!("workload '{workload}' has no valid token to renew it with");
                self.fail(flight, Failure::new("its source", message));
                return;
            }
            (None, _) => {}
        }
        // What went wrong is remembered; the one at hand stays as long as it is good.
        let _ = self.renew(flight, token.as_ref()).await;
    }

    fn extend(self: &Arc<Self>, flight: &mut Flight, held: &Held, ends: i64) {
        let now = self.context.clock.now_ns();
        let expires_at = (ends != i64::MAX).then_some(ends);
        let material = Arc::new(held.material.until(expires_at));
        self.tell(
            Event::Renewed,
            Some(&material),
            Some(Arc::clone(&material.version)),
            None,
        );
        let extended = Held {
            until_ns: ends,
            renew_ns: now.saturating_add(jittered(ends.saturating_sub(now) / 3 * 2)),
            ..held.with(material)
        };
        self.put(flight, extended);
    }

    /// Gives back leases that were replaced, once nobody holds what they keep alive.
    async fn settle(&self, flight: &mut Flight) {
        let now = self.context.clock.now_ns();
        let grace = ns(self.context.timing.grace);
        let mut left = Vec::new();
        for (held, since) in std::mem::take(&mut flight.retired) {
            let over = now >= held.until_ns;
            let ready = now.saturating_sub(since) >= grace && !held.material.is_held();
            if over {
                // Vault has ended it.
                continue;
            }
            if ready {
                self.give_back(&held).await;
            } else {
                left.push((held, since));
            }
        }
        while left.len() > RETIRED {
            let (held, _) = left.remove(0);
            self.give_back(&held).await;
        }
        flight.retired = left;
    }

    /// Nothing is had from it any more. What is at hand is returned, for [`Slot::end`].
    pub(super) fn stop(&self) -> Option<Arc<Held>> {
        self.ended.store(true, Ordering::Release);
        self.drop_current()
    }

    /// Gives back leases, and `current`, of one that was stopped: at once, or, with `patience`, when nobody holds what
    /// they keep alive.
    pub(super) async fn end(&self, current: Option<Arc<Held>>, patience: bool) {
        // What was under way when it ended comes to the retired ones.
        let mut flight = self.flight.lock().await;
        let retired = std::mem::take(&mut flight.retired);
        for held in retired.into_iter().map(|(held, _)| held).chain(current) {
            while patience
                && held.lease.is_some()
                && held.material.is_held()
                && self.context.clock.now_ns() < held.until_ns
            {
                tokio::time::sleep(self.context.timing.retry_min).await;
            }
            self.give_back(&held).await;
        }
        self.source.forget(&mut flight.memory).await;
    }
}
