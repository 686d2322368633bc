//! One workload's identity as it stands now: written by its keeper and by admins, read for every operation.
//!
//! Readers take no lock: they load one pointer and compare the clock. Writers take a mutex, publish, and then end the
//! life of what is over, so that whoever is told of an end finds it published already.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{
    event::{Actor, Event, EventSink, LifecycleEvent},
    life::{Ended, Life},
    revoked::Revocation,
    source::Token,
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
    /// The token itself; wiped when the last holder drops it.
    token: Option<Arc<Token>>,
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
    token: Option<Arc<Token>>,
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
                token: None,
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
            Ok(identity) if self.clock.coarse_ns() < published.until_ns => Ok(Arc::clone(identity)),
            Ok(_) => Err(Reason::IdentityExpired),
            Err(reason) => Err(*reason),
        }
    }

    /// The token that the identity was verified from, if that may be used at this moment.
    pub fn token(&self) -> Option<Arc<Token>> {
        let published = self.published.load();
        let token = published.token.as_ref()?;
        (self.clock.coarse_ns() < published.until_ns).then(|| Arc::clone(token))
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
    pub fn verified(&self, seat: u64, identity: Identity, until_ns: i64, token: Option<Arc<Token>>) {
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
            token: same_token(inner.token.as_ref().ok(), token),
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
        let (verdict, until_ns, token) = match &inner.token {
            _ if inner.removed => (Err(Reason::WorkloadUnknown), i64::MAX, None),
            _ if inner.revoked.is_some() => (Err(Reason::IdentityRevoked), i64::MAX, None),
            Ok(held) => (Ok(Arc::clone(&held.identity)), held.until_ns, held.token.clone()),
            Err(reason) => (Err(*reason), i64::MAX, None),
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
            token,
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

/// The one that is held, where a token was only verified again: who compares pointers sees no other.
fn same_token(held: Option<&Held>, token: Option<Arc<Token>>) -> Option<Arc<Token>> {
    let former = held.and_then(|held| held.token.as_ref());
    match (former, token) {
        (Some(former), Some(token)) if **former == *token => Some(Arc::clone(former)),
        (_, token) => token,
    }
}

/// Whether live connections of one may go on under the other.
fn same_party(a: &Identity, b: &Identity) -> bool {
    a.issuer == b.issuer && a.subject == b.subject && a.on_behalf_of == b.on_behalf_of
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future as _,
        pin::Pin,
        sync::atomic::{AtomicI64, AtomicUsize, Ordering},
        task::{Context, Poll, Wake, Waker},
    };

    use super::*;

    type Told = (Event, Option<Reason>);

    struct Rig {
        cell: Cell,
        seat: u64,
        at: Arc<AtomicI64>,
        told: Arc<Mutex<Vec<Told>>>,
    }

    fn rig() -> Rig {
        let at = Arc::new(AtomicI64::new(0));
        let told = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&told);
        let events: EventSink =
            Arc::new(move |e: LifecycleEvent| list.lock().unwrap().push((e.event, e.reason)));
        let name = WorkloadName::new("w").unwrap();
        let cell = Cell::new(name, Clock::Manual(Arc::clone(&at)), events, None);
        let seat = cell.seat();
        Rig { cell, seat, at, told }
    }

    fn identity(subject: &str, token: &str) -> Identity {
        Identity {
            issuer: "i".into(),
            issuer_name: "i".into(),
            subject: subject.into(),
            groups: Arc::from([]),
            token_id: token.into(),
            key_id: "k".into(),
            issued_at: None,
            expires_at: 0,
            on_behalf_of: None,
        }
    }

    fn failure(reason: Reason) -> Failure {
        Failure::new(reason, "m")
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(ended: &mut Ended, counter: &Arc<Counter>) -> Poll<Reason> {
        let waker = Waker::from(Arc::clone(counter));
        Pin::new(ended).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn wakes_once_and_whoever_polled_last() {
        let rig = rig();
        rig.cell.verified(rig.seat, identity("a", "1"), 100, None);
        let (first, second) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let mut ended = rig.cell.ended();
        let never_polled = rig.cell.ended();
        for _ in 0..3 {
            assert!(poll(&mut ended, &first).is_pending());
        }
        assert!(poll(&mut ended, &second).is_pending());
        rig.cell.verified(rig.seat, identity("a", "2"), 200, None);
        assert_eq!(second.0.load(Ordering::Relaxed), 0, "a refresh is no end");
        rig.cell.verified(rig.seat, identity("b", "3"), 200, None);
        assert_eq!(
            (first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)),
            (0, 1)
        );
        assert_eq!(poll(&mut ended, &second), Poll::Ready(Reason::IdentityReplaced));
        assert_eq!(never_polled.reason(), Some(Reason::IdentityReplaced));
        assert_eq!(rig.cell.ended().reason(), None);
    }

    #[test]
    fn expires_by_the_clock_alone() {
        let rig = rig();
        assert_eq!(rig.cell.check(), Err(Reason::IdentityMissing));
        rig.cell.verified(rig.seat, identity("a", "1"), 100, None);
        rig.at.store(99, Ordering::Release);
        assert!(rig.cell.check().is_ok());
        rig.cell.expire();
        assert!(rig.cell.check().is_ok());
        rig.at.store(100, Ordering::Release);
        assert_eq!(rig.cell.check(), Err(Reason::IdentityExpired));
        let ended = rig.cell.ended();
        assert_eq!(ended.reason(), None);
        rig.cell.expire();
        assert_eq!(ended.reason(), Some(Reason::IdentityExpired));
        // Turning the clock back does not bring it back.
        rig.at.store(0, Ordering::Release);
        assert_eq!(rig.cell.check(), Err(Reason::IdentityExpired));
    }

    #[test]
    fn failures_are_told_once_and_keep_what_they_may() {
        let rig = rig();
        rig.cell.verified(rig.seat, identity("a", "1"), 100, None);
        let ended = rig.cell.ended();
        for _ in 0..3 {
            rig.cell
                .failed(rig.seat, &failure(Reason::IdentityIssuerUnreachable), true);
        }
        assert!(rig.cell.check().is_ok());
        rig.cell
            .failed(rig.seat, &failure(Reason::IdentityInvalid), false);
        rig.cell
            .failed(rig.seat, &failure(Reason::IdentityInvalid), false);
        assert_eq!(ended.reason(), Some(Reason::IdentityInvalid));
        rig.cell.failed(rig.seat, &failure(Reason::IdentityMissing), true);
        assert_eq!(
            rig.cell.check(),
            Err(Reason::IdentityMissing),
            "nothing was held to keep"
        );
        let told = rig.told.lock().unwrap().clone();
        assert_eq!(
            told,
            [
                (Event::Bound, None),
                (Event::Failed, Some(Reason::IdentityIssuerUnreachable)),
                (Event::Failed, Some(Reason::IdentityInvalid)),
                (Event::Failed, Some(Reason::IdentityMissing)),
            ]
        );
    }

    #[test]
    fn a_former_keeper_writes_nothing() {
        let rig = rig();
        rig.cell.verified(rig.seat, identity("a", "1"), 100, None);
        let next = rig.cell.seat();
        rig.cell.verified(rig.seat, identity("b", "2"), 100, None);
        rig.cell
            .failed(rig.seat, &failure(Reason::IdentityInvalid), false);
        assert_eq!(&*rig.cell.check().unwrap().subject, "a");
        // And what it left stands only until the first verdict of the next.
        rig.cell
            .failed(next, &failure(Reason::IdentityIssuerUnreachable), true);
        assert_eq!(rig.cell.check(), Err(Reason::IdentityIssuerUnreachable));
    }

    #[test]
    fn another_human_is_another_party() {
        let rig = rig();
        let for_human = |human: &str| Identity {
            on_behalf_of: Some(human.into()),
            ..identity("a", human)
        };
        rig.cell.verified(rig.seat, for_human("x"), 100, None);
        let ended = rig.cell.ended();
        rig.cell.verified(rig.seat, for_human("y"), 100, None);
        assert_eq!(ended.reason(), Some(Reason::IdentityReplaced));
    }
    #[test]
    fn the_token_goes_with_its_identity() {
        let rig = rig();
        let token = |text: &str| Some(Arc::new(Token::new(text.to_owned())));
        let held = || rig.cell.token().map(|t| t.to_string());
        assert_eq!(held(), None);
        rig.cell.verified(rig.seat, identity("a", "1"), 100, token("t1"));
        assert_eq!(held().as_deref(), Some("t1"));
        // Verified again, under other keys for one, it is the same to who compares pointers.
        let first = rig.cell.token().unwrap();
        rig.cell.verified(rig.seat, identity("a", "1"), 100, token("t1"));
        assert!(Arc::ptr_eq(&first, &rig.cell.token().unwrap()));
        rig.cell.verified(rig.seat, identity("a", "2"), 100, token("t2"));
        assert_eq!(
            Arc::strong_count(&first),
            1,
            "wiped when the last holder drops it"
        );
        let actor = Actor { pid: 1, uid: 0 };
        rig.cell.set_revoked(Some(Revocation { at_ns: 0, actor }), actor);
        assert_eq!(held(), None);
        rig.cell.set_revoked(None, actor);
        assert_eq!(held().as_deref(), Some("t2"));
        let second = rig.cell.token().unwrap();
        rig.at.store(100, Ordering::Release);
        assert_eq!(held(), None, "by the clock alone");
        rig.cell.expire();
        assert_eq!(Arc::strong_count(&second), 1);
    }
}
