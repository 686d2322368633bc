//! FROM: relations, sub-selects, joins, functions, XMLTABLE and JSON_TABLE.

use std::sync::Arc;

use pg_query::{
    NodeEnum,
    protobuf::{Alias, FuncCall, JoinExpr, JsonTable, Node, RangeFunction, RangeTableFunc},
};

use super::{
    call::arity,
    flow::Flow,
    name,
    resolver::{Callee, Resolver},
    rows::{Col, Rows, join},
    scope::{Entry, Scope, append, cte},
};
use crate::protocol::postgres::catalog::Shape;

impl Resolver<'_> {
    /// Puts the items of a FROM clause into a scope.
    pub(super) fn sources(&mut self, items: &[Node], scope: &mut Scope<'_>) {
        for item in items {
            let mut entries = self.source(item, scope);
            scope.entries.append(&mut entries);
        }
    }

    /// One item; `scope` has what stands before it, which only LATERAL sub-selects and functions see.
    pub(super) fn source(&mut self, item: &Node, scope: &Scope<'_>) -> Vec<Entry> {
        self.deeper(|r| r.item(item, scope))
            .unwrap_or_else(|| vec![Entry::new("", Rows::open(Flow::OPAQUE | self.all))])
    }

    fn item(&mut self, item: &Node, scope: &Scope<'_>) -> Vec<Entry> {
        match &item.node {
            Some(NodeEnum::RangeVar(var)) => {
                let alias = var.alias.as_ref();
                let shown = alias.map(|a| &*a.aliasname);
                let mut entry = match cte(&scope.env, &var.relname).filter(|_| var.schemaname.is_empty()) {
                    Some(found) => Entry::new(shown.unwrap_or(&var.relname), found.rows.clone()),
                    None => self.read(&name::relation(var), shown),
                };
                rename(&mut entry, alias);
                vec![entry]
            }
            Some(NodeEnum::RangeSubselect(sub)) => {
                let rows = match sub.subquery.as_deref() {
                    Some(query) if sub.lateral => {
                        let mut inner = Scope::inner(scope);
                        inner.env = scope.env.clone();
                        self.rows_of(query, &inner)
                    }
                    Some(query) => {
                        let mut hidden = scope.clone();
                        hidden.entries.clear();
                        self.rows_of(query, &hidden)
                    }
                    None => Rows::open(Flow::OPAQUE),
                };
                vec![aliased(rows, sub.alias.as_ref(), "")]
            }
            Some(NodeEnum::JoinExpr(join)) => self.join(join, scope),
            Some(NodeEnum::RangeFunction(function)) => vec![self.range_function(function, scope)],
            Some(NodeEnum::RangeTableFunc(table)) => vec![self.xml_table(table, scope)],
            Some(NodeEnum::JsonTable(table)) => vec![self.json_table(table, scope)],
            Some(NodeEnum::RangeTableSample(sample)) => {
                for arg in sample.args.iter().chain(sample.repeatable.as_deref()) {
                    self.condition(Some(arg), scope);
                }
                match sample.relation.as_deref() {
                    Some(relation) => self.source(relation, scope),
                    None => vec![Entry::new("", Rows::open(Flow::OPAQUE))],
                }
            }
            _ => vec![Entry::new("", Rows::open(Flow::OPAQUE))],
        }
    }

    fn join(&mut self, join: &JoinExpr, scope: &Scope<'_>) -> Vec<Entry> {
        let (Some(left), Some(right)) = (join.larg.as_deref(), join.rarg.as_deref()) else {
            return vec![Entry::new("", Rows::open(Flow::OPAQUE))];
        };
        let mut left = self.source(left, scope);
        let mut seen = scope.clone();
        seen.entries.extend(left.iter().cloned());
        let mut right = self.source(right, &seen);
        let (left_rows, right_rows) = (star(&left), star(&right));

        let mut on = Scope::inner(scope);
        on.entries = left.iter().chain(&right).cloned().collect();
        self.condition(join.quals.as_deref(), &on);

        let shared: Vec<Arc<str>> = if join.is_natural {
            let names = left_rows.cols.iter().map(|c| c.name.clone());
            names
                .filter(|n| right_rows.cols.iter().any(|c| c.name == *n))
                .collect()
        } else {
            name::strings(&join.using_clause)
        };
        let merging = join.is_natural || !shared.is_empty();
        if !merging && join.alias.is_none() {
            left.append(&mut right);
            return left;
        }
        let rows = self.merged(&shared, &left_rows, &right_rows);
        let mut using = join.join_using_alias.as_ref().map(|alias| {
            let cols = rows.cols.iter().take(shared.len()).cloned().collect();
            let mut entry = Entry::new(
                alias.aliasname.as_str(),
                Rows {
                    cols,
                    open: rows.open,
                },
            );
            entry.bare = false;
            entry
        });
        let mut merged = aliased(rows, join.alias.as_ref(), "");
        if join.alias.is_some() {
            // What is joined cannot be named any more.
            return using.take().into_iter().chain([merged]).collect();
        }
        merged.named = false;
        left.append(&mut right);
        for entry in &mut left {
            entry.bare = false;
        }
        left.extend(using);
        left.push(merged);
        left
    }

    /// The columns of a join that merges columns of one name.
    fn merged(&mut self, shared: &[Arc<str>], left: &Rows, right: &Rows) -> Rows {
        let mut rows = Rows::default();
        for shown in shared {
            let mut col = Col::new(shown.clone(), Flow::NONE);
            for side in [left, right] {
                match side.cols.iter().find(|c| c.name == *shown) {
                    Some(found) => {
                        self.note(found);
                        col.value = if col.value.flow == Flow::NONE {
                            found.value.clone()
                        } else {
                            join(&col.value, &found.value)
                        };
                    }
                    None => col.value.flow |= side.open.unwrap_or(Flow::OPAQUE),
                }
            }
            rows.cols.push(col);
        }
        for side in [left, right] {
            let rest = side.cols.iter().filter(|c| !shared.contains(&c.name)).cloned();
            let rest = Rows {
                cols: rest.collect(),
                open: side.open,
            };
            append(&mut rows, rest);
        }
        rows
    }

    fn range_function(&mut self, range: &RangeFunction, scope: &Scope<'_>) -> Entry {
        let mut inner = Scope::inner(scope);
        inner.env = scope.env.clone();
        let alias = range.alias.as_ref();
        let mut rows = Rows::default();
        let mut default = String::new();
        for function in &range.functions {
            let Some(NodeEnum::List(pair)) = &function.node else {
                continue;
            };
            let Some(call) = pair.items.first() else {
                continue;
            };
            if default.is_empty() {
                name::figure(call).clone_into(&mut default);
            }
            let defined = match pair.items.get(1).and_then(|d| d.node.as_ref()) {
                Some(NodeEnum::List(list)) if !list.items.is_empty() => definitions(&list.items),
                _ if range.functions.len() == 1 => definitions(&range.coldeflist),
                _ => Vec::new(),
            };
            // A function of one column has the alias for its column's name.
            let single = alias
                .filter(|_| range.functions.len() == 1)
                .map(|a| &*a.aliasname);
            let more = self.function_rows(call, &defined, single, &inner);
            append(&mut rows, more);
        }
        if range.ordinality {
            rows.cols.push(Col::new("ordinality", Flow::NONE));
        }
        aliased(rows, alias, &default)
    }

    fn function_rows(
        &mut self,
        node: &Node,
        defined: &[Arc<str>],
        alias: Option<&str>,
        scope: &Scope<'_>,
    ) -> Rows {
        let value = self.expr(node, scope);
        let exactly = |cols: Vec<Col>| Rows { cols, open: None };
        if !defined.is_empty() {
            return exactly(self.function_cols(defined, value.flow));
        }
        let one = |flow: Flow| vec![Col::new(alias.unwrap_or_else(|| name::figure(node)), flow)];
        let Some(NodeEnum::FuncCall(call)) = &node.node else {
            // CURRENT_DATE, CAST and the like.
            let open = self.may_be_row(node, &value).then_some(value.flow);
            return Rows {
                cols: one(value.flow),
                open,
            };
        };
        if let Some(fields) = &value.fields {
            return exactly(fields.to_vec());
        }
        let (schema, function) = name::qualified(&call.funcname);
        if function == "unnest" && schema.is_none_or(|s| s == "pg_catalog") {
            return self.unnest(call, alias, scope);
        }
        match self.shape(schema, function, arity(call).unwrap_or_default()) {
            Shape::Columns(names) => exactly(self.function_cols(&names, value.flow)),
            Shape::Scalar => exactly(one(value.flow)),
            Shape::Open => match self.row_names(node, &value, scope) {
                Some(names) => exactly(self.function_cols(&names, value.flow)),
                None => {
                    let builtin = self.callee(schema, function, arity(call)) == Callee::Builtin;
                    let scalar = builtin && call.args.iter().all(|a| !self.may_be_row(a, &value));
                    Rows {
                        cols: one(value.flow),
                        open: (!scalar || call.args.is_empty()).then_some(value.flow),
                    }
                }
            },
        }
    }

    /// `unnest(a, b)`: a column for each argument, or its fields when it is an array of rows.
    fn unnest(&mut self, call: &FuncCall, alias: Option<&str>, scope: &Scope<'_>) -> Rows {
        let mut rows = Rows::default();
        for arg in &call.args {
            let value = self.expr(arg, scope);
            let more = match &value.fields {
                Some(fields) => Rows {
                    cols: fields.to_vec(),
                    open: None,
                },
                None => Rows {
                    cols: vec![Col::new(alias.unwrap_or("unnest"), value.flow)],
                    open: self.may_be_row(arg, &value).then_some(value.flow),
                },
            };
            append(&mut rows, more);
        }
        rows
    }

    fn xml_table(&mut self, table: &RangeTableFunc, scope: &Scope<'_>) -> Entry {
        let mut inner = Scope::inner(scope);
        inner.env = scope.env.clone();
        let all = self.condition(table.docexpr.as_deref(), &inner)
            | self.condition(table.rowexpr.as_deref(), &inner);
        let mut rows = Rows::default();
        for column in &table.columns {
            let Some(NodeEnum::RangeTableFuncCol(column)) = &column.node else {
                continue;
            };
            let flow = all
                | self.condition(column.colexpr.as_deref(), &inner)
                | self.condition(column.coldefexpr.as_deref(), &inner);
            rows.cols.push(Col::new(column.colname.as_str(), flow));
        }
        aliased(rows, table.alias.as_ref(), "xmltable")
    }

    fn json_table(&mut self, table: &JsonTable, scope: &Scope<'_>) -> Entry {
        let mut inner = Scope::inner(scope);
        inner.env = scope.env.clone();
        let mut all = self.json_value(table.context_item.as_deref(), &inner);
        for passing in &table.passing {
            all |= self.condition(Some(passing), &inner);
        }
        all |= self.json_behavior(table.on_error.as_deref(), &inner);
        let mut rows = Rows::default();
        self.json_columns(&table.columns, all, &inner, &mut rows);
        aliased(rows, table.alias.as_ref(), "json_table")
    }

    fn json_columns(&mut self, columns: &[Node], all: Flow, scope: &Scope<'_>, rows: &mut Rows) {
        for column in columns {
            let Some(NodeEnum::JsonTableColumn(column)) = &column.node else {
                continue;
            };
            if !column.columns.is_empty() {
                let done = self.deeper(|r| r.json_columns(&column.columns, all, scope, rows));
                if done.is_none() {
                    rows.open = Some(Flow::OPAQUE);
                }
                continue;
            }
            let flow = all
                | self.json_behavior(column.on_empty.as_deref(), scope)
                | self.json_behavior(column.on_error.as_deref(), scope);
            rows.cols.push(Col::new(column.name.as_str(), flow));
        }
    }
}

/// What `*` means for some entries.
fn star(entries: &[Entry]) -> Rows {
    let mut rows = Rows::default();
    for entry in entries.iter().filter(|e| e.bare) {
        append(&mut rows, entry.rows());
    }
    rows
}

fn aliased(mut rows: Rows, alias: Option<&Alias>, default: &str) -> Entry {
    if let Some(alias) = alias {
        rows.rename(&name::strings(&alias.colnames));
    }
    Entry::new(alias.map_or(default, |a| &a.aliasname), rows)
}

fn rename(entry: &mut Entry, alias: Option<&Alias>) {
    let names = alias.map(|a| name::strings(&a.colnames)).unwrap_or_default();
    if names.is_empty() {
        return;
    }
    let mut rows = entry.rows();
    rows.rename(&names);
    entry.cols = rows.cols.into();
    entry.open = rows.open;
}

fn definitions(list: &[Node]) -> Vec<Arc<str>> {
    list.iter()
        .filter_map(|d| match &d.node {
            Some(NodeEnum::ColumnDef(column)) => Some(column.colname.as_str().into()),
            _ => None,
        })
        .collect()
}
