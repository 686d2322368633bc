//! Names in parse trees, and the names that PostgreSQL gives to columns without one (`FigureColname`).

use std::sync::Arc;

use pg_query::{
    NodeEnum,
    protobuf::{Node, RangeVar, SubLinkType, TypeName},
};

use crate::protocol::postgres::sql::Name;

pub(super) fn string(node: &Node) -> Option<&str> {
    match &node.node {
        Some(NodeEnum::String(s)) => Some(&s.sval),
        _ => None,
    }
}

pub(super) fn strings(nodes: &[Node]) -> Vec<Arc<str>> {
    nodes.iter().filter_map(string).map(Arc::from).collect()
}

pub(super) fn relation(var: &RangeVar) -> Name {
    Name::new(Some(&var.schemaname), &var.relname)
}

/// Schema and name of a list of strings: the last two.
pub(super) fn qualified(nodes: &[Node]) -> (Option<&str>, &str) {
    let mut parts = nodes.iter().rev().filter_map(string);
    let last = parts.next().unwrap_or_default();
    (parts.next(), last)
}

pub(super) fn type_name(of: &TypeName) -> (Option<&str>, &str) {
    qualified(&of.names)
}

/// The name that an expression's column has.
pub(super) fn figure(node: &Node) -> &str {
    strong(node).map_or("?column?", |(name, _)| name)
}

/// The name and whether it is a strong one.
fn strong(node: &Node) -> Option<(&str, bool)> {
    let one = |name| Some((name, true));
    match node.node.as_ref()? {
        NodeEnum::ColumnRef(c) => c.fields.iter().rev().find_map(string).and_then(one),
        NodeEnum::AIndirection(i) => match i.indirection.iter().rev().find_map(string) {
            Some(name) => one(name),
            None => strong(i.arg.as_deref()?),
        },
        NodeEnum::FuncCall(f) => one(qualified(&f.funcname).1),
        NodeEnum::AExpr(e) if e.kind == pg_query::protobuf::AExprKind::AexprNullif as i32 => one("nullif"),
        NodeEnum::TypeCast(c) => {
            let inner = c.arg.as_deref().and_then(strong);
            match inner {
                Some((name, true)) => one(name),
                _ => c.type_name.as_ref().map(|t| (type_name(t).1, false)),
            }
        }
        NodeEnum::CollateClause(c) => strong(c.arg.as_deref()?),
        NodeEnum::GroupingFunc(_) => one("grouping"),
        NodeEnum::MergeSupportFunc(_) => one("merge_action"),
        NodeEnum::SubLink(s) => match SubLinkType::try_from(s.sub_link_type) {
            Ok(SubLinkType::ExistsSublink) => one("exists"),
            Ok(SubLinkType::ArraySublink) => one("array"),
            Ok(SubLinkType::ExprSublink) => {
                let Some(NodeEnum::SelectStmt(select)) = &s.subselect.as_deref()?.node else {
                    return None;
                };
                let Some(NodeEnum::ResTarget(target)) = &select.target_list.first()?.node else {
                    return None;
                };
                if target.name.is_empty() {
                    target.val.as_deref().and_then(strong)
                } else {
                    one(&target.name)
                }
            }
            _ => None,
        },
        NodeEnum::CaseExpr(c) => match c.defresult.as_deref().and_then(strong) {
            Some((name, true)) => one(name),
            _ => Some(("case", false)),
        },
        NodeEnum::AArrayExpr(_) => one("array"),
        NodeEnum::RowExpr(_) => one("row"),
        NodeEnum::CoalesceExpr(_) => one("coalesce"),
        NodeEnum::MinMaxExpr(m) => one(if m.op == pg_query::protobuf::MinMaxOp::IsGreatest as i32 {
            "greatest"
        } else {
            "least"
        }),
        NodeEnum::SqlvalueFunction(f) => one(value_function(f.op)),
        NodeEnum::XmlExpr(x) => one(xml(x.op)),
        NodeEnum::XmlSerialize(_) => one("xmlserialize"),
        NodeEnum::JsonParseExpr(_) => one("json"),
        NodeEnum::JsonScalarExpr(_) => one("json_scalar"),
        NodeEnum::JsonSerializeExpr(_) => one("json_serialize"),
        NodeEnum::JsonObjectConstructor(_) => one("json_object"),
        NodeEnum::JsonArrayConstructor(_) | NodeEnum::JsonArrayQueryConstructor(_) => one("json_array"),
        NodeEnum::JsonObjectAgg(_) => one("json_objectagg"),
        NodeEnum::JsonArrayAgg(_) => one("json_arrayagg"),
        NodeEnum::JsonFuncExpr(f) => one(match f.op {
            1 => "json_exists",
            2 => "json_query",
            _ => "json_value",
        }),
        _ => None,
    }
}

fn value_function(op: i32) -> &'static str {
    use pg_query::protobuf::SqlValueFunctionOp as Op;
    match Op::try_from(op).unwrap_or(Op::SqlvalueFunctionOpUndefined) {
        Op::SvfopCurrentDate => "current_date",
        Op::SvfopCurrentTime | Op::SvfopCurrentTimeN => "current_time",
        Op::SvfopCurrentTimestamp | Op::SvfopCurrentTimestampN => "current_timestamp",
        Op::SvfopLocaltime | Op::SvfopLocaltimeN => "localtime",
        Op::SvfopLocaltimestamp | Op::SvfopLocaltimestampN => "localtimestamp",
        Op::SvfopCurrentRole => "current_role",
        Op::SvfopUser => "user",
        Op::SvfopSessionUser => "session_user",
        Op::SvfopCurrentCatalog => "current_catalog",
        Op::SvfopCurrentSchema => "current_schema",
        _ => "current_user",
    }
}

fn xml(op: i32) -> &'static str {
    use pg_query::protobuf::XmlExprOp as Op;
    match Op::try_from(op).unwrap_or(Op::Undefined) {
        Op::IsXmlconcat => "xmlconcat",
        Op::IsXmlelement => "xmlelement",
        Op::IsXmlforest => "xmlforest",
        Op::IsXmlparse => "xmlparse",
        Op::IsXmlpi => "xmlpi",
        Op::IsXmlroot => "xmlroot",
        _ => "xmlserialize",
    }
}
