//! The listeners in other network namespaces, and the next connection of any of them.
//!
//! A connection is accepted only where it is handed on at once. What nobody has asked for stays in the kernel's queue,
//! which outlives the agent where a service manager keeps the listener.

use std::{
    collections::BTreeMap,
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;

use super::{Records, is_of_connection, listen::Listeners};
use crate::redirect::{Namespace, RedirectError, Redirected};

/// The listeners of one namespace.
struct Inside {
    listeners: Listeners,
    namespace: Arc<Namespace>,
}

/// All of them, by the namespace's cookie. One task polls it; others add and remove.
pub(super) struct Elsewhere {
    all: Mutex<BTreeMap<u64, Inside>>,
    changed: AtomicWaker,
    /// Which one is asked first: another one each time, so that none waits for ever.
    turn: AtomicUsize,
    records: Records,
}

impl Elsewhere {
    pub(super) fn new(records: Records) -> Self {
        Self {
            all: Mutex::default(),
            changed: AtomicWaker::new(),
            turn: AtomicUsize::new(0),
            records,
        }
    }

    /// Nothing here can be left half-written.
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Inside>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, listeners: Listeners, namespace: Arc<Namespace>) {
        let inside = Inside { listeners, namespace };
        self.all().insert(inside.namespace.cookie(), inside);
        self.changed.wake();
    }

    /// Closes them: what waits there is reset.
    pub(super) fn remove(&self, cookie: u64) {
        self.all().remove(&cookie);
    }

    /// What `with` makes of the descriptors of one namespace's listeners.
    pub(super) fn with<T>(&self, cookie: u64, with: impl FnOnce(Vec<BorrowedFd<'_>>) -> T) -> Option<T> {
        let all = self.all();
        let inside = all.get(&cookie)?;
        Some(with(inside.listeners.sockets().collect()))
    }

    /// The next connection.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Result<Redirected, RedirectError>> {
        // First, so that one that is added after the look below is not missed.
        self.changed.register(context.waker());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let all = self.all();
        let start = turn.checked_rem(all.len()).unwrap_or(0);
        for inside in all.values().skip(start).chain(all.values().take(start)) {
            while let Poll::Ready(accepted) = inside.listeners.poll_accept(context, turn % 2 == 1) {
                match accepted {
                    Ok(stream) => {
                        if let Some(redirected) = self.records.redirected(stream) {
                            return Poll::Ready(Ok(Redirected {
                                namespace: Some(Arc::clone(&inside.namespace)),
                                ..redirected
                            }));
                        }
                    }
                    Err(error) if is_of_connection(&error) => {}
                    Err(error) => return Poll::Ready(Err(RedirectError::Accept(error))),
                }
            }
        }
        Poll::Pending
    }
}
