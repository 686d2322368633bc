//! Whether a WHERE clause leaves anything out.

use pg_query::{NodeEnum as K, protobuf as pb};

use super::Walker;

/// Whether a condition may be false for some rows: it names a column, in every arm of an OR. `WHERE true`,
/// `WHERE 1 = 1`, `WHERE id = id` and `WHERE id = 5 OR true` leave nothing out. No proof: `WHERE id IS NOT NULL` passes.
pub(super) fn restricts(condition: Option<&pb::Node>) -> bool {
    leaves_out(condition, false)
}

fn leaves_out(condition: Option<&pb::Node>, negated: bool) -> bool {
    let Some(kind) = condition.and_then(|n| n.node.as_ref()) else {
        return false;
    };
    match kind {
        K::BoolExpr(b) => {
            let mut arms = b.args.iter();
            // NOT (a AND b) is NOT a OR NOT b.
            match pb::BoolExprType::try_from(b.boolop) {
                Ok(pb::BoolExprType::AndExpr) if !negated => arms.any(|arm| leaves_out(Some(arm), negated)),
                Ok(pb::BoolExprType::OrExpr) if negated => arms.any(|arm| leaves_out(Some(arm), negated)),
                Ok(pb::BoolExprType::NotExpr) => arms.any(|arm| leaves_out(Some(arm), !negated)),
                _ => arms.all(|arm| leaves_out(Some(arm), negated)),
            }
        }
        K::AExpr(e) => match (column(e.lexpr.as_deref()), column(e.rexpr.as_deref())) {
            (Some(left), Some(right)) if left == right => false,
            _ => names_column(kind),
        },
        _ => names_column(kind),
    }
}

fn names_column(kind: &K) -> bool {
    let mut w = Walker::new();
    w.deeper(|w| w.node(kind));
    w.columns
}

fn column(node: Option<&pb::Node>) -> Option<Vec<&str>> {
    match node?.node.as_ref()? {
        K::ColumnRef(c) => Some(super::strings(&c.fields)),
        _ => None,
    }
}
