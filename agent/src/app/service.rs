//! What the service manager is told, and asked to keep (`sd_notify(3)`). Without one all of this does nothing.

use std::{os::fd::BorrowedFd, time::Duration};

use sd_notify::NotifyState;
use tokio::task::AbortHandle;

use crate::redirect::Store;

/// `FileDescriptorStoreMax=` of portcullis.service. systemd before 254 does not say how much room there is.
const STORE_MAX: usize = 1040;

/// The service manager's store (`sd_notify(3)`), by which connections wait while no daemon runs.
pub(super) struct ServiceStore {
    room: usize,
}

impl ServiceStore {
    /// As large as the service manager says.
    pub(super) fn new() -> Self {
        let room = match std::env::var("FDSTORE") {
            Ok(room) => room.parse().unwrap_or(0),
            Err(_) if std::env::var_os("NOTIFY_SOCKET").is_some() => STORE_MAX,
            Err(_) => 0,
        };
        Self { room }
    }
}

impl Store for ServiceStore {
    fn room(&self) -> usize {
        self.room
    }

    fn keep(&self, name: &str, descriptors: &[BorrowedFd<'_>]) {
        keep(name, descriptors);
    }

    fn let_go(&self, name: &str) {
        let_go(&[name.to_owned()]);
    }
}

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
pub(super) fn keep(name: &str, listeners: &[BorrowedFd<'_>]) {
    // Never to be polled: a listener that reports an error is still the listener.
    let state = [
        NotifyState::FdStore,
        NotifyState::FdName(name),
        NotifyState::Custom("FDPOLL=0"),
    ];
    if let Err(error) = sd_notify::notify_with_fds(&state, listeners) {
        tracing::warn!(%error, "listeners are not kept: connections are refused while the daemon is restarted");
    }
}

/// Has listeners let go of that are of no use any more: of another port, of a cgroup or a network namespace that is gone.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_has_room_for_every_namespace() {
        let unit = include_str!("../../packaging/systemd/portcullis.service");
        let max = unit
            .lines()
            .find_map(|line| line.strip_prefix("FileDescriptorStoreMax="));
        assert_eq!(max, Some(STORE_MAX.to_string().as_str()));
        let all = (crate::redirect::bpf::MAX_NAMESPACES + 1) * crate::redirect::OF_NAMESPACE;
        assert!(all <= STORE_MAX);
    }
}
