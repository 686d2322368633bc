//! What is kept of a function.

use std::sync::Arc;

use super::FIRST_USER_OID;

/// What a function gives back where it stands in FROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One column, named after the function or its alias.
    Scalar,
    /// These columns.
    Columns(Arc<[Arc<str>]>),
    /// It depends on the arguments, or on a list of columns in the statement.
    Open,
}

/// One function of a name.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its OID.
    pub oid: u32,
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Whether an unqualified call can mean it.
    pub visible: bool,
    /// Whether it (for an aggregate: any function it is made of) is compiled code: language `internal` or `c`.
    pub compiled: bool,
    /// `i`mmutable, `s`table or `v`olatile.
    pub volatility: char,
    /// `f`unction, `p`rocedure, `a`ggregate or `w`indow function.
    pub kind: char,
    /// Whether it returns a set.
    pub set: bool,
    /// How few arguments a call can have.
    pub fewest: u16,
    /// How many; `None` for variadic ones.
    pub most: Option<u16>,
    /// What it gives back.
    pub shape: Shape,
}

impl Function {
    /// Whether it may change something, or hold code that does: it is neither PostgreSQL's nor harmless by its kind.
    #[must_use]
    pub fn may_do_anything(&self) -> bool {
        !self.is_builtin() && (!self.compiled || self.volatility == 'v')
    }

    /// Whether it came with PostgreSQL.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.oid < FIRST_USER_OID
    }
}
