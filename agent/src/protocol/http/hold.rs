//! Requests that are held for approval: the body is taken in, the approvers are asked, and the workload waits for its
//! answer as it would for a slow destination.
//!
//! Nothing is said in between. An interim response (RFC 9110 section 15.2) would be the place, but `102` and `103` end
//! in an error in clients that are in wide use, and a client that cares about time sets one. `100 Continue` is sent
//! where it was asked for, because the body is part of what is approved.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Buf as _;
use tokio::time::Instant;

use super::{
    forward::HIGH,
    gather::{Gathered, Ungathered},
    headers::{self, Known, known},
    problem,
    request::Request,
    serve::{Connection, Next},
};
use crate::{
    approval::Payload,
    config::Upstream,
    gate::{Denied, Held, Permit, Waiting},
    model::Side,
    protocol::{ProtocolError, wire::Reading},
};

/// How long a wait is at most before it is looked at again; approvals have deadlines of their own.
const LOOK: Duration = Duration::from_secs(3600);

/// Fields that differ from one attempt to the next and mean nothing else.
const PASSING: &[&str] = &[
    "date",
    "traceparent",
    "tracestate",
    "x-request-id",
    "x-amzn-trace-id",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
];

impl Connection<'_> {
    /// Asks the approvers, and carries the request once they have said yes.
    pub(super) async fn hold(
        &mut self,
        held: Held,
        upstream: Option<&Upstream>,
    ) -> Result<Next, ProtocolError> {
        let gathered = match self.gather(self.gate.payload_bytes()).await {
            Ok(gathered) => gathered,
            Err(why) => return self.not_gathered(held, why).await,
        };
        let payload = payload(&self.request, upstream, &gathered);
        let answer = match self.gate.request(held, payload).await {
            Ok(waiting) => self.wait(waiting, gathered.wire).await?,
            Err(denied) => Err(denied),
        };
        match answer {
            Ok(permit) => self.forward(permit, upstream).await,
            Err(denied) => {
                // The body lies here: the connection stays usable.
                self.wire.down.input.advance(gathered.wire);
                let status = problem::status_of(denied.reason);
                self.answer(&denied, status, problem::detail_of(&denied), true, true)
                    .await
            }
        }
    }

    /// Waits for the answer while the workload does. What it pipelines meanwhile stays bounded.
    async fn wait(&mut self, waiting: Waiting, body: usize) -> Result<Result<Permit, Denied>, ProtocolError> {
        let gate = self.gate;
        let mut permit = std::pin::pin!(waiting.permit(gate));
        loop {
            let reading = Reading {
                downstream: self.wire.down.input.len() < body + HIGH / 4,
                upstream: true,
            };
            let pumped = tokio::select! {
                biased;
                answer = &mut permit => return Ok(answer),
                pumped = self.wire.pump(reading, Instant::now() + LOOK) => pumped,
            };
            match pumped {
                Ok(_) => {}
                Err(broken) if broken.side == Side::Upstream => self.wire.up = None,
                Err(broken) => return Err(ProtocolError::Downstream(broken.error)),
            }
            self.forget_ended_upstream();
            if self.wire.down.eof {
                // Nobody waits for the answer; the request stays open for a retry.
                return Err(ProtocolError::Downstream(
                    std::io::ErrorKind::UnexpectedEof.into(),
                ));
            }
        }
    }

    async fn not_gathered(&mut self, held: Held, why: Ungathered) -> Result<Next, ProtocolError> {
        let reason = why.reason();
        let denied = self.gate.refuse_held(held, reason).await;
        let status = match why {
            Ungathered::Gone(error) => return Err(error),
            Ungathered::Malformed(fault) => fault.status(),
            Ungathered::Slow => 408,
            Ungathered::TooLarge(_) | Ungathered::Full | Ungathered::Leak => problem::status_of(reason),
        };
        // Part of its body is here and part of it is not.
        self.request.keep_alive = false;
        self.answer(&denied, status, &why.to_string(), false, false)
            .await?;
        Err(ProtocolError::Refused(reason))
    }
}

/// What an approval of a request is bound to, beside what policy sees.
fn payload(request: &Request, upstream: Option<&Upstream>, gathered: &Gathered) -> Payload {
    let mut digest = Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        // With its length, so that parts cannot be shifted into each other.
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    };
    for header in request.head().headers() {
        if counts(request, upstream, header.name, header.value) {
            add(header.name.to_ascii_lowercase().as_bytes());
            add(header.value);
        }
    }
    add(&gathered.digest);
    add(&gathered.trailers);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    Payload {
        digest: bytes,
        bytes: gathered.bytes,
        shown: gathered.shown.as_str().into(),
        truncated: gathered.truncated,
    }
}

/// Whether a field is part of what is asked for.
fn counts(request: &Request, upstream: Option<&Upstream>, name: &str, value: &[u8]) -> bool {
    let field = known(name);
    let framing = matches!(
        field,
        Known::ContentLength | Known::TransferEncoding | Known::Connection | Known::Expect
    );
    let is = |known: &str| known.eq_ignore_ascii_case(name);
    let replaced = upstream
        .and_then(|u| u.inject.as_ref())
        .is_some_and(|inject| super::inject::replaces(inject, name));
    !framing
        && !replaced
        && !headers::ends_here(field, name, value, request.facts())
        && !PASSING.iter().any(|p| is(p))
}
