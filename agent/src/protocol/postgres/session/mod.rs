//! A connection after its login: what the workload sends is understood, decided and recorded before it goes up; what
//! the server answers is masked and recorded as it passes.
//!
//! One task moves both directions. `requests` takes what the workload sent, `answers` what the server said, and
//! `expect` keeps which answer belongs to what. The server's state is never guessed: what is denied inside a
//! transaction makes the server's transaction fail, too, so that both sides have the same idea of it.

mod answers;
mod bound;
mod call;
mod copy;
mod expect;
mod extended;
mod hold;
mod lookup;
mod names;
pub(super) mod notices;
mod own;
mod plan;
mod requests;
mod running;
mod secrets;
mod simple;
#[cfg(test)]
mod tests;
mod understand;
mod unsettled;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

pub use self::{bound::bound, understand::Understanding};
use self::{
    expect::Expected,
    extended::Held,
    names::{Names, Portal, Prepared},
    own::Answers,
    running::Plan,
};
use super::{catalog::Catalog, deny, frame::Fault, login::Established, sql::Act, startup::Replication};
use crate::{
    drain::Raised,
    gate::Gate,
    mask::Scrubber,
    model::{Reason, Resource, Side},
    protocol::{
        ProtocolError, tcp,
        wire::{Broken, Pumped, Reading, Wire},
    },
};

/// Bytes kept for a side that does not read; beyond it nothing more is read from the other.
const ROOM: usize = 256 * 1024;

/// How many times the longest statement all prepared statements of a connection may be.
const PREPARED: usize = 4;

/// The state of a transaction, as ReadyForQuery says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transaction {
    Idle,
    Active,
    Failed,
}

impl Transaction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Active => "active",
            Self::Failed => "failed",
        }
    }
}

/// One connection's state.
struct Session<'a> {
    wire: &'a mut Wire,
    gate: &'a Gate,
    established: Established,
    understanding: &'a Understanding,
    /// What every operation is asked of.
    resource: Resource,
    catalog: Catalog,
    /// Counts how often names may have come to mean something else.
    epoch: u64,
    /// The same for the whole database, by all connections, and what it was when it was last looked at.
    database_epoch: (Arc<AtomicU64>, u64),
    expected: Expected,
    statements: Names<Prepared>,
    portals: Names<Portal>,
    /// Messages of the extended protocol that wait for what makes them an operation.
    held: Vec<Held>,
    held_bytes: usize,
    transaction: Transaction,
    /// How often the server has said that it is ready.
    ends_seen: u64,
    /// Messages went up since the last Sync.
    batch_open: bool,
    /// After an error in the extended protocol everything up to Sync is dropped.
    discarding: bool,
    /// What follows may mean something else once everything so far is answered.
    barrier: bool,
    /// The server was asked to answer at once, for the barrier.
    flushed: bool,
    answers_to_own: Answers,
    /// Something in this transaction has changed what names mean, so that its end may change it back.
    changed: bool,
    /// It has changed definitions, or run code that may have.
    defined: bool,
    /// The workload has said that it ends.
    terminated: bool,
    /// DISCARD ALL has taken the connection back to the role that it logged in as.
    role_is_lost: bool,
    /// `standard_conforming_strings` is off: a backslash in a string means something else than our parser thinks.
    escapes: bool,
    /// A statement may have changed such a setting, and the server says so only when it is ready again.
    unsure: bool,
    stopping: Raised,
    /// Looks for secrets in use in what is copied in.
    copied: Scrubber,
}

/// Carries a connection from its first ReadyForQuery to its end.
pub(super) async fn serve(
    established: Established,
    wire: &mut Wire,
    gate: &Gate,
    understanding: &Understanding,
) -> Result<(), ProtocolError> {
    if established.replication != Replication::No {
        // Who may replicate may see everything: that was decided with the login, and nothing of it is read here.
        return tcp::relay(wire, established.permit, gate.limits().session_timeout).await;
    }
    let parameter = |name: &str| established.parameters.get(name).map(|v| &**v);
    let escapes = parameter("standard_conforming_strings").is_some_and(|v| v != "on");
    let resource = established.target.resource();
    let database_epoch = understanding.epoch(&resource.id);
    let seen = database_epoch.load(Ordering::Acquire);
    let database_epoch = (database_epoch, seen);
    let mut session = Session {
        wire,
        gate,
        established,
        understanding,
        resource,
        catalog: Catalog::new(std::time::Instant::now()),
        epoch: 0,
        database_epoch,
        expected: Expected::default(),
        statements: Names::new(PREPARED * gate.limits().statement_bytes),
        portals: Names::new(2 * gate.limits().message_bytes),
        held: Vec::new(),
        held_bytes: 0,
        transaction: Transaction::Idle,
        ends_seen: 0,
        batch_open: false,
        discarding: false,
        barrier: false,
        flushed: false,
        answers_to_own: Answers::default(),
        changed: false,
        defined: false,
        terminated: false,
        role_is_lost: false,
        escapes,
        unsure: false,
        stopping: gate.stopping(),
        copied: Scrubber::new(gate.secrets()),
    };
    let result = session.run().await;
    session.leave_the_server().await;
    let reason = result
        .as_ref()
        .map_or_else(ProtocolError::reason, |()| Reason::Completed);
    let finished = session.established.permit.finish(reason, "").await;
    result.and(finished.map_err(ProtocolError::from))
}

impl Session<'_> {
    async fn run(&mut self) -> Result<(), ProtocolError> {
        loop {
            self.answers().await?;
            self.requests().await?;
            if self.is_over() {
                return Ok(());
            }
            if self.lost_the_server() {
                return Err(self.upstream_gone().await);
            }
            self.pump(true).await?;
        }
    }

    /// Moves bytes until something has happened. With `requests` the workload is read, too.
    async fn pump(&mut self, requests: bool) -> Result<(), ProtocolError> {
        let busy = !self.expected.is_empty() || self.batch_open || !self.held.is_empty();
        let backlog =
            !self.wire.down.is_flushed() || self.wire.up.as_ref().is_some_and(|up| !up.is_flushed());
        let limits = self.gate.limits();
        // A statement may run as long as it likes, and a pool may keep a connection for hours; but a peer that does
        // not take what it is sent is waited for no longer than anywhere else.
        let patience = if backlog {
            limits.idle_timeout
        } else {
            limits.session_timeout
        };
        let reading = Reading {
            downstream: requests && self.wants_requests() && self.lacks_requests(),
            upstream: self.wire.down.output.len() < ROOM,
        };
        let until = Instant::now() + patience;
        let pumped = tokio::select! {
            biased;
            () = &mut self.stopping, if !busy => return Err(self.say_fatal(Reason::Draining).await),
            pumped = self.wire.pump(reading, until) => pumped,
        };
        match pumped {
            Ok(Pumped::Progress) => Ok(()),
            Ok(Pumped::TimedOut) if backlog || busy => Err(ProtocolError::Timeout),
            Ok(Pumped::TimedOut) => Err(self.say_fatal(Reason::Timeout).await),
            Err(Broken {
                side: Side::Upstream, ..
            }) => Err(self.upstream_gone().await),
            Err(Broken { error, .. }) => Err(ProtocolError::Downstream(error)),
        }
    }

    /// Waits for the server's next words, without taking anything more from the workload.
    async fn wait_for_server(&mut self) -> Result<(), ProtocolError> {
        self.pump(false).await?;
        self.answers().await?;
        if self.lost_the_server() {
            return Err(self.upstream_gone().await);
        }
        Ok(())
    }

    /// Waits until everything that went up is answered.
    async fn settle(&mut self) -> Result<(), ProtocolError> {
        if !self.expected.is_empty() && self.batch_open {
            self.flush_server();
        }
        while !self.expected.is_empty() {
            self.wait_for_server().await?;
        }
        Ok(())
    }

    /// Asks the server to send what it has answered so far.
    fn flush_server(&mut self) {
        if let Some(up) = &mut self.wire.up {
            super::frame::write(&mut up.output, b'H', |_| {});
        }
    }

    fn wants_requests(&self) -> bool {
        !self.terminated && self.wire.up.as_ref().is_some_and(|up| up.output.len() < ROOM)
    }

    /// Whether more has to be read of the workload: not while a whole message waits for its turn.
    fn lacks_requests(&self) -> bool {
        let input = &self.wire.down.input;
        // A length that cannot be is found out when its turn comes.
        match super::frame::head(input, usize::MAX) {
            Ok(Some((_, whole))) => input.len() < whole,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Whether the server is gone and still owes an answer.
    fn lost_the_server(&self) -> bool {
        self.wire.up.as_ref().is_some_and(|up| up.eof)
            && self.has_room()
            && !self.terminated
            && !self.expected.is_empty()
    }

    /// Whether nothing more can come of the connection.
    fn is_over(&mut self) -> bool {
        // A COPY whose data ends without a word has no end: the server would wait for as long as we do.
        let cut_off = self.copy_in() == copy::CopyIn::Open;
        let Some(up) = &self.wire.up else { return true };
        let sent = up.is_flushed();
        if self.terminated {
            return sent && (self.expected.is_empty() || up.eof);
        }
        if up.eof {
            return self.expected.is_empty() && self.held.is_empty() && self.wire.down.is_flushed();
        }
        // A workload that sends no more may still wait for what it asked.
        self.wire.down.eof
            && self.wire.down.input.is_empty()
            && (cut_off || !self.expected.awaits_end())
            && self.wire.down.is_flushed()
    }

    /// What is said when the server has gone without a word of its own.
    async fn upstream_gone(&mut self) -> ProtocolError {
        // It may have said why, in a last message that was not looked at yet.
        let _ = self.answers().await;
        let mut out = bytes::BytesMut::new();
        deny::Error {
            severity: deny::Severity::Fatal,
            code: "08006",
            message: "the database closed the connection",
            detail: Some("reason=upstream_unreachable"),
            hint: Some(Reason::UpstreamUnreachable.guidance()),
        }
        .write(&mut out);
        self.wire.down.output.extend_from_slice(&out);
        ProtocolError::Upstream(std::io::ErrorKind::ConnectionAborted.into())
    }

    /// The server broke the protocol: nothing that follows can be trusted.
    fn upstream_broke(&mut self, fault: Fault) -> ProtocolError {
        tracing::debug!("the server: {fault}");
        deny::Error {
            severity: deny::Severity::Fatal,
            code: "08P01",
            message: &format!("the database's answer cannot be carried: {fault}"),
            detail: Some("reason=upstream_protocol_error"),
            hint: Some(Reason::UpstreamProtocolError.guidance()),
        }
        .write(&mut self.wire.down.output);
        ProtocolError::Cut(match fault {
            Fault::TooLarge { .. } => Reason::TooLarge,
            _ => Reason::UpstreamProtocolError,
        })
    }

    /// The end, in words that the workload's library understands.
    async fn say_fatal(&mut self, reason: Reason) -> ProtocolError {
        deny::Error {
            severity: deny::Severity::Fatal,
            code: deny::code_of(reason),
            message: &format!("Portcullis ends this connection: {reason}"),
            detail: None,
            hint: Some(reason.guidance()),
        }
        .write(&mut self.wire.down.output);
        ProtocolError::Refused(reason)
    }

    /// A server that is left behind is told, so that it does not wait for a peer that is gone.
    async fn leave_the_server(&mut self) {
        if let Some(up) = &mut self.wire.up
            && !self.terminated
            && !up.deaf
            && up.is_flushed()
        {
            super::frame::write(&mut up.output, b'X', |_| {});
            let _ = self
                .wire
                .pump(Reading::default(), Instant::now() + Duration::from_millis(100))
                .await;
        }
    }

    fn set_transaction(&mut self, body: &[u8]) -> Result<(), ProtocolError> {
        self.transaction = match body {
            b"I" => Transaction::Idle,
            b"T" => Transaction::Active,
            b"E" => Transaction::Failed,
            _ => return Err(self.upstream_broke(Fault::Fields)),
        };
        self.ends_seen += 1;
        self.unsure = false;
        if self.transaction == Transaction::Idle {
            // An error has undone what was changed.
            if std::mem::take(&mut self.changed) {
                self.forget_names();
            }
            // What a transaction has defined is seen by others only from its end on.
            if std::mem::take(&mut self.defined) {
                self.database_epoch.0.fetch_add(1, Ordering::AcqRel);
            }
            // Portals end with their transaction, but for cursors WITH HOLD, and for those of messages that the server
            // has not come to yet.
            let seen = self.ends_seen;
            self.portals
                .retain(|p| p.holds || p.born.load(Ordering::Relaxed) >= seen);
        }
        Ok(())
    }

    /// Text that may be shown nowhere but to the workload, as bytes for its side.
    fn say(&mut self, bytes: &Bytes) {
        self.wire.down.output.extend_from_slice(bytes);
    }

    /// Whether names may mean something else after a statement.
    fn may_change_names(&self, plan: &Plan) -> bool {
        let Some(statement) = &plan.statement else {
            return false;
        };
        if statement.act.ends_transaction() {
            return self.changed;
        }
        statement.act.changes_session()
            || statement.facts.changes_settings()
            || !plan.resolved.incomplete.is_empty()
    }

    /// A statement goes up: whether what follows has to wait for its answer.
    fn sends(&mut self, plan: &Plan) {
        let Some(statement) = &plan.statement else {
            return;
        };
        // In a pipeline it may not be known yet that the transaction has changed something.
        let changes = self.may_change_names(plan);
        self.changed |= changes;
        self.defined |= matches!(statement.act, Act::Ddl | Act::Code | Act::Indirect);
        self.unsure |= changes;
        self.barrier |= changes
            || matches!(
                statement.act,
                Act::CopyIn
                    | Act::Prepare { .. }
                    | Act::Deallocate { .. }
                    | Act::Declare { .. }
                    | Act::Close { .. }
                    | Act::Discard(_)
            );
    }

    /// Names may mean something else from here on.
    fn forget_names(&mut self) {
        self.catalog.forget();
        self.epoch += 1;
    }

    /// Forgets what another connection may have changed.
    fn follow_database(&mut self) {
        let now = self.database_epoch.0.load(Ordering::Acquire);
        if now != self.database_epoch.1 {
            self.database_epoch.1 = now;
            self.forget_names();
        }
    }

    /// Whether the answers that wait for the workload leave room for more.
    fn has_room(&self) -> bool {
        self.wire.down.output.len() < ROOM
    }

    fn rules(&self) -> Arc<crate::mask::MaskRules> {
        Arc::clone(self.gate.mask())
    }
}
