//! The look-up: one statement with parameters, one row, one column of JSON.

use std::collections::BTreeSet;

use super::{super::sql::Name, Catalog};

/// What a catalog lacks to resolve a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Relations by name.
    pub relations: BTreeSet<Name>,
    /// Relations by OID.
    pub oids: BTreeSet<u32>,
    /// Functions by name, without schema.
    pub functions: BTreeSet<Box<str>>,
    /// Types by OID.
    pub types: BTreeSet<u32>,
    /// Whether what every look-up tells (current schema, operators, casts) is needed.
    pub basics: bool,
}

impl Needs {
    /// Whether nothing is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A look-up to send: a statement and its parameters, all in text format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookUp {
    /// The statement; always the same, so it is prepared once.
    pub sql: &'static str,
    /// The parameters of Bind.
    pub params: Vec<Option<Vec<u8>>>,
}

impl Catalog {
    /// The look-up that answers what is needed. Hand its answer to [`Catalog::learn`].
    #[must_use]
    pub fn look_up(&self, needs: &Needs) -> LookUp {
        let params = [
            array(needs.relations.iter().map(|n| n.schema.as_deref().unwrap_or(""))),
            array(needs.relations.iter().map(|n| &*n.name)),
            numbers(&needs.oids),
            array(needs.functions.iter().map(|n| &**n)),
            numbers(&needs.types),
        ];
        LookUp {
            sql: SQL,
            params: params.into_iter().map(|p| Some(p.into_bytes())).collect(),
        }
    }
}

fn numbers(numbers: &BTreeSet<u32>) -> String {
    let list: Vec<String> = numbers.iter().map(u32::to_string).collect();
    format!("{{{}}}", list.join(","))
}

/// An array literal, every element quoted, so that no setting changes what it means.
fn array<'a>(elements: impl Iterator<Item = &'a str>) -> String {
    let mut out = String::from("{");
    for (i, element) in elements.enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push('"');
        for c in element.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out
}

/// See `look_up.sql`.
const SQL: &str = include_str!("look_up.sql");
