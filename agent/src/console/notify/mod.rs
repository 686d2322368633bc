//! Who is told of requests: webhooks, Slack, Teams.
//!
//! Invariants: nobody waits for a target: each has a queue of its own, bounded, whose bursts become one message; what
//! is told is masked already, and holds no more than a human needs to know that there is something to look at.

mod message;
mod send;
mod slack;
mod target;
mod teams;
mod webhook;

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::{sync::broadcast::error::RecvError, task::AbortHandle};

use self::target::Target;
pub use self::{send::answer_slack, slack::escape as escape_slack, target::Pace};
use super::{ConsoleError, Desk};
use crate::{approval::NoticeKind, config::Config};

/// How one target fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// `webhook`, `slack` or `teams`.
    pub kind: String,
    /// Messages that it took.
    pub sent: u64,
    /// Messages that it did not take, after all tries.
    pub failed: u64,
    /// What went wrong last, if the last message failed.
    pub error: Option<String>,
}

/// Tells the targets; clones share them. Ends with its last clone.
#[derive(Clone)]
pub struct Notifier(Arc<Inner>);

struct Inner {
    desk: Desk,
    pace: Pace,
    targets: Mutex<Vec<Target>>,
    listening: Mutex<Option<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let listening = self.listening.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = listening.take() {
            task.abort();
        }
    }
}

impl Notifier {
    /// Listens from now on, on the tokio runtime that it is called in.
    ///
    /// # Errors
    /// When a target cannot be set up.
    pub fn start(desk: &Desk, config: &Config) -> Result<Self, ConsoleError> {
        Self::start_with(desk, config, Pace::default())
    }

    /// The same at another pace.
    ///
    /// # Errors
    /// As [`Notifier::start`].
    pub fn start_with(desk: &Desk, config: &Config, pace: Pace) -> Result<Self, ConsoleError> {
        let notifier = Self(Arc::new(Inner {
            desk: desk.clone(),
            pace,
            targets: Mutex::default(),
            listening: Mutex::default(),
        }));
        notifier.reload(config)?;
        let mut notices = desk.parts().approvals.subscribe();
        // Weak, so that the last clone ends it.
        let weak = Arc::downgrade(&notifier.0);
        let task = tokio::spawn(async move {
            loop {
                let notice = notices.recv().await;
                let Some(inner) = weak.upgrade() else { return };
                let targets = inner.targets.lock().unwrap_or_else(PoisonError::into_inner);
                match notice {
                    Ok(notice) => {
                        let notice = Arc::new(notice);
                        targets.iter().for_each(|target| target.push(&notice));
                    }
                    Err(RecvError::Lagged(n)) => targets.iter().for_each(|target| target.missed(n)),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        *notifier
            .0
            .listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        Ok(notifier)
    }

    /// Follows a changed configuration. What waits to be told by a target that stays as it was is told.
    ///
    /// # Errors
    /// When a target cannot be set up; nothing has changed then.
    pub fn reload(&self, config: &Config) -> Result<(), ConsoleError> {
        let inner = &self.0;
        let origin = config.console.listen.and_then(|_| config.console.origin());
        let answers = origin.is_some() && config.console.slack_signing_credential.is_some();
        let mut targets = inner.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Vec::new();
        for notify in &config.notify {
            if let Some(at) = targets
                .iter()
                .position(|target| target.is(notify, origin.as_deref(), answers))
            {
                next.push((Some(at), None));
                continue;
            }
            let target = Target::start(&inner.desk, notify, origin.as_deref(), answers, inner.pace)?;
            next.push((None, Some(target)));
        }
        let mut former: Vec<Option<Target>> = targets.drain(..).map(Some).collect();
        *targets = next
            .into_iter()
            .filter_map(|(at, fresh)| fresh.or_else(|| former.get_mut(at?)?.take()))
            .collect();
        Ok(())
    }

    /// How each target fares.
    #[must_use]
    pub fn status(&self) -> Vec<TargetStatus> {
        let targets = self.0.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.iter().map(Target::status).collect()
    }
}

/// Whether chats are told of it; a webhook is told of everything.
fn is_for_people(kind: NoticeKind) -> bool {
    !matches!(kind, NoticeKind::GrantEnded)
}
