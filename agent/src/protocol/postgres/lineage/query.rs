//! SELECT, VALUES, set operations and CTEs.

use std::{rc::Rc, sync::Arc};

use pg_query::{
    NodeEnum,
    protobuf::{CommonTableExpr, Node, SelectStmt, SetOperation, WithClause},
};

use super::{
    flow::Flow,
    name,
    resolver::Resolver,
    rows::{Col, Rows, Value},
    scope::{Cte, Env, Meaning, Scope, append},
};

/// How often recursive CTEs are gone through until nothing changes. Flows only grow, so few rounds are needed.
const MOST_ROUNDS: usize = 32;

impl Resolver<'_> {
    /// The rows of anything that can stand as a query: SELECT, or a data-modifying statement with RETURNING.
    pub(super) fn rows_of(&mut self, node: &Node, outer: &Scope<'_>) -> Rows {
        let done = self.deeper(|r| match &node.node {
            Some(NodeEnum::SelectStmt(select)) => r.select(select, outer),
            Some(NodeEnum::InsertStmt(insert)) => r.insert(insert, outer),
            Some(NodeEnum::UpdateStmt(update)) => r.update(update, outer),
            Some(NodeEnum::DeleteStmt(delete)) => r.delete(delete, outer),
            Some(NodeEnum::MergeStmt(merge)) => r.merge(merge, outer),
            _ => Rows::open(Flow::OPAQUE),
        });
        done.unwrap_or_else(|| Rows::open(Flow::OPAQUE | self.all))
    }

    pub(super) fn select(&mut self, select: &SelectStmt, outer: &Scope<'_>) -> Rows {
        let env = self.with(select.with_clause.as_ref(), outer);
        self.select_in(select, env, outer)
    }

    fn select_in(&mut self, select: &SelectStmt, env: Env, outer: &Scope<'_>) -> Rows {
        let mut scope = Scope::inner(outer);
        scope.env = env;
        let rows = if let (Some(left), Some(right)) = (&select.larg, &select.rarg) {
            let done = self.deeper(|r| {
                let left = r.select(left, &scope);
                let right = r.select(right, &scope);
                if select.op != SetOperation::SetopUnion as i32 {
                    r.chosen |= left.flow() | right.flow();
                }
                if select.op == SetOperation::SetopExcept as i32 && right.open.is_none() {
                    left
                } else {
                    left.union(&right)
                }
            });
            done.unwrap_or_else(|| Rows::open(Flow::OPAQUE | self.all))
        } else if select.values_lists.is_empty() {
            self.sources(&select.from_clause, &mut scope);
            self.targets(&select.target_list, &scope)
        } else {
            self.values(&select.values_lists, &scope)
        };
        self.condition(select.where_clause.as_deref(), &scope);
        self.condition(select.having_clause.as_deref(), &scope);
        self.condition(select.limit_count.as_deref(), &scope);
        self.condition(select.limit_offset.as_deref(), &scope);
        for clause in [
            &select.distinct_clause,
            &select.group_clause,
            &select.window_clause,
            &select.sort_clause,
        ] {
            for node in clause {
                self.ordering(node, &scope, &rows);
            }
        }
        rows
    }

    /// WHERE, ON and so on: read, but nothing flows. What would flow if it stood in a select list.
    pub(super) fn condition(&mut self, node: Option<&Node>, scope: &Scope<'_>) -> Flow {
        let flow = node.map(|n| self.expr(n, scope).flow).unwrap_or_default();
        if !self.in_view() {
            self.chosen |= flow;
        }
        flow
    }

    /// ORDER BY, GROUP BY and the like, which can name output columns.
    fn ordering(&mut self, node: &Node, scope: &Scope<'_>, rows: &Rows) {
        match &node.node {
            Some(NodeEnum::SortBy(sort)) => {
                if let Some(node) = sort.node.as_deref() {
                    self.ordering(node, scope, rows);
                }
            }
            Some(NodeEnum::GroupingSet(set)) => {
                self.deeper(|r| set.content.iter().for_each(|n| r.ordering(n, scope, rows)));
            }
            Some(NodeEnum::ColumnRef(column)) => {
                let output = match column.fields.as_slice() {
                    [one] => name::string(one).is_some_and(|n| rows.cols.iter().any(|c| &*c.name == n)),
                    _ => false,
                };
                let known = match column.fields.as_slice() {
                    [one] => name::string(one).is_some_and(|n| !matches!(scope.column(n), Meaning::Nothing)),
                    _ => true,
                };
                if !output || known {
                    self.expr(node, scope);
                }
            }
            None => {}
            Some(_) => {
                self.expr(node, scope);
            }
        }
    }

    fn values(&mut self, lists: &[Node], scope: &Scope<'_>) -> Rows {
        let mut rows: Option<Rows> = None;
        for list in lists {
            let Some(NodeEnum::List(list)) = &list.node else {
                continue;
            };
            let mut row = Rows::default();
            for (i, item) in list.items.iter().enumerate() {
                if let Some(star) = self.star(item, scope) {
                    append(&mut row, star);
                } else {
                    row.cols.push(Col {
                        name: format!("column{}", i + 1).into(),
                        value: self.expr(item, scope),
                        origin: None,
                    });
                }
            }
            rows = Some(match rows {
                None => row,
                Some(rows) => rows.union(&row),
            });
        }
        rows.unwrap_or_default()
    }

    /// A select list or RETURNING list.
    pub(super) fn targets(&mut self, targets: &[Node], scope: &Scope<'_>) -> Rows {
        let mut rows = Rows::default();
        for target in targets {
            let Some(NodeEnum::ResTarget(target)) = &target.node else {
                continue;
            };
            let Some(val) = target.val.as_deref() else {
                continue;
            };
            if let Some(star) = self.star(val, scope) {
                append(&mut rows, star);
                continue;
            }
            let shown: Arc<str> = if target.name.is_empty() {
                name::figure(val).into()
            } else {
                target.name.as_str().into()
            };
            rows.cols.push(Col {
                name: shown,
                value: self.expr(val, scope),
                origin: None,
            });
        }
        rows
    }

    /// `*`, `t.*`, `(row).*`, expanded; `None` when it is none of them.
    pub(super) fn star(&mut self, node: &Node, scope: &Scope<'_>) -> Option<Rows> {
        match &node.node {
            Some(NodeEnum::ColumnRef(column)) => {
                let (last, before) = column.fields.split_last()?;
                if !matches!(last.node, Some(NodeEnum::AStar(_))) {
                    return None;
                }
                let path: Vec<&str> = before.iter().filter_map(name::string).collect();
                let rows = match path.as_slice() {
                    [] => scope.star(),
                    [.., relation] => {
                        let schema = path.len().checked_sub(2).map(|i| path[i]);
                        match scope.entry(schema, relation) {
                            Some(entry) => entry.rows(),
                            None => Rows::open(self.unknown_column()),
                        }
                    }
                };
                for col in &rows.cols {
                    self.note(col);
                }
                Some(rows)
            }
            Some(NodeEnum::AIndirection(indirection)) => {
                let (last, before) = indirection.indirection.split_last()?;
                if !matches!(last.node, Some(NodeEnum::AStar(_))) {
                    return None;
                }
                let arg = indirection.arg.as_deref()?;
                let value = self.fields(arg, before, scope);
                if let Some(fields) = &value.fields {
                    return Some(Rows {
                        cols: fields.to_vec(),
                        open: None,
                    });
                }
                let names = if before.is_empty() {
                    self.row_names(arg, &value, scope)
                } else {
                    self.type_names(value.type_oid)
                };
                Some(match names {
                    Some(names) => Rows {
                        cols: names.iter().map(|n| Col::new(n.clone(), value.flow)).collect(),
                        open: None,
                    },
                    None => Rows::open(value.flow),
                })
            }
            _ => None,
        }
    }

    /// The CTEs of a WITH clause, on top of those in force.
    pub(super) fn with(&mut self, with: Option<&WithClause>, outer: &Scope<'_>) -> Env {
        let mut env = outer.env.clone();
        let Some(with) = with else {
            return env;
        };
        let ctes: Vec<&CommonTableExpr> = with
            .ctes
            .iter()
            .filter_map(|c| match &c.node {
                Some(NodeEnum::CommonTableExpr(cte)) => Some(&**cte),
                _ => None,
            })
            .collect();
        if !with.recursive {
            for cte in ctes {
                let rows = self.cte(cte, &env, outer);
                env = push(env, cte, rows);
            }
            return env;
        }
        // Each can name itself and those after it: begin with nothing, and go round until nothing is added.
        let mut all: Vec<Rows> = ctes.iter().map(|_| Rows::open(Flow::NONE)).collect();
        for round in 0.. {
            let mut changed = false;
            for i in 0..ctes.len() {
                let inner = push_all(env.clone(), &ctes, &all);
                let mut rows = self.cte(ctes[i], &inner, outer);
                if round >= MOST_ROUNDS {
                    rows = Rows::open(Flow::OPAQUE | self.all);
                }
                changed |= !rows.same_flows(&all[i]);
                all[i] = rows;
            }
            if !changed || round > MOST_ROUNDS {
                break;
            }
        }
        push_all(env, &ctes, &all)
    }

    fn cte(&mut self, cte: &CommonTableExpr, env: &Env, outer: &Scope<'_>) -> Rows {
        let mut scope = Scope::inner(outer);
        scope.env = env.clone();
        let Some(query) = cte.ctequery.as_deref() else {
            return Rows::open(Flow::OPAQUE);
        };
        let mut rows = match &query.node {
            // The recursive term of a UNION: the first term alone says how many columns there are.
            Some(NodeEnum::SelectStmt(select)) => self.recursive(cte, select, &scope),
            _ => self.rows_of(query, &scope),
        };
        rows.rename(&name::strings(&cte.aliascolnames));
        let listed = |rows: &Rows, list: &[Node]| {
            let names = name::strings(list);
            rows.cols
                .iter()
                .filter(|c| names.contains(&c.name))
                .fold(rows.open.unwrap_or_default(), |sum, c| sum | c.value.flow)
        };
        if let Some(search) = &cte.search_clause {
            let flow = listed(&rows, &search.search_col_list);
            rows.cols.push(Col::new(search.search_seq_column.as_str(), flow));
        }
        if let Some(cycle) = &cte.cycle_clause {
            let flow = listed(&rows, &cycle.cycle_col_list);
            rows.cols
                .push(Col::new(cycle.cycle_mark_column.as_str(), flow.computed()));
            rows.cols.push(Col::new(cycle.cycle_path_column.as_str(), flow));
        }
        rows
    }

    fn recursive(&mut self, cte: &CommonTableExpr, select: &SelectStmt, scope: &Scope<'_>) -> Rows {
        let unknown = super::scope::cte(&scope.env, &cte.ctename)
            .is_some_and(|known| known.rows.open == Some(Flow::NONE) && known.rows.cols.is_empty());
        let (Some(left), true, true) = (
            &select.larg,
            unknown,
            select.op == SetOperation::SetopUnion as i32,
        ) else {
            return self
                .deeper(|r| r.select(select, scope))
                .unwrap_or_else(|| Rows::open(Flow::OPAQUE | self.all));
        };
        // First round: columns from the non-recursive term, with the CTE's own WITH in force.
        let env = self.with(select.with_clause.as_ref(), scope);
        let mut inner = Scope::inner(scope);
        inner.env = env;
        self.deeper(|r| r.select(left, &inner))
            .unwrap_or_else(|| Rows::open(Flow::OPAQUE | self.all))
    }

    /// What `(expr).a.b[1]` is, given the indirections.
    pub(super) fn fields(&mut self, arg: &Node, path: &[Node], scope: &Scope<'_>) -> Value {
        let mut value = self.expr(arg, scope);
        for step in path {
            match &step.node {
                Some(NodeEnum::String(field)) => value = self.field(&value, &field.sval),
                Some(NodeEnum::AIndices(indices)) => {
                    let by = self.condition(indices.lidx.as_deref(), scope)
                        | self.condition(indices.uidx.as_deref(), scope);
                    value = Value {
                        flow: value.flow | by,
                        fields: value.fields.clone(),
                        type_oid: 0,
                    };
                }
                _ => {}
            }
        }
        value
    }

    fn field(&mut self, value: &Value, field: &str) -> Value {
        if let Some(col) = value
            .fields
            .as_ref()
            .and_then(|fields| fields.iter().find(|c| *c.name == *field))
        {
            let col = col.clone();
            self.note(&col);
            return col.value;
        }
        let known = value.fields.is_none()
            && self
                .type_names(value.type_oid)
                .is_some_and(|names| names.iter().any(|n| **n == *field));
        if known {
            return value.flow.into();
        }
        // Not known as a field: perhaps a function of the row, in the notation of a field.
        self.attribute_call(field, value.flow).into()
    }
}

fn push(env: Env, cte: &CommonTableExpr, rows: Rows) -> Env {
    Some(Rc::new(Cte {
        name: cte.ctename.as_str().into(),
        rows,
        outer: env,
    }))
}

fn push_all(mut env: Env, ctes: &[&CommonTableExpr], all: &[Rows]) -> Env {
    for (cte, rows) in ctes.iter().zip(all) {
        env = push(env, cte, rows.clone());
    }
    env
}
