//! What a statement would do, as policy sees it.

use std::collections::BTreeSet;

use super::Name;
use crate::model::Access;

/// A set of words of closed sets: verbs, reasons.
pub type Words = BTreeSet<&'static str>;

/// Why a statement may do more than what is said of it: words that policies and entries name.
///
/// | word | why |
/// | --- | --- |
/// | `call` | CALL: what a procedure does is not known |
/// | `copy_option` | COPY with an option that is not known |
/// | `cursor` | FETCH or MOVE: what the cursor's query is has to be looked up |
/// | `do_block` | DO: code |
/// | `dynamic_execute` | text is run as SQL: EXECUTE in a DO block, `query_to_xml` |
/// | `prepared` | EXECUTE: what was prepared has to be looked up |
/// | `too_deep` | nested too deeply for a parse tree |
/// | `unknown_function` | a function that is not known to be pure, and whose effect is not known |
/// | `unknown_node` | a part of the parse tree that is not known |
/// | `unknown_operator` | an operator that is not built in, which is a function |
#[cfg(test)]
pub(super) const INCOMPLETE: &[&str] = &[
    "call",
    "copy_option",
    "cursor",
    "do_block",
    "dynamic_execute",
    "prepared",
    "too_deep",
    "unknown_function",
    "unknown_node",
    "unknown_operator",
];

/// What a statement would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// All its verbs, inside CTEs, EXPLAIN, PREPARE, COPY and DECLARE, too.
    pub verbs: Words,
    /// Relations that it reads, as written.
    pub reads: BTreeSet<Name>,
    /// Relations that it changes, locks, creates or drops, as written.
    pub writes: BTreeSet<Name>,
    /// Functions that it calls, as written.
    pub functions: BTreeSet<Name>,
    /// Types that it names, as written.
    pub types: BTreeSet<Name>,
    /// Prepared statements (SQL names) that it executes or explains.
    pub executes: BTreeSet<Box<str>>,
    /// Cursors that it reads from or that say which row it changes.
    pub cursors: BTreeSet<Box<str>>,
    /// `None` without UPDATE and DELETE; `Some(false)` if one of them has no WHERE that names a column.
    pub has_where: Option<bool>,
    /// How far it reaches.
    pub access: Access,
    /// Why this is not all that it may do; empty when it is. Words of `INCOMPLETE`.
    pub incomplete: Words,
}

impl Facts {
    /// Takes in what another statement would do, which is part of this one.
    pub fn merge(&mut self, other: &Self) {
        self.verbs.extend(&other.verbs);
        self.reads.extend(other.reads.iter().cloned());
        self.writes.extend(other.writes.iter().cloned());
        self.functions.extend(other.functions.iter().cloned());
        self.types.extend(other.types.iter().cloned());
        self.executes.extend(other.executes.iter().cloned());
        self.cursors.extend(other.cursors.iter().cloned());
        self.incomplete.extend(&other.incomplete);
        self.access = self.access.max(other.access);
        self.has_where = match (self.has_where, other.has_where) {
            (Some(a), Some(b)) => Some(a && b),
            (a, b) => a.or(b),
        };
    }

    /// Takes in the facts of what an EXECUTE or a FETCH runs, which takes away the word `prepared` or `cursor`.
    pub fn settle(&mut self, word: &'static str, known: &Self) {
        self.incomplete.remove(word);
        self.merge(known);
    }

    /// Whether it may change the session without saying so: unknown functions, DO, CALL, `set_config`, and rows of
    /// system relations (an UPDATE of `pg_settings` is a SET).
    #[must_use]
    pub fn calls_unknown_code(&self) -> bool {
        !self.incomplete.is_empty() || self.changes_settings()
    }

    /// Whether it changes settings without being a SET.
    #[must_use]
    pub fn changes_settings(&self) -> bool {
        self.functions.iter().any(|f| &*f.name == "set_config") || self.writes.iter().any(Name::is_system)
    }
}
