//! What a query string says: its statements, and of each what it would read, write and call.
//!
//! PostgreSQL's own grammar (libpg_query) parses it. What the tree does not tell is said, too: [`Facts::incomplete`].

mod act;
mod aggregate;
mod copy;
mod facts;
mod pure;
mod record;

use std::{ops::Range, sync::Arc};

use pg_query::protobuf::Node;

pub use act::{Act, Discard, Setting};
pub use aggregate::{Aggregate, aggregate};
pub use copy::{Columns, Copy, Endpoint, Format, Header, Source};
pub use facts::{Access, Facts, Name, Words};
pub use pure::is_pure;
pub use record::without_literals;

/// The longest query string that is parsed, bytes.
pub const MAX_TEXT: usize = 1 << 20;
/// The most statements in one query string.
pub const MAX_STATEMENTS: usize = 1000;

/// One statement of a query string.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Where it stands in the query string, in bytes, without the semicolon and without white space around it.
    pub text: Range<usize>,
    /// What it would do.
    pub facts: Facts,
    /// What it does to the session.
    pub act: Act,
    /// Its parse tree; `None` when it is nested too deeply to have one ([`Facts::incomplete`] then has `too_deep`).
    pub tree: Option<Arc<Node>>,
}

/// Why a query string is not understood, and so not passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct NotUnderstood {
    /// What is wrong.
    pub kind: Kind,
    /// Where, in bytes, when that is known.
    pub position: Option<usize>,
    /// The parser's own words. They quote the statement, and so are for the workload only, never for a record.
    pub detail: Option<Box<str>>,
}

/// What is wrong with a query string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Kind {
    /// The grammar does not know it.
    #[error("the statement is not valid SQL")]
    Syntax,
    /// Nested more deeply than can be followed.
    #[error("the statement is nested too deeply")]
    TooDeep,
    /// A zero byte.
    #[error("the statement holds a zero byte")]
    Nul,
    /// Longer than [`MAX_TEXT`].
    #[error("the statement is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// More statements than [`MAX_STATEMENTS`].
    #[error("more than {MAX_STATEMENTS} statements at once")]
    TooMany,
}

/// The statements of a query string, in order; none when it is empty or has only comments.
///
/// # Errors
/// When any of it is not understood: then none of it may be passed on.
pub fn understand(text: &str) -> Result<Vec<Statement>, NotUnderstood> {
    if text.len() > MAX_TEXT {
        return Err(Kind::TooLong.at(Some(MAX_TEXT)));
    }
    if let Some(at) = memchr::memchr(0, text.as_bytes()) {
        return Err(Kind::Nul.at(Some(at)));
    }
    if let Some(at) = record::statements_beyond(text, MAX_STATEMENTS) {
        return Err(Kind::TooMany.at(Some(at)));
    }
    match parse::parse(text) {
        Ok(statements) => Ok(statements
            .into_iter()
            .filter_map(|(range, node)| statement(text, range, node))
            .collect::<Result<_, _>>()?),
        Err(Unparsed::TooDeep) => deep::understand(text),
        Err(Unparsed::Invalid(detail)) => Err(NotUnderstood {
            kind: Kind::Syntax,
            position: None,
            detail,
        }),
    }
}

impl Statement {
    /// Whether names can mean something else after it: [`Act::changes_session`], and whatever calls code that is
    /// not known.
    #[must_use]
    pub fn changes_session(&self) -> bool {
        self.act.changes_session() || self.facts.calls_unknown_code()
    }
}
