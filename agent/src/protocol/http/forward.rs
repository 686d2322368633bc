//! One permitted request up and its response down, both at once, in one task.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    fault::Fault,
    inject::InjectError,
    problem, record,
    reply::Reply,
    request::Edits,
    serve::{Connection, Next},
    upload::Upload,
};
use crate::{
    config::Upstream,
    credential::CredentialError,
    gate::{Denied, DialError, Permit},
    ledger::LedgerError,
    mask::Counts,
    model::{Direction, OperationId, Reason, Side},
    protocol::{
        ProtocolError,
        wire::{Pumped, Reading},
    },
};

/// A side is not read from while this much waits to be written to the other.
pub(super) const HIGH: usize = 64 * 1024;
/// How long upstream may stay silent once the workload has closed its half: it may have gone altogether, which only
/// a write would show.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// Why a permitted request did not get its whole response.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The request's body is malformed.
    #[error("the request: {0}")]
    Request(Fault),
    /// The response is malformed, or cannot be read where it must be.
    #[error("the response: {0}")]
    Response(Fault),
    /// Upstream could not be had.
    #[error("{0}")]
    Dial(#[from] DialError),
    /// Upstream ended without an answer.
    #[error("the destination closed the connection without an answer")]
    NoAnswer,
    /// Upstream or the workload stood still for too long.
    #[error("nothing came for too long")]
    Timeout,
    /// The workload went away.
    #[error("the workload closed the connection")]
    Gone,
    /// What the request is sent with cannot be had.
    #[error("{0}")]
    Credential(#[from] CredentialError),
    /// It cannot stand in its place.
    #[error("{0}")]
    Inject(#[from] InjectError),
    /// The request holds a secret in use.
    #[error("the request holds a credential that belongs to another destination")]
    Leak,
    /// The record cannot take it.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
}

impl Failure {
    fn reason(&self) -> Reason {
        match self {
            Self::Request(fault) => fault.reason(),
            Self::Response(fault) => fault.upstream_reason(),
            Self::Dial(error) => error.reason,
            Self::NoAnswer => Reason::UpstreamProtocolError,
            Self::Timeout => Reason::Timeout,
            Self::Gone => Reason::PeerClosed,
            Self::Credential(_) | Self::Inject(_) => Reason::CredentialUnavailable,
            Self::Leak => Reason::SecretLeak,
            Self::Ledger(_) => Reason::LedgerUnavailable,
        }
    }

    fn status(&self) -> u16 {
        match self {
            Self::Request(fault) => fault.status(),
            other => problem::status_of(other.reason()),
        }
    }
}

impl Connection<'_> {
    /// Carries one permitted request through to its outcome entry.
    pub(super) async fn forward(
        &mut self,
        mut permit: Permit,
        upstream: Option<&Upstream>,
    ) -> Result<Next, ProtocolError> {
        let written = self.wire.down.written;
        let up_before = self.wire.up.as_ref().map_or(0, |up| up.written);
        let id = permit.id();
        let mut reply = Reply::new(&permit, self.gate);
        let mut upload = None;
        let result = self.carry(&mut permit, &mut reply, &mut upload, upstream).await;
        // What it holds is wiped with it.
        self.injected = None;
        let up_after = self.wire.up.as_ref().map_or(up_before, |up| up.written);
        permit.add_bytes(Direction::Up, up_after.saturating_sub(up_before));
        permit.add_bytes(Direction::Down, self.wire.down.written - written);
        let uploaded = upload.as_ref().is_some_and(Upload::is_done);
        match result {
            Ok(()) => {
                permit
                    .finish(Reason::Completed, &reply.status.to_string())
                    .await?;
                if reply.close || !uploaded || self.wire.down.eof {
                    return Ok(Next::Close);
                }
                if self
                    .wire
                    .up
                    .as_ref()
                    .is_some_and(|up| up.deaf || up.eof || !up.input.is_empty())
                {
                    self.wire.up = None;
                }
                self.wire.down.trim();
                if let Some(up) = &mut self.wire.up {
                    up.trim();
                }
                Ok(Next::Again)
            }
            Err(failure) => {
                // What it still has to say answers nothing.
                self.wire.up = None;
                self.fail(permit, id, &failure, &reply, uploaded).await
            }
        }
    }

    /// Answers a failure where nothing of an answer has gone down yet, and records it.
    async fn fail(
        &mut self,
        permit: Permit,
        id: OperationId,
        failure: &Failure,
        reply: &Reply<'_>,
        uploaded: bool,
    ) -> Result<Next, ProtocolError> {
        let reason = failure.reason();
        if reply.begun || matches!(failure, Failure::Gone) {
            let status = if reply.begun {
                reply.status.to_string()
            } else {
                String::new()
            };
            permit.finish(reason, &status).await?;
            return Err(ProtocolError::Cut(reason));
        }
        let status = failure.status();
        permit.finish(reason, &status.to_string()).await?;
        let denied = Denied {
            reason,
            entry: id,
            policies: [].into(),
            message: None,
            approval: [].into(),
            request: None,
        };
        let untouched = matches!(
            failure,
            Failure::Dial(_)
                | Failure::Credential(_)
                | Failure::Inject(_)
                | Failure::Request(Fault::Encoding)
        );
        self.answer(&denied, status, &failure.to_string(), uploaded, untouched)
            .await
    }

    async fn carry(
        &mut self,
        permit: &mut Permit,
        reply: &mut Reply<'_>,
        upload: &mut Option<Upload>,
        upstream: Option<&Upstream>,
    ) -> Result<(), Failure> {
        let classes = permit.obligations().mask;
        self.attach(permit, upstream).await?;
        reply.carries = self.injected.as_ref().is_some_and(|i| i.echoes);
        let edits = Edits {
            readable: !classes.is_empty() || permit.secrets().is_active(),
            whole: !classes.is_empty() || reply.carries,
        };
        let upload = upload.insert(Upload::new(&self.request, permit, self.gate).map_err(Failure::Request)?);
        let mut counts = Counts::default();
        self.scratch.clear();
        record::request_head(
            &self.request,
            self.injected.as_ref(),
            self.gate,
            classes,
            &mut counts,
            &mut self.scratch,
        );
        permit.record(Direction::Up, &self.scratch).await?;
        permit.add_masked(&counts);

        let mut reused = self.wire.up.is_some();
        if !reused {
            self.wire.up = Some(self.open_upstream(permit).await?);
        }
        self.send_head(edits);
        let idle = self.gate.limits().idle_timeout;
        loop {
            let Some(up) = &mut self.wire.up else {
                return Err(Failure::NoAnswer);
            };
            if !up.deaf {
                upload
                    .advance(&mut self.wire.down, up, permit, self.injected.as_mut())
                    .await?;
            }
            // A final answer before the body was asked for: whether the body still comes is anyone's guess.
            let last = self.request.expects_continue && !reply.continued && !upload.begun;
            reply
                .advance(
                    &self.request,
                    &mut self.response,
                    up,
                    &mut self.wire.down,
                    permit,
                    last,
                )
                .await?;
            if reply.is_done()
                && self.wire.down.is_flushed()
                && (upload.is_done() || up.deaf || up.eof || reply.close)
            {
                return Ok(());
            }
            if up.eof && !reply.is_done() && self.wire.down.output.len() < HIGH {
                let untouched = reply.is_awaited() && up.read == self.read_before;
                if reused && untouched && self.request.is_idempotent() && !self.request.has_body() {
                    // It was closed while idle, and this request crossed with that.
                    reused = false;
                    self.wire.up = Some(self.open_upstream(permit).await?);
                    self.send_head(edits);
                    continue;
                }
                reply.end_of_input()?;
                continue;
            }
            if self.wire.down.eof && !upload.is_done() && !reply.is_done() {
                return Err(Failure::Gone);
            }
            self.step(upload, idle).await?;
        }
    }

    /// Waits until something can be moved.
    async fn step(&mut self, upload: &Upload, idle: Duration) -> Result<(), Failure> {
        let Some(up) = &self.wire.up else {
            return Err(Failure::NoAnswer);
        };
        // Past the body, reading on only shows that the workload went away; what it pipelines stays bounded.
        let room = if upload.is_done() {
            self.wire.down.input.len() < HIGH / 4
        } else {
            up.output.len() < HIGH
        };
        let reading = Reading {
            downstream: room,
            upstream: self.wire.down.output.len() < HIGH,
        };
        let patience = if self.wire.down.eof {
            HALF_CLOSED.min(idle)
        } else {
            idle
        };
        match self.wire.pump(reading, Instant::now() + patience).await {
            Ok(Pumped::Progress) => Ok(()),
            Ok(Pumped::TimedOut) if self.wire.down.eof => Err(Failure::Gone),
            Ok(Pumped::TimedOut) => Err(Failure::Timeout),
            Err(broken) => match (broken.side, &mut self.wire.up) {
                (Side::Downstream, _) => Err(Failure::Gone),
                // A reset is an end; what came before it is still read.
                (Side::Upstream, Some(up)) if !up.eof || !up.deaf => {
                    up.eof = true;
                    up.deaf = true;
                    Ok(())
                }
                (Side::Upstream, _) => Err(Failure::NoAnswer),
            },
        }
    }
}
