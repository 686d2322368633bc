//! Where each output column of a statement comes from: which data classes flow into it.
//!
//! # What flows
//! Everything that stands in an expression flows into its value: operators, casts, functions, CASE with its
//! conditions, sub-selects' outputs. Comparisons, tests and computing aggregates (`count(x)`, `sum(x)`) give values
//! that only tell something *of* their arguments: those classes are `derived`. A function whose body can read
//! anything (SQL, PL/pgSQL, unknown ones, a few built-in ones such as `query_to_xml`) makes its value `opaque`.
//!
//! What does not flow: WHERE, HAVING, ON, ORDER BY, GROUP BY, DISTINCT, LIMIT and the right side of EXCEPT choose
//! rows, they give no values. They do count as read (`columns`, `sensitive`), which is what policy decides upon.
//! An EXISTS in the select list is a value made of its WHERE: derived.
//!
//! Bias: what cannot be resolved is opaque or unknown, never clean.

use std::{collections::BTreeSet, sync::Arc};

use pg_query::protobuf::Node;

use super::{
    catalog::{Catalog, Needs},
    sql::{Statement, Words},
};
use crate::model::{ClassId, ClassSet};

/// The data class of a column: schema, relation, column.
pub type ClassOf<'a> = dyn Fn(&str, &str, &str) -> Option<ClassId> + 'a;

/// What a session holds that statements refer to by name.
pub trait Session {
    /// The statement that was prepared under a name, by PREPARE or by Parse.
    fn prepared(&self, name: &str) -> Option<Arc<Node>>;
    /// The query of an open cursor or portal.
    fn cursor(&self, name: &str) -> Option<Arc<Node>>;
    /// Whether an earlier statement of the same message creates that relation.
    fn creates(&self, schema: Option<&str>, name: &str) -> bool;
}

/// What flows into one output column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Classes whose values flow here.
    pub value: ClassSet,
    /// Classes that this tells something of, without holding their values.
    pub derived: ClassSet,
    /// Whether a function that can read anything had a part in it.
    pub opaque: bool,
}

/// What flows into a statement's output columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// It gives back no rows.
    None,
    /// One per output column, in order. If the answer has another number of columns, take it as unknown.
    Columns(Vec<Sources>),
    /// Cannot be said: all classes of everything that it reads.
    Unknown(ClassSet),
}

/// A statement with its names resolved.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Relations read, also through views: `schema.relation`.
    pub reads: BTreeSet<Arc<str>>,
    /// Relations written, also through views.
    pub writes: BTreeSet<Arc<str>>,
    /// The schemas of `reads`.
    pub read_schemas: BTreeSet<Arc<str>>,
    /// The schemas of `writes`.
    pub write_schemas: BTreeSet<Arc<str>>,
    /// Columns that the statement names, `*` expanded: `schema.relation.column`.
    pub columns: BTreeSet<Arc<str>>,
    /// The classes of those columns, also through views.
    pub sensitive: ClassSet,
    /// Classes that it stores in a column which is not of that class, or hands to a function that may store them.
    pub copied: ClassSet,
    /// Functions called: `schema.name` where one schema has it, else as written.
    pub functions: BTreeSet<Arc<str>>,
    /// Why it is not understood whole; empty when it is.
    pub incomplete: Words,
    /// What flows into its output columns.
    pub outputs: Outputs,
}

/// Resolves a statement.
///
/// # Errors
/// What the catalog lacks. Look it up, learn the answer and ask again; a few rounds are the most it takes.
pub fn resolve(
    _statement: &Statement,
    _session: &dyn Session,
    _catalog: &Catalog,
    _class_of: &ClassOf<'_>,
) -> Result<Resolved, Needs> {
    Err(Needs::default())
}
