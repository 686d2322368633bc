//! The request body's way up: framing checked, bytes passed on as they came, a masked copy recorded.

use std::sync::Arc;

use bytes::Buf as _;

use super::{
    body::BodyDecoder,
    encoding::Coding,
    fault::Fault,
    forward::{Failure, HIGH},
    lines,
    mask::{MaskedBody, is_binary},
    request::Request,
};
use crate::{
    gate::{Gate, Permit},
    mask::MaskRules,
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
    scratch: Vec<u8>,
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
                coding => copy = Some(MaskedBody::new(gate.mask(), classes, content_type, coding, false)),
            }
        }
        Ok(Self {
            decoder: BodyDecoder::new(request.framing),
            encoded: copy.is_some() && request.encoding == Coding::Gzip,
            copy,
            scratch: Vec::new(),
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
            up.output.extend_from_slice(&down.input[..step.consumed]);
            if !step.data.is_empty() {
                let data = &down.input[step.data.clone()];
                match &mut self.copy {
                    None => permit.record(Direction::Up, data).await?,
                    Some(copy) => {
                        self.scratch.clear();
                        copy.push(data, &mut self.scratch).map_err(Failure::Request)?;
                        permit.record(Direction::Up, &self.scratch).await?;
                    }
                }
            }
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
