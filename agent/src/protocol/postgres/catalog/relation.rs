//! What is kept of a relation and a type.

use std::sync::Arc;

use pg_query::protobuf::Node;
use serde::Deserialize;

use super::{FIRST_USER_OID, Function};

/// What kind of relation it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// A table.
    #[serde(rename = "r")]
    Table,
    /// A partitioned table.
    #[serde(rename = "p")]
    Partitioned,
    /// A view.
    #[serde(rename = "v")]
    View,
    /// A materialized view.
    #[serde(rename = "m")]
    MaterializedView,
    /// A foreign table.
    #[serde(rename = "f")]
    Foreign,
    /// A sequence.
    #[serde(rename = "S")]
    Sequence,
    /// An index.
    #[serde(rename = "i", alias = "I")]
    Index,
    /// A composite type.
    #[serde(rename = "c")]
    Composite,
    /// A TOAST table: the stored bytes of other tables.
    #[serde(rename = "t")]
    Toast,
    /// Of a kind that is not known here.
    #[serde(other)]
    Other,
}

/// A column that is not dropped.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its attribute number.
    pub attnum: i16,
    /// Its name.
    pub name: Arc<str>,
    /// Its type's OID.
    pub type_oid: u32,
    /// For a generated column: the statement `SELECT <expression>`; `Some(None)` when it cannot be read.
    pub generated: Option<Option<Arc<Node>>>,
}

/// An ancestor or descendant by inheritance or partitioning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// How a view gets its rows.
#[derive(Clone, Debug)]
pub struct View {
    /// Its query; `None` when it is too long or cannot be parsed.
    pub query: Option<Arc<Node>>,
    /// The relations it names.
    pub relations: Vec<u32>,
    /// The functions it calls that did not come with PostgreSQL.
    pub functions: Vec<Function>,
}

/// A relation.
#[derive(Clone, Debug)]
pub struct Relation {
    /// Its OID.
    pub oid: u32,
    /// Its schema; `pg_temp` for the session's own temporary schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: Kind,
    /// Its columns, in order, without dropped ones. System columns are not among them.
    pub columns: Vec<Column>,
    /// For a view that did not come with PostgreSQL.
    pub view: Option<View>,
    /// Every relation it shares rows with by inheritance or partitioning, up and down.
    pub family: Vec<Parent>,
    /// Whether some of its family were left out.
    pub family_cut: bool,
    /// Whether rules rewrite statements that write to it.
    pub has_rules: bool,
}

impl Relation {
    /// Whether it came with PostgreSQL.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.oid < FIRST_USER_OID
    }
}

/// A type that is not built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Its OID.
    pub oid: u32,
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// `b`ase, `c`omposite, `d`omain, `e`num, `p`seudo, `r`ange or `m`ultirange.
    pub kind: char,
    /// The element's type, for an array; else 0.
    pub element: u32,
    /// A domain's base type; else 0.
    pub base: u32,
    /// The type modifier a domain gives its base type; -1 without one.
    pub base_mod: i32,
    /// What stands between its values in an array's text.
    pub delimiter: u8,
    /// A multirange's range; else 0.
    pub range: u32,
    /// A range's or multirange's subtype; else 0.
    pub subtype: u32,
    /// A composite type's fields: name, type, type modifier.
    pub fields: Vec<(Arc<str>, u32, i32)>,
    /// Whether its values are text (category `S`, such as citext).
    pub text_like: bool,
}

impl Type {
    /// Whether it is the extension type hstore.
    #[must_use]
    pub fn is_hstore(&self) -> bool {
        &*self.name == "hstore" && self.kind == 'b' && self.element == 0
    }
}
