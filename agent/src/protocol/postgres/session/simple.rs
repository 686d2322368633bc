//! The simple query: one message, answers, ReadyForQuery.
//!
//! All statements of a query string are decided before any of it goes up: one denied means that none runs.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;

use super::{
    super::{
        deny,
        frame::{Fault, HEADER, Reader, put_cstr, write},
        operation::Phase,
        sql::Statement,
    },
    Session, Transaction,
    expect::Expect,
    extended::not_run,
    hold::Sent,
    plan::{Proposal, refusal},
    running::Running,
    unsettled::Earlier,
};
use crate::{model::Reason, protocol::ProtocolError};

impl Session<'_> {
    pub(super) async fn simple(&mut self, message: &Bytes) -> Result<(), ProtocolError> {
        self.release(None).await?;
        if self.discarding {
            return Ok(());
        }
        let mut r = Reader::new(&message[HEADER..]);
        let text = match r.text().and_then(|text| r.end().map(|()| text)) {
            Ok(text) => text,
            Err(Fault::Text) => {
                let why = "the statement is not valid UTF-8, so nobody can say what it means";
                return self
                    .refuse_query_text("22021", why, Reason::ProtocolAmbiguous)
                    .await;
            }
            Err(fault) => return Err(self.cannot_carry(fault).await),
        };
        if let Some(why) = self.misleading(text) {
            return self
                .refuse_query_text("42601", why, Reason::ProtocolAmbiguous)
                .await;
        }
        let statements = match self.understanding.of(text).await {
            Ok(statements) => statements,
            Err(why) => {
                let said = self.not_understood(&why).await;
                return self.refuse_query(said.freeze());
            }
        };
        if let Some(why) = statements.iter().find_map(|s| self.out_of_bounds(s)) {
            return self
                .refuse_query_text("0A000", why, Reason::ProtocolAmbiguous)
                .await;
        }
        let proposals = self.propose_all(text, &statements).await?;
        if self.discarding {
            // Something of the batch that it stands in has failed: the server skips it.
            return Ok(());
        }
        let (plans, operations): (Vec<_>, Vec<_>) =
            proposals.into_iter().map(|p| (p.plan, p.operation)).unzip();
        let permits = match self.decide(operations, Sent::text(text)).await? {
            Ok(permits) => permits,
            Err(said) => return self.refuse_query(said),
        };
        let mut decided: Vec<_> = plans.into_iter().zip(permits).collect();
        self.describe_copies(&mut decided).await?;
        if self.discarding {
            return not_run(decided).await;
        }
        let mut running: VecDeque<Running> = decided
            .into_iter()
            .map(|(plan, permit)| Running::new(permit, plan, None))
            .collect();
        if let Some(first) = running.front_mut() {
            first.went_up(message.len() as u64);
        }
        for running in &running {
            self.sends(&running.plan);
        }
        self.forward(message);
        self.expected.push(Expect::Simple(running));
        Ok(())
    }

    /// One proposal for each statement; one for a query string without any.
    async fn propose_all(
        &mut self,
        text: &str,
        statements: &Arc<[Arc<Statement>]>,
    ) -> Result<Vec<Proposal>, ProtocolError> {
        self.begin_look_ups();
        if statements.is_empty() {
            let proposal = self.propose(None, text, Earlier::default(), Phase::Simple, 1);
            return Ok(vec![proposal.await?]);
        }
        let mut proposals = Vec::with_capacity(statements.len());
        let mut unsettled = false;
        for (at, statement) in statements.iter().enumerate() {
            let own = text.get(statement.text.clone()).unwrap_or(text);
            let proposal = self
                .propose(
                    Some(statement),
                    own,
                    Earlier {
                        statements: &statements[..at],
                        unsettled,
                    },
                    Phase::Simple,
                    statements.len(),
                )
                .await?;
            unsettled |= self.unsettles(&proposal.plan);
            proposals.push(proposal);
        }
        Ok(proposals)
    }

    pub(super) async fn refuse_query_text(
        &mut self,
        code: &'static str,
        why: &str,
        reason: Reason,
    ) -> Result<(), ProtocolError> {
        let denied = self.refuse_text(reason).await;
        self.refuse_query(refusal(code, why, &denied).freeze())
    }

    /// The error, and then ReadyForQuery in the state that the server is in.
    pub(super) fn refuse_query(&mut self, said: Bytes) -> Result<(), ProtocolError> {
        if self.expected.is_empty() && !self.batch_open && self.transaction == Transaction::Idle {
            self.say(&said);
            write(&mut self.wire.down.output, b'Z', |out| {
                out.extend_from_slice(b"I")
            });
            return Ok(());
        }
        // Inside a transaction the server has to fail as well, and its own ReadyForQuery says what state that is.
        if let Some(up) = &mut self.wire.up {
            write(&mut up.output, b'Q', |out| put_cstr(out, deny::POISON));
        }
        self.expected.push(Expect::Refused {
            say: said,
            simple: true,
        });
        Ok(())
    }
}
