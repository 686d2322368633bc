//! One credential for one party: what is at hand, and how another is had.
//!
//! Who asks loads a pointer. Only when there is nothing at hand that is good does it wait, behind a lock that one
//! holds while it asks the source, in a task of its own: a caller that goes away leaves no lease behind that nobody
//! knows of.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use rand::Rng as _;

use super::{
    context::{Context, ns},
    error::{CredentialError, Failure},
    event::{CredentialEvent, Event},
    file,
    material::{Material, WorkloadToken},
    party::Party,
    source::{Ask, Memory, Obtained, Source},
    vault::Lease,
};
use crate::{io::Stamp, model::WorkloadName};

/// See the top of the file.
pub(super) struct Slot {
    pub(super) reference: Arc<str>,
    /// Whose, where each workload has its own.
    pub(super) workload: Option<WorkloadName>,
    /// The name under which secrets are announced.
    owner: String,
    serial: u64,
    pub(super) source: Arc<Source>,
    pub(super) context: Arc<Context>,
    pub(super) current: ArcSwapOption<Held>,
    party: ArcSwapOption<Party>,
    pub(super) used_at: AtomicI64,
    checked_at: AtomicI64,
    pub(super) ended: AtomicBool,
    pub(super) flight: tokio::sync::Mutex<Flight>,
    error: Mutex<Option<LastError>>,
    /// Whether a task keeps it.
    pub(super) kept: AtomicBool,
}

/// What is at hand.
pub(super) struct Held {
    pub(super) material: Arc<Material>,
    /// Until when it may be used, nanoseconds since 1970 UTC.
    pub(super) until_ns: i64,
    /// When another is to be had.
    pub(super) renew_ns: i64,
    /// How long it was to live when it was had.
    pub(super) span_ns: i64,
    pub(super) stamp: Option<Stamp>,
    pub(super) lease: Option<Lease>,
}

impl Held {
    /// The same with other material.
    pub(super) fn with(&self, material: Arc<Material>) -> Self {
        Self {
            material,
            until_ns: self.until_ns,
            renew_ns: self.renew_ns,
            span_ns: self.span_ns,
            stamp: self.stamp,
            lease: self.lease.clone(),
        }
    }
}

/// What belongs to whoever asks the source.
#[derive(Default)]
pub(super) struct Flight {
    pub(super) memory: Memory,
    /// For whom the source was asked last.
    party: Option<Party>,
    failed: Option<(Instant, CredentialError)>,
    pub(super) failures: u32,
    /// When the source may be asked again, nanoseconds since 1970 UTC.
    pub(super) again_ns: i64,
    /// Leases that were replaced, and when.
    pub(super) retired: Vec<(Arc<Held>, i64)>,
}

/// What went wrong last, and has not been made good since.
#[derive(Clone, Debug)]
pub(super) struct LastError {
    pub(super) at_ns: i64,
    pub(super) message: String,
}

impl Slot {
    pub(super) fn new(
        reference: Arc<str>,
        workload: Option<WorkloadName>,
        source: Arc<Source>,
        context: Arc<Context>,
    ) -> Self {
        let owner = match &workload {
            Some(workload) => format!("{reference}/{workload}"),
            None => reference.to_string(),
        };
        Self {
            reference,
            workload,
            owner,
            serial: context.next_serial(),
            source,
            context,
            current: ArcSwapOption::empty(),
            party: ArcSwapOption::empty(),
            used_at: AtomicI64::new(0),
            checked_at: AtomicI64::new(0),
            ended: AtomicBool::new(false),
            flight: tokio::sync::Mutex::default(),
            error: Mutex::default(),
            kept: AtomicBool::new(false),
        }
    }

    /// What it gives now. With `latest`, a file is looked at in any case.
    pub(super) async fn get(
        self: &Arc<Self>,
        token: Option<&WorkloadToken>,
        latest: bool,
    ) -> Result<Arc<Material>, CredentialError> {
        let now = self.context.clock.coarse_ns();
        self.used_at.store(now, Ordering::Relaxed);
        if let Some(workload) = &self.workload {
            let token = token.ok_or_else(|| CredentialError::NoToken {
                name: (*self.reference).into(),
                workload: workload.clone(),
            })?;
            self.meet(token);
        }
        if let Some(held) = &*self.current.load()
            && now < held.until_ns
        {
            let due = self.is_due(now, latest);
            // Someone looks already.
            if !due || (!latest && self.flight.try_lock().is_err()) {
                return Ok(Arc::clone(&held.material));
            }
        }
        let (slot, token) = (Arc::clone(self), token.cloned());
        tokio::spawn(async move { slot.fetch(token.as_ref(), latest).await })
            .await
            .unwrap_or_else(|_| Err(self.over()))
    }

    /// Another subject than the one before gets nothing of what was had for that one.
    pub(super) fn meet(self: &Arc<Self>, token: &WorkloadToken) {
        let former = self.party.load();
        if former.as_ref().is_some_and(|party| party.is_of(token)) {
            return;
        }
        let party = Party::of(token);
        let changed = former.as_ref().is_some_and(|former| !former.is_same(&party));
        self.party.store(Some(Arc::new(party)));
        if changed && let Some(held) = self.current.swap(None) {
            let slot = Arc::clone(self);
            tokio::spawn(async move { slot.give_back(&held).await });
        }
    }

    /// What the source remembers of another subject is forgotten: a login, what went wrong.
    pub(super) async fn greet(&self, flight: &mut Flight, token: Option<&WorkloadToken>) {
        let Some(token) = token.filter(|_| self.workload.is_some()) else {
            return;
        };
        let party = Party::of(token);
        if flight
            .party
            .as_ref()
            .is_some_and(|former| !former.is_same(&party))
        {
            self.source.forget(&mut flight.memory).await;
            flight.failed = None;
        }
        flight.party = Some(party);
    }

    fn is_due(&self, now: i64, latest: bool) -> bool {
        if !self.source.is_file() {
            return false;
        }
        latest || now - self.checked_at.load(Ordering::Relaxed) >= ns(self.context.timing.check)
    }

    async fn fetch(
        self: &Arc<Self>,
        token: Option<&WorkloadToken>,
        latest: bool,
    ) -> Result<Arc<Material>, CredentialError> {
        let mut flight = self.flight.lock().await;
        self.greet(&mut flight, token).await;
        let now = self.context.clock.coarse_ns();
        if let Some(held) = self.current.load_full().filter(|held| now < held.until_ns) {
            if !self.is_due(now, latest) || self.is_unchanged(&held).await {
                self.checked_at.store(now, Ordering::Relaxed);
                return Ok(Arc::clone(&held.material));
            }
        } else if let Some((at, error)) = &flight.failed
            && !self.source.is_file()
            && at.elapsed() < self.pause(flight.failures, self.context.timing.retry_asked)
        {
            return Err(error.clone());
        }
        let material = self.renew(&mut flight, token).await?;
        self.checked_at.store(now, Ordering::Relaxed);
        Ok(material)
    }

    async fn is_unchanged(&self, held: &Held) -> bool {
        match (self.source.path(), held.stamp) {
            (Some(path), Some(stamp)) => file::stamp(&path).await == Some(stamp),
            _ => false,
        }
    }

    /// Asks the source, with the lock held.
    pub(super) async fn renew(
        self: &Arc<Self>,
        flight: &mut Flight,
        token: Option<&WorkloadToken>,
    ) -> Result<Arc<Material>, CredentialError> {
        if self.ended.load(Ordering::Acquire) {
            return Err(self.over());
        }
        let obtained = match (&self.workload, token) {
            (Some(workload), Some(token)) => {
                let party = Party::of(token);
                let obtained = self.ask(flight, Some((workload, token))).await;
                let same = self.party.load().as_ref().is_some_and(|p| p.is_same(&party));
                match obtained {
                    Ok(obtained) if !same => {
                        self.refuse(obtained).await;
                        return Err(self.over());
                    }
                    other => other,
                }
            }
            (Some(workload), None) => {
                return Err(CredentialError::NoToken {
                    name: (*self.reference).into(),
                    workload: workload.clone(),
                });
            }
            (None, _) => self.ask(flight, None).await,
        };
        match obtained {
            Ok(obtained) => self.publish(flight, obtained).await,
            Err(failure) => Err(self.fail(flight, failure)),
        }
    }

    async fn ask(
        &self,
        flight: &mut Flight,
        party: Option<(&WorkloadName, &WorkloadToken)>,
    ) -> Result<Obtained, Failure> {
        let ask = Ask {
            party,
            memory: &mut flight.memory,
            now_ns: self.context.clock.now_ns(),
        };
        let patience = self.context.timing.exchange.saturating_mul(3);
        tokio::time::timeout(patience, self.source.obtain(ask))
            .await
            .unwrap_or_else(|_| Err(Failure::new("its source", format!("no answer in {patience:?}"))))
    }

    async fn publish(
        self: &Arc<Self>,
        flight: &mut Flight,
        obtained: Obtained,
    ) -> Result<Arc<Material>, CredentialError> {
        let now = self.context.clock.now_ns();
        if obtained.expires_at.is_some_and(|at| at <= now) {
            self.refuse(obtained).await;
            let failure = Failure::new(
                "its source",
                "it gave one that has run out: is this host's clock right?",
            );
            return Err(self.fail(flight, failure));
        }
        let timing = &self.context.timing;
        let (until_ns, renew_ns) = match (obtained.expires_at, obtained.refresh) {
            (Some(at), _) => (at, now + jittered((at - now) / 3 * 2)),
            (None, Some(refresh)) => (
                now.saturating_add(ns(timing.stale.max(refresh * 2))),
                now + jittered(ns(refresh)),
            ),
            // Files are looked at when they are used; this is for one that is not.
            (None, None) => (i64::MAX, now.saturating_add(ns(timing.idle))),
        };
        let former = self.current.load_full();
        let mut material = Arc::new(Material {
            reference: Arc::clone(&self.reference),
            version: obtained.version,
            expires_at: obtained.expires_at,
            value: obtained.value,
        });
        let same = former.as_ref().filter(|former| {
            material.expires_at.is_none()
                && former.material.version == material.version
                && former.material.secrets() == material.secrets()
        });
        if let Some(same) = same {
            material = Arc::clone(&same.material);
        } else {
            let (event, before) = match &former {
                Some(former) => (Event::Renewed, Some(Arc::clone(&former.material.version))),
                None => (Event::Obtained, None),
            };
            self.tell(event, Some(&material), before, None);
        }
        let held = Held {
            material: Arc::clone(&material),
            until_ns,
            renew_ns,
            span_ns: until_ns.saturating_sub(now),
            stamp: obtained.stamp,
            lease: obtained.lease,
        };
        self.put(flight, held);
        Ok(material)
    }

    /// Makes something the one at hand. Announced before anyone can use it.
    pub(super) fn put(self: &Arc<Self>, flight: &mut Flight, held: Held) {
        let known = self.current.load_full();
        if known.is_none_or(|known| known.material.secrets() != held.material.secrets()) {
            self.context
                .announce(&self.owner, self.serial, &held.material.secrets());
        }
        let lease = held.lease.as_ref().map(|lease| Arc::clone(&lease.id));
        let former = self.current.swap(Some(Arc::new(held)));
        if let Some(former) = former
            && let Some(old) = &former.lease
            && Some(&old.id) != lease.as_ref()
        {
            let now = self.context.clock.now_ns();
            flight.retired.push((former, now));
        }
        flight.failed = None;
        flight.failures = 0;
        flight.again_ns = 0;
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // It may have ended in between: who ends it waits for the lock, and gives this back.
        if self.ended.load(Ordering::Acquire)
            && let Some(late) = self.drop_current()
        {
            flight.retired.push((late, self.context.clock.now_ns()));
            return;
        }
        super::keeper::keep(self);
    }

    /// Remembers a failure. What is at hand stays as long as it is good, unless it was taken away.
    pub(super) fn fail(&self, flight: &mut Flight, failure: Failure) -> CredentialError {
        let former = self.current.load_full();
        if failure.gone {
            self.drop_current();
        }
        let error = failure.of(&self.reference);
        let message = error.to_string();
        let mut last = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        // Told once for each cause, not at each attempt.
        let news = last.as_ref().is_none_or(|last| last.message != message);
        *last = Some(LastError {
            at_ns: self.context.clock.now_ns(),
            message: message.clone(),
        });
        drop(last);
        if news {
            tracing::warn!("{message}");
            let material = former.as_ref().map(|held| &held.material);
            self.tell(Event::Failed, material, None, Some(message));
        }
        flight.failed = Some((Instant::now(), error.clone()));
        flight.failures = flight.failures.saturating_add(1);
        let pause = self.pause(flight.failures, self.context.timing.retry_max);
        flight.again_ns = self.context.clock.now_ns().saturating_add(jittered(ns(pause)));
        error
    }

    /// Nothing is at hand any more.
    pub(super) fn drop_current(&self) -> Option<Arc<Held>> {
        let former = self.current.swap(None);
        self.context.announce(&self.owner, self.serial, &[]);
        former
    }

    /// Gives back what came for someone who is not there any more.
    async fn refuse(&self, obtained: Obtained) {
        if let Some(lease) = &obtained.lease {
            // It runs out by itself where that does not succeed.
            let _ = self.source.revoke(lease).await;
        }
    }

    /// Revokes what has a lease.
    pub(super) async fn give_back(&self, held: &Held) {
        let Some(lease) = &held.lease else { return };
        match self.source.revoke(lease).await {
            Ok(()) => self.tell(Event::Revoked, Some(&held.material), None, None),
            Err(failure) => {
                let message = format!("the lease could not be revoked: {}", failure.of(&self.reference));
                tracing::warn!("{message}");
                self.tell(Event::Failed, Some(&held.material), None, Some(message));
            }
        }
    }

    pub(super) fn tell(
        &self,
        event: Event,
        material: Option<&Arc<Material>>,
        before: Option<Arc<str>>,
        message: Option<String>,
    ) {
        (self.context.events)(CredentialEvent {
            at_ns: self.context.clock.now_ns(),
            reference: Arc::clone(&self.reference),
            workload: self.workload.clone(),
            event,
            before,
            version: material.map(|m| Arc::clone(&m.version)),
            expires_at: material.and_then(|m| m.expires_at),
            user: material.and_then(|m| m.user().cloned()),
            message,
        });
    }

    pub(super) fn last_error(&self) -> Option<LastError> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The pause after so many failures, without jitter.
    pub(super) fn pause(&self, failures: u32, longest: Duration) -> Duration {
        let doubled = 1u32 << failures.saturating_sub(1).min(16);
        self.context.timing.retry_min.saturating_mul(doubled).min(longest)
    }

    fn over(&self) -> CredentialError {
        CredentialError::Ended((*self.reference).into())
    }
}

/// Between nine tenths of a span and all of it, so that many do not come back at once.
pub(super) fn jittered(span: i64) -> i64 {
    span - rand::rng().random_range(0..=(span / 10).max(0))
}
