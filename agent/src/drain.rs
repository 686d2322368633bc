//! Stopping in order: no new work, live work to its end or to the deadline.

use std::time::Duration;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Everything that must have ended before the agent may.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    stopping: CancellationToken,
    over: CancellationToken,
    tasks: TaskTracker,
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
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Whether no new work may begin.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Resolves when live work must end at once.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Stops: waits for live tasks until `deadline`, then ends them. Returns how many had to be ended.
    pub async fn stop(&self, deadline: Duration) -> usize {
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok() {
            return 0;
        }
        let ended = self.tasks.len();
        self.over.cancel();
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
        let (quick, slow) = (drain.clone(), drain.clone());
        drain.spawn(async move { quick.stopping().await });
        drain.spawn(async move { slow.over().await });
        assert_eq!(drain.stop(Duration::from_millis(20)).await, 1);
    }
}
