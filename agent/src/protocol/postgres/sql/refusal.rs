//! Why a text is not understood.

use super::{MAX_STATEMENTS, MAX_TEXT, MAX_TOKENS};

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
    /// More tokens than [`MAX_TOKENS`].
    #[error("the statement has more than {MAX_TOKENS} tokens")]
    TooManyTokens,
    /// Runs of operator characters that would take too long to scan.
    #[error("the statement has too long runs of operator characters")]
    Operators,
}

impl Kind {
    pub(super) fn at(self, position: usize) -> NotUnderstood {
        NotUnderstood {
            kind: self,
            position: Some(position),
            detail: None,
        }
    }
}

impl From<Kind> for NotUnderstood {
    fn from(kind: Kind) -> Self {
        Self {
            kind,
            position: None,
            detail: None,
        }
    }
}
