//! Permits that can never have an effect, because a forbid without condition covers them.

use cedar_policy::{ActionConstraint, PrincipalConstraint, ResourceConstraint};

use super::{Problem, rule::Rule, schema::Schema};

/// A warning for each permit that one forbid covers as a whole.
pub fn shadowed(schema: &Schema, rules: &[Rule]) -> Vec<Problem> {
    let forbids: Vec<_> = rules
        .iter()
        .filter(|r| !r.permits() && r.approval.is_empty() && !r.policy.has_non_scope_constraint())
        .collect();
    rules
        .iter()
        .filter(|r| r.permits())
        .filter_map(|permit| {
            let forbid = forbids.iter().find(|f| covers(schema, f, permit))?;
            Some(permit.note(
                &format!(
                    "it never permits anything, because '{}' forbids all of it",
                    forbid.id
                ),
                Some("remove one of the two, or narrow the forbid"),
            ))
        })
        .collect()
}

fn covers(schema: &Schema, forbid: &Rule, permit: &Rule) -> bool {
    let principal = match forbid.policy.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
        constraint => constraint == permit.policy.principal_constraint(),
    };
    let resource = match forbid.policy.resource_constraint() {
        ResourceConstraint::Any => true,
        constraint => constraint == permit.policy.resource_constraint(),
    };
    let mut actions = schema
        .actions
        .values()
        .filter(|a| applies(&permit.policy.action_constraint(), a));
    principal && resource && actions.all(|a| applies(&forbid.policy.action_constraint(), a))
}

fn applies(constraint: &ActionConstraint, action: &super::schema::Action) -> bool {
    match constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => *uid == action.uid,
        ActionConstraint::In(uids) => uids.iter().any(|u| action.within.contains(u)),
    }
}
