//! What a statement does to its session.

use super::{Copy, Statement};

/// What a statement does to its session, for whoever has to follow the session.
#[derive(Clone, Debug)]
pub enum Act {
    /// Nothing that needs following.
    Plain,
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END; with `AND CHAIN` a transaction begins at once.
    Commit {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN.
        chain: bool,
    },
    /// SAVEPOINT.
    Savepoint {
        /// Its name.
        name: Box<str>,
    },
    /// RELEASE SAVEPOINT.
    Release {
        /// Its name.
        name: Box<str>,
    },
    /// ROLLBACK TO SAVEPOINT.
    RollbackTo {
        /// Its name.
        name: Box<str>,
    },
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
    /// EXECUTE.
    Execute {
        /// The prepared statement's name.
        name: Box<str>,
    },
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
    /// FETCH.
    Fetch {
        /// The cursor, which may be a portal of the extended protocol.
        cursor: Box<str>,
    },
    /// MOVE: no rows come.
    Move {
        /// The cursor.
        cursor: Box<str>,
    },
    /// CLOSE of one cursor or of all.
    Close {
        /// The cursor; `None` for all.
        cursor: Option<Box<str>>,
    },
    /// COPY TO STDOUT.
    CopyOut(Box<Copy>),
    /// COPY FROM STDIN.
    CopyIn(Box<Copy>),
    /// COPY to or from a file or program of the server: nothing comes over the wire.
    CopyElsewhere(Box<Copy>),
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
    /// Whether names can mean something else after it.
    #[must_use]
    pub fn changes_session(&self) -> bool {
        true
    }
}
