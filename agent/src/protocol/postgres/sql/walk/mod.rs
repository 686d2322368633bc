//! The walk over a parse tree that gathers what a statement would do.
//!
//! What a relation's name stands for depends on where it is: a query's FROM reads, unless the name is that of a CTE in
//! scope; the target of a write is always a relation; a name directly in DDL is what the DDL changes.

mod call;
mod object;
mod parts;
mod query;
mod restrict;
mod utility;

use std::collections::HashMap;

use pg_query::{NodeEnum as K, protobuf as pb};

use super::{Access, Facts, Name, verbs};

/// The tree comes out of a decoder that stops at 100 levels of messages, so this is never reached.
const MAX_DEPTH: u32 = 200;

/// What a relation's name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Read,
    Write,
}

/// Gathers facts.
pub(super) struct Walker<'a> {
    pub(super) facts: Facts,
    /// Names of CTEs in scope, innermost last, and how often each is there.
    ctes: Vec<&'a str>,
    visible: HashMap<&'a str, u32>,
    role: Role,
    depth: u32,
    /// Whether a column was named.
    columns: bool,
}

/// Something in the tree that can be walked.
pub(super) trait Part<'a> {
    /// Walks it.
    fn visit(&'a self, w: &mut Walker<'a>);
}

/// A node whose fields can be walked one by one.
trait Parts<'a> {
    /// Walks all that hangs below it.
    fn parts(&'a self, w: &mut Walker<'a>);
}

impl<'a, T: Part<'a>> Part<'a> for Option<T> {
    fn visit(&'a self, w: &mut Walker<'a>) {
        if let Some(part) = self {
            part.visit(w);
        }
    }
}

impl<'a, T: Part<'a>> Part<'a> for Vec<T> {
    fn visit(&'a self, w: &mut Walker<'a>) {
        for part in self {
            part.visit(w);
        }
    }
}

impl<'a, T: Part<'a>> Part<'a> for Box<T> {
    fn visit(&'a self, w: &mut Walker<'a>) {
        (**self).visit(w);
    }
}

impl<'a> Part<'a> for pb::Node {
    fn visit(&'a self, w: &mut Walker<'a>) {
        // An empty node stands for a null in a list: DISTINCT without ON, an operator without a left argument.
        if let Some(kind) = &self.node {
            w.deeper(|w| w.node(kind));
        }
    }
}

impl<'a> Part<'a> for pb::RangeVar {
    fn visit(&'a self, w: &mut Walker<'a>) {
        w.relation(self);
    }
}

impl<'a> Part<'a> for pb::SelectStmt {
    fn visit(&'a self, w: &mut Walker<'a>) {
        w.deeper(|w| w.select(self));
    }
}

impl<'a> Part<'a> for pb::FuncCall {
    fn visit(&'a self, w: &mut Walker<'a>) {
        w.call(self);
    }
}

impl<'a> Part<'a> for pb::WithClause {
    fn visit(&'a self, w: &mut Walker<'a>) {
        w.with(self);
    }
}

impl<'a> Part<'a> for pb::IntoClause {
    fn visit(&'a self, w: &mut Walker<'a>) {
        w.writing(|w| self.parts(w));
    }
}

impl<'a> Part<'a> for pb::TypeName {
    fn visit(&'a self, w: &mut Walker<'a>) {
        w.facts.types.extend(qualified(&strings(&self.names)));
        w.deeper(|w| self.parts(w));
    }
}

/// Parts of a fixed type that mean nothing by themselves.
macro_rules! plain {
    ($($type:ident)*) => {
        $(
            impl<'a> Part<'a> for pb::$type {
                fn visit(&'a self, w: &mut Walker<'a>) {
                    w.deeper(|w| self.parts(w));
                }
            }
        )*
    };
}

plain! {
    Alias CollateClause CreateStmt CteCycleClause CteSearchClause GrantStmt InferClause JsonAggConstructor
    JsonBehavior JsonFormat JsonKeyValue JsonOutput JsonReturning JsonTablePathSpec JsonValueExpr ObjectWithArgs
    OnConflictClause PartitionBoundSpec PartitionSpec PublicationTable ReturningClause RoleSpec
    VariableSetStmt WindowDef
}

/// Parts that PostgreSQL makes only after parsing.
macro_rules! later {
    ($($type:ident)*) => {
        $(
            impl<'a> Part<'a> for pb::$type {
                fn visit(&'a self, w: &mut Walker<'a>) {
                    w.incomplete("unknown_node");
                }
            }
        )*
    };
}

later! { FuncExpr Query }

/// What a statement would do.
pub(super) fn facts(kind: &K) -> Facts {
    let mut w = Walker::new();
    if verbs::command(kind).is_none() && !is_query(kind) {
        w.incomplete("unknown_node");
    }
    w.deeper(|w| w.node(kind));
    w.facts
}

fn is_query(kind: &K) -> bool {
    use K::{DeleteStmt, InsertStmt, MergeStmt, SelectStmt, UpdateStmt};
    matches!(
        kind,
        SelectStmt(_) | InsertStmt(_) | UpdateStmt(_) | DeleteStmt(_) | MergeStmt(_)
    )
}

/// The facts of a statement that is not known at all.
pub(super) fn nothing_known() -> Facts {
    let mut facts = Facts {
        access: Access::Admin,
        ..Facts::default()
    };
    facts.incomplete.insert("unknown_node");
    facts
}

impl<'a> Walker<'a> {
    /// One that has seen nothing.
    pub(super) fn new() -> Self {
        Self {
            facts: Facts::default(),
            ctes: Vec::new(),
            visible: HashMap::new(),
            role: Role::Read,
            depth: 0,
            columns: false,
        }
    }

    fn deeper(&mut self, then: impl FnOnce(&mut Self)) {
        if self.depth == MAX_DEPTH {
            self.incomplete("too_deep");
            return;
        }
        self.depth += 1;
        then(self);
        self.depth -= 1;
    }

    fn with_role(&mut self, role: Role, then: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.role, role);
        then(self);
        self.role = before;
    }

    fn reading(&mut self, then: impl FnOnce(&mut Self)) {
        self.with_role(Role::Read, then);
    }

    fn writing(&mut self, then: impl FnOnce(&mut Self)) {
        self.with_role(Role::Write, then);
    }

    fn incomplete(&mut self, word: &'static str) {
        self.facts.incomplete.insert(word);
    }

    fn verb(&mut self, verb: &'static str, access: Access) {
        self.facts.verbs.insert(verb);
        self.reaches(access);
    }

    fn reaches(&mut self, access: Access) {
        self.facts.access = self.facts.access.max(access);
    }

    fn node(&mut self, kind: &'a K) {
        match kind {
            K::SelectStmt(s) => self.select(s),
            K::InsertStmt(s) => self.insert(s),
            K::UpdateStmt(s) => self.update(s),
            K::DeleteStmt(s) => self.delete(s),
            K::MergeStmt(s) => self.merge(s),
            K::RangeVar(r) => self.relation(r),
            K::FuncCall(f) => self.call(f),
            K::WithClause(w) => self.with(w),
            K::IntoClause(i) => i.visit(self),
            K::ColumnRef(c) => {
                self.columns = true;
                c.parts(self);
            }
            K::CurrentOfExpr(c) => {
                self.facts.cursors.insert(c.cursor_name.as_str().into());
                self.columns = true;
                c.parts(self);
            }
            K::AExpr(e) => {
                self.operator(&e.name);
                e.parts(self);
            }
            K::SubLink(s) => {
                self.operator(&s.oper_name);
                s.parts(self);
            }
            K::SortBy(s) => {
                self.operator(&s.use_op);
                s.parts(self);
            }
            K::RangeTableSample(s) => {
                self.sampling(s);
                s.parts(self);
            }
            K::TableLikeClause(_) | K::Constraint(_) => self.reading(|w| w.below(kind)),
            _ => match verbs::command(kind) {
                Some((verb, access)) => {
                    self.verb(verb, access);
                    self.utility(kind);
                }
                None => self.below(kind),
            },
        }
    }

    fn below(&mut self, kind: &'a K) {
        if !parts::below(kind, self) {
            self.incomplete("unknown_node");
        }
    }

    /// A relation's name where it is used.
    fn relation(&mut self, r: &'a pb::RangeVar) {
        match self.role {
            Role::Read if self.is_cte(r) => {}
            Role::Read => {
                self.facts.reads.insert(name_of(r));
            }
            Role::Write => {
                let name = name_of(r);
                if name.is_system() {
                    // Rows there are definitions: UPDATE pg_settings is a SET, UPDATE pg_authid a GRANT.
                    self.reaches(Access::Admin);
                }
                self.facts.writes.insert(name);
            }
        }
        r.parts(self);
    }

    fn is_cte(&self, r: &pb::RangeVar) -> bool {
        r.schemaname.is_empty() && r.catalogname.is_empty() && self.visible.contains_key(r.relname.as_str())
    }
}

fn name_of(r: &pb::RangeVar) -> Name {
    Name::new(Some(&r.schemaname), &r.relname)
}

/// The strings of a list of string nodes, such as a qualified name.
fn strings(nodes: &[pb::Node]) -> Vec<&str> {
    nodes
        .iter()
        .filter_map(|n| match &n.node {
            Some(K::String(s)) => Some(s.sval.as_str()),
            _ => None,
        })
        .collect()
}

/// A qualified name from its parts; a database's name before the schema's is dropped, as it can only be the current
/// one.
fn qualified(parts: &[&str]) -> Option<Name> {
    match parts {
        [] => None,
        [name] => Some(Name::new(None, name)),
        [.., schema, name] => Some(Name::new(Some(schema), name)),
    }
}
