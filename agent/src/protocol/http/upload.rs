//! The request body's way up: framing checked, bytes passed on as they came, a masked copy recorded.

use std::sync::Arc;

use bytes::{Buf as _, BytesMut};

use super::{
    aws::pieces::{self, Pieces},
    body::BodyDecoder,
    encoding::Coding,
    fault::Fault,
    forward::{Failure, HIGH},
    guard::{Guard, Stop},
    headers::Framing,
    inject::Injected,
    lines,
    mask::{MaskedBody, is_binary},
    request::Request,
};
use crate::{
    gate::{Gate, Permit},
    mask::{MaskRules, Secrets},
    model::{ClassSet, Direction},
    protocol::wire::Leg,
};

/// Encoded input decoded at a time: what a small piece can expand to stays bounded.
pub(super) const ENCODED: usize = 2 * 1024;

/// One request body.
pub(super) struct Upload {
    decoder: BodyDecoder,
    /// Masks the recorded copy; `None` when it is recorded as it is.
    copy: Option<MaskedBody>,
    encoded: bool,
    /// Looks for secrets in use, from when there are any.
    guard: Option<Guard>,
    /// Takes apart what S3 takes apart.
    pieces: Option<Pieces>,
    chunked: bool,
    gzip: bool,
    scratch: Vec<u8>,
    /// Content that has just been let through.
    passed: Vec<u8>,
    /// Any byte of it was looked at.
    taken: bool,
    trailers: Vec<u8>,
    rules: Arc<MaskRules>,
    classes: ClassSet,
    /// Any byte of it was taken.
    pub begun: bool,
    finished: bool,
}

impl Upload {
    pub(super) fn new(request: &Request, permit: &Permit, gate: &Gate) -> Result<Self, Fault> {
        let classes = permit.obligations().mask;
        let content_type = request.content_type.as_deref();
        let mut copy = None;
        if request.has_body() && !classes.is_empty() {
            match request.encoding {
                Coding::Other if is_binary(content_type) => {}
                Coding::Other => return Err(Fault::Encoding),
                coding => copy = Some(MaskedBody::new(gate, classes, content_type, coding, false)),
            }
        }
        Ok(Self {
            decoder: BodyDecoder::new(request.framing),
            encoded: copy.is_some() && request.encoding == Coding::Gzip,
            guard: None,
            pieces: (request.aws_chunked && request.has_body())
                .then(|| Pieces::new(request.encoding == Coding::Gzip)),
            chunked: request.framing == Framing::Chunked,
            gzip: request.has_body() && request.encoding == Coding::Gzip && !request.aws_chunked,
            copy,
            scratch: Vec::new(),
            passed: Vec::new(),
            taken: false,
            trailers: Vec::new(),
            rules: Arc::clone(gate.mask()),
            classes,
            begun: false,
            finished: false,
        })
    }

    /// Whether all of it went up.
    pub(super) fn is_done(&self) -> bool {
        self.finished
    }

    /// Moves what there is room for.
    pub(super) async fn advance(
        &mut self,
        down: &mut Leg,
        up: &mut Leg,
        permit: &mut Permit,
        mut injected: Option<&mut Injected>,
    ) -> Result<(), Failure> {
        while !self.decoder.is_done() && up.output.len() < HIGH && !down.input.is_empty() {
            let limit = if self.encoded { ENCODED } else { usize::MAX };
            let mut step = self.decoder.step(&down.input[..down.input.len().min(limit)]);
            if matches!(&step, Ok(s) if s.consumed == 0) {
                step = self.decoder.step(&down.input);
            }
            let step = step.map_err(Failure::Request)?;
            if step.consumed == 0 {
                break;
            }
            self.begun = true;
            let wire = &down.input[..step.consumed];
            if self.guard.is_none() && permit.secrets().is_active() {
                // At the start of a stream in gzip only: in its middle nothing can be read.
                self.guard = Some(Guard::new(permit.secrets(), self.gzip && !self.taken));
            }
            self.taken = true;
            if !step.trailers.is_empty() {
                check_trailers(
                    &wire[step.trailers.clone()],
                    permit.secrets(),
                    injected.as_deref(),
                )?;
            }
            let signer = injected.as_deref_mut().and_then(|i| i.chunks.as_mut());
            let framing = step.data.is_empty();
            self.passed.clear();
            match (&mut self.guard, &signer) {
                (None, None) => {
                    up.output.extend_from_slice(wire);
                    self.passed.extend_from_slice(&wire[step.data]);
                }
                (None, Some(_)) => self.passed.extend_from_slice(&wire[step.data]),
                (Some(guard), signer) => {
                    match (framing, signer) {
                        (false, _) => guard.content(&wire[step.data])?,
                        (true, None) => guard.framing(wire),
                        // Framed anew below.
                        (true, Some(_)) => {}
                    }
                    if self.decoder.is_done() {
                        guard.finish()?;
                    }
                    match signer {
                        None => guard.release(&mut up.output, &mut self.passed),
                        Some(_) => guard.release(&mut BytesMut::new(), &mut self.passed),
                    }
                }
            }
            if let Some(signer) = signer {
                let last = self.decoder.is_done();
                pieces::sign(signer, &self.passed, self.chunked, last, &mut up.output)?;
            }
            if let Some(pieces) = &mut self.pieces {
                pieces.open(&mut self.passed, permit.secrets(), self.decoder.is_done())?;
            }
            record(&mut self.copy, &mut self.scratch, &self.passed, permit).await?;
            self.trailers.extend_from_slice(&down.input[step.trailers]);
            down.input.advance(step.consumed);
        }
        if self.decoder.is_done() && !self.finished {
            self.finished = true;
            if let Some(copy) = &mut self.copy {
                self.scratch.clear();
                copy.finish(&mut self.scratch).map_err(Failure::Request)?;
                permit.record(Direction::Up, &self.scratch).await?;
                permit.add_masked(copy.counts());
            }
            if !self.trailers.is_empty() {
                let (_, kept) = lines::trailers(&self.rules, self.classes, &self.trailers, false, permit);
                permit.record(Direction::Up, &kept).await?;
            }
        }
        Ok(())
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Leak => Self::Leak,
            Stop::Unreadable(fault) => Self::Request(fault),
        }
    }
}

/// Records content that went up, masked.
async fn record(
    copy: &mut Option<MaskedBody>,
    scratch: &mut Vec<u8>,
    data: &[u8],
    permit: &mut Permit,
) -> Result<(), Failure> {
    if data.is_empty() {
        return Ok(());
    }
    let Some(copy) = copy else {
        return Ok(permit.record(Direction::Up, data).await?);
    };
    scratch.clear();
    copy.push(data, scratch).map_err(Failure::Request)?;
    Ok(permit.record(Direction::Up, scratch).await?)
}

/// Trailer lines that hold a secret, or that a server could take for the one that is injected.
fn check_trailers(section: &[u8], secrets: &Secrets, injected: Option<&Injected>) -> Result<(), Failure> {
    if secrets.holds(section) {
        return Err(Failure::Leak);
    }
    let Some(injected) = injected else { return Ok(()) };
    let mut names = section
        .split(|b| *b == b'\n')
        .filter_map(|line| line.split(|b| *b == b':').next())
        .filter_map(|name| std::str::from_utf8(name).ok());
    if names.any(|name| injected.drops(name)) {
        return Err(Failure::Request(Fault::TrailerName));
    }
    Ok(())
}
