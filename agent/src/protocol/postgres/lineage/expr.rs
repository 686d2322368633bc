//! Expressions: everything that stands in them flows into their value.

use pg_query::{
    NodeEnum,
    protobuf::{
        AExpr, AExprKind, ColumnRef, JsonAggConstructor, JsonBehavior, JsonValueExpr, Node, SubLink,
        SubLinkType,
    },
};

use super::{
    flow::Flow,
    name,
    resolver::{Resolver, UNKNOWN_FUNCTION},
    rows::{Col, Value, join},
    scope::{Meaning, Scope},
    words,
};

/// Operators whose result is true or false: it tells something of the operands, but is none of them.
const COMPARISONS: &[&str] = &[
    "=", "<>", "!=", "<", ">", "<=", ">=", "~", "~*", "!~", "!~*", "~~", "~~*", "!~~", "!~~*", "@>", "<@",
    "&&", "?", "?|", "?&", "@?", "@@", "^@",
];

impl Resolver<'_> {
    /// What an expression's value is made of.
    pub(super) fn expr(&mut self, node: &Node, scope: &Scope<'_>) -> Value {
        self.deeper(|r| r.expression(node, scope))
            .unwrap_or_else(|| (Flow::OPAQUE | self.all).into())
    }

    fn flow(&mut self, node: Option<&Node>, scope: &Scope<'_>) -> Flow {
        node.map(|n| self.expr(n, scope).flow).unwrap_or_default()
    }

    fn flows<'n>(&mut self, nodes: impl IntoIterator<Item = &'n Node>, scope: &Scope<'_>) -> Flow {
        let mut flow = Flow::NONE;
        for node in nodes {
            flow |= match self.star(node, scope) {
                Some(rows) => rows.flow(),
                None => self.expr(node, scope).flow,
            };
        }
        flow
    }

    fn expression(&mut self, node: &Node, scope: &Scope<'_>) -> Value {
        let Some(kind) = &node.node else {
            return Value::default();
        };
        match kind {
            NodeEnum::AConst(_)
            | NodeEnum::ParamRef(_)
            | NodeEnum::SetToDefault(_)
            | NodeEnum::SqlvalueFunction(_)
            | NodeEnum::MergeSupportFunc(_)
            | NodeEnum::CurrentOfExpr(_)
            | NodeEnum::String(_)
            | NodeEnum::Integer(_) => Value::default(),
            NodeEnum::ColumnRef(column) => self.column_ref(column, node, scope),
            NodeEnum::AExpr(e) => self.operator(e, scope).into(),
            NodeEnum::FuncCall(call) => self.call(call, scope),
            NodeEnum::SubLink(link) => self.sub_link(link, scope),
            NodeEnum::AIndirection(indirection) => match indirection.arg.as_deref() {
                Some(arg) => match self.star(node, scope) {
                    Some(rows) => rows.flow().into(),
                    None => self.fields(arg, &indirection.indirection, scope),
                },
                None => Flow::OPAQUE.into(),
            },
            NodeEnum::TypeCast(cast) => {
                let mut value = cast
                    .arg
                    .as_deref()
                    .map(|a| self.expr(a, scope))
                    .unwrap_or_default();
                self.need_basics();
                let checks = cast.type_name.as_ref().is_some_and(|of| {
                    let (schema, name) = name::type_name(of);
                    self.checks_by_code(schema, name)
                });
                if self.catalog.has_opaque_casts() || checks {
                    value.flow.opaque = true;
                    self.opaque_calls = true;
                    self.incomplete.insert(UNKNOWN_FUNCTION);
                }
                Value {
                    flow: value.flow,
                    ..Value::default()
                }
            }
            NodeEnum::BoolExpr(e) => self.flows(&e.args, scope).computed().into(),
            NodeEnum::NullTest(e) => self.flow(e.arg.as_deref(), scope).computed().into(),
            NodeEnum::BooleanTest(e) => self.flow(e.arg.as_deref(), scope).computed().into(),
            NodeEnum::CaseExpr(case) => {
                let mut value = case
                    .defresult
                    .as_deref()
                    .map(|d| self.expr(d, scope))
                    .unwrap_or_default();
                let arg = self.flow(case.arg.as_deref(), scope).computed();
                for when in &case.args {
                    let Some(NodeEnum::CaseWhen(when)) = &when.node else {
                        continue;
                    };
                    let chosen = self.flow(when.expr.as_deref(), scope).computed();
                    if let Some(result) = when.result.as_deref() {
                        let result = self.expr(result, scope);
                        value = join(&value, &result);
                    }
                    value.flow |= chosen;
                }
                value.flow |= arg;
                value.fields = None;
                value
            }
            NodeEnum::CoalesceExpr(e) => self.flows(&e.args, scope).into(),
            NodeEnum::MinMaxExpr(e) => self.flows(&e.args, scope).into(),
            NodeEnum::AArrayExpr(e) => match e.elements.as_slice() {
                [one] => {
                    let mut value = self.expr(one, scope);
                    value.type_oid = 0;
                    value
                }
                many => self.flows(many, scope).into(),
            },
            NodeEnum::RowExpr(row) => self.row(&row.args, scope),
            NodeEnum::List(list) => self.flows(&list.items, scope).into(),
            NodeEnum::CollateClause(e) => self.flow(e.arg.as_deref(), scope).into(),
            NodeEnum::NamedArgExpr(e) => self.flow(e.arg.as_deref(), scope).into(),
            NodeEnum::SortBy(e) => self.flow(e.node.as_deref(), scope).into(),
            NodeEnum::ResTarget(e) => self.flow(e.val.as_deref(), scope).into(),
            NodeEnum::MultiAssignRef(e) => self.flow(e.source.as_deref(), scope).into(),
            NodeEnum::WindowDef(e) => self.window(e, scope).into(),
            NodeEnum::IndexElem(e) => self.flow(e.expr.as_deref(), scope).into(),
            NodeEnum::GroupingSet(e) => self.flows(&e.content, scope).into(),
            NodeEnum::GroupingFunc(e) => {
                self.flows(&e.args, scope);
                Value::default()
            }
            NodeEnum::XmlExpr(e) => self.flows(e.args.iter().chain(&e.named_args), scope).into(),
            NodeEnum::XmlSerialize(e) => self.flow(e.expr.as_deref(), scope).into(),
            _ => self.json(kind, scope).into(),
        }
    }

    /// The SQL/JSON constructors and query functions; whatever else there is, is opaque.
    fn json(&mut self, kind: &NodeEnum, scope: &Scope<'_>) -> Flow {
        match kind {
            NodeEnum::JsonValueExpr(e) => self.json_value(Some(e), scope),
            NodeEnum::JsonKeyValue(e) => {
                self.flow(e.key.as_deref(), scope) | self.json_value(e.value.as_deref(), scope)
            }
            NodeEnum::JsonArgument(e) => self.json_value(e.val.as_deref(), scope),
            NodeEnum::JsonObjectConstructor(e) => self.flows(&e.exprs, scope),
            NodeEnum::JsonArrayConstructor(e) => self.flows(&e.exprs, scope),
            NodeEnum::JsonArrayQueryConstructor(e) => match e.query.as_deref() {
                Some(query) => self.rows_of(query, scope).flow(),
                None => Flow::OPAQUE,
            },
            NodeEnum::JsonObjectAgg(e) => {
                let flow = self.json_aggregate(e.constructor.as_deref(), scope);
                match e.arg.as_deref() {
                    Some(pair) => {
                        flow | self.flow(pair.key.as_deref(), scope)
                            | self.json_value(pair.value.as_deref(), scope)
                    }
                    None => flow,
                }
            }
            NodeEnum::JsonArrayAgg(e) => {
                self.json_aggregate(e.constructor.as_deref(), scope)
                    | self.json_value(e.arg.as_deref(), scope)
            }
            NodeEnum::JsonParseExpr(e) => self.json_value(e.expr.as_deref(), scope),
            NodeEnum::JsonScalarExpr(e) => self.flow(e.expr.as_deref(), scope),
            NodeEnum::JsonSerializeExpr(e) => self.json_value(e.expr.as_deref(), scope),
            NodeEnum::JsonIsPredicate(e) => self.flow(e.expr.as_deref(), scope).computed(),
            NodeEnum::JsonFuncExpr(e) => {
                self.json_value(e.context_item.as_deref(), scope)
                    | self.flow(e.pathspec.as_deref(), scope)
                    | self.flows(&e.passing, scope)
                    | self.json_behavior(e.on_empty.as_deref(), scope)
                    | self.json_behavior(e.on_error.as_deref(), scope)
            }
            _ => Flow::OPAQUE,
        }
    }

    pub(super) fn json_value(&mut self, value: Option<&JsonValueExpr>, scope: &Scope<'_>) -> Flow {
        value.map_or(Flow::NONE, |v| {
            self.flow(v.raw_expr.as_deref(), scope) | self.flow(v.formatted_expr.as_deref(), scope)
        })
    }

    pub(super) fn json_behavior(&mut self, behavior: Option<&JsonBehavior>, scope: &Scope<'_>) -> Flow {
        self.flow(behavior.and_then(|b| b.expr.as_deref()), scope)
    }

    fn json_aggregate(&mut self, constructor: Option<&JsonAggConstructor>, scope: &Scope<'_>) -> Flow {
        let Some(c) = constructor else {
            return Flow::NONE;
        };
        self.flows(&c.agg_order, scope);
        if let Some(over) = &c.over {
            self.window(over, scope);
        }
        self.flow(c.agg_filter.as_deref(), scope).computed()
    }

    fn row(&mut self, args: &[Node], scope: &Scope<'_>) -> Value {
        let mut fields = Vec::new();
        let mut flow = Flow::NONE;
        let mut exact = true;
        for (i, arg) in args.iter().enumerate() {
            if let Some(rows) = self.star(arg, scope) {
                exact = false;
                flow |= rows.flow();
            } else {
                let value = self.expr(arg, scope);
                flow |= value.flow;
                fields.push(Col {
                    name: format!("f{}", i + 1).into(),
                    value,
                    origin: None,
                });
            }
        }
        Value {
            flow,
            fields: exact.then(|| fields.into()),
            type_oid: 0,
        }
    }

    fn operator(&mut self, e: &AExpr, scope: &Scope<'_>) -> Flow {
        let mut flow = self.flow(e.lexpr.as_deref(), scope) | self.flow(e.rexpr.as_deref(), scope);
        let (_, operator) = name::qualified(&e.name);
        let kind = AExprKind::try_from(e.kind).unwrap_or(AExprKind::Undefined);
        let test = match kind {
            AExprKind::AexprOp => e.lexpr.is_some() && COMPARISONS.contains(&operator),
            AExprKind::AexprNullif | AExprKind::Undefined => false,
            _ => true,
        };
        // BETWEEN and the like name no operator of SQL, but use some.
        let used: &[&str] = match kind {
            AExprKind::AexprBetween
            | AExprKind::AexprNotBetween
            | AExprKind::AexprBetweenSym
            | AExprKind::AexprNotBetweenSym => &["<=", ">=", "<", ">"],
            _ => &[],
        };
        self.need_basics();
        let opaque = self.catalog.is_opaque_operator(operator)
            || used.iter().any(|o| self.catalog.is_opaque_operator(o));
        if opaque {
            self.opaque_calls = true;
            self.incomplete.insert("unknown_operator");
        }
        if test {
            flow = flow.computed();
        }
        if opaque { flow | Flow::OPAQUE } else { flow }
    }

    fn sub_link(&mut self, link: &SubLink, scope: &Scope<'_>) -> Value {
        let kind = SubLinkType::try_from(link.sub_link_type).unwrap_or(SubLinkType::Undefined);
        let test = self.flow(link.testexpr.as_deref(), scope);
        let Some(query) = link.subselect.as_deref() else {
            return Flow::OPAQUE.into();
        };
        let outer = std::mem::take(&mut self.chosen);
        let rows = self.rows_of(query, scope);
        let chosen = std::mem::replace(&mut self.chosen, outer);
        self.chosen |= chosen;
        match kind {
            SubLinkType::ExistsSublink => chosen.computed().into(),
            SubLinkType::AllSublink | SubLinkType::AnySublink | SubLinkType::RowcompareSublink => {
                (test | rows.flow()).computed().into()
            }
            SubLinkType::ExprSublink | SubLinkType::ArraySublink => match rows.cols.as_slice() {
                [one] if rows.open.is_none() => one.value.clone(),
                _ => rows.flow().into(),
            },
            _ => (test | rows.flow()).into(),
        }
    }

    fn column_ref(&mut self, column: &ColumnRef, node: &Node, scope: &Scope<'_>) -> Value {
        if let Some(rows) = self.star(node, scope) {
            return rows.flow().into();
        }
        let path: Vec<&str> = column.fields.iter().filter_map(name::string).collect();
        match path.as_slice() {
            [column] => self.bare_column(column, scope),
            [.., relation, column] => {
                let schema = path.len().checked_sub(3).map(|i| path[i]);
                self.entry_column(schema, relation, column, scope)
            }
            [] => Flow::OPAQUE.into(),
        }
    }

    fn bare_column(&mut self, column: &str, scope: &Scope<'_>) -> Value {
        match scope.column(column) {
            Meaning::Cols(cols) => {
                let mut value: Option<Value> = None;
                for col in cols {
                    self.note(&col);
                    value = Some(match value {
                        None => col.value,
                        Some(value) => join(&value, &col.value),
                    });
                }
                value.unwrap_or_default()
            }
            Meaning::Open(flow) => match scope.entry(None, column) {
                // Perhaps the whole row of something, perhaps a column.
                Some(entry) => (flow | entry.whole().flow).into(),
                None => flow.into(),
            },
            Meaning::Nothing => {
                if let Some(entry) = scope.entry(None, column) {
                    let entry = entry.clone();
                    for col in entry.cols.iter() {
                        self.note(col);
                    }
                    return entry.whole();
                }
                if words::is_system_column(column) {
                    return Value::default();
                }
                self.unknown_column().into()
            }
        }
    }

    fn entry_column(
        &mut self,
        schema: Option<&str>,
        relation: &str,
        column: &str,
        scope: &Scope<'_>,
    ) -> Value {
        let Some(entry) = scope.entry(schema, relation).cloned() else {
            return self.unknown_column().into();
        };
        let mut found = entry.cols.iter().filter(|c| *c.name == *column);
        if let Some(col) = found.next() {
            self.note(col);
            let mut value = col.value.clone();
            for more in found {
                self.note(more);
                value = join(&value, &more.value);
            }
            return value;
        }
        if let Some(flow) = entry.open {
            return flow.into();
        }
        if words::is_system_column(column) {
            return Value::default();
        }
        self.unknown_column();
        let whole = entry.whole();
        for col in entry.cols.iter() {
            self.note(col);
        }
        let flow = self.attribute_call(column, whole.flow);
        flow.into()
    }
}
