//! What is said when a login does not pass.

use bytes::{BufMut as _, BytesMut};

use super::super::deny::{self, Error, Severity};
use crate::{
    gate::{Denied, DialError, Gate, Permit},
    model::{Operation, OperationId, Reason, Side},
    protocol::{
        ProtocolError,
        wire::{Broken, Wire},
    },
};

/// Why a login ends, in words for the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the entry.
    pub reason: Reason,
    /// SQLSTATE.
    pub code: &'static str,
    /// One line.
    pub message: String,
    /// What to do, where it is not what the reason says.
    pub hint: Option<&'static str>,
    /// In the form from before version 3.
    pub old_style: bool,
}

impl Refusal {
    /// One by a reason's own code and advice.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            code: deny::code_of(reason),
            message: message.into(),
            hint: None,
            old_style: false,
        }
    }

    fn write(&self, entry: OperationId, out: &mut BytesMut) {
        if self.old_style {
            out.put_slice(b"EFATAL:  ");
            out.put_slice(self.message.as_bytes());
            out.put_slice(b"\n\0");
            return;
        }
        Error {
            severity: Severity::Fatal,
            code: self.code,
            message: &self.message,
            detail: Some(&format!("reason={} entry={entry}", self.reason)),
            hint: Some(self.hint.unwrap_or_else(|| self.reason.guidance())),
        }
        .write(out);
    }

    /// Refuses an operation that was not decided: an entry, and words.
    pub async fn refuse(self, operation: Operation, gate: &Gate, wire: &mut Wire) -> ProtocolError {
        let denied = gate.refuse(operation, self.reason).await;
        self.write(denied.entry, &mut wire.down.output);
        ProtocolError::Refused(self.reason)
    }

    /// Ends an operation that was allowed: its outcome, and words.
    pub async fn end(self, permit: Permit, wire: &mut Wire) -> ProtocolError {
        self.write(permit.id(), &mut wire.down.output);
        match permit.finish(self.reason, self.code).await {
            Ok(()) => ProtocolError::Refused(self.reason),
            Err(e) => e.into(),
        }
    }
}

impl From<DialError> for Refusal {
    fn from(error: DialError) -> Self {
        Self::new(error.reason, error.detail)
    }
}

/// Says that policy, identity or ledger do not let a login pass.
pub fn denied(denied: &Denied, wire: &mut Wire) -> ProtocolError {
    deny::denied(denied, Severity::Fatal, &mut wire.down.output);
    ProtocolError::Refused(denied.reason)
}

/// A leg that broke.
pub fn broken(broken: Broken) -> ProtocolError {
    match broken.side {
        Side::Downstream => ProtocolError::Downstream(broken.error),
        Side::Upstream => ProtocolError::Upstream(broken.error),
    }
}
