//! How live connections learn that the identity they run under is over.
//!
//! Thousands may wait on one workload, and each is polled whenever its connection wakes: a poll is a load.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
};

use tokio::sync::{Notify, futures::OwnedNotified};

use crate::model::Reason;

/// The span during which a workload is the same party without a break, over any number of tokens.
#[derive(Default)]
pub struct Life {
    reason: OnceLock<Reason>,
    notify: Arc<Notify>,
}

impl Life {
    /// One that goes on.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// One that was over before it began.
    pub fn over(reason: Reason) -> Arc<Self> {
        Arc::new(Self {
            reason: OnceLock::from(reason),
            notify: Arc::default(),
        })
    }

    /// Ends it, and tells whoever waits.
    pub fn end(&self, reason: Reason) {
        // Already over: the first reason stands.
        let _ = self.reason.set(reason);
        self.notify.notify_waiters();
    }

    /// To wait for its end.
    pub fn ended(self: &Arc<Self>) -> Ended {
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
