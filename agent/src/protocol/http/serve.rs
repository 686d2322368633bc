//! One connection: requests one after the other until either side ends it.

use std::sync::Arc;

use bytes::Buf as _;
use tokio::time::Instant;

use super::{
    aws,
    body::BodyDecoder,
    fault::Fault,
    head::Scanner,
    headers::Framing,
    inject::{self, Injected, leak},
    operation, problem,
    request::{Request, Setting},
    response::Response,
};
use crate::{
    drain::Raised,
    gate::{Denied, Dial, Gate, Room, Verdict},
    io::BoxStream,
    model::{Reason, Side},
    protocol::{
        ProtocolError,
        wire::{Pumped, Reading, Wire},
    },
};

/// The most bytes of a denied request's body that are read so that the connection stays usable.
const DRAIN: u64 = 256 * 1024;

/// What follows a request.
pub(super) enum Next {
    /// Another one.
    Again,
    /// A close, once everything is sent.
    Close,
}

/// The state of one connection.
pub(super) struct Connection<'a> {
    pub(super) wire: Wire,
    pub(super) gate: &'a Gate,
    pub(super) dial: &'a dyn Dial,
    pub(super) request: Request,
    pub(super) response: Response,
    pub(super) scratch: Vec<u8>,
    /// The agent is stopping.
    pub(super) stopping: Raised,
    /// No request has arrived yet.
    pub(super) fresh: bool,
    /// What upstream had sent before the request in hand.
    pub(super) read_before: u64,
    /// What is put into the request in hand.
    pub(super) injected: Option<Injected>,
    /// What the request in hand is to AWS, where it goes there.
    pub(super) aws: Option<aws::InHand>,
    /// The client certificate that the connection upstream is made with.
    pub(super) certificate: Option<Arc<str>>,
    /// Memory that the body of the request in hand takes, where it had to be gathered.
    pub(super) room: Option<Room>,
}

enum Arrived {
    Head(usize),
    Malformed(Fault),
    Nothing,
}

/// Carries a connection to its end.
pub(super) async fn serve(downstream: BoxStream, dial: &dyn Dial, gate: &Gate) -> Result<(), ProtocolError> {
    let mut connection = Connection {
        wire: Wire::new(downstream),
        gate,
        dial,
        request: Request::default(),
        response: Response::default(),
        scratch: Vec::new(),
        stopping: gate.stopping(),
        fresh: true,
        read_before: 0,
        injected: None,
        aws: None,
        certificate: None,
        room: None,
    };
    let result = loop {
        match connection.one().await {
            Ok(Next::Again) => {}
            Ok(Next::Close) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    match &result {
        // The rest of an answer is missing: no orderly close may make it look whole.
        Err(ProtocolError::Cut(_) | ProtocolError::Downstream(_) | ProtocolError::Ledger(_)) => {}
        _ => {
            connection
                .wire
                .close(
                    gate.limits()
                        .handshake_timeout
                        .min(std::time::Duration::from_secs(2)),
                )
                .await
        }
    }
    result
}

impl Connection<'_> {
    async fn one(&mut self) -> Result<Next, ProtocolError> {
        self.room = None;
        self.aws = None;
        let length = match self.arrive().await? {
            Arrived::Nothing => return Ok(Next::Close),
            Arrived::Malformed(fault) => return self.refuse(fault).await,
            Arrived::Head(length) => length,
        };
        self.fresh = false;
        let setting = Setting {
            tls: self.gate.tls().is_some(),
            server_name: self.gate.tls().and_then(|tls| tls.server_name.as_deref()),
            destination: self.gate.original_dst().0,
        };
        let parsed = self.request.parse(&self.wire.down.input[..length], setting);
        if let Err(fault) = parsed {
            return self.refuse(fault).await;
        }
        self.wire.down.input.advance(length);
        if leak::in_head(self.gate.secrets(), &self.request) {
            return self.refuse_leak().await;
        }
        let verified = self.gate.name_verified(&self.request.host).await;
        let (host, target) = (&self.request.host, &self.request.target);
        let upstream = self
            .gate
            .http_upstream(host, verified, &target.path, target.wire());
        let mut operation = operation::of(&self.request, verified, self.gate);
        operation.credential = upstream.as_deref().and_then(inject::reference);
        if self.gate.tls().is_some() && !verified {
            let denied = self.gate.refuse(operation, Reason::NameMismatch).await;
            return self
                .answer(&denied, 421, problem::detail_of(&denied), false, true)
                .await;
        }
        let operation = match self.as_aws(operation, upstream.as_deref()).await {
            Ok(operation) => operation,
            Err(refused) => return self.refuse_aws(refused).await,
        };
        match self.gate.ask(operation).await {
            Verdict::Permit(permit) => self.forward(permit, upstream.as_deref()).await,
            // Kept out of the path of what is not held.
            Verdict::Held(held) => Box::pin(self.hold(held, upstream.as_deref())).await,
            Verdict::Denied(denied) => {
                let status = problem::status_of(denied.reason);
                let gathered = self.drop_gathered();
                self.answer(&denied, status, problem::detail_of(&denied), gathered, true)
                    .await
            }
        }
    }

    /// Waits for a whole head. Upstream's end in the meantime costs nothing but a new connection for the next request.
    async fn arrive(&mut self) -> Result<Arrived, ProtocolError> {
        let limits = self.gate.limits();
        let mut scanner = Scanner::default();
        let mut until = Instant::now() + limits.idle_timeout;
        let mut begun = false;
        loop {
            if !self.wire.down.input.is_empty() {
                match scanner.scan(&self.wire.down.input, limits.head_bytes) {
                    Ok(Some(length)) => return Ok(Arrived::Head(length)),
                    Ok(None) => {}
                    Err(fault) => return Ok(Arrived::Malformed(fault)),
                }
                if !begun {
                    begun = true;
                    until = Instant::now() + limits.handshake_timeout;
                }
            }
            if self.wire.down.eof {
                return Ok(if begun {
                    Arrived::Malformed(Fault::Truncated)
                } else {
                    Arrived::Nothing
                });
            }
            let reading = Reading {
                downstream: true,
                upstream: true,
            };
            let pumped = tokio::select! {
                biased;
                // A connection that ends before its first answer is a failure to its program, where one that ends after an
                // answer is made anew. The first request is on its way: it was looked at to tell the protocol.
                () = &mut self.stopping, if !begun && !self.fresh => return Ok(Arrived::Nothing),
                pumped = self.wire.pump(reading, until) => pumped,
            };
            match pumped {
                Ok(Pumped::Progress) => {}
                Ok(Pumped::TimedOut) if begun => return Ok(Arrived::Malformed(Fault::Slow)),
                Ok(Pumped::TimedOut) => return Ok(Arrived::Nothing),
                Err(broken) if broken.side == Side::Upstream => self.wire.up = None,
                // Between requests a reset is an end like any other.
                Err(_) if !begun => return Ok(Arrived::Nothing),
                Err(broken) => return Err(ProtocolError::Downstream(broken.error)),
            }
            self.forget_ended_upstream();
        }
    }

    /// Refuses a request whose head holds a secret in use. Not even its host is looked up: that would tell it.
    async fn refuse_leak(&mut self) -> Result<Next, ProtocolError> {
        let operation = operation::of(&self.request, false, self.gate);
        let denied = self.gate.refuse(operation, Reason::SecretLeak).await;
        let status = problem::status_of(denied.reason);
        self.answer(&denied, status, problem::detail_of(&denied), false, true)
            .await
    }

    /// Refuses a request that cannot be read in one way only. What follows it cannot be trusted to be a request.
    async fn refuse(&mut self, fault: Fault) -> Result<Next, ProtocolError> {
        if matches!(
            fault,
            Fault::BareLf
                | Fault::BareCr
                | Fault::LeadingLine
                | Fault::HeadTooLarge
                | Fault::Slow
                | Fault::Truncated
        ) {
            // Nothing was understood of it; the last request's facts are not this one's.
            self.request = Request::default();
        }
        let reason = fault.reason();
        let denied = self
            .gate
            .refuse(operation::of(&self.request, false, self.gate), reason)
            .await;
        self.request.keep_alive = false;
        self.answer(&denied, fault.status(), &fault.to_string(), false, false)
            .await?;
        Err(ProtocolError::Refused(reason))
    }

    /// Answers with a problem document. The connection stays usable when the rest of the request can be read away:
    /// `uploaded` when there is none, `untouched` when none of its body was taken.
    pub(super) async fn answer(
        &mut self,
        denied: &Denied,
        status: u16,
        detail: &str,
        uploaded: bool,
        untouched: bool,
    ) -> Result<Next, ProtocolError> {
        let drainable = match self.request.framing {
            Framing::None => true,
            Framing::Length(n) => n <= DRAIN,
            Framing::Chunked | Framing::Close => true,
        };
        // A workload that waits for 100 may or may not send its body after another answer.
        let clear = uploaded || (untouched && drainable && !self.request.expects_continue);
        let keep = self.request.keep_alive && clear && !self.wire.down.eof;
        let answer = problem::Answer {
            status,
            detail,
            close: !keep,
            head: self.request.method == "HEAD",
            minor: self.request.minor,
            style: self.error_style(),
        };
        problem::write(denied, answer, self.gate.secrets(), &mut self.wire.down.output);
        if !keep {
            return Ok(Next::Close);
        }
        if uploaded {
            Ok(Next::Again)
        } else {
            self.drain().await
        }
    }

    /// Reads a denied request's body away, within a bound, while the answer goes out.
    async fn drain(&mut self) -> Result<Next, ProtocolError> {
        let mut decoder = BodyDecoder::new(self.request.framing);
        let mut left = DRAIN;
        let until = Instant::now() + self.gate.limits().handshake_timeout;
        loop {
            while !decoder.is_done() && !self.wire.down.input.is_empty() {
                let Ok(step) = decoder.step(&self.wire.down.input) else {
                    return Ok(Next::Close);
                };
                if step.consumed == 0 {
                    break;
                }
                self.wire.down.input.advance(step.consumed);
                left = left.saturating_sub(step.consumed as u64);
            }
            if decoder.is_done() {
                return Ok(Next::Again);
            }
            if left == 0 || self.wire.down.eof {
                return Ok(Next::Close);
            }
            match self
                .wire
                .pump(
                    Reading {
                        downstream: true,
                        upstream: false,
                    },
                    until,
                )
                .await
            {
                Ok(Pumped::Progress) => {}
                Ok(Pumped::TimedOut) => return Ok(Next::Close),
                Err(broken) if broken.side == Side::Upstream => self.wire.up = None,
                Err(broken) => return Err(ProtocolError::Downstream(broken.error)),
            }
        }
    }
}
