//! A made-up server that runs nothing but keeps to the protocol: names of statements and portals, transactions,
//! skipping to Sync, COPY. It reads what reaches it with the same parser, and notes what should not have reached it.

use std::{collections::HashMap, sync::Arc};

use bytes::{BufMut as _, BytesMut};

use super::super::{
    deny,
    frame::{Fault, Reader, put_cstr, put_value, write},
    sql::{self, Act, Discard, Statement},
};

/// A portal: what it runs, and whether it outlives its transaction.
#[derive(Clone)]
struct Portal {
    runs: Arc<Prepared>,
    holds: bool,
}

/// A prepared statement. The agent's own questions are not looked into.
struct Prepared {
    text: String,
    statement: Option<Statement>,
}

impl Prepared {
    fn is_question(&self) -> bool {
        self.text.contains("pg_catalog")
    }

    fn has_rows(&self) -> bool {
        self.is_question()
            || self
                .statement
                .as_ref()
                .is_some_and(|s| s.facts.verbs.contains("select") || s.facts.verbs.contains("fetch"))
    }
}

/// The state of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transaction {
    Idle,
    Active,
    Failed,
}

/// Whether data is taken, and for what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CopyIn {
    No,
    Simple,
    Extended,
}

/// The server.
pub(super) struct Server {
    /// What reached it and should not have.
    pub(super) violations: Vec<String>,
    /// It has ended the connection.
    pub(super) over: bool,
    statements: HashMap<Vec<u8>, Arc<Prepared>>,
    portals: HashMap<Vec<u8>, Portal>,
    transaction: Transaction,
    savepoints: usize,
    /// `standard_conforming_strings`: now, when the transaction began, and as the workload was told last.
    conforming: (bool, bool, bool),
    skipping: bool,
    copy_in: CopyIn,
    /// How deep statements run others.
    depth: usize,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            violations: Vec::new(),
            over: false,
            statements: HashMap::new(),
            portals: HashMap::new(),
            transaction: Transaction::Idle,
            savepoints: 0,
            conforming: (true, true, true),
            skipping: false,
            copy_in: CopyIn::No,
            depth: 0,
        }
    }
}

impl Server {
    /// Takes a message; `true` when what it has answered so far is sent.
    pub(super) fn message(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) -> bool {
        if let Err(fault) = self.take(tag, body, out) {
            self.violations.push(format!("{}: {fault}", char::from(tag)));
            self.over = true;
        }
        matches!(tag, b'S' | b'H' | b'Q' | b'c' | b'f' | b'F') || self.copy_in != CopyIn::No || self.over
    }

    fn take(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) -> Result<(), Fault> {
        let mut r = Reader::new(body);
        match (tag, self.copy_in) {
            (b'X', _) => self.over = true,
            (b'd' | b'c' | b'f', CopyIn::No) | (b'd' | b'S' | b'H', CopyIn::Simple | CopyIn::Extended) => {}
            (b'c' | b'f', copying) => {
                self.copy_in = CopyIn::No;
                if tag == b'c' {
                    complete("COPY 1", out);
                } else {
                    self.error("57014", out);
                }
                if copying == CopyIn::Simple {
                    self.skipping = false;
                    self.ready(out);
                }
            }
            // Since version 14 a server that takes data does not even read another message.
            (_, CopyIn::Simple | CopyIn::Extended) => {
                self.error("08P01", out);
                self.over = true;
            }
            (b'S', _) => {
                self.skipping = false;
                self.ready(out);
            }
            _ if self.skipping => {}
            (b'Q', _) => {
                let text = r.text()?;
                r.end()?;
                self.query(text, out);
            }
            (b'F', _) => {
                match self.transaction {
                    Transaction::Failed => self.error("25P02", out),
                    _ => write(out, b'V', |out| out.put_i32(-1)),
                }
                self.skipping = false;
                self.ready(out);
            }
            (b'P', _) => {
                let (name, text) = (r.cstr()?, r.text()?);
                self.parse(name, text, out);
            }
            (b'B', _) => {
                let (portal, name) = (r.cstr()?, r.cstr()?);
                self.bind(portal, name, out);
            }
            (b'D', _) => {
                let kind = r.u8()?;
                self.describe(kind, r.cstr()?, out);
            }
            (b'E', _) => match self.portals.get(r.cstr()?).cloned() {
                Some(portal) => self.run(&portal.runs, false, out),
                None => self.error("34000", out),
            },
            (b'C', _) => {
                let kind = r.u8()?;
                let name = r.cstr()?;
                if kind == b'S' {
                    self.statements.remove(name);
                } else {
                    self.portals.remove(name);
                }
                write(out, b'3', |_| {});
            }
            (b'H', _) => {}
            (tag, _) => return Err(Fault::Unexpected(tag)),
        }
        Ok(())
    }

    /// What a text says; notes it when it should not have come.
    fn read(&mut self, text: &str) -> Option<Vec<Statement>> {
        if text.as_bytes() == deny::POISON {
            return None;
        }
        if !self.conforming.0 && text.contains('\\') {
            self.violations
                .push(format!("a backslash can hide what this says: {text}"));
        }
        let Ok(statements) = sql::understand(text) else {
            self.violations.push(format!("it cannot be read: {text}"));
            return None;
        };
        if statements.iter().any(|s| s.facts.verbs.contains("listen"))
            || (text.contains("evil") && !text.contains('\''))
        {
            self.violations.push(format!("denied: {text}"));
        }
        Some(statements)
    }

    fn query(&mut self, text: &str, out: &mut BytesMut) {
        self.statements.remove(&b""[..]);
        self.portals.remove(&b""[..]);
        match self.read(text) {
            None => self.error("42601", out),
            Some(statements) => {
                if statements.is_empty() {
                    write(out, b'I', |_| {});
                }
                for statement in statements {
                    let prepared = Prepared {
                        text: text[statement.text.clone()].to_owned(),
                        statement: Some(statement),
                    };
                    if prepared.text.contains("no_parse") || prepared.text.contains("no_bind") {
                        self.error("42703", out);
                    } else {
                        self.run(&prepared, true, out);
                    }
                    if self.skipping {
                        break;
                    }
                    if self.copy_in != CopyIn::No {
                        self.copy_in = CopyIn::Simple;
                        return;
                    }
                }
            }
        }
        self.skipping = false;
        self.ready(out);
    }

    fn parse(&mut self, name: &[u8], text: &str, out: &mut BytesMut) {
        let question = name == b"portcullis" && text.contains("pg_catalog");
        let statement = if question {
            None
        } else {
            match self.read(text) {
                Some(mut statements) if statements.len() < 2 => statements.pop(),
                _ => return self.error("42601", out),
            }
        };
        let prepared = Prepared {
            text: text.to_owned(),
            statement,
        };
        if self.cannot_run(&prepared) {
            return self.error("25P02", out);
        }
        if text.contains("no_parse") {
            return self.error("42703", out);
        }
        if !name.is_empty() && self.statements.contains_key(name) {
            return self.error("42P05", out);
        }
        self.statements.insert(name.to_vec(), Arc::new(prepared));
        write(out, b'1', |_| {});
    }

    fn bind(&mut self, portal: &[u8], name: &[u8], out: &mut BytesMut) {
        let Some(runs) = self.statements.get(name).cloned() else {
            return self.error("26000", out);
        };
        if self.cannot_run(&runs) {
            return self.error("25P02", out);
        }
        if !portal.is_empty() && self.portals.contains_key(portal) {
            return self.error("42P03", out);
        }
        if runs.text.contains("no_bind") {
            return self.error("22P02", out);
        }
        self.portals
            .insert(portal.to_vec(), Portal { runs, holds: false });
        write(out, b'2', |_| {});
    }

    fn describe(&mut self, kind: u8, name: &[u8], out: &mut BytesMut) {
        let found = if kind == b'S' {
            self.statements.get(name).cloned()
        } else {
            self.portals.get(name).map(|p| Arc::clone(&p.runs))
        };
        let Some(found) = found else {
            return self.error(if kind == b'S' { "26000" } else { "34000" }, out);
        };
        if kind == b'S' {
            write(out, b't', |out| out.put_i16(0));
        }
        if found.has_rows() {
            columns(out);
        } else {
            write(out, b'n', |_| {});
        }
    }

    /// In a failed transaction only its end can run.
    fn cannot_run(&self, what: &Prepared) -> bool {
        let ends = |s: &Statement| matches!(s.act, Act::Commit | Act::Rollback | Act::RollbackTo);
        self.transaction == Transaction::Failed && !what.statement.as_ref().is_some_and(ends)
    }

    fn run(&mut self, what: &Prepared, describes: bool, out: &mut BytesMut) {
        if self.cannot_run(what) {
            return self.error("25P02", out);
        }
        if what.is_question() {
            row("{}", out);
            return complete("SELECT 1", out);
        }
        let Some(statement) = &what.statement else {
            return write(out, b'I', |_| {});
        };
        if statement.facts.verbs.contains("delete") {
            self.violations.push(format!("denied, and run: {}", what.text));
        }
        if what.text.contains("no_run") {
            return self.error("22012", out);
        }
        if self.depth > 8 {
            return self.error("54001", out);
        }
        self.depth += 1;
        let acted = self.act(what, describes, out);
        self.depth -= 1;
        match acted {
            Ok(true) => {}
            Ok(false) => {
                if what.has_rows() {
                    if describes {
                        columns(out);
                    }
                    row("1", out);
                }
                complete("OK", out);
            }
            Err(code) => self.error(code, out),
        }
    }

    /// What a statement does to the session; `true` when it has answered for itself.
    fn act(&mut self, what: &Prepared, describes: bool, out: &mut BytesMut) -> Result<bool, &'static str> {
        let key = |name: &str| name.as_bytes().to_vec();
        let Some(statement) = &what.statement else {
            return Ok(false);
        };
        match &statement.act {
            Act::Begin => {
                self.conforming.1 = self.conforming.0;
                self.transaction = Transaction::Active;
            }
            Act::Commit | Act::Rollback => self.end(what),
            Act::Savepoint => self.savepoints += 1,
            Act::RollbackTo if self.savepoints == 0 => return Err("3B001"),
            Act::RollbackTo => self.transaction = Transaction::Active,
            Act::Set(setting) if &*setting.name == "standard_conforming_strings" => {
                self.conforming.0 = setting.values.iter().flatten().any(|v| &**v == "on");
            }
            Act::Reset { .. } => self.conforming.0 = true,
            Act::Discard(Discard::All) => {
                if self.transaction != Transaction::Idle {
                    return Err("25001");
                }
                self.statements.clear();
                self.portals.clear();
                self.conforming.0 = true;
            }
            Act::Prepare { name, statement } => {
                if self.statements.contains_key(name.as_bytes()) {
                    return Err("42P05");
                }
                self.statements.insert(key(name), Arc::new(inner(statement)));
            }
            Act::Execute => {
                let name = statement.facts.executes.iter().next().ok_or("26000")?;
                let runs = self.statements.get(name.as_bytes()).cloned().ok_or("26000")?;
                self.run(&runs, describes, out);
                return Ok(true);
            }
            Act::Deallocate { name: None } => self.statements.clear(),
            Act::Deallocate { name: Some(name) } => {
                self.statements.remove(name.as_bytes()).ok_or("26000")?;
            }
            Act::Declare {
                cursor,
                hold,
                statement,
                ..
            } => {
                if self.transaction == Transaction::Idle && !hold {
                    return Err("25P01");
                }
                if self.portals.contains_key(cursor.as_bytes()) {
                    return Err("42P03");
                }
                let runs = Arc::new(inner(statement));
                self.portals.insert(key(cursor), Portal { runs, holds: *hold });
            }
            Act::Fetch | Act::Move => {
                let cursor = statement.facts.cursors.iter().next().ok_or("34000")?;
                let portal = self.portals.get(cursor.as_bytes()).cloned().ok_or("34000")?;
                self.run(&portal.runs, describes, out);
                return Ok(true);
            }
            Act::Close { cursor: None } => self.portals.clear(),
            Act::Close { cursor: Some(cursor) } => {
                self.portals.remove(cursor.as_bytes()).ok_or("34000")?;
            }
            Act::CopyIn => {
                self.copy_in = CopyIn::Extended;
                formats(b'G', out);
                return Ok(true);
            }
            Act::CopyOut(_) => {
                formats(b'H', out);
                write(out, b'd', |out| out.extend_from_slice(b"1\n"));
                write(out, b'c', |_| {});
                complete("COPY 1", out);
                return Ok(true);
            }
            _ => {}
        }
        Ok(false)
    }

    fn end(&mut self, what: &Prepared) {
        let rolls_back = what.text.starts_with("ROLLBACK");
        let chain = what.text.ends_with("CHAIN");
        if self.transaction == Transaction::Failed || rolls_back {
            self.conforming.0 = self.conforming.1;
        }
        self.conforming.1 = self.conforming.0;
        let goes_on = chain && self.transaction != Transaction::Idle;
        self.transaction = if goes_on {
            Transaction::Active
        } else {
            Transaction::Idle
        };
        self.savepoints = 0;
        self.portals.retain(|_, p| p.holds);
    }

    fn error(&mut self, code: &str, out: &mut BytesMut) {
        write(out, b'E', |out| {
            for (kind, text) in [(b'S', "ERROR"), (b'C', code), (b'M', "it cannot be done")] {
                out.put_u8(kind);
                put_cstr(out, text.as_bytes());
            }
            out.put_u8(0);
        });
        self.skipping = true;
        if self.transaction == Transaction::Active {
            self.transaction = Transaction::Failed;
        }
    }

    fn ready(&mut self, out: &mut BytesMut) {
        if self.transaction == Transaction::Idle {
            self.portals.retain(|_, p| p.holds);
            self.conforming.1 = self.conforming.0;
        }
        if self.conforming.2 != self.conforming.0 {
            self.conforming.2 = self.conforming.0;
            write(out, b'S', |out| {
                put_cstr(out, b"standard_conforming_strings");
                put_cstr(out, if self.conforming.0 { b"on" } else { b"off" });
            });
        }
        write(out, b'Z', |out| {
            out.put_u8(match self.transaction {
                Transaction::Idle => b'I',
                Transaction::Active => b'T',
                Transaction::Failed => b'E',
            });
        });
    }
}

/// A statement inside another one.
fn inner(statement: &Statement) -> Prepared {
    Prepared {
        text: String::from("prepared in SQL"),
        statement: Some(statement.clone()),
    }
}

fn complete(tag: &str, out: &mut BytesMut) {
    write(out, b'C', |out| put_cstr(out, tag.as_bytes()));
}

fn formats(tag: u8, out: &mut BytesMut) {
    write(out, tag, |out| {
        out.put_u8(0);
        out.put_i16(1);
        out.put_i16(0);
    });
}

/// One column of type text.
fn columns(out: &mut BytesMut) {
    write(out, b'T', |out| {
        out.put_i16(1);
        put_cstr(out, b"a");
        out.put_u32(0);
        out.put_i16(0);
        out.put_u32(25);
        out.put_i16(-1);
        out.put_i32(-1);
        out.put_i16(0);
    });
}

fn row(value: &str, out: &mut BytesMut) {
    write(out, b'D', |out| {
        out.put_i16(1);
        put_value(out, Some(value.as_bytes()));
    });
}
