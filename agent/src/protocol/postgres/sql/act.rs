//! What a statement does to its session.

use std::ops::Range;

use pg_query::{
    NodeEnum as K,
    protobuf::{self as pb, Node},
};

pub(super) use super::copy::copy_of;
use super::{Access, Copy, Endpoint, Statement, settings, verbs};

/// What a statement does to its session, for whoever has to follow the session.
#[derive(Clone, Debug)]
pub enum Act {
    /// Nothing that needs following.
    Plain,
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END; with `AND CHAIN` a transaction begins at once.
    Commit,
    /// ROLLBACK, ABORT; with `AND CHAIN` a transaction begins at once.
    Rollback,
    /// SAVEPOINT.
    Savepoint,
    /// RELEASE SAVEPOINT.
    Release,
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo,
    /// PREPARE TRANSACTION: the session's transaction ends.
    PrepareTransaction,
    /// COMMIT PREPARED or ROLLBACK PREPARED: someone's transaction ends.
    FinishPrepared,
    /// SET, also SET LOCAL, SET ROLE, SET SESSION AUTHORIZATION, SET TIME ZONE.
    Set(Setting),
    /// SET TRANSACTION, SET SESSION CHARACTERISTICS.
    SetTransaction,
    /// RESET of one variable (lower case), or RESET ALL.
    Reset {
        /// The variable; `None` for all.
        name: Option<Box<str>>,
    },
    /// DISCARD.
    Discard(Discard),
    /// PREPARE.
    Prepare {
        /// Its name.
        name: Box<str>,
        /// What it prepares.
        statement: Box<Statement>,
    },
    /// EXECUTE: [`Facts::executes`](super::Facts::executes) says of what.
    Execute,
    /// EXECUTE of something that is no query, which only the extended protocol can prepare: anything may change, names
    /// of statements and cursors, too. Whoever knows what was prepared makes this of [`Self::Execute`].
    Indirect,
    /// DEALLOCATE of one prepared statement or of all.
    Deallocate {
        /// Its name; `None` for all.
        name: Option<Box<str>>,
    },
    /// DECLARE CURSOR.
    Declare {
        /// The cursor.
        cursor: Box<str>,
        /// WITH HOLD: it outlives its transaction.
        hold: bool,
        /// BINARY: FETCH sends binary values whatever was asked for.
        binary: bool,
        /// Its query.
        statement: Box<Statement>,
    },
    /// FETCH: [`Facts::cursors`](super::Facts::cursors) says from which, which may be a portal of the extended protocol.
    Fetch,
    /// MOVE: no rows come.
    Move,
    /// CLOSE of one cursor or of all.
    Close {
        /// The cursor; `None` for all.
        cursor: Option<Box<str>>,
    },
    /// COPY TO STDOUT.
    CopyOut(Box<Copy>),
    /// COPY FROM STDIN.
    CopyIn,
    /// COPY to or from a file or program of the server: nothing comes over the wire.
    CopyElsewhere,
    /// EXPLAIN.
    Explain {
        /// Whether it runs the statement.
        analyze: bool,
        /// What it explains.
        statement: Box<Statement>,
    },
    /// CREATE, ALTER, DROP, GRANT and so on: what names mean may change.
    Ddl,
    /// DO or CALL: anything may change, and the transaction may end.
    Code,
}

/// A variable that SET changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable, in lower case.
    pub name: Box<str>,
    /// Its values; `None` for DEFAULT.
    pub values: Option<Vec<Box<str>>>,
    /// SET LOCAL: until the transaction ends.
    pub local: bool,
}

/// What DISCARD discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// Everything.
    All,
    /// Plans.
    Plans,
    /// Sequences.
    Sequences,
    /// Temporary relations.
    Temp,
}

impl Act {
    /// Whether names, or the text of later statements, can mean something else after it. At the end of a transaction
    /// what was changed in it may be undone; whoever knows that nothing was changed in it may go by
    /// [`Self::ends_transaction`] there.
    #[must_use]
    pub fn changes_session(&self) -> bool {
        match self {
            Self::Plain
            | Self::Begin
            | Self::Savepoint
            | Self::Release
            | Self::FinishPrepared
            | Self::SetTransaction
            | Self::Prepare { .. }
            | Self::Deallocate { .. }
            | Self::Declare { .. }
            | Self::Fetch
            | Self::Move
            | Self::Close { .. }
            | Self::CopyOut(_)
            | Self::CopyIn
            | Self::CopyElsewhere
            | Self::Discard(Discard::Plans | Discard::Sequences) => false,
            Self::Set(setting) => settings::changes_meaning(&setting.name),
            Self::Reset { name } => name.as_ref().is_none_or(|name| settings::changes_meaning(name)),
            Self::Explain { analyze, statement } => *analyze && statement.changes_session(),
            // What EXECUTE runs is known to whoever knows what was prepared.
            Self::Execute => false,
            Self::Commit
            | Self::Rollback
            | Self::RollbackTo
            | Self::PrepareTransaction
            | Self::Discard(Discard::All | Discard::Temp)
            | Self::Ddl
            | Self::Indirect
            | Self::Code => true,
        }
    }

    /// Whether a transaction ends, or a part of it is undone.
    #[must_use]
    pub fn ends_transaction(&self) -> bool {
        matches!(
            self,
            Self::Commit | Self::Rollback | Self::RollbackTo | Self::PrepareTransaction
        )
    }
}

/// What a statement does to its session. `None` for one that cannot be followed.
pub(super) fn act(kind: &K, text: &Range<usize>) -> Option<Act> {
    let inner = |node: Option<&Node>| node.map(|n| Box::new(Statement::of(n.clone(), text.clone())));
    Some(match kind {
        K::TransactionStmt(s) => transaction(s)?,
        K::VariableSetStmt(s) => set(s)?,
        K::DiscardStmt(s) => Act::Discard(match pb::DiscardMode::try_from(s.target) {
            Ok(pb::DiscardMode::DiscardPlans) => Discard::Plans,
            Ok(pb::DiscardMode::DiscardSequences) => Discard::Sequences,
            Ok(pb::DiscardMode::DiscardTemp) => Discard::Temp,
            _ => Discard::All,
        }),
        K::PrepareStmt(s) => Act::Prepare {
            name: s.name.as_str().into(),
            statement: inner(s.query.as_deref())?,
        },
        K::ExecuteStmt(_) => Act::Execute,
        K::DeallocateStmt(s) => Act::Deallocate {
            name: (!s.isall).then(|| s.name.as_str().into()),
        },
        K::DeclareCursorStmt(s) => Act::Declare {
            cursor: s.portalname.as_str().into(),
            hold: s.options & CURSOR_HOLD != 0,
            binary: s.options & CURSOR_BINARY != 0,
            statement: inner(s.query.as_deref())?,
        },
        K::FetchStmt(s) if s.ismove => Act::Move,
        K::FetchStmt(_) => Act::Fetch,
        K::ClosePortalStmt(s) => Act::Close {
            cursor: (!s.portalname.is_empty()).then(|| s.portalname.as_str().into()),
        },
        K::CopyStmt(s) => {
            let copy = Box::new(copy_of(s));
            match (copy.endpoint, copy.from) {
                (Endpoint::Connection, true) => Act::CopyIn,
                (Endpoint::Connection, false) => Act::CopyOut(copy),
                _ => Act::CopyElsewhere,
            }
        }
        K::ExplainStmt(s) => Act::Explain {
            analyze: analyzes(s),
            statement: inner(s.query.as_deref())?,
        },
        K::DoStmt(_) | K::CallStmt(_) => Act::Code,
        K::SelectStmt(s) if creates(s) => Act::Ddl,
        _ => match verbs::command(kind) {
            Some((_, Access::Admin)) => Act::Ddl,
            _ => Act::Plain,
        },
    })
}

// From PostgreSQL's parsenodes.h.
const CURSOR_BINARY: i32 = 0x0001;
const CURSOR_HOLD: i32 = 0x0020;

/// SELECT INTO; of a set operation it stands in the leftmost query.
fn creates(s: &pb::SelectStmt) -> bool {
    let mut query = Some(s);
    while let Some(s) = query {
        if s.into_clause.is_some() {
            return true;
        }
        query = s.larg.as_deref();
    }
    false
}

fn transaction(s: &pb::TransactionStmt) -> Option<Act> {
    use pb::TransactionStmtKind as T;
    Some(match T::try_from(s.kind) {
        Ok(T::TransStmtBegin | T::TransStmtStart) => Act::Begin,
        Ok(T::TransStmtCommit) => Act::Commit,
        Ok(T::TransStmtRollback) => Act::Rollback,
        Ok(T::TransStmtSavepoint) => Act::Savepoint,
        Ok(T::TransStmtRelease) => Act::Release,
        Ok(T::TransStmtRollbackTo) => Act::RollbackTo,
        Ok(T::TransStmtPrepare) => Act::PrepareTransaction,
        Ok(T::TransStmtCommitPrepared | T::TransStmtRollbackPrepared) => Act::FinishPrepared,
        Ok(T::Undefined) | Err(_) => return None,
    })
}

fn set(s: &pb::VariableSetStmt) -> Option<Act> {
    use pb::VariableSetKind as V;
    // Variables have no case, quoted or not.
    let name: Box<str> = s.name.to_ascii_lowercase().into();
    let setting = |values| {
        Act::Set(Setting {
            name: name.clone(),
            values,
            local: s.is_local,
        })
    };
    Some(match V::try_from(s.kind) {
        Ok(V::VarSetValue) => setting(Some(s.args.iter().map(value).collect())),
        Ok(V::VarSetDefault) => setting(None),
        Ok(V::VarSetMulti) => Act::SetTransaction,
        Ok(V::VarReset) => Act::Reset { name: Some(name) },
        Ok(V::VarResetAll) => Act::Reset { name: None },
        Ok(V::VarSetCurrent | V::Undefined) | Err(_) => return None,
    })
}

fn value(node: &Node) -> Box<str> {
    match &node.node {
        Some(K::AConst(c)) => constant(c),
        Some(K::TypeCast(c)) => c.arg.as_deref().map(value).unwrap_or_default(),
        _ => Box::default(),
    }
}

fn constant(c: &pb::AConst) -> Box<str> {
    use pb::a_const::Val;
    match &c.val {
        Some(Val::Sval(s)) => s.sval.as_str().into(),
        Some(Val::Ival(i)) => i.ival.to_string().into(),
        Some(Val::Fval(f)) => f.fval.as_str().into(),
        Some(Val::Boolval(b)) => b.boolval.to_string().into(),
        Some(Val::Bsval(b)) => b.bsval.as_str().into(),
        None => Box::default(),
    }
}

/// Whether an EXPLAIN runs its statement. The last ANALYZE counts in PostgreSQL; here any that is not surely off does.
pub(super) fn analyzes(s: &pb::ExplainStmt) -> bool {
    s.options.iter().any(|option| match &option.node {
        Some(K::DefElem(option)) if option.defname.eq_ignore_ascii_case("analyze") => {
            !option.arg.as_deref().is_some_and(is_off)
        }
        Some(K::DefElem(_)) => false,
        _ => true,
    })
}

/// A boolean option that is surely off, as PostgreSQL's `defGetBoolean` reads it.
fn is_off(node: &Node) -> bool {
    match &node.node {
        Some(K::String(s)) => ["false", "off"]
            .iter()
            .any(|off| s.sval.eq_ignore_ascii_case(off)),
        Some(K::Boolean(b)) => !b.boolval,
        Some(K::Integer(i)) => i.ival == 0,
        _ => false,
    }
}
