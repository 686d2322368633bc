//! From a statement to a permit: resolved, decided, recorded.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{
    super::{
        catalog::BELIEVED,
        deny,
        lineage::Resolved,
        login::is_ascii_safe,
        operation::{self, Circumstances, Phase},
        sql::{self, Act, Kind, NotUnderstood, Statement, Words},
    },
    Session,
    copy::copied,
    names::{Portal, Prepared},
    running::Plan,
    unsettled::Earlier,
};
use crate::{
    gate::{Denied, Permit},
    mask::Counts,
    model::{Operation, Reason, Value},
    protocol::ProtocolError,
};

/// The most of a statement's text that its entry holds, bytes.
const SHOWN: usize = 8 * 1024;

/// A statement ready to be decided.
pub(super) struct Proposal {
    pub(super) plan: Plan,
    pub(super) operation: Operation,
}

impl Session<'_> {
    /// What a statement is, for policy. `text` is where it stands.
    pub(super) async fn propose(
        &mut self,
        statement: Option<&Arc<Statement>>,
        text: &str,
        earlier: Earlier<'_>,
        phase: Phase,
        statements: usize,
    ) -> Result<Proposal, ProtocolError> {
        if statement.is_some_and(|s| refers(s)) {
            // A name stands for what the server has under it, not for what was to be defined.
            self.settle().await?;
        }
        let statement = statement.map(|s| self.settled(s, earlier.statements));
        let resolved = match &statement {
            Some(statement) => self.resolve(statement, earlier).await?,
            None => Arc::default(),
        };
        let facts = statement.as_ref().map(|s| s.facts.clone()).unwrap_or_default();
        let shown = self.shown(text, &resolved, &facts);
        let meaning = operation::meaning(&facts, &resolved, self.gate.mask().classes(), shown);
        let operation = self.operation(&meaning, phase, statements);
        let mut opens = None;
        if let Some(Act::Declare { statement: query, .. }) = statement.as_ref().map(|s| &s.act) {
            let query = Arc::new(Statement::clone(query));
            let proposed = Box::pin(self.propose(Some(&query), text, earlier, phase, statements)).await?;
            opens = Some(Arc::new(self.kept(proposed)));
        }
        Ok(Proposal {
            plan: Plan {
                statement,
                resolved,
                columns: None,
                opens,
            },
            operation,
        })
    }

    /// Asks the server what COPY TO STDOUT will copy. Only of what is permitted: the question holds the statement's words.
    pub(super) async fn describe_copies(
        &mut self,
        decided: &mut [(Plan, Permit)],
    ) -> Result<(), ProtocolError> {
        for (plan, _) in decided {
            if let Some(statement) = plan.statement.clone()
                && let Act::CopyOut(copy) = &statement.act
                && let Some(query) = copied(copy, statement.tree.as_deref())
            {
                plan.columns = self.describe(&query).await?;
            }
        }
        Ok(())
    }

    fn kept(&self, proposal: Proposal) -> Kept {
        let meaning = match proposal.operation.context.1 {
            Value::Record(record) => record,
            _ => std::collections::BTreeMap::new(),
        };
        Kept {
            epoch: self.epoch,
            at: Instant::now(),
            plan: proposal.plan,
            meaning: Arc::new(meaning),
        }
    }

    /// The same for a prepared statement, which is resolved once per state of the catalog.
    pub(super) async fn propose_prepared(
        &mut self,
        prepared: &Arc<Prepared>,
        phase: Phase,
    ) -> Result<Proposal, ProtocolError> {
        self.follow_database();
        let now = Instant::now();
        let kept = prepared
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .filter(|kept| kept.epoch == self.epoch && now.duration_since(kept.at) < BELIEVED);
        let kept = match kept {
            Some(kept) => kept,
            None => {
                self.begin_look_ups();
                let proposal = self
                    .propose(
                        prepared.statement.as_ref(),
                        &prepared.text,
                        Earlier::default(),
                        phase,
                        1,
                    )
                    .await?;
                let kept = self.kept(proposal);
                // What it refers to by name may be another statement or cursor the next time.
                if !prepared.statement.as_ref().is_some_and(|s| refers(s)) {
                    *prepared.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept.clone());
                }
                kept
            }
        };
        Ok(self.proposal_of(kept, prepared, phase))
    }

    fn proposal_of(&self, kept: Kept, prepared: &Prepared, phase: Phase) -> Proposal {
        let operation = self.operation(&kept.meaning, phase, 1);
        let mut plan = kept.plan;
        if plan.columns.is_none() {
            plan.columns = prepared.columns.get().cloned();
        }
        Proposal { plan, operation }
    }

    /// The same for a portal, which means what it meant when it was opened.
    pub(super) async fn propose_portal(&mut self, portal: &Portal) -> Result<Proposal, ProtocolError> {
        // Also where it is not needed: so that what its rows are made of has been looked up.
        let now = self.propose_prepared(&portal.statement, Phase::Execute).await?;
        Ok(match portal.opened.get().cloned() {
            Some(opened) => self.proposal_of(opened, &portal.statement, Phase::Execute),
            None => now,
        })
    }

    /// A function call by OID.
    pub(super) fn propose_call(&self, oid: u32) -> Proposal {
        let mut resolved = Resolved::default();
        resolved.functions.insert(Arc::from(format!("oid:{oid}")));
        resolved.incomplete.insert("function_call");
        let facts = sql::Facts {
            verbs: Words::from(["call"]),
            access: sql::Access::Admin,
            ..sql::Facts::default()
        };
        let meaning = operation::meaning(&facts, &resolved, self.gate.mask().classes(), Arc::from(""));
        Proposal {
            operation: self.operation(&meaning, Phase::Simple, 1),
            plan: Plan {
                statement: None,
                resolved: Arc::new(resolved),
                columns: None,
                opens: None,
            },
        }
    }

    fn operation(
        &self,
        meaning: &std::collections::BTreeMap<&'static str, Value>,
        phase: Phase,
        statements: usize,
    ) -> Operation {
        let circumstances = Circumstances {
            phase,
            transaction: self.transaction.as_str(),
            statements,
        };
        operation::operation(&self.established.target, &self.resource, meaning, circumstances)
    }

    /// A statement's text as its entry may hold it: values that detectors find masked, and no literals at all where
    /// they stand beside columns that may not be shown.
    fn shown(&self, text: &str, resolved: &Resolved, facts: &sql::Facts) -> Arc<str> {
        let rules = self.gate.mask();
        let secret = !resolved.sensitive.is_empty() || facts.access == sql::Access::Admin;
        let without = secret.then(|| sql::without_literals(text));
        let text = match &without {
            Some(Some(without)) => without,
            Some(None) => return Arc::from("[masked]"),
            None => text,
        };
        let masked = rules.mask_text(rules.all(), text, &mut Counts::default());
        if masked.len() <= SHOWN {
            return Arc::from(masked);
        }
        let mut end = SHOWN;
        while !masked.is_char_boundary(end) {
            end -= 1;
        }
        Arc::from(format!("{} [{} bytes in all]", &masked[..end], masked.len()))
    }

    /// Why a text is refused before policy is asked: its words cannot be trusted to mean what they seem to.
    pub(super) fn misleading(&self, text: &str) -> Option<&'static str> {
        if (self.escapes || self.unsure) && text.contains('\\') {
            return Some(
                "standard_conforming_strings is or may be off, so that a backslash can hide where a string ends; set it \
                 on, in a batch of its own",
            );
        }
        if self.unsure && !text.is_ascii() {
            return Some("the same batch may have changed client_encoding; send this in a batch of its own");
        }
        None
    }

    /// Why a statement is refused whatever policy says: what follows it could not be understood any more, or would be
    /// somebody else's.
    pub(super) fn out_of_bounds(&self, statement: &Statement) -> Option<&'static str> {
        const ROLE: &str =
            "the host's administrator says as which role this connection works; it cannot be changed";
        let is_role = |name: &str| matches!(name, "role" | "session_authorization");
        let bound = self.established.set_role.is_some();
        match &statement.act {
            Act::Set(setting)
                if matches!(&*setting.name, "client_encoding" | "names")
                    && setting.values.iter().flatten().any(|v| !is_ascii_safe(v)) =>
            {
                Some("in this client_encoding a quote can be part of another character; use UTF8")
            }
            Act::Set(setting) if bound && is_role(&setting.name) => Some(ROLE),
            Act::Reset { name: Some(name) } if bound && is_role(name) => Some(ROLE),
            _ if bound && statement.facts.functions.iter().any(|f| &*f.name == "set_config") => Some(ROLE),
            _ => None,
        }
    }

    /// An operation for what is refused unread.
    pub(super) fn operation_of_nothing(&self) -> Operation {
        self.operation(&operation::unknown("not_understood"), Phase::Simple, 1)
    }

    /// The error for a text that is not understood, with the parser's own words, which only the workload sees.
    pub(super) async fn not_understood(&mut self, why: &NotUnderstood) -> bytes::BytesMut {
        let denied = self.refuse_text(Reason::NotUnderstood).await;
        let code = match why.kind {
            // syntax_error
            Kind::Syntax | Kind::Nul => "42601",
            // statement_too_complex, program_limit_exceeded
            Kind::TooDeep | Kind::TooMany | Kind::TooManyTokens | Kind::Operators => "54001",
            Kind::TooLong => "54000",
        };
        let message = why
            .detail
            .as_deref()
            .map_or_else(|| why.to_string(), String::from);
        refusal(code, &message, &denied)
    }
}

/// Whether a statement names a prepared statement or a cursor.
pub(super) fn refers(statement: &Statement) -> bool {
    !statement.facts.executes.is_empty() || !statement.facts.cursors.is_empty()
}

/// An error of ours with the entry that tells of it.
pub(super) fn refusal(code: &'static str, message: &str, denied: &Denied) -> bytes::BytesMut {
    let mut out = bytes::BytesMut::new();
    deny::Error {
        severity: deny::Severity::Error,
        code,
        message,
        detail: Some(&format!("reason={} entry={}", denied.reason, denied.entry)),
        hint: Some(denied.reason.guidance()),
    }
    .write(&mut out);
    out
}

/// What a prepared statement means, as long as names mean the same.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    epoch: u64,
    at: Instant,
    pub(super) plan: Plan,
    meaning: Arc<std::collections::BTreeMap<&'static str, Value>>,
}

/// A place for it.
pub(super) type Keep = Mutex<Option<Kept>>;
