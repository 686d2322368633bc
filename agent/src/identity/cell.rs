//! One workload's identity as it stands now: written by its keeper and by admins, read for every operation.
//!
//! Readers take no lock: they load one pointer and compare the clock. Writers take a mutex, publish, and then end the
//! life of what is over, so that whoever is told of an end finds it published already.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, futures::OwnedNotified, watch};

use super::{
    event::{Actor, Event, EventSink, LifecycleEvent},
    revoked::Revocation,
    verify::Failure,
};
use crate::{
    clock::Clock,
    model::{Identity, Reason, WorkloadName},
};

/// See the top of the file.
pub struct Cell {
    workload: WorkloadName,
    clock: Clock,
    events: EventSink,
    published: ArcSwap<Published>,
    inner: Mutex<Inner>,
    /// Woken by every change; true once there was a first verdict.
    settled: watch::Sender<bool>,
}

struct Published {
    verdict: Result<Arc<Identity>, Reason>,
    /// Nanoseconds since 1970 UTC from which the verdict is "expired".
    until_ns: i64,
    life: Arc<Life>,
}

struct Inner {
    token: Result<Held, Reason>,
    revoked: Option<Revocation>,
    removed: bool,
    /// Which keeper may write: one that a reload replaced must not.
    seat: u64,
    /// The identity is of a former configuration, and stands until the first verdict under the present one.
    provisional: bool,
    last_error: Option<LastError>,
}

#[derive(Clone)]
struct Held {
    identity: Arc<Identity>,
    until_ns: i64,
}

/// What went wrong last, and has not been made good since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, for a human.
    pub message: String,
}

/// What a cell holds, for a status.
pub struct Snapshot {
    /// What [`Cell::check`] says.
    pub verdict: Result<Arc<Identity>, Reason>,
    /// The identity of the token held, be the workload revoked or not.
    pub identity: Option<Arc<Identity>>,
    /// Until when the token is taken, nanoseconds since 1970 UTC: `exp` and the skew allowed.
    pub until_ns: Option<i64>,
    /// What went wrong last.
    pub last_error: Option<LastError>,
    /// Since when and by whom it is revoked.
    pub revoked: Option<Revocation>,
}

impl Cell {
    /// A workload without a token yet.
    #[must_use]
    pub fn new(workload: WorkloadName, clock: Clock, events: EventSink, revoked: Option<Revocation>) -> Self {
        let reason = if revoked.is_some() {
            Reason::IdentityRevoked
        } else {
            Reason::IdentityMissing
        };
        Self {
            workload,
            clock,
            events,
            published: ArcSwap::from_pointee(Published {
                verdict: Err(reason),
                until_ns: i64::MAX,
                life: Life::over(reason),
            }),
            inner: Mutex::new(Inner {
                token: Err(Reason::IdentityMissing),
                revoked,
                removed: false,
                seat: 0,
                provisional: false,
                last_error: None,
            }),
            settled: watch::Sender::new(false),
        }
    }

    /// The identity, if it may be used at this moment.
    #[inline]
    pub fn check(&self) -> Result<Arc<Identity>, Reason> {
        let published = self.published.load();
        match &published.verdict {
            Ok(identity) if self.clock.now_ns() < published.until_ns => Ok(Arc::clone(identity)),
            Ok(_) => Err(Reason::IdentityExpired),
            Err(reason) => Err(*reason),
        }
    }

    /// The identity and its end, from the same moment.
    pub fn bind(&self) -> Result<(Arc<Identity>, Ended), Reason> {
        let published = self.published.load();
        let ended = published.life.ended();
        let identity = published.verdict.clone()?;
        if self.clock.now_ns() < published.until_ns {
            Ok((identity, ended))
        } else {
            Err(Reason::IdentityExpired)
        }
    }

    /// Resolves when the present identity is over.
    pub fn ended(&self) -> Ended {
        self.published.load().life.ended()
    }

    /// Woken by every change; true once there was a first verdict.
    pub fn changes(&self) -> watch::Receiver<bool> {
        self.settled.subscribe()
    }

    /// Gives the cell to a new keeper; what it holds stands until that one's first verdict.
    pub fn seat(&self) -> u64 {
        let mut inner = self.lock();
        inner.seat += 1;
        inner.provisional = true;
        inner.seat
    }

    /// When the token held runs out; `i64::MAX` where there is none.
    pub fn until_ns(&self) -> i64 {
        self.lock().token.as_ref().map_or(i64::MAX, |held| held.until_ns)
    }

    /// Whether a token is held that a failure may leave in place.
    pub fn holds(&self) -> bool {
        let inner = self.lock();
        inner.token.is_ok() && !inner.provisional
    }

    /// A token was verified.
    pub fn verified(&self, seat: u64, identity: Identity, until_ns: i64) {
        let mut inner = self.lock();
        if inner.seat != seat {
            return;
        }
        let identity = Arc::new(identity);
        let (event, detail) = match &inner.token {
            Ok(held) if *held.identity == *identity => (None, None),
            Ok(held) if same_party(&held.identity, &identity) => (Some(Event::Refreshed), None),
            Ok(held) => {
                let former = format!("the former subject was '{}'", held.identity.subject);
                (Some(Event::Bound), Some(former))
            }
            Err(_) => (Some(Event::Bound), None),
        };
        inner.token = Ok(Held {
            identity: Arc::clone(&identity),
            until_ns,
        });
        inner.last_error = None;
        inner.provisional = false;
        self.publish(&inner);
        if let Some(event) = event {
            self.tell(event, None, Some(identity), None, detail);
        }
        self.settled.send_replace(true);
    }

    /// No token was had, or it is not valid. With `keep`, one that is held stays until it runs out.
    pub fn failed(&self, seat: u64, failure: &Failure, keep: bool) {
        let mut inner = self.lock();
        if inner.seat != seat {
            return;
        }
        let kept = keep && !inner.provisional && inner.token.is_ok();
        let identity = inner.token.as_ref().ok().map(|held| Arc::clone(&held.identity));
        let lost = identity.is_some() && !kept;
        // Told once for each reason, not at each attempt.
        let news = lost
            || inner
                .last_error
                .as_ref()
                .is_none_or(|last| last.reason != failure.reason);
        inner.last_error = Some(LastError {
            at_ns: self.clock.now_ns(),
            reason: failure.reason,
            message: failure.message.clone(),
        });
        inner.provisional = false;
        if !kept {
            inner.token = Err(failure.reason);
            self.publish(&inner);
        }
        if news {
            let detail = if kept {
                format!("{}; the token held stays until it expires", failure.message)
            } else {
                failure.message.clone()
            };
            self.tell(Event::Failed, Some(failure.reason), identity, None, Some(detail));
        }
        self.settled.send_replace(true);
    }

    /// Marks the token as run out, if it has.
    pub fn expire(&self) {
        let mut inner = self.lock();
        let identity = match &inner.token {
            Ok(held) if self.clock.now_ns() >= held.until_ns => Arc::clone(&held.identity),
            _ => return,
        };
        inner.token = Err(Reason::IdentityExpired);
        self.publish(&inner);
        self.tell(
            Event::Expired,
            Some(Reason::IdentityExpired),
            Some(identity),
            None,
            None,
        );
        self.settled.send_replace(true);
    }

    /// Revokes, or restores with `None`. False where nothing changed.
    pub fn set_revoked(&self, revoked: Option<Revocation>, actor: Actor) -> bool {
        let mut inner = self.lock();
        if inner.revoked.is_some() == revoked.is_some() {
            return false;
        }
        let (event, reason) = if revoked.is_some() {
            (Event::Revoked, Some(Reason::IdentityRevoked))
        } else {
            (Event::Restored, None)
        };
        inner.revoked = revoked;
        let identity = inner.token.as_ref().ok().map(|held| Arc::clone(&held.identity));
        self.publish(&inner);
        self.tell(event, reason, identity, Some(actor), None);
        self.settled.send_modify(|_| {});
        true
    }

    /// The workload left the configuration.
    pub fn remove(&self) {
        let mut inner = self.lock();
        inner.seat += 1;
        inner.removed = true;
        inner.token = Err(Reason::WorkloadUnknown);
        self.publish(&inner);
        self.tell(Event::Removed, Some(Reason::WorkloadUnknown), None, None, None);
        self.settled.send_replace(true);
    }

    /// For a status.
    pub fn snapshot(&self) -> Snapshot {
        let inner = self.lock();
        let held = inner.token.as_ref().ok();
        Snapshot {
            verdict: self.check(),
            identity: held.map(|held| Arc::clone(&held.identity)),
            until_ns: held.map(|held| held.until_ns),
            last_error: inner.last_error.clone(),
            revoked: inner.revoked.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, inner: &Inner) {
        let (verdict, until_ns) = match &inner.token {
            _ if inner.removed => (Err(Reason::WorkloadUnknown), i64::MAX),
            _ if inner.revoked.is_some() => (Err(Reason::IdentityRevoked), i64::MAX),
            Ok(held) => (Ok(Arc::clone(&held.identity)), held.until_ns),
            Err(reason) => (Err(*reason), i64::MAX),
        };
        let former = self.published.load_full();
        let life = match (&former.verdict, &verdict) {
            (Ok(former_identity), Ok(identity)) if same_party(former_identity, identity) => {
                Arc::clone(&former.life)
            }
            (_, Ok(_)) => Life::new(),
            (_, Err(reason)) => Life::over(*reason),
        };
        let reason = verdict
            .as_ref()
            .err()
            .copied()
            .unwrap_or(Reason::IdentityReplaced);
        let goes_on = Arc::ptr_eq(&former.life, &life);
        self.published.store(Arc::new(Published {
            verdict,
            until_ns,
            life,
        }));
        if !goes_on {
            former.life.end(reason);
        }
    }

    /// Called with the lock held, so that a workload's events are told in their order.
    fn tell(
        &self,
        event: Event,
        reason: Option<Reason>,
        identity: Option<Arc<Identity>>,
        actor: Option<Actor>,
        detail: Option<String>,
    ) {
        (self.events)(LifecycleEvent {
            at_ns: self.clock.now_ns(),
            workload: self.workload.clone(),
            event,
            reason,
            identity,
            actor,
            detail,
        });
    }
}

/// Whether live connections of one may go on under the other.
fn same_party(a: &Identity, b: &Identity) -> bool {
    a.issuer == b.issuer && a.subject == b.subject && a.on_behalf_of == b.on_behalf_of
}

/// The span during which a workload is the same party without a break, over any number of tokens.
#[derive(Default)]
struct Life {
    reason: OnceLock<Reason>,
    notify: Arc<Notify>,
}

impl Life {
    fn new() -> Arc<Self> {
        Arc::default()
    }

    fn over(reason: Reason) -> Arc<Self> {
        Arc::new(Self {
            reason: OnceLock::from(reason),
            notify: Arc::default(),
        })
    }

    fn end(&self, reason: Reason) {
        // Already over: the first reason stands.
        let _ = self.reason.set(reason);
        self.notify.notify_waiters();
    }

    fn ended(self: &Arc<Self>) -> Ended {
        Ended {
            // Made before the reason is first looked at: an end in between is not missed.
            notified: Box::pin(Arc::clone(&self.notify).notified_owned()),
            life: Arc::clone(self),
            waker: None,
        }
    }
}

/// Resolves to the reason when the identity it was taken from is over. Any number of polls; each costs a load and a
/// comparison of wakers after the first.
pub struct Ended {
    life: Arc<Life>,
    notified: Pin<Box<OwnedNotified>>,
    /// The waker that `notified` has, so that it is not locked at each poll.
    waker: Option<Waker>,
}

impl Ended {
    /// The reason, if it is over.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.life.reason.get().copied()
    }
}

impl Future for Ended {
    type Output = Reason;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(reason) = self.reason() {
            return Poll::Ready(reason);
        }
        if self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        match self.notified.as_mut().poll(cx) {
            // The reason is set before anyone is notified.
            Poll::Ready(()) => Poll::Ready(self.reason().unwrap_or(Reason::IdentityMissing)),
            Poll::Pending => Poll::Pending,
        }
    }
}
