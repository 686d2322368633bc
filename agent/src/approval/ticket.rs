//! A held operation's place in the line.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use super::{Approvals, book::Word};
use crate::{model::Reason, policy::Approval};

/// How a wait ended.
#[derive(Clone, Debug)]
pub enum Told {
    /// It may be decided again, with this.
    Approved(Arc<Approval>),
    /// A human said no, and why.
    Denied(Arc<str>),
    /// Ask again: something was granted that may cover it, or its turn went to another.
    Again,
    /// Nobody answered in time; the request stays open.
    TimedOut,
    /// What was asked is over.
    Over(Reason),
}

/// A held operation's place in the line. Dropped, it leaves the line; the request stays open, for a retry.
pub struct Ticket {
    approvals: Option<Approvals>,
    id: Option<Uuid>,
    number: u64,
    until: Instant,
    from: From,
}

enum From {
    Served(Arc<Approval>),
    Line(oneshot::Receiver<Word>),
}

impl Ticket {
    pub(super) fn served(approval: Arc<Approval>) -> Self {
        Self {
            approvals: None,
            id: None,
            number: 0,
            until: Instant::now(),
            from: From::Served(approval),
        }
    }

    pub(super) fn waiting(
        approvals: Approvals,
        id: Uuid,
        number: u64,
        hears: oneshot::Receiver<Word>,
        wait: Duration,
    ) -> Self {
        Self {
            approvals: Some(approvals),
            id: Some(id),
            number,
            until: Instant::now() + wait,
            from: From::Line(hears),
        }
    }

    /// The request, where there is one to answer.
    #[must_use]
    pub fn id(&self) -> Option<Uuid> {
        self.id
    }

    /// Until when it waits.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Waits no longer than this.
    #[must_use]
    pub fn no_longer_than(mut self, until: Instant) -> Self {
        self.until = self.until.min(until);
        self
    }

    /// Waits for the answer. Cancelled, it can be called again.
    pub async fn told(&mut self) -> Told {
        let hears = match &mut self.from {
            From::Served(approval) => return Told::Approved(Arc::clone(approval)),
            From::Line(hears) => hears,
        };
        match timeout_at(self.until, hears).await {
            Ok(Ok(Word::Approved(approval))) => Told::Approved(approval),
            Ok(Ok(Word::Denied(why))) => Told::Denied(why),
            Ok(Ok(Word::Again)) => Told::Again,
            Ok(Ok(Word::Over(reason))) => Told::Over(reason),
            Ok(Err(_)) => Told::Over(Reason::ApprovalLapsed),
            Err(_) => Told::TimedOut,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let (Some(approvals), Some(id)) = (&self.approvals, self.id) {
            approvals.0.book().leave(id, self.number);
        }
    }
}
