//! What a query string says: its statements, and of each what it would read, write and call.
//!
//! PostgreSQL's own grammar (libpg_query) parses it; what it does not tell is `complete: false`.

use std::collections::BTreeSet;

/// A possibly qualified name, after PostgreSQL's own case folding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The schema, where it is written.
    pub schema: Option<Box<str>>,
    /// The relation or function.
    pub name: Box<str>,
}

/// A set of words of closed sets: verbs, reasons.
pub type Words = BTreeSet<&'static str>;
