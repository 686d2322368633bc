//! The function call: a message without SQL.

use bytes::Bytes;

use super::{
    super::frame::{Fault, HEADER, Reader},
    Session,
    expect::Expect,
    hold::Sent,
    plan::Proposal,
    running::Running,
};
use crate::protocol::ProtocolError;

impl Session<'_> {
    /// A call by OID, without SQL: what the function does nobody here can say.
    pub(super) async fn function_call(&mut self, message: &Bytes) -> Result<(), ProtocolError> {
        self.release(None).await?;
        if self.discarding {
            return Ok(());
        }
        let Ok(oid) = Reader::new(&message[HEADER..]).u32() else {
            return Err(self.cannot_carry(Fault::Fields).await);
        };
        let Proposal { plan, operation } = self.propose_call(oid);
        let permit = match self.decide(vec![operation], Sent::bytes(message)).await? {
            Ok(mut permits) => permits.pop(),
            Err(said) => return self.refuse_query(said),
        };
        // One was asked for.
        let Some(permit) = permit else { return Ok(()) };
        let mut running = Running::new(permit, plan, None);
        running.went_up(message.len() as u64);
        // It may do anything to the session.
        (self.barrier, self.changed, self.unsure) = (true, true, true);
        self.forward(message);
        self.expected.push(Expect::Function(Box::new(running)));
        Ok(())
    }
}
