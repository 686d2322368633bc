//! What the service manager is told, and asked to keep (`sd_notify(3)`). Without one all of this does nothing.

use std::{os::fd::BorrowedFd, time::Duration};

use sd_notify::NotifyState;
use tokio::task::AbortHandle;

/// How often more time is asked for, and how much at once.
const STEP: Duration = Duration::from_secs(10);
const MORE: Duration = Duration::from_secs(30);

/// Says one thing. That nobody listens is no reason to stop.
pub(super) fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

/// Has listeners kept: from here on connections wait while no daemon runs, instead of being refused. What is kept
/// already, systemd does not keep twice.
pub(super) fn keep((name, listeners): (&str, Vec<BorrowedFd<'_>>)) {
    // Never to be polled: a listener that reports an error is still the listener.
    let state = [
        NotifyState::FdStore,
        NotifyState::FdName(name),
        NotifyState::Custom("FDPOLL=0"),
    ];
    if let Err(error) = sd_notify::notify_with_fds(&state, &listeners) {
        tracing::warn!(%error, "listeners are not kept: connections are refused while the daemon is restarted");
    }
}

/// Has listeners let go of that are of no use any more: of another port, or of a cgroup that is gone.
pub(super) fn let_go(names: &[String]) {
    for name in names {
        tracing::info!(name, "a listener that was kept is let go of");
        tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    }
}

/// Asks for more time until it is dropped, and for `at_most`: what hangs for longer is to be ended.
pub(super) struct Extension(AbortHandle);

pub(super) fn extend(at_most: Duration) -> Extension {
    let asking = tokio::spawn(async move {
        let more = u32::try_from(MORE.as_micros()).unwrap_or(u32::MAX);
        let mut step = tokio::time::interval(STEP);
        let _over = tokio::time::timeout(at_most, async {
            loop {
                step.tick().await;
                tell(&[NotifyState::ExtendTimeoutUsec(more)]);
            }
        })
        .await;
    });
    Extension(asking.abort_handle())
}

impl Drop for Extension {
    fn drop(&mut self) {
        self.0.abort();
    }
}
