//! Secrets in use: replaced in all that the server says, and refused in all that the workload sends.
//!
//! Both are done to whole messages before anything else is. What replaces a secret is as long as it was, so that no
//! length in a message changes.

use bytes::Bytes;

use super::{
    super::{
        deny::{self, Severity},
        frame::HEADER,
    },
    Session,
    copy::CopyIn,
};
use crate::{model::Reason, protocol::ProtocolError};

/// insufficient_privilege
const CODE: &str = "42501";
const WHY: &str = "denied by Portcullis: the message holds a credential that belongs to another destination";

impl Session<'_> {
    /// Replaces them in messages of the server's.
    pub(super) fn scrub(&mut self, messages: &mut [u8]) {
        let hits = self.gate.secrets().mask(messages);
        if hits > 0
            && let Some(running) = self.expected.running()
        {
            running.add_injected(hits);
        }
    }

    /// Whether a message of the workload's holds one. COPY data is one stream, however it is cut into messages.
    pub(super) fn leaks(&mut self, tag: u8, message: &Bytes) -> bool {
        if !self.gate.secrets().is_active() {
            return false;
        }
        let body = message.get(HEADER..).unwrap_or_default();
        match tag {
            b'd' if self.copy_in() == CopyIn::Open => {
                let before = self.copied.hits();
                // What it holds back has gone up: the server forgets it all when the COPY fails.
                self.copied.push(body, &mut Vec::new());
                self.copied.hits() > before
            }
            b'c' | b'f' => {
                self.copied.finish(&mut Vec::new());
                tag == b'f' && self.gate.secrets().holds(body)
            }
            b'd' => false,
            _ => self.gate.secrets().holds(body),
        }
    }

    /// Refuses such a message, in the way in which its kind is refused.
    pub(super) async fn refuse_leak(&mut self, tag: u8) -> Result<(), ProtocolError> {
        match tag {
            b'P' | b'B' | b'D' | b'E' | b'C' => {
                if self.discarding {
                    return Ok(());
                }
                self.refuse_batch_text(CODE, WHY, Reason::SecretLeak).await
            }
            b'Q' | b'F' if self.copy_in() != CopyIn::Open => {
                self.release(None).await?;
                if self.discarding {
                    return Ok(());
                }
                self.refuse_query_text(CODE, WHY, Reason::SecretLeak).await
            }
            // In the middle of a COPY there is no other way to make the server forget it.
            _ => {
                let denied = self.refuse_text(Reason::SecretLeak).await;
                self.gate.ending(Reason::SecretLeak);
                self.wire.up = None;
                deny::denied(&denied, Severity::Fatal, &mut self.wire.down.output);
                Err(ProtocolError::Refused(Reason::SecretLeak))
            }
        }
    }
}
