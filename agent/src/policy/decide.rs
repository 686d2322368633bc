//! From a question to a decision.
//!
//! Forbids are asked before permits, each slice on its own, and the answers are put together as Cedar does it for a
//! whole set, with one difference: any error denies. Cedar skips a policy that fails, so that a failing `forbid` would
//! allow.

use std::{collections::HashMap, sync::Arc};

use cedar_policy::{Authorizer, Context, Decision as Cedar, Entities, Entity, EntityUid, Request};

use super::{
    PolicySet, Query,
    context::{self, Unaskable, convert},
    index::{Bucket, Index, Key},
    rule::Rule,
    schema::REVEAL,
    set::place,
    shape::Shape,
};
use crate::model::{ClassSet, Decision, Effect, HoldTerms, Obligations, Reason, Requirement, Value};

impl PolicySet {
    /// Decides. Never fails: whatever cannot be decided is denied, and the decision says why.
    #[must_use]
    pub fn decide(&self, query: &Query<'_>) -> Decision {
        match self.answer(query) {
            Ok(decision) => decision,
            Err(why) => self.decision(
                Effect::Deny,
                Reason::PolicyError,
                &[],
                Some(why.to_string().into()),
                query,
            ),
        }
    }

    /// Places of the policies whose scope matches, in order.
    pub(super) fn candidates(&self, query: &Query<'_>) -> Vec<usize> {
        let Ok(ask) = Ask::new(self, query) else {
            return Vec::new();
        };
        let mut places: Vec<usize> = ask
            .index
            .select(&ask.principals, &ask.resources)
            .flat_map(|b| b.permits.iter().chain(&b.forbids))
            .flat_map(cedar_policy::PolicySet::policies)
            .filter_map(|p| place(p.id()))
            .collect();
        places.sort_unstable();
        places
    }

    fn answer(&self, query: &Query<'_>) -> Result<Decision, Unaskable> {
        let ask = Ask::new(self, query)?;
        let request = ask.request(ask.context.clone())?;
        let verdict = self.verdict(ask.index, &ask, &request);
        let mut decision = match verdict {
            Verdict::Error(places, message) => self.decision(
                Effect::Deny,
                Reason::PolicyError,
                &places,
                Some(message.into()),
                query,
            ),
            Verdict::Forbidden(places) => {
                self.decision(Effect::Deny, Reason::PolicyForbid, &places, None, query)
            }
            Verdict::Held(places) => {
                self.decision(Effect::Hold, Reason::ApprovalRequired, &places, None, query)
            }
            Verdict::NotPermitted => self.decision(Effect::Deny, Reason::PolicyDefaultDeny, &[], None, query),
            Verdict::Permitted(places) => {
                self.decision(Effect::Allow, Reason::PolicyPermit, &places, None, query)
            }
        };
        if decision.effect == Effect::Allow {
            decision.obligations.mask = self.masked(query, &ask)?;
        }
        Ok(decision)
    }

    /// Every class that is not revealed. Where no policy can reveal anything nothing is evaluated.
    fn masked(&self, query: &Query<'_>, ask: &Ask<'_>) -> Result<ClassSet, Unaskable> {
        let Some(index) = self.indexes.get(REVEAL) else {
            return Ok(all(query));
        };
        let buckets: Vec<&Bucket> = index
            .select(&ask.principals, &ask.resources)
            .filter(|b| b.permits.is_some())
            .collect();
        let mut masked = all(query);
        if buckets.is_empty() {
            return Ok(masked);
        }
        let members = self.contexts.get(REVEAL).ok_or_else(|| unknown(REVEAL))?;
        let base = context::context(query, members)?;
        let revealed = query
            .classes
            .iter()
            .filter(|(_, name)| buckets.iter().any(|b| b.classes.may(name)));
        for (class, name) in revealed {
            let context = if members.contains_key("class") {
                let class = context::class(name)?;
                base.clone()
                    .merge(class)
                    .map_err(|e| Unaskable::Cedar(e.to_string()))?
            } else {
                base.clone()
            };
            let request = ask.of(index.uid.clone(), context)?;
            if let Verdict::Permitted(_) = self.verdict(index, ask, &request) {
                masked.remove(class);
            }
        }
        Ok(masked)
    }

    fn verdict(&self, index: &Index, ask: &Ask<'_>, request: &Request) -> Verdict {
        let forbids = index
            .select(&ask.principals, &ask.resources)
            .filter_map(|b| b.forbids.as_ref());
        let (mut satisfied, mut error) = run(request, &ask.entities, forbids);
        if error.is_none() && satisfied.iter().any(|p| !self.holds(*p)) {
            return Verdict::Forbidden(satisfied);
        }
        let permits = index
            .select(&ask.principals, &ask.resources)
            .filter_map(|b| b.permits.as_ref());
        let (permitting, failing) = run(request, &ask.entities, permits);
        error = error.or(failing);
        match error {
            Some((places, message)) => Verdict::Error(places, message),
            None if permitting.is_empty() => Verdict::NotPermitted,
            None if satisfied.is_empty() => Verdict::Permitted(permitting),
            None => {
                satisfied.sort_unstable();
                Verdict::Held(satisfied)
            }
        }
    }

    fn holds(&self, place: usize) -> bool {
        self.rules().get(place).is_some_and(|r| !r.approval.is_empty())
    }

    fn decision(
        &self,
        effect: Effect,
        reason: Reason,
        places: &[usize],
        message: Option<Arc<str>>,
        query: &Query<'_>,
    ) -> Decision {
        let mut places = places.to_vec();
        places.sort_unstable();
        let rules: Vec<&Rule> = places.iter().filter_map(|p| self.rules().get(*p)).collect();
        Decision {
            effect,
            reason,
            message: message.or_else(|| rules.iter().find_map(|r| r.reason.clone())),
            policies: rules.iter().map(|r| r.id.clone()).collect(),
            controls: distinct(rules.iter().flat_map(|r| &r.controls)),
            approval: if effect == Effect::Hold {
                distinct(rules.iter().flat_map(|r| &r.approval))
            } else {
                Arc::default()
            },
            hold: (effect == Effect::Hold).then(|| Arc::new(terms(&rules))),
            policy_set: self.hash().clone(),
            obligations: Obligations { mask: all(query) },
        }
    }
}

/// What it takes to lift all of these.
fn terms(rules: &[&Rule]) -> HoldTerms {
    HoldTerms {
        requirements: rules
            .iter()
            .map(|rule| Requirement {
                policy: rule.id.clone(),
                groups: rule.approval.clone().into(),
                quorum: rule.quorum,
            })
            .collect(),
        wait: rules.iter().filter_map(|rule| rule.hold).min(),
    }
}

fn all(query: &Query<'_>) -> ClassSet {
    query.classes.iter().map(|(class, _)| class).collect()
}

fn distinct<'a>(words: impl Iterator<Item = &'a Arc<str>>) -> Arc<[Arc<str>]> {
    let mut seen: Vec<Arc<str>> = Vec::new();
    for word in words {
        if !seen.contains(word) {
            seen.push(word.clone());
        }
    }
    seen.into()
}

fn unknown(action: &str) -> Unaskable {
    Unaskable::Action(action.into())
}

enum Verdict {
    Error(Vec<usize>, String),
    Forbidden(Vec<usize>),
    Held(Vec<usize>),
    NotPermitted,
    Permitted(Vec<usize>),
}

type Failure = (Vec<usize>, String);

/// Evaluates slices that hold policies of one effect: the places of those that are satisfied, and of those that fail.
fn run<'a>(
    request: &Request,
    entities: &Entities,
    slices: impl Iterator<Item = &'a cedar_policy::PolicySet>,
) -> (Vec<usize>, Option<Failure>) {
    let (mut satisfied, mut failure) = (Vec::new(), None::<Failure>);
    for slice in slices {
        let response = Authorizer::new().is_authorized(request, slice, entities);
        for error in response.diagnostics().errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(inner) = error;
            let failure = failure.get_or_insert_with(|| (Vec::new(), inner.inner().to_string()));
            failure.0.extend(place(inner.policy_id()));
        }
        let decided = response.diagnostics().reason().filter_map(place);
        let before = satisfied.len();
        satisfied.extend(decided);
        // An allow that names no policy would be nobody's; it is none of ours.
        debug_assert!(response.decision() == Cedar::Deny || satisfied.len() > before);
    }
    (satisfied, failure)
}

/// A question in Cedar's terms.
struct Ask<'a> {
    index: &'a Index,
    principal: EntityUid,
    resource: EntityUid,
    principals: Vec<Key>,
    resources: Vec<Key>,
    entities: Entities,
    context: Context,
}

impl<'a> Ask<'a> {
    fn new(set: &'a PolicySet, query: &Query<'_>) -> Result<Self, Unaskable> {
        let operation = query.operation;
        let index = set
            .indexes
            .get(operation.action)
            .ok_or_else(|| unknown(operation.action))?;
        let members = set
            .contexts
            .get(operation.action)
            .ok_or_else(|| unknown(operation.action))?;
        let resource = &operation.resource;
        let fits = set
            .schema
            .actions
            .get(operation.action)
            .is_some_and(|a| a.resources.contains(resource.kind));
        let missing = || Unaskable::Resource(resource.kind.into());
        if !fits {
            return Err(missing());
        }
        let mut principals = vec![Key::ANY];
        let mut resources = vec![Key::ANY];
        resources.extend(set.names.kind(resource.kind));
        let workload = query.principal.workload.as_str();
        principals.extend(set.names.get("Workload", workload).map(|(key, _)| *key));
        resources.extend(set.names.get(resource.kind, &resource.id).map(|(key, _)| *key));

        // Groups and parents that no policy names cannot matter: policies get at them by name only.
        let mut groups = Vec::new();
        for (key, uid) in query
            .principal
            .groups
            .iter()
            .filter_map(|g| set.names.get("Group", g))
        {
            if !principals.contains(key) {
                principals.push(*key);
                groups.push(uid.clone());
            }
        }
        let mut parents = Vec::new();
        for (key, uid) in resource
            .parents
            .iter()
            .filter_map(|(kind, id)| set.names.get(kind, id))
        {
            if !resources.contains(key) {
                resources.push(*key);
                parents.push(uid.clone());
            }
        }
        let principal = set.names.uid("Workload", workload).ok_or_else(missing)?;
        let resource = set.names.uid(resource.kind, &resource.id).ok_or_else(missing)?;
        let entities = entities(set, query, index, (&principal, groups), (&resource, parents))?;
        Ok(Self {
            index,
            principal,
            resource,
            principals,
            resources,
            entities,
            context: context::context(query, members)?,
        })
    }

    fn request(&self, context: Context) -> Result<Request, Unaskable> {
        self.of(self.index.uid.clone(), context)
    }

    fn of(&self, action: EntityUid, context: Context) -> Result<Request, Unaskable> {
        // Without the schema: `context` has checked every member that policies can see.
        Request::new(
            self.principal.clone(),
            action,
            self.resource.clone(),
            context,
            None,
        )
        .map_err(|e| Unaskable::Cedar(e.to_string()))
    }
}

/// Only entities that have something to say: for Cedar one that does not exist has no parents and no attributes.
fn entities(
    set: &PolicySet,
    query: &Query<'_>,
    index: &Index,
    principal: (&EntityUid, Vec<EntityUid>),
    resource: (&EntityUid, Vec<EntityUid>),
) -> Result<Entities, Unaskable> {
    let mut attributes = HashMap::new();
    for (name, value) in [
        ("issuer", &query.principal.issuer),
        ("subject", &query.principal.subject),
    ] {
        if set.mentions.has(name) {
            let value = convert(name, &Value::String(value.clone()), &Shape::String)?;
            attributes.insert(name.to_owned(), value);
        }
    }
    let mut found: Vec<Entity> = index.entity.iter().cloned().collect();
    for (uid, parents, attributes) in [
        (principal.0, principal.1, attributes),
        (resource.0, resource.1, HashMap::new()),
    ] {
        if !parents.is_empty() || !attributes.is_empty() {
            let parents = parents.into_iter().collect();
            let entity =
                Entity::new(uid.clone(), attributes, parents).map_err(|e| Unaskable::Cedar(e.to_string()))?;
            found.push(entity);
        }
    }
    if found.is_empty() {
        return Ok(Entities::empty());
    }
    // Adding to nothing, not `from_entities`: that one looks for cycles in the whole graph, a fifth of a decision's cost.
    Entities::empty()
        .add_entities(found, None)
        .map_err(|e| Unaskable::Cedar(e.to_string()))
}
