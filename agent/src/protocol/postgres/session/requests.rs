//! What the workload sends, message by message.

use std::time::Duration;

use bytes::Bytes;

use super::{
    super::{
        deny,
        frame::{self, Fault, HEADER},
    },
    Session, Transaction,
    copy::CopyIn,
};
use crate::{model::Reason, protocol::ProtocolError};

/// How long what was asked before is waited for, when the connection has to end.
const PATIENCE: Duration = Duration::from_secs(2);

impl Session<'_> {
    /// Takes what the workload has sent, as far as there is room and nothing has to be waited for.
    pub(super) async fn requests(&mut self) -> Result<(), ProtocolError> {
        loop {
            if !self.wants_requests() {
                return Ok(());
            }
            let limits = self.gate.limits();
            let head = match self.wire.down.input.first() {
                None => None,
                Some(tag) => {
                    let limit = match tag {
                        b'Q' | b'P' => limits.statement_bytes + HEADER,
                        _ => limits.message_bytes,
                    };
                    match frame::head(&self.wire.down.input, limit) {
                        Ok(head) => head,
                        Err(fault) => return Err(self.cannot_carry(fault).await),
                    }
                }
            };
            let Some((tag, whole)) = head else {
                return self.maybe_cut().await;
            };
            if self.wire.down.input.len() < whole {
                return self.maybe_cut().await;
            }
            if !self.passes_barrier(tag) {
                return Ok(());
            }
            // A failed transaction runs nothing, and a batch that is skipped nothing either.
            let can_ask = self.transaction != Transaction::Failed && !self.discarding;
            if self.role_is_lost && can_ask && self.expected.is_empty() {
                self.take_role().await?;
                continue;
            }
            let message = self.wire.down.input.split_to(whole).freeze();
            if self.leaks(tag, &message) {
                // Kept out of the path of what is none.
                Box::pin(self.refuse_leak(tag)).await?;
                continue;
            }
            self.request(tag, message).await?;
        }
    }

    /// A workload that ends inside a message gets no answer; what it meant is not known.
    async fn maybe_cut(&mut self) -> Result<(), ProtocolError> {
        let waits = self.expected.awaits_end() && self.copy_in() != CopyIn::Open;
        if self.wire.down.eof && !self.wire.down.input.is_empty() && !waits {
            return Err(self.cannot_carry(Fault::Truncated).await);
        }
        Ok(())
    }

    /// Whether a message may be looked at now. After a statement that can change what names mean, what follows waits
    /// until the server has answered; Sync and Flush do not, for they are what makes it answer.
    fn passes_barrier(&mut self, tag: u8) -> bool {
        if !self.barrier {
            return true;
        }
        if self.expected.is_empty() || self.copy_in() == CopyIn::Open {
            self.barrier = false;
            self.flushed = false;
            return true;
        }
        if matches!(tag, b'S' | b'H') && self.copy_in() != CopyIn::Coming {
            return true;
        }
        if !self.flushed && self.batch_open {
            self.flushed = true;
            self.flush_server();
        }
        false
    }

    async fn request(&mut self, tag: u8, message: Bytes) -> Result<(), ProtocolError> {
        match tag {
            b'X' => {
                self.terminated = true;
                self.forget_held();
                self.forward(&message);
                Ok(())
            }
            b'S' => self.sync(&message).await,
            b'd' | b'c' | b'f' => self.copy_message(tag, &message).await,
            // The server takes nothing but data now, and ends the connection at anything else.
            _ if tag != b'H' && self.copy_in() == CopyIn::Open => {
                Err(self.cannot_carry(Fault::Unexpected(tag)).await)
            }
            _ if self.discarding => Ok(()),
            b'Q' => self.simple(&message).await,
            b'F' => self.function_call(&message).await,
            b'P' | b'B' | b'D' | b'E' | b'C' => self.extended(tag, message).await,
            b'H' => self.flush(&message).await,
            _ => Err(self.cannot_carry(Fault::Unexpected(tag)).await),
        }
    }

    /// Puts a message up.
    pub(super) fn forward(&mut self, message: &[u8]) {
        if let Some(up) = &mut self.wire.up {
            up.output.extend_from_slice(message);
        }
    }

    /// The workload's bytes cannot be read: an entry, an error, and the end, in that order after what was answered.
    pub(super) async fn cannot_carry(&mut self, fault: Fault) -> ProtocolError {
        self.forget_held();
        let reason = deny::reason_of(fault);
        let operation = self.operation_of_nothing();
        self.gate.refuse(operation, reason).await;
        if !self.discarding && self.copy_in() != CopyIn::Open {
            let patience = self.gate.limits().handshake_timeout.min(PATIENCE);
            // What can be answered is; the end comes all the same.
            let _ = tokio::time::timeout(patience, self.settle()).await;
        }
        deny::fatal(fault, &mut self.wire.down.output);
        ProtocolError::Refused(reason)
    }

    /// What the workload holds back of a batch is dropped.
    pub(super) fn forget_held(&mut self) {
        while let Some(held) = self.held.pop() {
            self.undo_held(held);
        }
        self.held_bytes = 0;
    }

    /// Refuses a message that is known not to be one, in the words of its protocol.
    pub(super) async fn refuse_text(&mut self, reason: Reason) -> crate::gate::Denied {
        let operation = self.operation_of_nothing();
        self.gate.refuse(operation, reason).await
    }
}
