//! Statements behind others of the same message that may change what names mean, and what cursors meant.

use std::sync::Arc;

use pg_query::protobuf::node::Node;

use super::{
    super::{
        catalog::Known,
        lineage::{Outputs, Resolved, Session as _},
        sql::{Access, Act, Name, Statement},
    },
    Session,
    running::Plan,
};
use crate::model::ClassSet;

/// The statements before one in the same message, which have not run yet.
#[derive(Clone, Copy, Default)]
pub(super) struct Earlier<'a> {
    pub(super) statements: &'a [Arc<Statement>],
    /// They may change what names mean, so that what is looked up now says nothing of what will run.
    pub(super) unsettled: bool,
}

impl Session<'_> {
    /// Whether what is known of a statement's names says nothing of what they will mean when it runs.
    pub(super) fn is_unsettled(&self, statement: &Statement, earlier: Earlier<'_>) -> bool {
        if !names_something(statement) {
            return false;
        }
        let facts = &statement.facts;
        let named = self.named(earlier.statements);
        let replaced = |name: &Name| {
            named.creates(name.schema.as_deref(), &name.name)
                && matches!(self.catalog.relation(name), Known::Found(_))
        };
        earlier.unsettled || facts.reads.iter().chain(&facts.writes).any(replaced)
    }

    /// Whether names may mean something else after a statement that has not run yet.
    pub(super) fn unsettles(&self, plan: &Plan) -> bool {
        let Some(statement) = &plan.statement else {
            return false;
        };
        if plan.resolved.incomplete.is_empty() && only_adds(statement) {
            return false;
        }
        self.may_change_names(plan)
    }
}

/// Takes in what a cursor meant when it was opened.
pub(super) fn take_in(resolved: &mut Resolved, opened: &Resolved, fetches: bool) {
    resolved.reads.extend(opened.reads.iter().cloned());
    resolved.read_schemas.extend(opened.read_schemas.iter().cloned());
    resolved.columns.extend(opened.columns.iter().cloned());
    resolved.functions.extend(opened.functions.iter().cloned());
    resolved.incomplete.extend(&opened.incomplete);
    for class in opened.sensitive.iter() {
        resolved.sensitive.insert(class);
    }
    if fetches {
        resolved.outputs = opened.outputs.clone();
    }
}

/// Whether a statement's meaning depends on names.
fn names_something(statement: &Statement) -> bool {
    let node = statement.tree.as_ref().and_then(|t| t.node.as_ref());
    match &statement.act {
        Act::Begin
        | Act::Commit
        | Act::Rollback
        | Act::Savepoint
        | Act::Release
        | Act::RollbackTo
        | Act::Set(_)
        | Act::SetTransaction
        | Act::Reset { .. }
        | Act::Deallocate { .. }
        | Act::Close { .. }
        | Act::Discard(_) => false,
        // Not even an operator is in them.
        Act::Plain => !matches!(
            node,
            Some(
                Node::ListenStmt(_) | Node::UnlistenStmt(_) | Node::NotifyStmt(_) | Node::VariableShowStmt(_)
            )
        ),
        _ => true,
    }
}

/// A definition that only adds a name: [`Named::creates`](super::lookup::Named) knows of it.
fn only_adds(statement: &Statement) -> bool {
    let adds = match statement.tree.as_ref().and_then(|t| t.node.as_ref()) {
        Some(
            Node::CreateStmt(_) | Node::CreateTableAsStmt(_) | Node::IndexStmt(_) | Node::CreateSeqStmt(_),
        ) => true,
        // Other views may read the one that is replaced.
        Some(Node::ViewStmt(view)) => !view.replace,
        _ => false,
    };
    adds && statement.facts.functions.is_empty()
}

/// Takes back what is said of a statement before which names may come to mean something else.
pub(super) fn unsettle(resolved: &mut Resolved, statement: &Statement, all: ClassSet) {
    resolved.incomplete.insert("unresolved");
    resolved.sensitive = all;
    resolved.touched = all;
    if statement.facts.access != Access::Read {
        resolved.copied = all;
    }
    if resolved.outputs != Outputs::None {
        resolved.outputs = Outputs::Unknown(all);
    }
}
