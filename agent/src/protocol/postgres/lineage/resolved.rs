//! What is said of a statement with its names resolved.

use std::{collections::BTreeSet, sync::Arc};

use crate::{model::ClassSet, protocol::postgres::sql::Words};

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
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Outputs {
    /// It gives back no rows.
    #[default]
    None,
    /// One per output column, in order. If the answer has another number of columns, take it as unknown.
    Columns(Vec<Sources>),
    /// Cannot be said: all classes of everything that it reads.
    Unknown(ClassSet),
}

/// A statement with its names resolved.
#[derive(Clone, Debug, Default)]
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
    /// The classes of all columns of what it reads and writes: an error that shows a row shows those.
    pub touched: ClassSet,
    /// Functions called: `schema.name` where one schema has it, else as written.
    pub functions: BTreeSet<Arc<str>>,
    /// Why it is not understood whole; empty when it is.
    pub incomplete: Words,
    /// What flows into its output columns.
    pub outputs: Outputs,
}
