//! Database columns by name.

use super::names::Names;
use crate::model::ClassId;

/// The most parts of a name: schema, table, column.
const PARTS_MAX: usize = 3;

/// Columns and the classes they belong to. Qualified names come before bare ones, and of each kind the one that was
/// added first.
///
/// A bare name is compared like a JSON key, without case, `_`, `-` and blanks; the parts of a qualified one without
/// case.
///
/// Bias: a column that only its case tells apart from another (`"SSN"` and `ssn`) is of the other's class too.
#[derive(Debug, Default)]
pub(super) struct Columns {
    bare: Names,
    qualified: Vec<Qualified>,
}

#[derive(Debug)]
struct Qualified {
    /// Column first, then table, then schema; `None` is any.
    parts: Vec<Option<Box<str>>>,
    class: ClassId,
}

impl Columns {
    /// Adds `column`, `table.column` or `schema.table.column`; `false` when it is none of these.
    pub(super) fn add(&mut self, name: &str, class: ClassId) -> bool {
        let parts: Vec<Option<Box<str>>> = name
            .rsplit('.')
            .map(|part| (part != "*").then(|| part.into()))
            .collect();
        let empty = parts.iter().flatten().any(|p| p.is_empty());
        if empty || parts.len() > PARTS_MAX || parts.iter().all(Option::is_none) {
            return false;
        }
        if parts.len() == 1 {
            return self.bare.add(name, class);
        }
        self.qualified.push(Qualified { parts, class });
        true
    }

    pub(super) fn class(&self, schema: &str, relation: &str, column: &str) -> Option<ClassId> {
        let at = [column, relation, schema];
        let fits = |q: &&Qualified| {
            q.parts.iter().zip(at).all(|(want, is)| {
                want.as_deref()
                    .is_none_or(|w| w.to_lowercase() == is.to_lowercase())
            })
        };
        self.qualified
            .iter()
            .find(fits)
            .map(|q| q.class)
            .or_else(|| self.bare.first(column.as_bytes()))
    }
}
