//! Function calls.

use std::sync::Arc;

use pg_query::{
    NodeEnum,
    protobuf::{FuncCall, Node, WindowDef},
};

use super::{
    flow::Flow,
    name,
    resolver::{Callee, Found, Resolver, UNKNOWN_FUNCTION},
    rows::{Col, Value},
    scope::Scope,
    words,
};
use crate::protocol::postgres::{
    catalog::{FIRST_USER_OID, Known, Shape},
    sql::{Aggregate, Name, aggregate, is_pure},
};

impl Resolver<'_> {
    pub(super) fn call(&mut self, call: &FuncCall, scope: &Scope<'_>) -> Value {
        let (schema, function) = name::qualified(&call.funcname);
        let mut args = Flow::NONE;
        let mut fields = None;
        for (i, arg) in call.args.iter().enumerate() {
            let value = self.argument(arg, scope);
            args |= value.flow;
            if i == 0 {
                fields = value.fields;
            }
        }
        for sort in &call.agg_order {
            let flow = self.condition(Some(sort), scope);
            if call.agg_within_group {
                args |= flow;
            }
        }
        let mut flow = self.condition(call.agg_filter.as_deref(), scope).computed();
        if let Some(over) = &call.over {
            let order = self.window(over, scope);
            if words::is_ranking(function) {
                flow |= order.computed();
            }
        }
        let callee = self.callee(schema, function, arity(call));
        self.note_call(Name::new(schema, function), arity(call));
        if callee == Callee::Builtin && aggregate(function) == Some(Aggregate::Computing) {
            return (flow | args.computed()).into();
        }
        flow |= self.called(callee, args);
        if words::makes_rows(function) && self.checks_by_code(None, "") {
            // Of the type that the first argument has.
            self.incomplete.insert(UNKNOWN_FUNCTION);
            flow |= Flow::OPAQUE;
        }
        if callee == Callee::Builtin && function == "current_setting" && !is_plain_setting(call) {
            // A setting of one's own holds whatever was put into it.
            flow |= Flow::OPAQUE;
        }
        if flow.has_classes() && !is_pure(&Name::new(schema, function)) && self.keeps(schema, function) {
            self.copied |= flow;
        }
        // The row itself, or many of them.
        let same = matches!(
            function,
            "array_agg" | "unnest" | "max" | "min" | "any_value" | "lag" | "lead"
        ) || matches!(
            function,
            "first_value" | "last_value" | "nth_value" | "array_append" | "array_cat"
        );
        Value {
            flow,
            fields: fields.filter(|_| same && callee == Callee::Builtin),
            type_oid: 0,
        }
    }

    /// Whether a function that is not known as pure may keep its arguments: it is volatile, or may do anything.
    fn keeps(&mut self, schema: Option<&str>, function: &str) -> bool {
        self.is_harmless(&Name::new(schema, function)) == Some(false)
    }

    /// Whether making a value of a type may run code: a domain with such a check, or a type that can be made of one.
    pub(super) fn checks_by_code(&mut self, schema: Option<&str>, name: &str) -> bool {
        self.need_basics();
        let domains = self.catalog.opaque_domains();
        let built_in = schema == Some("pg_catalog") || (schema.is_none() && is_scalar_type(name));
        !domains.is_empty() && (!built_in || (schema.is_none() && domains.iter().any(|d| **d == *name)))
    }

    /// `row.function`: what looks like a field and is not known as one.
    pub(super) fn attribute_call(&mut self, function: &str, row: Flow) -> Flow {
        match self.user_callee(function) {
            Some(callee) => self.called(callee, row),
            None => row,
        }
    }

    fn argument(&mut self, arg: &Node, scope: &Scope<'_>) -> Value {
        let arg = match &arg.node {
            Some(NodeEnum::NamedArgExpr(named)) => named.arg.as_deref().unwrap_or(arg),
            _ => arg,
        };
        // `f(t.*)` hands over the row.
        match self.star(arg, scope) {
            Some(rows) => rows.flow().into(),
            None => self.expr(arg, scope),
        }
    }

    pub(super) fn window(&mut self, window: &WindowDef, scope: &Scope<'_>) -> Flow {
        let mut flow = Flow::NONE;
        for node in window.partition_clause.iter().chain(&window.order_clause) {
            flow |= self.condition(Some(node), scope);
        }
        self.condition(window.start_offset.as_deref(), scope);
        self.condition(window.end_offset.as_deref(), scope);
        flow
    }

    /// The fields' names of what an expression gives, if it is a row whose type can be told.
    pub(super) fn row_names(
        &mut self,
        node: &Node,
        value: &Value,
        scope: &Scope<'_>,
    ) -> Option<Arc<[Arc<str>]>> {
        if let Some(fields) = &value.fields {
            return Some(fields.iter().map(|c| c.name.clone()).collect());
        }
        if let Some(names) = self.type_names(value.type_oid) {
            return Some(names);
        }
        match &node.node {
            Some(NodeEnum::TypeCast(cast)) => {
                let (schema, of) = name::type_name(cast.type_name.as_ref()?);
                match self.find(&Name::new(schema, of)) {
                    Found::Relation(relation) => {
                        Some(relation.columns.iter().map(|c| c.name.clone()).collect())
                    }
                    Found::Absent | Found::Unknown => None,
                }
            }
            Some(NodeEnum::FuncCall(call)) => {
                let (schema, function) = name::qualified(&call.funcname);
                match self.shape(schema, function, arity(call).unwrap_or_default()) {
                    Shape::Columns(names) => Some(names),
                    Shape::Scalar => None,
                    Shape::Open => {
                        // json_populate_record(null::customers, ...): the first argument says.
                        let first = call.args.first()?;
                        let value = self.argument(first, scope);
                        self.deeper(|r| r.row_names(first, &value, scope)).flatten()
                    }
                }
            }
            _ => None,
        }
    }

    /// The field names of a composite type that is not built in.
    pub(super) fn type_names(&mut self, oid: u32) -> Option<Arc<[Arc<str>]>> {
        if oid < FIRST_USER_OID {
            return None;
        }
        match self.catalog.type_known(oid) {
            Known::Unknown => {
                self.needs.types.insert(oid);
                None
            }
            Known::Absent => None,
            Known::Found(found) if found.fields.is_empty() => None,
            Known::Found(found) => Some(found.fields.iter().map(|(name, ..)| name.clone()).collect()),
        }
    }

    /// Whether a value can be a row, or an array of rows, whose fields are not known.
    pub(super) fn may_be_row(&self, node: &Node, value: &Value) -> bool {
        if value.type_oid != 0 {
            return value.type_oid >= FIRST_USER_OID || matches!(value.type_oid, 2249 | 2287);
        }
        match &node.node {
            Some(NodeEnum::AConst(_)) => false,
            Some(NodeEnum::AArrayExpr(array)) => array
                .elements
                .iter()
                .any(|e| self.may_be_row(e, &Value::default())),
            Some(NodeEnum::TypeCast(cast)) => cast.type_name.as_ref().is_none_or(|t| {
                let (schema, of) = name::type_name(t);
                !(schema == Some("pg_catalog") || is_scalar_type(of))
            }),
            Some(NodeEnum::FuncCall(call)) => {
                let (_, function) = name::qualified(&call.funcname);
                !matches!(
                    function,
                    "string_to_array"
                        | "regexp_split_to_array"
                        | "regexp_match"
                        | "generate_series"
                        | "array_fill"
                )
            }
            _ => true,
        }
    }

    pub(super) fn function_cols(&self, names: &[Arc<str>], flow: Flow) -> Vec<Col> {
        names.iter().map(|n| Col::new(n.clone(), flow)).collect()
    }
}

/// How many arguments a call has, when that can be told.
pub(super) fn arity(call: &FuncCall) -> Option<usize> {
    if call.agg_star {
        return Some(0);
    }
    let own = call.args.len();
    Some(if call.agg_within_group {
        own + call.agg_order.len()
    } else {
        own
    })
    .filter(|_| !call.func_variadic)
}

fn is_scalar_type(name: &str) -> bool {
    matches!(
        name,
        "text"
            | "varchar"
            | "bpchar"
            | "name"
            | "int2"
            | "int4"
            | "int8"
            | "oid"
            | "uuid"
            | "numeric"
            | "float4"
            | "float8"
            | "bool"
            | "date"
            | "timestamp"
            | "timestamptz"
            | "time"
            | "interval"
            | "bytea"
            | "json"
            | "jsonb"
            | "inet"
            | "regclass"
            | "regtype"
            | "regproc"
            | "jsonpath"
            | "tsvector"
            | "tsquery"
            | "xml"
            | "money"
            | "cidr"
            | "macaddr"
            | "timetz"
            | "bit"
            | "varbit"
            | "char"
    )
}

/// `current_setting('name')` of a setting that PostgreSQL defines.
fn is_plain_setting(call: &FuncCall) -> bool {
    let literal = call.args.first().and_then(|a| match &a.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(pg_query::protobuf::a_const::Val::Sval(s)) => Some(&s.sval),
            _ => None,
        },
        _ => None,
    });
    literal.is_some_and(|name| !name.contains('.'))
}
