//! A response's body that is passed on as it is framed, without the secrets that are in use.

use super::{
    body::Step,
    forward::Failure,
    lines,
    reply::{Mode, Reply},
};
use crate::{gate::Permit, model::Direction, protocol::wire::Leg};

impl Reply<'_> {
    /// Passes one step of the body on; `input` begins with it.
    pub(super) async fn scrub(
        &mut self,
        input: &[u8],
        step: &Step,
        down: &mut Leg,
        permit: &mut Permit,
    ) -> Result<(), Failure> {
        let Some(through) = &mut self.through else {
            return Ok(());
        };
        let framed = self.mode == Mode::Verbatim;
        let mut kept = Vec::new();
        if !step.data.is_empty() {
            // A step with content is nothing else.
            through.content(&input[step.data.clone()]);
        } else if framed && !step.trailers.is_empty() {
            let section = &input[step.trailers.clone()];
            let mut shown;
            (shown, kept) = lines::trailers(self.gate.mask(), self.classes, section, false, permit);
            if self.classes.is_empty() {
                // As it was written, but for secrets.
                shown = section.to_vec();
                permit.secrets().mask(&mut shown);
            }
            through.framing(&shown);
            through.framing(&input[step.trailers.end..step.consumed]);
        } else if framed {
            through.framing(&input[..step.consumed]);
        }
        if self.decoder.is_done() {
            through.finish();
        }
        self.pass(down, permit).await?;
        Ok(permit.record(Direction::Down, &kept).await?)
    }

    /// The body is complete.
    pub(super) async fn end_scrub(&mut self, down: &mut Leg, permit: &mut Permit) -> Result<(), Failure> {
        let Some(through) = &mut self.through else {
            return Ok(());
        };
        through.finish();
        self.pass(down, permit).await?;
        let hits = self.through.take().map_or(0, |t| t.hits());
        permit.add_injected(hits);
        Ok(())
    }

    async fn pass(&mut self, down: &mut Leg, permit: &mut Permit) -> Result<(), Failure> {
        let Some(through) = &mut self.through else {
            return Ok(());
        };
        self.scratch.clear();
        through.release(&mut down.output, &mut self.scratch);
        Ok(permit.record(Direction::Down, &self.scratch).await?)
    }
}
