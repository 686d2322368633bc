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
//! # Words that are added to `incomplete`
//! `unknown_relation`: a relation that does not exist; `unknown_function`: one that may do anything, also where the
//! statement's own words do not show it (a name of PostgreSQL's that means another function, a row's function in the
//! notation of a field, a view, a cast); `unknown_operator`: the same of an operator; `rules`: a relation whose rules
//! put other statements in place of this one; `too_deep`. `unknown_function` and `unknown_operator` are taken out where
//! the database says that nothing but compiled code without effect is meant.
//!
//! # What is not seen
//! Triggers, foreign tables' sources, and what an earlier statement stored elsewhere: that one had it in `copied`.
//!
//! Bias: what cannot be resolved is opaque or unknown, never clean.

mod call;
mod expr;
mod flow;
mod from;
mod modify;
mod name;
mod query;
mod resolved;
mod resolver;
mod rows;
mod scope;
mod statement;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use pg_query::protobuf::Node;

pub use self::resolved::{Outputs, Resolved, Sources};
use super::{
    catalog::{Catalog, Known, Needs},
    sql::Statement,
};
use crate::model::ClassId;
use flow::Flow;
use resolver::Resolver;

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

/// Resolves a statement.
///
/// # Errors
/// What the catalog lacks. Look it up, learn the answer and ask again; a few rounds are the most it takes, for what
/// was looked up counts as known even when nothing was found.
pub fn resolve(
    statement: &Statement,
    session: &dyn Session,
    catalog: &Catalog,
    class_of: &ClassOf<'_>,
) -> Result<Resolved, Needs> {
    let mut resolver = Resolver::new(catalog, session, class_of);
    let facts = &statement.facts;
    // First, so that what cannot be resolved can be taken for anything that is read.
    resolver.facts(facts);
    let outputs = statement.tree.as_deref().map(|tree| resolver.statement(tree));
    let mut incomplete = facts.incomplete.clone();
    resolver.functions(facts, &mut incomplete);
    if !resolver.needs.is_empty() {
        return Err(resolver.needs);
    }
    incomplete.extend(&resolver.incomplete);
    let unknown = Outputs::Unknown(resolver.all.classes());
    let outputs = match outputs {
        None => unknown,
        Some(Outputs::Columns(_) | Outputs::Unknown(_))
            if resolver.incomplete.contains(resolver::TOO_DEEP) =>
        {
            unknown
        }
        Some(outputs) => outputs,
    };
    Ok(Resolved {
        outputs,
        reads: resolver.reads,
        writes: resolver.writes,
        read_schemas: resolver.read_schemas,
        write_schemas: resolver.write_schemas,
        columns: resolver.columns,
        sensitive: resolver.sensitive.classes(),
        copied: resolver.copied.classes(),
        touched: resolver.all.classes(),
        functions: resolver.functions,
        incomplete,
    })
}

/// What a column of a relation holds, by OID and attribute number, as RowDescription names it. System columns hold
/// nothing; what does not exist is opaque.
///
/// # Errors
/// What the catalog lacks.
pub fn column(oid: u32, attnum: i16, catalog: &Catalog, class_of: &ClassOf<'_>) -> Result<Sources, Needs> {
    if attnum < 0 {
        return Ok(Sources::default());
    }
    let missing = || Needs {
        oids: [oid].into(),
        ..Needs::default()
    };
    let relation = match catalog.relation_known(oid) {
        Known::Unknown => return Err(missing()),
        Known::Absent => return Ok(Flow::OPAQUE.sources()),
        Known::Found(relation) => relation,
    };
    let Some(place) = relation.columns.iter().position(|c| c.attnum == attnum) else {
        // Added since it was looked up.
        if catalog.is_fresh(oid) {
            return Ok(Flow::OPAQUE.sources());
        }
        return Err(missing());
    };
    let mut resolver = Resolver::new(catalog, &Nothing, class_of);
    let cols = resolver.relation_cols(relation);
    if !resolver.needs.is_empty() {
        return Err(resolver.needs);
    }
    Ok(cols.get(place).map_or(Flow::OPAQUE, |c| c.value.flow).sources())
}

/// A session that holds nothing.
struct Nothing;

impl Session for Nothing {
    fn prepared(&self, _name: &str) -> Option<Arc<Node>> {
        None
    }
    fn cursor(&self, _name: &str) -> Option<Arc<Node>> {
        None
    }
    fn creates(&self, _schema: Option<&str>, _name: &str) -> bool {
        false
    }
}
