//! Names as statements write them.

use std::fmt;

/// A possibly qualified name, after PostgreSQL's own case folding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The schema, where it is written.
    pub schema: Option<Box<str>>,
    /// The relation or function; `*` for every relation of the schema (GRANT ON ALL TABLES, DROP SCHEMA).
    pub name: Box<str>,
}

impl Name {
    /// A name.
    #[must_use]
    pub fn new(schema: Option<&str>, name: &str) -> Self {
        Self {
            schema: schema.filter(|s| !s.is_empty()).map(Into::into),
            name: name.into(),
        }
    }

    /// Whether it may be a relation of PostgreSQL's own.
    pub(super) fn is_system(&self) -> bool {
        match self.schema.as_deref() {
            Some(schema) => matches!(schema, "pg_catalog" | "information_schema" | "pg_toast"),
            None => self.name.starts_with("pg_"),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
