//! Queries and what changes rows.

use std::collections::hash_map::Entry;

use pg_query::{NodeEnum as K, protobuf as pb};

use super::{Part as _, Role, Walker, name_of, restrict::restricts};
use crate::protocol::postgres::sql::Access;

impl<'a> Walker<'a> {
    /// Runs with the CTEs of a statement in scope.
    fn scoped(&mut self, with: Option<&'a pb::WithClause>, then: impl FnOnce(&mut Self)) {
        let outer = self.ctes.len();
        self.reading(|w| {
            if let Some(with) = with {
                w.with(with);
            }
            then(w);
        });
        for name in self.ctes.drain(outer..) {
            if let Entry::Occupied(mut times) = self.visible.entry(name) {
                *times.get_mut() -= 1;
                if *times.get() == 0 {
                    times.remove();
                }
            }
        }
    }

    fn enter(&mut self, cte: &'a str) {
        self.ctes.push(cte);
        *self.visible.entry(cte).or_insert(0) += 1;
    }

    /// WITH: each query sees those before it; with RECURSIVE all of them, itself too. The names stay in scope until
    /// whoever called this takes them out.
    pub(super) fn with(&mut self, with: &'a pb::WithClause) {
        let name = |node: &'a pb::Node| match &node.node {
            Some(K::CommonTableExpr(cte)) => Some(cte.ctename.as_str()),
            _ => None,
        };
        if with.recursive {
            with.ctes.iter().filter_map(name).for_each(|cte| self.enter(cte));
        }
        for node in &with.ctes {
            node.visit(self);
            if let Some(cte) = name(node).filter(|_| !with.recursive) {
                self.enter(cte);
            }
        }
    }

    pub(super) fn select(&mut self, s: &'a pb::SelectStmt) {
        self.verb("select", Access::Read);
        self.select_without_verb(s);
    }

    fn select_without_verb(&mut self, s: &'a pb::SelectStmt) {
        let pb::SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = s;
        if into_clause.is_some() {
            self.verb("create", Access::Admin);
            into_clause.visit(self);
        }
        self.scoped(with_clause.as_ref(), |w| {
            for part in [
                distinct_clause,
                target_list,
                from_clause,
                group_clause,
                window_clause,
            ] {
                part.visit(w);
            }
            for part in [values_lists, sort_clause] {
                part.visit(w);
            }
            for part in [where_clause, having_clause, limit_offset, limit_count] {
                part.visit(w);
            }
            larg.visit(w);
            rarg.visit(w);
            for node in locking_clause {
                w.locking(node, s);
            }
        });
    }

    /// FOR UPDATE, FOR SHARE: PostgreSQL wants the right to update what is locked, and refuses it in a read-only
    /// transaction; so it counts as a write of those relations. The names after OF are aliases.
    fn locking(&mut self, node: &'a pb::Node, of: &'a pb::SelectStmt) {
        self.verb("lock", Access::Write);
        let Some(K::LockingClause(clause)) = &node.node else {
            self.incomplete("unknown_node");
            return;
        };
        let only: Vec<&str> = clause
            .locked_rels
            .iter()
            .filter_map(|n| match &n.node {
                Some(K::RangeVar(r)) => Some(r.relname.as_str()),
                _ => None,
            })
            .collect();
        self.locked(of, &only);
    }

    fn locked(&mut self, s: &'a pb::SelectStmt, only: &[&str]) {
        for node in &s.from_clause {
            self.locked_item(node, only);
        }
        for side in [&s.larg, &s.rarg].into_iter().flatten() {
            self.locked(side, only);
        }
    }

    fn locked_item(&mut self, node: &'a pb::Node, only: &[&str]) {
        let named = |alias: &Option<pb::Alias>, name: &str| {
            let alias = alias.as_ref().map_or(name, |a| a.aliasname.as_str());
            only.is_empty() || only.contains(&alias)
        };
        match &node.node {
            Some(K::RangeVar(r)) if !self.is_cte(r) && named(&r.alias, &r.relname) => {
                self.facts.writes.insert(name_of(r));
            }
            Some(K::JoinExpr(j)) => {
                // An alias for the whole join hides those inside.
                let only = if j.alias.is_some() { &[][..] } else { only };
                for side in [&j.larg, &j.rarg].into_iter().flatten() {
                    self.locked_item(side, only);
                }
            }
            Some(K::RangeTableSample(t)) => {
                if let Some(relation) = &t.relation {
                    self.locked_item(relation, only);
                }
            }
            Some(K::RangeSubselect(sub)) if named(&sub.alias, "") => {
                if let Some(K::SelectStmt(s)) = sub.subquery.as_ref().and_then(|q| q.node.as_ref()) {
                    self.locked(s, &[]);
                }
            }
            _ => {}
        }
    }

    fn target(&mut self, relation: Option<&'a pb::RangeVar>, read: bool) {
        if let Some(r) = relation {
            self.with_role(Role::Write, |w| w.relation(r));
            if read {
                self.facts.reads.insert(name_of(r));
            }
        }
    }

    pub(super) fn insert(&mut self, s: &'a pb::InsertStmt) {
        let pb::InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = s;
        self.verb("insert", Access::Write);
        let reads = on_conflict_clause.is_some() || returning_clause.is_some();
        self.target(relation.as_ref(), reads);
        self.scoped(with_clause.as_ref(), |w| {
            cols.visit(w);
            match select_stmt.as_ref().and_then(|n| n.node.as_ref()) {
                // VALUES of an INSERT is no query of its own.
                Some(K::SelectStmt(values)) if !values.values_lists.is_empty() => {
                    w.deeper(|w| w.select_without_verb(values));
                }
                _ => select_stmt.visit(w),
            }
            if let Some(conflict) = on_conflict_clause {
                if conflict.action == pb::OnConflictAction::OnconflictUpdate as i32 {
                    // It changes only the row that is in the way.
                    w.verb("update", Access::Write);
                    w.has_where(true);
                }
                conflict.visit(w);
            }
            returning_clause.visit(w);
        });
    }

    pub(super) fn update(&mut self, s: &'a pb::UpdateStmt) {
        let pb::UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = s;
        self.verb("update", Access::Write);
        self.target(relation.as_ref(), true);
        self.has_where(restricts(where_clause.as_deref()));
        self.scoped(with_clause.as_ref(), |w| {
            target_list.visit(w);
            where_clause.visit(w);
            from_clause.visit(w);
            returning_clause.visit(w);
        });
    }

    pub(super) fn delete(&mut self, s: &'a pb::DeleteStmt) {
        let pb::DeleteStmt {
            relation,
            using_clause,
            where_clause,
            returning_clause,
            with_clause,
        } = s;
        self.verb("delete", Access::Write);
        let reads = where_clause.is_some() || returning_clause.is_some();
        self.target(relation.as_ref(), reads);
        self.has_where(restricts(where_clause.as_deref()));
        self.scoped(with_clause.as_ref(), |w| {
            using_clause.visit(w);
            where_clause.visit(w);
            returning_clause.visit(w);
        });
    }

    pub(super) fn merge(&mut self, s: &'a pb::MergeStmt) {
        let pb::MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = s;
        self.verb("merge", Access::Write);
        self.target(relation.as_ref(), true);
        let joined = restricts(join_condition.as_deref());
        for node in merge_when_clauses {
            self.merge_when(node, joined);
        }
        self.scoped(with_clause.as_ref(), |w| {
            source_relation.visit(w);
            join_condition.visit(w);
            merge_when_clauses.visit(w);
            returning_clause.visit(w);
        });
    }

    fn merge_when(&mut self, node: &'a pb::Node, joined: bool) {
        let Some(K::MergeWhenClause(when)) = &node.node else {
            self.incomplete("unknown_node");
            return;
        };
        // What has no match in the source is bounded by the clause's own condition only.
        let by_source = when.match_kind == pb::MergeMatchKind::MergeWhenNotMatchedBySource as i32;
        let bounded = (joined && !by_source) || restricts(when.condition.as_deref());
        match pb::CmdType::try_from(when.command_type) {
            Ok(pb::CmdType::CmdInsert) => self.verb("insert", Access::Write),
            Ok(pb::CmdType::CmdUpdate) => {
                self.verb("update", Access::Write);
                self.has_where(bounded);
            }
            Ok(pb::CmdType::CmdDelete) => {
                self.verb("delete", Access::Write);
                self.has_where(bounded);
            }
            Ok(pb::CmdType::CmdNothing) => {}
            _ => self.incomplete("unknown_node"),
        }
    }

    fn has_where(&mut self, has: bool) {
        self.facts.has_where = Some(self.facts.has_where.unwrap_or(true) && has);
    }
}
