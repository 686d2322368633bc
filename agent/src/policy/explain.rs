//! A decision with everything that led to it, for people.

use std::{path::PathBuf, sync::Arc};

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::{PolicySet, Query, Rule, access::access, context};
use crate::model::{Rfc3339, Value};

/// A decision, the policies behind it, and what they were asked.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// `allow`, `hold` or `deny`.
    pub decision: &'static str,
    /// The reason's word.
    pub reason: &'static str,
    /// The author's words, or what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Arc<str>>,
    /// The policies that determined it.
    pub policies: Vec<Policy>,
    /// Policies whose scope matches, but whose condition does not: what it would have taken.
    pub considered: Vec<Policy>,
    /// Controls that the determining policies carry.
    pub controls: Arc<[Arc<str>]>,
    /// Groups that may approve it.
    pub approval: Arc<[Arc<str>]>,
    /// Data classes masked in what comes back.
    pub masked: Vec<Arc<str>>,
    /// Data classes shown.
    pub revealed: Vec<Arc<str>>,
    /// The policy set's hash.
    pub policy_set: Arc<str>,
    /// Principal, action, resource and the whole context.
    pub inputs: Json,
}

/// A policy and where it is.
#[derive(Clone, Debug, Serialize)]
pub struct Policy {
    /// Its id.
    pub id: Arc<str>,
    /// `permit` or `forbid`.
    pub effect: &'static str,
    /// Its file.
    pub file: PathBuf,
    /// The line where it starts.
    pub line: usize,
    /// As written.
    pub text: String,
}

impl From<&Rule> for Policy {
    fn from(rule: &Rule) -> Self {
        Self {
            id: rule.id.clone(),
            effect: if rule.permits() { "permit" } else { "forbid" },
            file: rule.path.clone(),
            line: rule.line,
            text: rule.text.clone(),
        }
    }
}

impl PolicySet {
    /// Decides, and says why.
    #[must_use]
    pub fn explain(&self, query: &Query<'_>) -> Explanation {
        let decision = self.decide(query);
        let places = self.candidates(query);
        let (policies, considered): (Vec<&Rule>, Vec<&Rule>) = {
            let determining = |rule: &&Rule| decision.policies.contains(&rule.id);
            let rules = places.iter().filter_map(|p| self.rules().get(*p));
            rules.partition(determining)
        };
        let (masked, revealed): (Vec<_>, Vec<_>) = query
            .classes
            .iter()
            .partition(|(class, _)| decision.obligations.mask.contains(*class));
        let names = |classes: Vec<(_, &Arc<str>)>| classes.into_iter().map(|(_, n)| n.clone()).collect();
        Explanation {
            decision: decision.effect.as_str(),
            reason: decision.reason.as_str(),
            message: decision.message,
            policies: policies.into_iter().map(Into::into).collect(),
            considered: considered.into_iter().map(Into::into).collect(),
            controls: decision.controls,
            approval: decision.approval,
            masked: names(masked),
            revealed: names(revealed),
            policy_set: decision.policy_set,
            inputs: inputs(query),
        }
    }
}

/// What policy is asked, as the schema names it; the context with every member, whether policies look at it or not.
#[must_use]
pub fn inputs(query: &Query<'_>) -> Json {
    let operation = query.operation;
    let (class, complete) = access(operation);
    let mut context = Map::new();
    let mut put = |name: &str, value: Json| drop(context.insert(name.into(), value));
    put("access", class.as_str().into());
    put("complete", complete.into());
    put(
        "time",
        json!(Rfc3339(query.now_ns - query.now_ns.rem_euclid(1_000_000_000))),
    );
    put("process", json!(context::process(query)));
    put("destination", json!(context::destination(query)));
    if let Some(approval) = context::approval(query) {
        put("approval", json!(approval));
    }
    let mut record = operation.context.1.clone();
    if let Value::Record(record) = &mut record {
        record.remove("access");
        record.remove("complete");
    }
    put(operation.context.0, json!(record));
    let parents: Vec<_> = operation
        .resource
        .parents
        .iter()
        .map(|(kind, id)| json!({ "type": kind, "id": id }))
        .collect();
    json!({
        "principal": {
            "type": "Workload",
            "id": query.principal.workload,
            "issuer": query.principal.issuer,
            "subject": query.principal.subject,
            "groups": query.principal.groups,
        },
        "action": operation.action,
        "resource": { "type": operation.resource.kind, "id": operation.resource.id, "in": parents },
        "context": context,
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{World, request, set};

    #[test]
    fn it_says_what_decided_and_what_would_have() {
        let set = set("@id(\"r\") permit(principal, action == Action::\"http:request\", resource) when { context.access == \"read\" };
            @id(\"w\") permit(principal in Group::\"deploy\", action == Action::\"http:request\", resource) when { context.http.path == \"/w\" };
            @id(\"x\") permit(principal in Group::\"others\", action == Action::\"http:request\", resource);");
        let world = World::default();
        let get = request("GET", "api.internal", "/a");
        let explanation = set.explain(&world.query(&get));
        assert_eq!(explanation.decision, "allow");
        assert_eq!(
            (&*explanation.policies[0].id, explanation.policies[0].line),
            ("r", 1)
        );
        assert_eq!(explanation.considered.len(), 1);
        assert_eq!(&*explanation.considered[0].id, "w");
        assert_eq!(explanation.masked.len(), 3);
        let inputs = explanation.inputs;
        assert_eq!(inputs["context"]["http"]["path"], "/a");
        assert_eq!(inputs["context"]["time"], "2026-11-21T07:00:00.000000000Z");
        assert_eq!(inputs["context"]["destination"]["address"], "10.0.0.5");
        assert_eq!(inputs["principal"]["groups"][0], "readers");
        assert_eq!(inputs["resource"]["in"][0]["id"], "api.internal");
    }
}
