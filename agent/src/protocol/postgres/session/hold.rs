//! Statements that are held for approval: the workload is told by a notice, what the server still says flows on, and
//! the connection stays as it is until humans have answered.
//!
//! The server knows nothing of a held statement, so a cancel request for it ends here.

use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{
    super::{
        deny,
        frame::{HEADER, Reader, put_cstr, write},
        value::{self, Scope, Treatment},
    },
    ROOM, Session,
    lookup::Known,
    names::{Portal, Prepared},
    running::Plan,
};
use crate::{
    approval::Payload,
    gate::{Denied, Permit, Verdicts, Waiting},
    model::{Operation, Side},
    protocol::{
        ProtocolError,
        wire::{Broken, Reading},
    },
};

/// What of the parameters approvers are shown, in bytes.
const SHOWN: usize = 4 * 1024;

/// What would be sent: what an approval is bound to.
pub(super) struct Sent {
    digest: Context,
    bytes: u64,
    shown: String,
}

impl Sent {
    fn new() -> Self {
        Self {
            digest: Context::new(&SHA256),
            bytes: 0,
            shown: String::new(),
        }
    }

    fn add(&mut self, part: &[u8]) {
        // With its length, so that parts cannot be shifted into each other.
        self.digest.update(&(part.len() as u64).to_be_bytes());
        self.digest.update(part);
        self.bytes += part.len() as u64;
    }

    /// A query string.
    pub(super) fn text(text: &str) -> Self {
        Self::bytes(text.as_bytes())
    }

    /// A message as it is.
    pub(super) fn bytes(bytes: &[u8]) -> Self {
        let mut sent = Self::new();
        sent.add(bytes);
        sent
    }

    fn payload(self) -> Payload {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.digest.finish().as_ref());
        let truncated = self.shown.len() > SHOWN;
        let mut end = self.shown.len().min(SHOWN);
        while !self.shown.is_char_boundary(end) {
            end -= 1;
        }
        Payload {
            digest,
            bytes: self.bytes,
            shown: self.shown[..end].into(),
            truncated,
        }
    }
}

impl Session<'_> {
    /// Decides what came in one message or batch. What is held waits here; the error is for the workload.
    pub(super) async fn decide(
        &mut self,
        mut operations: Vec<Operation>,
        sent: Sent,
    ) -> Result<Result<Vec<Permit>, Bytes>, ProtocolError> {
        let verdicts = match (operations.pop(), operations.is_empty()) {
            // One decision takes the short way.
            (Some(operation), true) => self.gate.ask(operation).await.into(),
            (last, _) => {
                operations.extend(last);
                self.gate.ask_all(operations).await
            }
        };
        let held = match verdicts {
            Verdicts::Permits(permits) => return Ok(Ok(permits)),
            Verdicts::Denied(denied) => return Ok(Err(said(&denied))),
            Verdicts::Held(held) => held,
        };
        match self.gate.request(held, sent.payload()).await {
            // Kept out of the path of what is not held.
            Ok(waiting) => Box::pin(self.wait(waiting)).await,
            Err(denied) => Ok(Err(said(&denied))),
        }
    }

    async fn wait(&mut self, waiting: Waiting) -> Result<Result<Vec<Permit>, Bytes>, ProtocolError> {
        if waiting.id().is_some() {
            notice(&waiting.notice(self.gate), &mut self.wire.down.output);
        }
        let gate = self.gate;
        let mut permits = std::pin::pin!(waiting.permits(gate));
        let cancel = self.established.cancel.take();
        let ended = {
            let mut cancelled = std::pin::pin!(async {
                match &cancel {
                    Some(registered) => registered.cancelled().await,
                    None => std::future::pending().await,
                }
            });
            loop {
                let moved = tokio::select! {
                    biased;
                    answer = &mut permits => break Ok(answer.map_err(|denied| said(&denied))),
                    () = &mut cancelled => break Ok(Err(query_canceled())),
                    moved = self.move_while_held() => moved,
                };
                if let Err(error) = moved {
                    break Err(error);
                }
            }
        };
        self.established.cancel = cancel;
        ended
    }

    /// Moves what the server still says; sees when the workload goes.
    async fn move_while_held(&mut self) -> Result<(), ProtocolError> {
        let reading = Reading {
            downstream: self.wire.down.input.len() < ROOM,
            upstream: self.has_room(),
        };
        let until = Instant::now() + self.gate.limits().session_timeout;
        match self.wire.pump(reading, until).await {
            Ok(_) => {}
            Err(Broken {
                side: Side::Upstream, ..
            }) => return Err(self.upstream_gone().await),
            Err(Broken { error, .. }) => return Err(ProtocolError::Downstream(error)),
        }
        self.answers().await?;
        if self.wire.up.as_ref().is_some_and(|up| up.eof) && self.has_room() {
            return Err(self.upstream_gone().await);
        }
        if self.wire.down.eof {
            return Err(ProtocolError::Downstream(
                std::io::ErrorKind::UnexpectedEof.into(),
            ));
        }
        Ok(())
    }

    /// What statements without an Execute, and an Execute with its parameters, send: the names that a library makes
    /// up do not count.
    pub(super) fn sent(
        &self,
        prepared: &[Arc<Prepared>],
        execute: Option<(&(Arc<Portal>, Bytes), &Plan)>,
    ) -> Sent {
        let mut sent = Sent::new();
        for prepared in prepared {
            add_statement(prepared, &mut sent);
        }
        if let Some(((portal, message), plan)) = execute {
            add_statement(&portal.statement, &mut sent);
            if let Some(body) = portal.bind.get(HEADER..) {
                let mut r = Reader::new(body);
                if r.cstr().and_then(|_| r.cstr()).is_ok() {
                    sent.add(r.rest());
                }
                sent.shown = self.shown_parameters(portal, body, plan);
            }
            if let Some(body) = message.get(HEADER..) {
                let mut r = Reader::new(body);
                if r.cstr().is_ok() {
                    sent.add(r.rest());
                }
            }
        }
        sent
    }

    /// The parameters of what would be executed: everything masked that has a class.
    fn shown_parameters(&self, portal: &Portal, body: &[u8], plan: &Plan) -> String {
        let rules = self.rules();
        let known = Known {
            catalog: &self.catalog,
            rules: &rules,
        };
        let scope = Scope {
            rules: &rules,
            classes: rules.all(),
            types: &known,
        };
        let prepared = &portal.statement;
        let types = prepared.parameters.get().unwrap_or(&prepared.declared);
        let class = plan.resolved.sensitive.iter().next();
        let treatment = class.map_or(Treatment::Scan, Treatment::Mask);
        // A Bind was read when it came, so that it can be read now.
        value::show(scope, treatment, body, types).unwrap_or_default()
    }
}

fn add_statement(prepared: &Prepared, sent: &mut Sent) {
    sent.add(prepared.text.as_bytes());
    for oid in &*prepared.declared {
        sent.add(&oid.to_be_bytes());
    }
}

impl From<crate::gate::Verdict> for Verdicts {
    fn from(verdict: crate::gate::Verdict) -> Self {
        use crate::gate::Verdict;
        match verdict {
            Verdict::Permit(permit) => Self::Permits(vec![permit]),
            Verdict::Held(held) => Self::Held(held),
            Verdict::Denied(denied) => Self::Denied(denied),
        }
    }
}

fn said(denied: &Denied) -> Bytes {
    let mut said = BytesMut::new();
    deny::denied(denied, deny::Severity::Error, &mut said);
    said.freeze()
}

fn query_canceled() -> Bytes {
    let mut said = BytesMut::new();
    deny::Error {
        severity: deny::Severity::Error,
        code: "57014",
        message: "canceled while it was held for approval",
        detail: None,
        hint: Some("The request stays open: send the statement again, and it passes once it is approved."),
    }
    .write(&mut said);
    said.freeze()
}

/// A NoticeResponse: libraries show it, and none takes it for an answer.
fn notice(message: &str, out: &mut BytesMut) {
    write(out, b'N', |out| {
        for (tag, text) in [
            (b'S', "NOTICE"),
            (b'V', "NOTICE"),
            (b'C', "00000"),
            (b'M', message),
            (b'R', "portcullis"),
        ] {
            bytes::BufMut::put_u8(out, tag);
            put_cstr(out, text.as_bytes());
        }
        bytes::BufMut::put_u8(out, 0);
    });
}
