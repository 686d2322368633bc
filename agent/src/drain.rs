//! Stopping in order: no new work, live work to its end or to the deadline.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::sync::{Notify, futures::OwnedNotified};
use tokio_util::task::TaskTracker;

/// Everything that must have ended before the agent may.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stopping: Arc<Flag>,
    over: Arc<Flag>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Flag {
    raised: AtomicBool,
    notify: Arc<Notify>,
}

impl Flag {
    fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    fn wait(self: &Arc<Self>) -> Raised {
        Raised {
            flag: Arc::clone(self),
            waiting: None,
        }
    }
}

/// Resolves when a stage of stopping is reached.
///
/// Every connection polls one at each of its wakes, so a poll that finds nothing new takes no lock: it reads the flag
/// and sees that its waker is registered.
pub struct Raised {
    flag: Arc<Flag>,
    waiting: Option<(Pin<Box<OwnedNotified>>, Waker)>,
}

impl Future for Raised {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.flag.raised.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if self
            .waiting
            .as_ref()
            .is_some_and(|(_, waker)| waker.will_wake(cx.waker()))
        {
            return Poll::Pending;
        }
        let mut notified = Box::pin(Arc::clone(&self.flag.notify).notified_owned());
        // It may be raised between the look above and the registration here.
        if notified.as_mut().poll(cx).is_ready() || self.flag.raised.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waiting = Some((notified, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drain {
    /// Runs a task that the drain waits for.
    pub fn spawn<F>(&self, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(task);
    }

    /// How many tasks are live.
    #[must_use]
    pub fn live(&self) -> usize {
        self.tasks.len()
    }

    /// Resolves when no new work may begin.
    #[must_use]
    pub fn stopping(&self) -> Raised {
        self.stopping.wait()
    }

    /// Whether no new work may begin.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.raised.load(Ordering::Acquire)
    }

    /// Resolves when live work must end at once.
    #[must_use]
    pub fn over(&self) -> Raised {
        self.over.wait()
    }

    /// Stops: waits for live tasks until `deadline`, then ends them. Returns how many had to be ended.
    pub async fn stop(&self, deadline: Duration) -> usize {
        self.stopping.raise();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        let ended = self.tasks.len();
        self.over.raise();
        self.tasks.wait().await;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_then_ends() {
        let drain = Drain::default();
        let (quick, slow) = (drain.stopping(), drain.over());
        drain.spawn(quick);
        drain.spawn(slow);
        assert!(!drain.is_stopping());
        assert_eq!(drain.stop(Duration::from_millis(20)).await, 1);
        assert!(drain.is_stopping());
        drain.stopping().await;
    }

    #[tokio::test]
    async fn whoever_polled_last_is_woken() {
        let drain = Drain::default();
        let mut raised = drain.stopping();
        assert!(futures_util::poll!(&mut raised).is_pending());
        let waiting = tokio::spawn(raised);
        tokio::task::yield_now().await;
        drain.stop(Duration::from_secs(1)).await;
        waiting.await.unwrap();
    }
}
