//! What the server answers, message by message, in the order of what went up.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};

use super::{
    super::{
        frame::{self, Fault, HEADER},
        login::is_ascii_safe,
        record::{fields, parameter_types},
        sql::{Act, Discard},
    },
    Session,
    copy::formats,
    expect::{Expect, Own},
    lookup::Known,
    names::{Portal, Prepared},
    notices::{self, Trust},
    plan::Kept,
    running::{RowError, Running},
};
use crate::{
    mask::Counts,
    model::{ClassSet, Direction, Reason},
    protocol::ProtocolError,
};

impl Session<'_> {
    /// Passes on what the server has sent, as far as there is room.
    pub(super) async fn answers(&mut self) -> Result<(), ProtocolError> {
        while self.has_room() {
            let limit = self.gate.limits().message_bytes;
            let Some(up) = &self.wire.up else { return Ok(()) };
            let (tag, whole) = match frame::head(&up.input, limit) {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(()),
                Err(fault) => return Err(self.upstream_broke(fault)),
            };
            if up.input.len() < whole {
                return Ok(());
            }
            if matches!(tag, b'D' | b'd') && self.expected.running().is_some() {
                self.rows(tag).await?;
                continue;
            }
            let Some(up) = &mut self.wire.up else {
                return Ok(());
            };
            let mut message = up.input.split_to(whole);
            self.scrub(&mut message[HEADER..]);
            let message = message.freeze();
            self.answer(tag, &message).await?;
        }
        Ok(())
    }

    /// All whole rows, or pieces of COPY data, that are there, at once.
    async fn rows(&mut self, tag: u8) -> Result<(), ProtocolError> {
        let limit = self.gate.limits().message_bytes;
        let Some(up) = &mut self.wire.up else {
            return Ok(());
        };
        let mut end = 0;
        while let Ok(Some((next, whole))) = frame::head(&up.input[end..], limit) {
            if next != tag || up.input.len() - end < whole || end > super::ROOM {
                break;
            }
            end += whole;
        }
        let mut run = up.input.split_to(end);
        self.scrub(&mut run);
        let run = run.freeze();
        let rules = self.rules();
        let known = Known {
            catalog: &self.catalog,
            rules: &rules,
        };
        let Some(running) = self.expected.running() else {
            return Ok(());
        };
        let out = &mut self.wire.down.output;
        let passed = if tag == b'D' {
            running.rows(&run, &known, &rules, out).await
        } else {
            running.copied(&run, out).await
        };
        self.passed(passed)
    }

    fn passed(&mut self, passed: Result<(), RowError>) -> Result<(), ProtocolError> {
        match passed {
            Ok(()) => Ok(()),
            Err(RowError::Fault(fault)) => Err(self.upstream_broke(fault)),
            Err(RowError::Ledger(error)) => Err(error.into()),
        }
    }

    async fn answer(&mut self, tag: u8, message: &Bytes) -> Result<(), ProtocolError> {
        let body = &message[HEADER..];
        match tag {
            b'N' => return self.notice(b'N', body).await.map(drop),
            b'A' => return self.notification(body),
            b'S' => return self.parameter(message),
            b'E' => return self.error(body).await,
            _ => {}
        }
        let Some(front) = self.expected.pop() else {
            return Err(self.upstream_broke(Fault::Unexpected(tag)));
        };
        match (front, tag) {
            (Expect::Own(own), _) => {
                self.expected.unpop(Expect::Own(own));
                self.own_answer(own, tag, message)
            }
            (Expect::Parse(_), b'1') | (Expect::Bind(_), b'2') | (Expect::Close(_), b'3') => {
                self.say(message);
                Ok(())
            }
            (Expect::DescribeStatement { statement, own }, b't' | b'T' | b'n') => {
                self.statement_described(&statement, own, tag, message)?;
                if tag == b't' {
                    self.expected.unpop(Expect::DescribeStatement { statement, own });
                }
                Ok(())
            }
            (Expect::DescribePortal(portal), b'T' | b'n') => self.portal_described(&portal, tag, message),
            (Expect::Sync, b'Z') => {
                self.set_transaction(body)?;
                self.say(message);
                Ok(())
            }
            (Expect::Execute(running), _) => self.executed(running, tag, message).await,
            (Expect::Simple(running), b'Z') => {
                for left in running {
                    left.finish(Reason::Completed, "not run").await?;
                }
                self.set_transaction(body)?;
                self.say(message);
                Ok(())
            }
            (Expect::Simple(running), _) => {
                self.expected.unpop(Expect::Simple(running));
                self.simple_answer(tag, message).await
            }
            (Expect::Function(running), b'V') => self.function_result(running, body).await,
            (
                Expect::Parse(_)
                | Expect::Bind(_)
                | Expect::Close(_)
                | Expect::DescribeStatement { .. }
                | Expect::DescribePortal(_)
                | Expect::Sync
                | Expect::Function(_)
                | Expect::Refused { .. },
                _,
            ) => Err(self.upstream_broke(Fault::Unexpected(tag))),
        }
    }

    fn statement_described(
        &mut self,
        statement: &Prepared,
        own: bool,
        tag: u8,
        message: &Bytes,
    ) -> Result<(), ProtocolError> {
        let body = &message[HEADER..];
        // Of two answers the first one stays: they are the same.
        match tag {
            b't' => {
                let types = parameter_types(body).map_err(|fault| self.upstream_broke(fault))?;
                let _ = statement.parameters.set(types);
            }
            b'T' => {
                let columns = fields(body).map_err(|fault| self.upstream_broke(fault))?;
                let _ = statement.columns.set(columns);
            }
            _ => {
                let _ = statement.columns.set([].into());
            }
        }
        if !own {
            self.say(message);
        }
        Ok(())
    }

    fn portal_described(&mut self, portal: &Portal, tag: u8, message: &Bytes) -> Result<(), ProtocolError> {
        // The columns of a statement do not change; of a known one the answer only passes.
        if portal.statement.columns.get().is_none() {
            let columns = match tag {
                b'T' => fields(&message[HEADER..]).map_err(|fault| self.upstream_broke(fault))?,
                _ => [].into(),
            };
            let _ = portal.statement.columns.set(columns);
        }
        self.say(message);
        Ok(())
    }

    /// An answer to an Execute.
    async fn executed(
        &mut self,
        mut running: Box<Running>,
        tag: u8,
        message: &Bytes,
    ) -> Result<(), ProtocolError> {
        match tag {
            b'C' | b'I' | b's' => {
                running.went_down(message.len() as u64);
                self.say(message);
                self.complete(*running, tag, message).await
            }
            b'G' => {
                self.expected.unpop(Expect::Execute(running));
                self.say(message);
                self.copy_in_begins()
            }
            b'H' | b'c' => {
                let copied = self.copy_out(&mut running, tag, message).await;
                self.expected.unpop(Expect::Execute(running));
                copied
            }
            _ => Err(self.upstream_broke(Fault::Unexpected(tag))),
        }
    }

    async fn simple_answer(&mut self, tag: u8, message: &Bytes) -> Result<(), ProtocolError> {
        match tag {
            b'T' => {
                let columns = fields(&message[HEADER..]).map_err(|fault| self.upstream_broke(fault))?;
                match self.expected.running() {
                    Some(running) => running.set_columns(columns),
                    None => return Err(self.upstream_broke(Fault::Unexpected(tag))),
                }
                self.say(message);
                Ok(())
            }
            b'C' | b'I' => {
                let Some(Expect::Simple(all)) = self.expected.front() else {
                    return Ok(());
                };
                let Some(mut running) = all.pop_front() else {
                    return Err(self.upstream_broke(Fault::Unexpected(tag)));
                };
                running.went_down(message.len() as u64);
                self.say(message);
                self.complete(running, tag, message).await
            }
            b'G' => {
                self.say(message);
                self.copy_in_begins()
            }
            b'H' | b'c' => {
                let Some(Expect::Simple(mut all)) = self.expected.pop() else {
                    return Ok(());
                };
                let copied = match all.front_mut() {
                    Some(running) => self.copy_out(running, tag, message).await,
                    None => Err(self.upstream_broke(Fault::Unexpected(tag))),
                };
                self.expected.unpop(Expect::Simple(all));
                copied
            }
            _ => Err(self.upstream_broke(Fault::Unexpected(tag))),
        }
    }

    /// CopyOutResponse and CopyDone.
    async fn copy_out(
        &mut self,
        running: &mut Running,
        tag: u8,
        message: &Bytes,
    ) -> Result<(), ProtocolError> {
        if tag == b'c' {
            let done = running.copy_done(&mut self.wire.down.output).await;
            self.passed(done)?;
        } else {
            let rules = self.rules();
            let known = Known {
                catalog: &self.catalog,
                rules: &rules,
            };
            let limit = self.gate.limits().message_bytes;
            let begun = formats(&message[HEADER..])
                .and_then(|formats| running.begin_copy(&formats, &known, &rules, limit));
            begun.map_err(|fault| self.upstream_broke(fault))?;
        }
        self.say(message);
        Ok(())
    }

    /// An operation is complete, or suspended by the row limit of its Execute.
    async fn complete(&mut self, running: Running, tag: u8, message: &Bytes) -> Result<(), ProtocolError> {
        let status = match tag {
            b'C' => {
                String::from_utf8_lossy(message[HEADER..].strip_suffix(&[0]).unwrap_or_default()).into_owned()
            }
            b's' => "suspended".to_owned(),
            _ => String::new(),
        };
        if tag == b'C'
            && let Some(statement) = running.plan.statement.clone()
        {
            if self.may_change_names(&running.plan) {
                self.forget_names();
                self.changed = true;
            }
            self.acted(&statement.act, running.plan.opens.as_deref());
        }
        running.finish(Reason::Completed, &status).await?;
        Ok(())
    }

    /// Follows what a completed statement did to names.
    fn acted(&mut self, act: &Act, opens: Option<&Kept>) {
        match act {
            Act::Prepare { name, statement } => {
                let prepared = Prepared::of(statement);
                self.statements.define(name.as_bytes(), Arc::new(prepared));
            }
            Act::Deallocate { name: Some(name) } => self.statements.remove(name.as_bytes()),
            Act::Deallocate { name: None } => self.statements.clear(),
            Act::Discard(Discard::All) => {
                self.statements.clear();
                self.portals.clear();
                self.role_is_lost = self.established.set_role.is_some();
            }
            Act::Declare {
                cursor,
                hold,
                binary,
                statement,
            } => {
                let portal = Portal {
                    statement: Arc::new(Prepared::of(statement)),
                    formats: [i16::from(*binary)].into(),
                    bind: Bytes::new(),
                    holds: *hold,
                    born: self.ends_seen.into(),
                    opened: opens.cloned().map(OnceLock::from).unwrap_or_default(),
                };
                self.portals.define(cursor.as_bytes(), Arc::new(portal));
            }
            Act::Close { cursor: Some(cursor) } => self.portals.remove(cursor.as_bytes()),
            Act::Close { cursor: None } => self.portals.clear(),
            Act::Indirect => {
                self.statements.clear();
                self.portals.clear();
            }
            _ => {}
        }
    }

    /// FunctionCallResponse: nobody knows what it holds, so it is shown only where policy reveals what is computed.
    async fn function_result(&mut self, mut running: Box<Running>, body: &[u8]) -> Result<(), ProtocolError> {
        let mut r = frame::Reader::new(body);
        let value = match r.value().and_then(|value| r.end().map(|()| value)) {
            Ok(value) => value,
            Err(fault) => return Err(self.upstream_broke(fault)),
        };
        let hidden = running.mask();
        let shown = match self.gate.mask().derived() {
            Some(derived) if hidden.contains(derived) => None,
            _ => value,
        };
        let before = self.wire.down.output.len();
        frame::write(&mut self.wire.down.output, b'V', |out| {
            frame::put_value(out, shown)
        });
        running.went_down((self.wire.down.output.len() - before) as u64);
        running
            .record(Direction::Down, &self.wire.down.output[before..])
            .await?;
        running.finish(Reason::Completed, "").await?;
        self.expected.unpop(Expect::Sync);
        Ok(())
    }

    /// Whether the running operation's words can be shown.
    fn trust(&mut self) -> (Trust, ClassSet) {
        let all = self.gate.mask().all();
        match self.expected.running() {
            Some(running) => {
                let hidden = running.mask();
                let trust = if hidden.is_empty() {
                    Trust::Scanned
                } else if running.runs_unknown_code() {
                    Trust::CodeOnly
                } else if running.is_sensitive() {
                    Trust::NoValues
                } else {
                    Trust::Scanned
                };
                (trust, hidden)
            }
            // Parse and Bind read no rows. They can run code of a statement's functions while it is planned.
            None => (
                if self.expected.plans_unknown_code() {
                    Trust::CodeOnly
                } else {
                    Trust::Scanned
                },
                all,
            ),
        }
    }

    /// Passes on a notice or an error; its SQLSTATE.
    async fn notice(&mut self, tag: u8, body: &[u8]) -> Result<String, ProtocolError> {
        let (mut trust, hidden) = self.trust();
        if trust == Trust::Scanned
            && !hidden.is_empty()
            && let Some(relation) = notices::shows_row_of(body)
            && !self
                .expected
                .running()
                .is_some_and(|running| running.may_show_rows_of(&relation))
        {
            // A row that breaks a constraint has more columns than the statement names, and may be of a relation that
            // only a cascade leads to.
            trust = Trust::NoRow;
        }
        let rules = self.rules();
        let mut counts = Counts::default();
        let mut out = BytesMut::new();
        let code = notices::notice(tag, body, trust, &rules, hidden, &mut counts, &mut out)
            .map_err(|fault| self.upstream_broke(fault))?;
        self.wire.down.output.extend_from_slice(&out);
        if let Some(running) = self.expected.running() {
            running.add_masked(&counts);
            running.went_down(out.len() as u64);
            running.record(Direction::Down, &out).await?;
        }
        Ok(code)
    }

    fn notification(&mut self, body: &[u8]) -> Result<(), ProtocolError> {
        let rules = self.rules();
        let mut counts = Counts::default();
        let written =
            notices::notification(body, &rules, rules.all(), &mut counts, &mut self.wire.down.output);
        written.map_err(|fault| self.upstream_broke(fault))
    }

    /// ParameterStatus: passed on, and followed where it changes how the workload's words are read.
    fn parameter(&mut self, message: &Bytes) -> Result<(), ProtocolError> {
        let mut r = frame::Reader::new(&message[HEADER..]);
        let (name, value) = match r.text().and_then(|name| r.text().map(|value| (name, value))) {
            Ok(pair) => pair,
            Err(fault) => return Err(self.upstream_broke(fault)),
        };
        match name {
            "standard_conforming_strings" => self.escapes = value != "on",
            "client_encoding" if !is_ascii_safe(value) => {
                return Err(self.upstream_broke(Fault::Text));
            }
            _ => {}
        }
        self.say(message);
        Ok(())
    }

    /// An error: the operation in hand fails, and in the extended protocol everything up to Sync.
    async fn error(&mut self, body: &[u8]) -> Result<(), ProtocolError> {
        if let Some(Expect::Own(_)) = self.expected.front() {
            let mut whole = BytesMut::new();
            frame::write(&mut whole, b'E', |out| out.extend_from_slice(body));
            self.answers_to_own.error = Some(whole.freeze());
            return self.skip("").await;
        }
        if let Some(Expect::Refused { .. }) = self.expected.front() {
            let Some(Expect::Refused { say, simple }) = self.expected.pop() else {
                return Ok(());
            };
            self.say(&say);
            if simple {
                self.expected.unpop(Expect::Sync);
                return Ok(());
            }
            return self.skip("").await;
        }
        let code = self.notice(b'E', body).await?;
        match self.expected.pop() {
            // The server is ending the connection.
            None => Ok(()),
            Some(Expect::Simple(all)) => {
                for (at, running) in all.into_iter().enumerate() {
                    let status = if at == 0 { &*code } else { "not run" };
                    running.finish(Reason::Completed, status).await?;
                }
                self.expected.unpop(Expect::Sync);
                Ok(())
            }
            Some(Expect::Function(running)) => {
                running.finish(Reason::Completed, &code).await?;
                self.expected.unpop(Expect::Sync);
                Ok(())
            }
            Some(front) => {
                self.expected.unpop(front);
                self.skip(&code).await
            }
        }
    }

    /// The server skips to the next Sync, and what it skips has no answer. Without a Sync among what went up, what the
    /// workload sends next is dropped, too.
    async fn skip(&mut self, code: &str) -> Result<(), ProtocolError> {
        // The last first, so that definitions are undone in the order opposite to theirs; the one that failed comes last.
        let mut skipped: Vec<Expect> = self.expected.skipped().collect();
        let failed = skipped.pop();
        for item in skipped {
            self.give_up(item, "not run").await?;
        }
        if let Some(failed) = failed {
            self.give_up(failed, code).await?;
        }
        if !matches!(self.expected.front(), Some(Expect::Sync | Expect::Own(Own::Sync))) {
            self.forget_held();
            self.discarding = true;
        }
        Ok(())
    }

    async fn give_up(&mut self, item: Expect, status: &str) -> Result<(), ProtocolError> {
        match item {
            Expect::Parse(undo) => self.statements.undo(undo),
            Expect::Bind(undo) => self.portals.undo(undo),
            Expect::Close(closed) => self.reopen(closed),
            Expect::Execute(running) => running.finish(Reason::Completed, status).await?,
            _ => {}
        }
        Ok(())
    }
}
