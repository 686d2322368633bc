//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! Parse and Bind wait here until Execute makes them an operation, or until Sync or Flush asks for their answers: a
//! statement and its parameters are one thing to decide. Nothing is answered before Sync or Flush, so that waiting is
//! not seen. What goes up without an Execute is an operation of its own, of phase `prepare`.

use std::sync::{Arc, Mutex, OnceLock, atomic::Ordering};

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    super::{
        catalog::FIRST_USER_OID,
        deny,
        frame::{Fault, HEADER, Message, Reader, message, put_cstr, write},
        operation::Phase,
        record::parameter_types,
        sql::{Name, Statement},
        value::{self, Scope},
    },
    Session, Transaction,
    bound::{Bound, bound, has_parameters},
    copy::CopyIn,
    expect::Expect,
    lookup::Known,
    names::{Closed, Portal, Prepared, Undo},
    plan::{Proposal, refers, refusal},
    running::{Plan, Running},
};
use crate::{
    gate::Permit,
    mask::Counts,
    model::{Direction, Reason},
    protocol::ProtocolError,
};

/// A message that waits, and what it defines.
pub(super) struct Held {
    message: Bytes,
    what: What,
}

enum What {
    Parse(Undo<Prepared>, Arc<Prepared>),
    Bind(Undo<Portal>, Arc<Portal>),
    DescribeStatement(Arc<Prepared>),
    DescribePortal(Arc<Portal>),
    Close(Closed),
}

impl Session<'_> {
    pub(super) async fn extended(&mut self, tag: u8, bytes: Bytes) -> Result<(), ProtocolError> {
        if self.held_bytes + bytes.len() > self.gate.limits().message_bytes {
            // More than one batch may hold back: as if Flush had come.
            self.release(None).await?;
            if self.discarding {
                return Ok(());
            }
        }
        let read = match tag {
            b'P' => self.parse(bytes).await,
            b'B' => self.bind(bytes).await,
            b'D' => self.describe_message(bytes).await,
            b'E' => self.execute(bytes).await,
            _ => self.close(bytes).await,
        };
        match read {
            Ok(()) => Ok(()),
            Err(Stop::Fault(fault)) => Err(self.cannot_carry(fault).await),
            Err(Stop::End(error)) => Err(error),
        }
    }

    async fn parse(&mut self, bytes: Bytes) -> Result<(), Stop> {
        let mut r = Reader::new(&bytes[HEADER..]);
        let name = r.cstr()?;
        let text = match r.text() {
            Err(Fault::Text) => {
                let why = "the statement is not valid UTF-8, so nobody can say what it means";
                return Ok(self
                    .refuse_batch_text("22021", why, Reason::ProtocolAmbiguous)
                    .await?);
            }
            read => read?,
        };
        let types = parameter_types(r.rest())?;
        if let Some(why) = self.misleading(text) {
            return Ok(self
                .refuse_batch_text("42601", why, Reason::ProtocolAmbiguous)
                .await?);
        }
        let statements = match self.understanding.of(text).await {
            Ok(statements) => statements,
            Err(why) => {
                let said = self.not_understood(&why).await;
                self.refuse_batch(said.freeze()).await?;
                return Ok(());
            }
        };
        if statements.len() > 1 {
            let why = "cannot insert multiple commands into a prepared statement";
            return Ok(self
                .refuse_batch_text("42601", why, Reason::ProtocolError)
                .await?);
        }
        let prepared = Arc::new(Prepared {
            text: text.into(),
            statement: statements.first().map(|s| typed(s, &types)),
            kept: super::plan::Keep::default(),
            declared: types,
            parameters: OnceLock::new(),
            columns: OnceLock::new(),
            masker: Mutex::default(),
            born: Some(self.expected.ends()),
        });
        let Some(undo) = self.statements.define(name, Arc::clone(&prepared)) else {
            let why = "too many prepared statements on one connection";
            return Ok(self.refuse_batch_text("54000", why, Reason::TooLarge).await?);
        };
        self.hold(bytes.clone(), What::Parse(undo, prepared));
        Ok(())
    }

    async fn bind(&mut self, bytes: Bytes) -> Result<(), Stop> {
        let Bound {
            portal,
            statement,
            formats,
        } = bound(&bytes[HEADER..])?;
        self.await_definition(self.statements.get(statement).and_then(|s| s.born))
            .await?;
        if self.discarding {
            return Ok(());
        }
        let Some(statement) = self.statements.get(statement).cloned() else {
            let why = "prepared statement does not exist";
            return Ok(self
                .refuse_batch_text("26000", why, Reason::ProtocolError)
                .await?);
        };
        let new = Arc::new(Portal {
            statement,
            formats,
            bind: bytes.clone(),
            holds: false,
            born: u64::MAX.into(),
            opened: OnceLock::new(),
        });
        let Some(undo) = self.portals.define(portal, Arc::clone(&new)) else {
            let why = "too many portals on one connection";
            return Ok(self.refuse_batch_text("54000", why, Reason::TooLarge).await?);
        };
        self.hold(bytes.clone(), What::Bind(undo, new));
        Ok(())
    }

    async fn describe_message(&mut self, bytes: Bytes) -> Result<(), Stop> {
        let mut r = Reader::new(&bytes[HEADER..]);
        let (kind, name) = (r.u8()?, r.cstr()?);
        r.end()?;
        let born = match kind {
            b'S' => self.statements.get(name).and_then(|s| s.born),
            _ => self.portals.get(name).map(|p| p.born.load(Ordering::Relaxed)),
        };
        self.await_definition(born).await?;
        if self.discarding {
            return Ok(());
        }
        let what = match kind {
            b'S' => self.statements.get(name).cloned().map(What::DescribeStatement),
            b'P' => self.portals.get(name).cloned().map(What::DescribePortal),
            _ => return Err(Fault::Fields.into()),
        };
        let Some(what) = what else {
            let (code, why) = if kind == b'S' {
                ("26000", "prepared statement does not exist")
            } else {
                ("34000", "portal does not exist")
            };
            return Ok(self.refuse_batch_text(code, why, Reason::ProtocolError).await?);
        };
        self.hold(bytes.clone(), what);
        Ok(())
    }

    async fn close(&mut self, bytes: Bytes) -> Result<(), Stop> {
        let mut r = Reader::new(&bytes[HEADER..]);
        let (kind, name) = (r.u8()?, r.cstr()?);
        r.end()?;
        let closed = match kind {
            b'S' => Closed::Statement(self.statements.take(name)),
            b'P' => Closed::Portal(self.portals.take(name)),
            _ => return Err(Fault::Fields.into()),
        };
        self.hold(bytes.clone(), What::Close(closed));
        Ok(())
    }

    async fn execute(&mut self, bytes: Bytes) -> Result<(), Stop> {
        let mut r = Reader::new(&bytes[HEADER..]);
        let (name, _rows) = (r.cstr()?, r.i32()?);
        r.end()?;
        self.await_definition(self.portals.get(name).map(|p| p.born.load(Ordering::Relaxed)))
            .await?;
        if self.discarding {
            return Ok(());
        }
        let Some(portal) = self.portals.get(name).cloned() else {
            let why = "portal does not exist";
            return Ok(self
                .refuse_batch_text("34000", why, Reason::ProtocolError)
                .await?);
        };
        self.release(Some((portal, bytes.clone()))).await?;
        Ok(())
    }

    /// What was defined in an earlier batch counts only once the server has been through that batch: had something in it
    /// failed before the definition, the name would still stand for what it stood for before.
    async fn await_definition(&mut self, born: Option<u64>) -> Result<(), ProtocolError> {
        let earlier = born.is_some_and(|born| born < self.expected.ends() && self.ends_seen <= born);
        // What takes COPY data waits for the workload, not for the server.
        if earlier && self.copy_in() == CopyIn::No {
            self.settle().await?;
        }
        Ok(())
    }

    fn hold(&mut self, message: Bytes, what: What) {
        self.held_bytes += message.len();
        self.held.push(Held { message, what });
    }

    pub(super) fn undo_held(&mut self, held: Held) {
        match held.what {
            What::Parse(undo, _) => self.statements.undo(undo),
            What::Bind(undo, _) => self.portals.undo(undo),
            What::Close(closed) => self.reopen(closed),
            What::DescribeStatement(_) | What::DescribePortal(_) => {}
        }
    }

    pub(super) fn reopen(&mut self, closed: Closed) {
        match closed {
            Closed::Statement(taken) => self.statements.give_back(taken),
            Closed::Portal(taken) => self.portals.give_back(taken),
        }
    }

    /// Decides what is held, with the Execute that ends it where there is one, and sends it up: all of it or nothing.
    pub(super) async fn release(
        &mut self,
        execute: Option<(Arc<Portal>, Bytes)>,
    ) -> Result<(), ProtocolError> {
        let mut proposals = Vec::new();
        let uncovered = self.uncovered(execute.as_ref().map(|(portal, _)| portal));
        if uncovered.is_empty() && execute.is_none() && self.held.is_empty() {
            return Ok(());
        }
        for prepared in &uncovered {
            proposals.push(self.checked(prepared, None).await?);
        }
        if let Some((portal, _)) = &execute {
            proposals.push(self.checked(&portal.statement, Some(portal)).await?);
        }
        if self.discarding {
            // The server is skipping to the next Sync: so is what was held.
            self.forget_held();
            return Ok(());
        }
        let mut plans = Vec::with_capacity(proposals.len());
        let mut operations = Vec::with_capacity(proposals.len());
        for proposal in proposals {
            match proposal {
                Ok(Proposal { plan, operation }) => {
                    plans.push(plan);
                    operations.push(operation);
                }
                Err(said) => return self.refuse_batch(said).await,
            }
        }
        let sent = self.sent(&uncovered, execute.as_ref().zip(plans.last()));
        let permits = match self.decide(operations, sent).await? {
            Ok(permits) => permits,
            Err(said) => {
                return self.refuse_batch(said).await;
            }
        };
        let mut decided: Vec<_> = plans.into_iter().zip(permits).collect();
        self.describe_copies(&mut decided).await?;
        if self.discarding {
            // What came before it in the batch, or the question itself, has failed.
            self.forget_held();
            return not_run(decided).await;
        }
        let mut decided = decided.into_iter();
        for (_, permit) in decided.by_ref().take(uncovered.len()) {
            permit.finish(Reason::Completed, "prepared").await?;
        }
        let bytes = self.send_held();
        if let (Some((portal, message)), Some((plan, permit))) = (execute, decided.next()) {
            let running = Running::new(permit, plan, Some(Arc::clone(&portal)));
            self.send_execute(portal, &message, running, bytes).await?;
        }
        Ok(())
    }

    /// Statements that are held and that the Execute does not run.
    fn uncovered(&self, executed: Option<&Arc<Portal>>) -> Vec<Arc<Prepared>> {
        let mut uncovered: Vec<Arc<Prepared>> = Vec::new();
        for held in &self.held {
            let prepared = match &held.what {
                What::Parse(_, prepared) => prepared,
                What::Bind(_, portal) => &portal.statement,
                _ => continue,
            };
            let covered = executed.is_some_and(|portal| match &held.what {
                What::Parse(_, prepared) => Arc::ptr_eq(prepared, &portal.statement),
                What::Bind(_, bound) => Arc::ptr_eq(bound, portal),
                _ => false,
            });
            if !covered && !uncovered.iter().any(|u| Arc::ptr_eq(u, prepared)) {
                uncovered.push(Arc::clone(prepared));
            }
        }
        uncovered
    }

    /// A proposal, or the error for a statement that is refused before policy is asked.
    async fn checked(
        &mut self,
        prepared: &Arc<Prepared>,
        executed: Option<&Portal>,
    ) -> Result<Result<Proposal, Bytes>, ProtocolError> {
        if let Some(why) = prepared.statement.as_deref().and_then(|s| self.out_of_bounds(s)) {
            let denied = self.refuse_text(Reason::ProtocolAmbiguous).await;
            return Ok(Err(refusal("0A000", why, &denied).freeze()));
        }
        let proposed = match executed {
            Some(portal) => self.propose_portal(portal).await,
            None => self.propose_prepared(prepared, Phase::Prepare).await,
        };
        proposed.map(Ok)
    }

    /// Sends what is held; how many bytes that was. A statement that the workload does not ask about is asked about by
    /// us: without its columns no row of it could be masked.
    fn send_held(&mut self) -> u64 {
        let held = std::mem::take(&mut self.held);
        self.held_bytes = 0;
        let asked: Vec<bool> = (0..held.len()).map(|at| asks_later(&held[at..])).collect();
        let mut bytes = 0;
        for (Held { message, what }, asked) in held.into_iter().zip(asked) {
            bytes += message.len() as u64;
            self.forward(&message);
            self.batch_open = true;
            match what {
                What::Parse(undo, statement) => {
                    // What the name means from here on is known only when the server has taken it.
                    self.barrier |= undo.before.is_some() && !undo.name.is_empty();
                    let ours = (!asked && statement.may_have_rows()).then(|| undo.name.clone());
                    self.expected.push(Expect::Parse(undo));
                    if let (Some(name), Some(up)) = (ours, &mut self.wire.up) {
                        write(&mut up.output, b'D', |out| {
                            out.put_u8(b'S');
                            put_cstr(out, &name);
                        });
                        self.expected
                            .push(Expect::DescribeStatement { statement, own: true });
                    }
                }
                What::Bind(undo, portal) => {
                    portal.born.store(self.expected.ends(), Ordering::Relaxed);
                    portal.open();
                    self.expected.push(Expect::Bind(undo));
                }
                What::DescribeStatement(statement) => {
                    self.expected.push(Expect::DescribeStatement {
                        statement,
                        own: false,
                    });
                }
                What::DescribePortal(portal) => self.expected.push(Expect::DescribePortal(portal)),
                What::Close(closed) => self.expected.push(Expect::Close(closed)),
            }
        }
        bytes
    }

    async fn send_execute(
        &mut self,
        portal: Arc<Portal>,
        message: &Bytes,
        mut running: Running,
        held_bytes: u64,
    ) -> Result<(), ProtocolError> {
        running.went_up(held_bytes + message.len() as u64);
        self.record_parameters(&portal, &mut running).await?;
        self.sends(&running.plan);
        if portal.statement.statement.as_deref().is_some_and(refers) {
            // What it runs was found by name just now. By that name there may be something else when it goes on.
            self.portals.retain(|p| !std::ptr::eq(p, &*portal));
        }
        self.forward(message);
        self.batch_open = true;
        self.expected.push(Expect::Execute(Box::new(running)));
        Ok(())
    }

    /// The parameters of what is executed, masked, as a Bind message.
    async fn record_parameters(
        &mut self,
        portal: &Portal,
        running: &mut Running,
    ) -> Result<(), ProtocolError> {
        let Some(Message { body, .. }) = message(&portal.bind, usize::MAX).unwrap_or(None) else {
            return Ok(());
        };
        if !has_parameters(body) {
            return Ok(());
        }
        let rules = self.rules();
        let known = Known {
            catalog: &self.catalog,
            rules: &rules,
        };
        let scope = Scope {
            rules: &rules,
            classes: running.mask(),
            types: &known,
        };
        let types = portal
            .statement
            .parameters
            .get()
            .unwrap_or(&portal.statement.declared);
        let mut counts = Counts::default();
        let mut out = BytesMut::new();
        // As a Parse without its text, which the entry has: without types nobody could read binary parameters.
        if let Ok(bound) = bound(body) {
            write(&mut out, b'P', |out| {
                put_cstr(out, bound.statement);
                put_cstr(out, b"");
                out.put_u16(u16::try_from(types.len()).unwrap_or(0));
                types.iter().for_each(|oid| out.put_u32(*oid));
            });
        }
        // A Bind was read when it came, so that it can be read now.
        let written = value::bind(
            scope,
            running.parameter_treatment(),
            body,
            types,
            &mut counts,
            &mut out,
        );
        if written.is_ok() {
            running.record(Direction::Up, &out).await?;
            running.add_masked(&counts);
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self, message: &Bytes) -> Result<(), ProtocolError> {
        self.release(None).await?;
        if !self.discarding {
            self.forward(message);
        }
        Ok(())
    }

    pub(super) async fn sync(&mut self, message: &Bytes) -> Result<(), ProtocolError> {
        if self.copy_in() == super::copy::CopyIn::Open {
            // The server ignores it while it takes data.
            return Ok(());
        }
        if !self.discarding {
            self.release(None).await?;
        }
        self.discarding = false;
        self.batch_open = false;
        self.forward(message);
        self.expected.push(Expect::Sync);
        Ok(())
    }

    /// Refuses the batch in hand with an error of ours.
    pub(super) async fn refuse_batch_text(
        &mut self,
        code: &'static str,
        why: &str,
        reason: Reason,
    ) -> Result<(), ProtocolError> {
        let denied = self.refuse_text(reason).await;
        self.refuse_batch(refusal(code, why, &denied).freeze()).await
    }

    /// Nothing of what is held goes up, and what follows is dropped up to Sync. Where something of the batch or of a
    /// transaction has gone up before, the server has to fail, too: it gets a message that can only be refused.
    async fn refuse_batch(&mut self, said: Bytes) -> Result<(), ProtocolError> {
        self.forget_held();
        self.discarding = true;
        if self.expected.is_empty() && !self.batch_open && self.transaction == Transaction::Idle {
            self.say(&said);
            return Ok(());
        }
        if let Some(up) = &mut self.wire.up {
            write(&mut up.output, b'P', |out| {
                put_cstr(out, b"portcullis");
                put_cstr(out, deny::POISON);
                out.put_i16(0);
            });
        }
        self.batch_open = true;
        self.expected.push(Expect::Refused {
            say: said,
            simple: false,
        });
        Ok(())
    }
}

/// The outcome of what was permitted and is not sent after all.
pub(super) async fn not_run(decided: Vec<(Plan, Permit)>) -> Result<(), ProtocolError> {
    for (_, permit) in decided {
        permit.finish(Reason::Completed, "not run").await?;
    }
    Ok(())
}

/// A statement with the types that its Parse gives to parameters. Which those are that did not come with PostgreSQL is
/// not looked up: they may be domains, whose checks Bind runs.
fn typed(statement: &Arc<Statement>, types: &[u32]) -> Arc<Statement> {
    if types.iter().all(|oid| *oid < FIRST_USER_OID) {
        return Arc::clone(statement);
    }
    let mut typed = Statement::clone(statement);
    typed.facts.types.insert(Name::new(None, "?"));
    Arc::new(typed)
}

/// Whether a statement that is parsed first is described later in what is held.
fn asks_later(held: &[Held]) -> bool {
    let Some(Held {
        what: What::Parse(_, prepared),
        ..
    }) = held.first()
    else {
        return true;
    };
    held.iter().any(|later| match &later.what {
        What::DescribeStatement(asked) => Arc::ptr_eq(asked, prepared),
        What::DescribePortal(asked) => Arc::ptr_eq(&asked.statement, prepared),
        _ => false,
    })
}

/// Why a message is not taken.
enum Stop {
    Fault(Fault),
    End(ProtocolError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<ProtocolError> for Stop {
    fn from(error: ProtocolError) -> Self {
        Self::End(error)
    }
}
