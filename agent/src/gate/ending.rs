//! Why a connection is being ended from outside, shared with the permits that are dropped by it.

use std::sync::OnceLock;

use crate::model::Reason;

/// The first reason stored stays.
#[derive(Debug, Default)]
pub(super) struct Ending(OnceLock<Reason>);

impl Ending {
    pub(super) fn store(&self, reason: Reason) {
        // A later reason is a consequence of the first.
        let _ = self.0.set(reason);
    }

    pub(super) fn reason(&self) -> Reason {
        self.0.get().copied().unwrap_or(Reason::Interrupted)
    }
}
