//! INSERT, UPDATE, DELETE and MERGE: what they store where, and what RETURNING gives back.

use std::{rc::Rc, sync::Arc};

use pg_query::{
    NodeEnum,
    protobuf::{
        DeleteStmt, InsertStmt, MergeStmt, Node, RangeVar, ReturningClause, ReturningOptionKind, UpdateStmt,
    },
};

use super::{
    flow::Flow,
    name,
    resolver::{Found, Resolver},
    rows::{Col, Rows},
    scope::{Entry, Scope},
};
use crate::protocol::postgres::catalog::Relation;

/// The relation that a statement writes to, and what flows into its columns.
pub(super) struct Target {
    entry: Entry,
    /// `None` when it is not known.
    relation: Option<Arc<Relation>>,
    stored: Vec<Flow>,
}

impl Target {
    pub(super) fn into_entry(self) -> Entry {
        self.entry
    }
}

impl Resolver<'_> {
    pub(super) fn insert(&mut self, insert: &InsertStmt, outer: &Scope<'_>) -> Rows {
        let mut scope = Scope::inner(outer);
        scope.env = self.with(insert.with_clause.as_ref(), outer);
        let Some(mut target) = self.target(insert.relation.as_ref()) else {
            return Rows::open(Flow::OPAQUE);
        };
        if let Some(source) = insert.select_stmt.as_deref() {
            let rows = self.rows_of(source, &scope);
            let names: Vec<&str> = insert.cols.iter().filter_map(target_name).collect();
            self.store_rows(&mut target, &names, &rows);
        }
        if let Some(conflict) = &insert.on_conflict_clause {
            let mut excluded = stored_entry(&target);
            excluded.alias = "excluded".into();
            excluded.bare = false;
            scope.entries = vec![target.entry.clone(), excluded];
            if let Some(infer) = &conflict.infer {
                for node in infer.index_elems.iter().chain(infer.where_clause.as_deref()) {
                    self.condition(Some(node), &scope);
                }
            }
            self.set(&conflict.target_list, &scope, &mut target);
            self.condition(conflict.where_clause.as_deref(), &scope);
            scope.entries.clear();
        }
        self.returning(insert.returning_clause.as_ref(), &target, Vec::new(), scope)
    }

    pub(super) fn update(&mut self, update: &UpdateStmt, outer: &Scope<'_>) -> Rows {
        let mut scope = Scope::inner(outer);
        scope.env = self.with(update.with_clause.as_ref(), outer);
        let Some(mut target) = self.target(update.relation.as_ref()) else {
            return Rows::open(Flow::OPAQUE);
        };
        scope.entries.push(target.entry.clone());
        self.sources(&update.from_clause, &mut scope);
        self.set(&update.target_list, &scope, &mut target);
        self.condition(update.where_clause.as_deref(), &scope);
        let others = scope.entries.split_off(1);
        self.returning(update.returning_clause.as_ref(), &target, others, scope)
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt, outer: &Scope<'_>) -> Rows {
        let mut scope = Scope::inner(outer);
        scope.env = self.with(delete.with_clause.as_ref(), outer);
        let Some(target) = self.target(delete.relation.as_ref()) else {
            return Rows::open(Flow::OPAQUE);
        };
        scope.entries.push(target.entry.clone());
        self.sources(&delete.using_clause, &mut scope);
        self.condition(delete.where_clause.as_deref(), &scope);
        let others = scope.entries.split_off(1);
        self.returning(delete.returning_clause.as_ref(), &target, others, scope)
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt, outer: &Scope<'_>) -> Rows {
        let mut scope = Scope::inner(outer);
        scope.env = self.with(merge.with_clause.as_ref(), outer);
        let Some(mut target) = self.target(merge.relation.as_ref()) else {
            return Rows::open(Flow::OPAQUE);
        };
        let source = match merge.source_relation.as_deref() {
            Some(source) => self.source(source, &scope),
            None => Vec::new(),
        };
        scope.entries = source.clone();
        scope.entries.push(target.entry.clone());
        self.condition(merge.join_condition.as_deref(), &scope);
        for when in &merge.merge_when_clauses {
            let Some(NodeEnum::MergeWhenClause(when)) = &when.node else {
                continue;
            };
            self.condition(when.condition.as_deref(), &scope);
            if when.values.is_empty() {
                self.set(&when.target_list, &scope, &mut target);
            } else {
                let mut rows = Rows::default();
                for value in &when.values {
                    let value = self.expr(value, &scope);
                    rows.cols.push(Col::new("", value.flow));
                }
                let names: Vec<&str> = when.target_list.iter().filter_map(target_name).collect();
                self.store_rows(&mut target, &names, &rows);
            }
        }
        // RETURNING * gives the source's columns first.
        scope.entries = source;
        let rows = self.returning_in(merge.returning_clause.as_ref(), &target, scope, false);
        rows.unwrap_or_default()
    }

    /// The relation that is written to. `None` when there is none in the tree.
    pub(super) fn target(&mut self, var: Option<&RangeVar>) -> Option<Target> {
        let var = var?;
        let name = name::relation(var);
        let alias = var.alias.as_ref().map(|a| &*a.aliasname);
        let mut target = Target {
            entry: Entry::new(alias.unwrap_or(&var.relname), Rows::open(Flow::OPAQUE)),
            relation: None,
            stored: Vec::new(),
        };
        match self.find(&name) {
            Found::Relation(relation) => {
                self.note_written(&relation);
                target.entry = self.entry(&relation, alias);
                if alias.is_none() {
                    target.entry.schema = Some(relation.schema.clone());
                }
                if relation.has_rules {
                    // Rules put other statements in place of this one.
                    self.incomplete.insert("rules");
                }
                target.stored = vec![Flow::NONE; relation.columns.len()];
                target.relation = Some(relation);
            }
            Found::Absent => self.note_absent(&name, true),
            Found::Unknown => {}
        }
        Some(target)
    }

    /// Notes a relation as written; a view with what it is made of.
    pub(super) fn note_written(&mut self, relation: &Arc<Relation>) {
        self.note_relation(&relation.schema, &relation.name, true);
        self.relation_cols(relation);
        let Some(view) = &relation.view else {
            return;
        };
        for &oid in &view.relations {
            match self.catalog.relation_by_oid(oid).cloned() {
                Some(found) => {
                    self.deeper(|r| r.note_written(&found));
                }
                None => {
                    if matches!(
                        self.catalog.relation_known(oid),
                        crate::protocol::postgres::catalog::Known::Unknown
                    ) {
                        self.needs.oids.insert(oid);
                    }
                }
            }
        }
    }

    /// Notes what rows flow into which columns: those named, or all in order.
    pub(super) fn store_rows(&mut self, target: &mut Target, names: &[&str], rows: &Rows) {
        let all = rows.flow();
        let Some(relation) = target.relation.clone() else {
            self.copied |= all;
            return;
        };
        let places: Vec<usize> = if names.is_empty() {
            (0..relation.columns.len()).collect()
        } else {
            names
                .iter()
                .filter_map(|n| relation.columns.iter().position(|c| *c.name == **n))
                .collect()
        };
        if rows.open.is_some() || (!names.is_empty() && places.len() != names.len()) {
            for i in 0..relation.columns.len() {
                self.store(target, i, all);
            }
            return;
        }
        for (place, col) in places.into_iter().zip(&rows.cols) {
            self.store(target, place, col.value.flow);
        }
    }

    fn store(&mut self, target: &mut Target, place: usize, flow: Flow) {
        let own = target
            .entry
            .cols
            .get(place)
            .map(|c| c.value.flow)
            .unwrap_or_default();
        self.copied |= flow.beyond(own);
        if let Some(stored) = target.stored.get_mut(place) {
            *stored |= flow;
        }
    }

    /// SET column = expression.
    fn set(&mut self, targets: &[Node], scope: &Scope<'_>, target: &mut Target) {
        for node in targets {
            let Some(NodeEnum::ResTarget(set)) = &node.node else {
                continue;
            };
            let flow = self.condition(set.val.as_deref(), scope);
            let place = target.entry.cols.iter().position(|c| *c.name == *set.name);
            match place {
                Some(place) => {
                    let col = target.entry.cols.get(place).cloned();
                    if let Some(origin) = col.and_then(|c| c.origin) {
                        self.note_path(origin);
                    }
                    self.store(target, place, flow);
                }
                None => {
                    let unknown = self.unknown_column();
                    self.copied |= flow | unknown;
                }
            }
        }
    }

    fn returning(
        &mut self,
        clause: Option<&ReturningClause>,
        target: &Target,
        others: Vec<Entry>,
        mut scope: Scope<'_>,
    ) -> Rows {
        scope.entries = others;
        self.returning_in(clause, target, scope, true).unwrap_or_default()
    }

    fn returning_in(
        &mut self,
        clause: Option<&ReturningClause>,
        target: &Target,
        mut scope: Scope<'_>,
        first: bool,
    ) -> Option<Rows> {
        let clause = clause?;
        let entry = stored_entry(target);
        let named = |kind: ReturningOptionKind, default: &str| -> Arc<str> {
            let written = clause.options.iter().find_map(|o| match &o.node {
                Some(NodeEnum::ReturningOption(o)) if o.option == kind as i32 => Some(o.value.as_str()),
                _ => None,
            });
            written.unwrap_or(default).into()
        };
        for alias in [
            named(ReturningOptionKind::ReturningOptionOld, "old"),
            named(ReturningOptionKind::ReturningOptionNew, "new"),
        ] {
            // A relation may have that name itself.
            if scope.entries.iter().all(|e| e.alias != alias) && entry.alias != alias {
                let mut more = entry.clone();
                more.alias = alias;
                more.schema = None;
                more.bare = false;
                scope.entries.push(more);
            }
        }
        if first {
            scope.entries.insert(0, entry);
        } else {
            scope.entries.push(entry);
        }
        Some(self.targets(&clause.exprs, &scope))
    }
}

/// The target with what is stored in it.
fn stored_entry(target: &Target) -> Entry {
    let mut entry = target.entry.clone();
    let Some(relation) = &target.relation else {
        return entry;
    };
    let any = target.stored.iter().fold(Flow::NONE, |sum, f| sum | *f);
    let mut cols: Vec<Col> = entry.cols.to_vec();
    for (i, col) in cols.iter_mut().enumerate() {
        col.value.flow |= target.stored.get(i).copied().unwrap_or_default();
        if relation.columns.get(i).is_some_and(|c| c.generated.is_some()) || relation.view.is_some() {
            col.value.flow |= any;
        }
        if relation.has_rules {
            col.value.flow |= Flow::OPAQUE;
        }
    }
    entry.cols = Rc::from(cols);
    entry
}

fn target_name(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::ResTarget(target)) => Some(&target.name),
        _ => None,
    }
}
