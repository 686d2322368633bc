//! What the server still has to answer, in order: one item for each message that went up.
//!
//! Invariants: an item goes up exactly with its message; after an error in the extended protocol the server skips to
//! the next Sync, and so does this queue; what a failed message was to define is undone.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    names::{Closed, Portal, Prepared, Undo},
    running::Running,
};

/// One answer to come.
pub(super) enum Expect {
    /// ParseComplete.
    Parse(Undo<Prepared>),
    /// BindComplete.
    Bind(Undo<Portal>),
    /// CloseComplete.
    Close(Closed),
    /// ParameterDescription, then RowDescription or NoData: the workload's own question, or ours.
    DescribeStatement {
        /// Of this one.
        statement: Arc<Prepared>,
        /// Asked by us: the answer stays here.
        own: bool,
    },
    /// RowDescription or NoData.
    DescribePortal(Arc<Portal>),
    /// Rows, and how it ended.
    Execute(Box<Running>),
    /// A simple query: for each statement rows and how it ended, then ReadyForQuery.
    Simple(VecDeque<Running>),
    /// FunctionCallResponse, then ReadyForQuery.
    Function(Box<Running>),
    /// ReadyForQuery.
    Sync,
    /// An error of the server's, in whose place this is said. What was sent cannot do anything else: it is there so
    /// that the server's transaction fails as the workload's does.
    Refused {
        /// The denial.
        say: Bytes,
        /// Sent as a simple query, so that ReadyForQuery follows.
        simple: bool,
    },
    /// One of our own messages.
    Own(Own),
}

/// Our own messages, whose answers stay here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Parse,
    Describe,
    Bind,
    Execute,
    Close,
    Sync,
}

/// The queue.
#[derive(Default)]
pub(super) struct Expected {
    pub(super) items: VecDeque<Expect>,
    /// How many messages went up that ReadyForQuery answers.
    ends: u64,
}

impl Expect {
    /// Whether ReadyForQuery is its answer, or the end of it.
    fn is_end(&self) -> bool {
        match self {
            Self::Simple(_) | Self::Function(_) | Self::Sync | Self::Own(Own::Sync) => true,
            Self::Refused { simple, .. } => *simple,
            _ => false,
        }
    }
}

impl Expected {
    pub(super) fn push(&mut self, item: Expect) {
        self.ends += u64::from(item.is_end());
        self.items.push_back(item);
    }

    /// How many messages went up that ReadyForQuery answers.
    pub(super) fn ends(&self) -> u64 {
        self.ends
    }

    /// Whether ReadyForQuery is still to come. Without it the server may keep its answers to itself.
    pub(super) fn awaits_end(&self) -> bool {
        self.items.iter().any(Expect::is_end)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn front(&mut self) -> Option<&mut Expect> {
        self.items.front_mut()
    }

    pub(super) fn pop(&mut self) -> Option<Expect> {
        self.items.pop_front()
    }

    /// Puts back what the front was after [`Self::pop`].
    pub(super) fn unpop(&mut self, item: Expect) {
        self.items.push_front(item);
    }

    /// After an error in the extended protocol: what the server skips, up to the next Sync, the last first so that
    /// definitions are undone in that order.
    pub(super) fn skipped(&mut self) -> impl Iterator<Item = Expect> + '_ {
        let end = self
            .items
            .iter()
            .position(|e| matches!(e, Expect::Sync | Expect::Own(Own::Sync)))
            .unwrap_or(self.items.len());
        self.items.drain(..end).rev()
    }

    /// Whether anything of our own is still to be answered.
    pub(super) fn has_own(&self) -> bool {
        self.items.iter().any(|e| matches!(e, Expect::Own(_)))
    }

    /// Whether what the server is preparing calls code that nobody has looked into.
    pub(super) fn plans_unknown_code(&self) -> bool {
        let unknown = |s: &Prepared| {
            s.statement
                .as_ref()
                .is_some_and(|s| !s.facts.incomplete.is_empty())
        };
        match self.items.front() {
            Some(Expect::Parse(undo)) => unknown(&undo.now),
            Some(Expect::Bind(undo)) => unknown(&undo.now.statement),
            _ => false,
        }
    }
}
