//! Each rule of deciding, and sliced evaluation against Cedar's own of the whole set.

use std::collections::{BTreeSet, HashMap, HashSet};

use cedar_policy::{
    Authorizer, Entities, Entity, EntityUid, PolicySet as Cedar, Request, RestrictedExpression,
};
use proptest::prelude::*;

use super::{
    fixture::{NOW, World, connect, file, request, set, statement},
    *,
};
use crate::model::{ClassId, Decision, Effect, Operation, Reason, Value};

const PERMIT: &str = "@id(\"all\") permit(principal, action, resource);";

fn decide(text: &str, operation: &Operation) -> Decision {
    set(text).decide(&World::default().query(operation))
}

fn get() -> Operation {
    request("GET", "api.internal", "/customers/7")
}

fn ids(decision: &Decision) -> Vec<&str> {
    decision.policies.iter().map(|p| &**p).collect()
}

#[test]
fn no_policy_denies() {
    let empty = PolicySet::load(&[]).unwrap();
    let decision = empty.decide(&World::default().query(&get()));
    assert_eq!(
        (decision.effect, decision.reason),
        (Effect::Deny, Reason::PolicyDefaultDeny)
    );
    assert_eq!(decision.obligations.mask.iter().count(), 3);
}

#[test]
fn annotations_go_into_the_decision() {
    let text = "@id(\"a\") @reason(\"because\") @control(\"AC-3, AC-6\")
        permit(principal, action == Action::\"http:request\", resource);
        permit(principal in Group::\"readers\", action, resource);
        forbid(principal in Group::\"others\", action, resource);";
    let decision = decide(text, &get());
    assert_eq!(
        (decision.effect, decision.reason),
        (Effect::Allow, Reason::PolicyPermit)
    );
    assert_eq!(ids(&decision), ["a", "test.cedar:3"]);
    assert_eq!(decision.message.as_deref(), Some("because"));
    assert_eq!(decision.controls.join(" "), "AC-3 AC-6");
    assert_eq!(decision.policy_set.len(), 64);
}

#[test]
fn a_forbid_wins() {
    let text = format!(
        "{PERMIT} @id(\"no\") forbid(principal, action == Action::\"http:request\", resource in HttpHost::\"api.internal\") when {{ context.http.method == \"GET\" }};"
    );
    let decision = decide(&text, &get());
    assert_eq!(
        (decision.effect, decision.reason),
        (Effect::Deny, Reason::PolicyForbid)
    );
    assert_eq!(ids(&decision), ["no"]);
    assert_eq!(decide(&text, &request("GET", "other", "/")).effect, Effect::Allow);
}

/// Long overflow is what strict validation cannot exclude.
const FAILS: &str =
    "when { context.destination.port + 9223372036854775807 > 0 && context.http.method == \"GET\" }";

#[test]
fn a_policy_that_fails_denies() {
    for effect in ["forbid", "permit"] {
        let text = format!(
            "{PERMIT} @id(\"bad\") {effect}(principal, action == Action::\"http:request\", resource) {FAILS};"
        );
        let decision = decide(&text, &get());
        assert_eq!(
            (decision.effect, decision.reason),
            (Effect::Deny, Reason::PolicyError)
        );
        assert_eq!(ids(&decision), ["bad"]);
        assert!(decision.message.unwrap().contains("overflow"));
        // One whose scope does not match is not evaluated.
        assert_eq!(decide(&text, &connect("10.0.0.5:5432")).effect, Effect::Allow);
    }
}

#[test]
fn what_the_schema_does_not_have_denies() {
    let mut operation = get();
    operation.action = "ftp:get";
    assert_eq!(decide(PERMIT, &operation).reason, Reason::PolicyError);
    let mut operation = get();
    operation.resource.kind = "TcpEndpoint";
    assert_eq!(decide(PERMIT, &operation).reason, Reason::PolicyError);
    let text = "permit(principal, action == Action::\"http:request\", resource) when { context.http.method == \"GET\" };";
    let mut operation = get();
    operation.context.1 = Value::record([]);
    assert_eq!(decide(text, &operation).reason, Reason::PolicyError);
    operation.context.1 = Value::record([("method", 1.into())]);
    assert_eq!(decide(text, &operation).reason, Reason::PolicyError);
    operation.context.0 = "ftp";
    assert_eq!(decide(text, &operation).reason, Reason::PolicyError);
}

/// Asks about a statement with one member of its record replaced.
fn with(text: &str, name: &'static str, value: Value) -> Decision {
    let mut operation = statement();
    if let Value::Record(record) = &mut operation.context.1 {
        record.insert(name, value);
    }
    decide(text, &operation)
}

fn words(words: &[&str]) -> Value {
    Value::Set(words.iter().map(|w| (*w).into()).collect())
}

#[test]
fn a_statement_is_decided_by_its_sets() {
    let text = "@id(\"grant\") permit(principal, action == Action::\"sql:statement\", resource in DatabaseServer::\"billing-db\")
        when { [\"select\", \"show\"].containsAll(context.sql.verbs)
            && [\"public\"].containsAll(context.sql.read_schemas)
            && context.sql.writes.isEmpty() && context.complete };
        @id(\"where\") forbid(principal, action == Action::\"sql:statement\", resource == Database::\"billing-db/app\")
        when { context.sql has has_where && !context.sql.has_where };";
    let effect = |name, value| with(text, name, value).effect;
    assert_eq!(effect("verbs", words(&["select"])), Effect::Allow);
    assert_eq!(effect("verbs", words(&["show", "select", "show"])), Effect::Allow);
    assert_eq!(effect("verbs", words(&["delete", "select"])), Effect::Deny);
    assert_eq!(effect("read_schemas", words(&["public", "secret"])), Effect::Deny);
    assert_eq!(effect("writes", words(&["public.a"])), Effect::Deny);
    assert_eq!(effect("complete", false.into()), Effect::Deny);
    assert_eq!(ids(&with(text, "has_where", false.into())), ["where"]);
    assert_eq!(effect("has_where", true.into()), Effect::Allow);
    // A set of anything else, or none, is an error, which denies.
    for wrong in [Value::Set([true.into()].into()), "select".into()] {
        assert_eq!(with(text, "verbs", wrong).reason, Reason::PolicyError);
    }
    let mut other = statement();
    other.resource.parents = vec![("DatabaseServer", "other".into())];
    assert_eq!(decide(text, &other).effect, Effect::Deny);
}

#[test]
fn what_a_statement_returns_is_revealed_by_class_and_relation() {
    let text = "permit(principal, action == Action::\"sql:statement\", resource);
        permit(principal, action == Action::\"reveal\", resource in DatabaseServer::\"billing-db\")
        when { context.class == \"us_ssn\" && context.operation == \"sql:statement\"
            && context has sql && [\"public.customers\"].containsAll(context.sql.reads) };";
    let masked = |reads| {
        let decision = with(text, "reads", words(reads));
        assert_eq!(decision.effect, Effect::Allow);
        decision.obligations.mask.iter().count()
    };
    assert_eq!(masked(&["public.customers"]), 2);
    assert_eq!(masked(&["public.customers", "public.orders"]), 3);
}

const HOLD: &str = "@id(\"ask\") @approval(\"dba, leads\") @reason(\"deletes are approved\")
    forbid(principal, action == Action::\"http:request\", resource) when { context.access == \"admin\" }
    unless { context has approval && context.approval.group == \"dba\" };";

#[test]
fn a_forbid_with_approval_holds() {
    let delete = request("DELETE", "api.internal", "/customers/7");
    let text = format!("{PERMIT} {HOLD}");
    let decision = decide(&text, &delete);
    assert_eq!(
        (decision.effect, decision.reason),
        (Effect::Hold, Reason::ApprovalRequired)
    );
    assert_eq!(decision.approval.join(" "), "dba leads");
    assert_eq!(ids(&decision), ["ask"]);
    assert_eq!(decide(&text, &get()).effect, Effect::Allow);

    // Nothing to approve where nothing permits it, or something else forbids it.
    let decision = decide(HOLD, &delete);
    assert_eq!(
        (decision.effect, decision.reason),
        (Effect::Deny, Reason::PolicyDefaultDeny)
    );
    let hard = format!("{text} @id(\"hard\") forbid(principal, action, resource);");
    let decision = decide(&hard, &delete);
    assert_eq!(
        (decision.effect, decision.reason),
        (Effect::Deny, Reason::PolicyForbid)
    );
    assert!(decision.approval.is_empty());

    let approval = Approval {
        id: "1".into(),
        approver: "alice".into(),
        group: "dba".into(),
        at_ns: NOW,
        approvers: ["carol".into()].into(),
        groups: ["dba".into()].into(),
        scope: ApprovalScope::Once,
    };
    let world = World::default();
    let approved = set(&text).decide(&Query {
        approval: Some(&approval),
        ..world.query(&delete)
    });
    assert_eq!(approved.effect, Effect::Allow);
}

#[test]
fn what_is_not_revealed_is_masked() {
    let names =
        |decision: &Decision| -> Vec<u8> { decision.obligations.mask.iter().map(|ClassId(c)| c).collect() };
    let http = "permit(principal, action == Action::\"http:request\", resource);";
    assert_eq!(names(&decide(http, &get())), [0, 1, 2]);
    let reveal =
        |rest: &str| format!("{http}\npermit(principal, action == Action::\"reveal\", resource {rest};");
    let one = reveal(
        "in HttpHost::\"api.internal\") when { context.class == \"email\" && context has http && context.http.path like \"/customers/*\" }",
    );
    assert_eq!(names(&decide(&one, &get())), [1, 2]);
    assert_eq!(
        names(&decide(&one, &request("GET", "api.internal", "/x"))),
        [0, 1, 2]
    );
    assert_eq!(
        names(&decide(&one, &request("GET", "other", "/customers/7"))),
        [0, 1, 2]
    );
    let all = reveal(")");
    assert!(decide(&all, &get()).obligations.mask.is_empty());
    let but = format!(
        "{all}\nforbid(principal, action == Action::\"reveal\", resource) when {{ context.class == \"us_ssn\" }};"
    );
    assert_eq!(names(&decide(&but, &get())), [1]);
    let fails = format!(
        "{all}\nforbid(principal, action == Action::\"reveal\", resource) when {{ context.class == \"us_ssn\" && context.destination.port + 9223372036854775807 > 0 }};"
    );
    assert_eq!(names(&decide(&fails, &get())), [1]);
    // A denied operation reveals nothing.
    let denied = all.replace(
        "permit(principal, action == Action::\"http:request\", resource);",
        "",
    );
    assert_eq!(names(&decide(&denied, &get())), [0, 1, 2]);
}

#[test]
fn context_is_as_the_schema_says() {
    for condition in [
        "context.process.uid == 1000 && context.process has exe && context.process.exe == \"/usr/bin/curl\"",
        "context.destination.address.isInRange(ip(\"10.0.0.0/8\")) && context.destination.port == 443",
        "context.destination has name && context.destination.name_verified",
        "context.time == datetime(\"2026-11-21T07:00:00Z\")",
        "context.access == \"read\" && context.complete",
        "context.http.host_verified && !(context.http has query) && context.http.scheme == \"https\"",
        "principal.issuer == \"https://issuer.internal\" && principal.subject == \"svc-bot\"",
        "!(context has approval) && context.http == context.http",
        "principal in Group::\"readers\" && resource in HttpHost::\"api.internal\" && resource is HttpEndpoint",
    ] {
        let text = format!(
            "permit(principal, action == Action::\"http:request\", resource) when {{ {condition} }};"
        );
        let decision = decide(&text, &get());
        assert_eq!(
            decision.effect,
            Effect::Allow,
            "{condition}: {:?}",
            decision.message
        );
    }
    let text = "permit(principal, action in Action::\"admin\", resource == TcpEndpoint::\"10.0.0.5:5432\") when { context.access == \"admin\" && !context.complete };";
    assert_eq!(decide(text, &connect("10.0.0.5:5432")).effect, Effect::Allow);
    assert_eq!(decide(text, &get()).effect, Effect::Deny);
}

fn errors(texts: &[(&str, &str)]) -> String {
    let files: Vec<_> = texts.iter().map(|(n, t)| file(n, t)).collect();
    let Err(error) = PolicySet::new(&files) else {
        panic!("{texts:?} loads");
    };
    error.to_string()
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let error = errors(&[(
        "a.cedar",
        "permit(principal, action, resource);\npermit(principal, action\n resourse);",
    )]);
    assert!(error.starts_with("a.cedar:3: "), "{error}");
    let error = errors(&[(
        "a.cedar",
        "// x\npermit(principal, action == Action::\"http:request\", resource)\nwhen {\n  context.http.metod == \"GET\" };",
    )]);
    assert!(error.starts_with("a.cedar:4: policy 'a.cedar:2'"), "{error}");
    assert!(error.contains("method"), "{error}");
    let error = errors(&[(
        "a.cedar",
        "permit(principal, action == Action::\"http:reqest\", resource);",
    )]);
    assert!(
        error.contains("did you mean `Action::\"http:request\"`?"),
        "{error}"
    );
    let error = errors(&[("a.cedar", "permit(principal == ?principal, action, resource);")]);
    assert!(error.contains("a.cedar:1: templates"), "{error}");
    let error = errors(&[(
        "a.cedar",
        "permit(principal, action == Action::\"http:request\", resource) when { context.http.query == \"a\" };",
    )]);
    assert!(
        error.contains("has query") || error.contains("optional"),
        "{error}"
    );
    let error = errors(&[(
        "a.cedar",
        "@id(\"a\") @approval(\"x\") permit(principal, action, resource);",
    )]);
    assert!(error.contains("forbid only"), "{error}");
    let error = errors(&[("a.cedar", "@id(\"a\") permit(principal, action, resource); junk")]);
    assert!(error.starts_with("a.cedar:1: "), "{error}");
}

#[test]
fn ids_are_the_authors_and_unique() {
    let error = errors(&[
        ("a.cedar", "@id(\"x\") permit(principal, action, resource);"),
        ("b.cedar", "\n@id(\"x\") forbid(principal, action, resource);"),
    ]);
    assert!(
        error.starts_with("b.cedar:2: policy 'x'") && error.contains("a.cedar:1"),
        "{error}"
    );
    let set =
        set("permit(principal, action, resource);\n\n@id(\"own\") forbid(principal, action, resource);");
    let ids: Vec<_> = set.rules().iter().map(|r| &*r.id).collect();
    assert_eq!(ids, ["test.cedar:1", "own"]);
}

#[test]
fn warnings() {
    let warned = |text: &str| {
        set(text)
            .warnings()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(
        warned("@id(\"a\") permit(principal, action == Action::\"http:request\", resource);"),
        ""
    );
    let of = warned(PERMIT);
    assert!(of.contains("reveal"), "{of}");
    let of = warned("permit(principal, action, resource);");
    assert!(of.contains("no @id"), "{of}");
    let of = warned("@id(\"a\") @aproval(\"x\") forbid(principal, action, resource);");
    assert!(of.contains("@approval"), "{of}");
    let of = warned("@id(\"a\") @approval(\"x\") forbid(principal, action, resource);");
    assert!(of.contains("unless { context has approval }"), "{of}");
    let of = warned(
        "@id(\"p\") permit(principal, action == Action::\"tcp:connect\", resource); @id(\"f\") forbid(principal, action in Action::\"admin\", resource);",
    );
    assert!(of.contains("policy 'p'") && of.contains("'f'"), "{of}");
    let of = warned("@id(\"a\") permit(principal, action, resource) when { 1 == 2 };");
    assert!(of.contains("policy 'a'"), "{of}");
}

#[test]
fn the_hash_is_over_names_and_contents() {
    let of = |name: &str, text: &str| PolicySet::new(&[file(name, text)]).unwrap().hash().clone();
    let one = of("a.cedar", PERMIT);
    assert_eq!(one, of("a.cedar", PERMIT));
    assert_ne!(one, of("b.cedar", PERMIT));
    assert_ne!(one, of("a.cedar", &format!("{PERMIT} ")));
}

/// The same question put to Cedar with everything: all policies, all members, all entities, all checked.
fn whole(
    policies: &PolicySet,
    world: &World,
    operation: &Operation,
    class: Option<&str>,
) -> (Vec<String>, bool, bool) {
    let schema = &policies.schema.cedar;
    let uid = |kind: &str, id: &str| -> EntityUid { policies.names.uid(kind, id).unwrap() };
    let name = if class.is_some() {
        "reveal"
    } else {
        operation.action
    };
    let action = &policies.schema.actions[name];
    let mut context = context::context(&world.query(operation), &action.context).unwrap();
    if let Some(class) = class {
        context = context.merge(context::class(class).unwrap()).unwrap();
    }
    let principal = uid("Workload", world.principal.workload.as_str());
    let resource = uid(operation.resource.kind, &operation.resource.id);
    let request = Request::new(
        principal.clone(),
        action.uid.clone(),
        resource.clone(),
        context,
        Some(schema),
    )
    .unwrap();
    let text = |v: &str| RestrictedExpression::new_string(v.into());
    let attributes = HashMap::from([
        ("issuer".to_owned(), text(&world.principal.issuer)),
        ("subject".to_owned(), text(&world.principal.subject)),
    ]);
    let groups: HashSet<_> = world.principal.groups.iter().map(|g| uid("Group", g)).collect();
    let parents: HashSet<_> = operation
        .resource
        .parents
        .iter()
        .map(|(k, id)| uid(k, id))
        .collect();
    let mut all = vec![
        Entity::new(principal, attributes, groups.clone()).unwrap(),
        Entity::new_no_attrs(resource, parents.clone()),
    ];
    all.extend(groups.into_iter().chain(parents).map(Entity::with_uid));
    let entities = Entities::from_entities(all, Some(schema)).unwrap();
    let full = Cedar::from_policies(policies.rules().iter().map(|r| r.policy.clone())).unwrap();
    let response = Authorizer::new().is_authorized(&request, &full, &entities);
    let mut places: Vec<_> = response.diagnostics().reason().filter_map(set::place).collect();
    places.sort_unstable();
    let ids = places
        .iter()
        .map(|p| policies.rules()[*p].id.to_string())
        .collect();
    (
        ids,
        response.decision() == cedar_policy::Decision::Allow,
        response.diagnostics().errors().next().is_some(),
    )
}

const CONDITIONS: [&str; 27] = [
    "",
    "when { context.access == \"read\" }",
    "when { context has http && context.http.path like \"/a*\" }",
    "when { context has http && context.http has query && context.http.query == \"q=1\" }",
    "unless { context.process.uid == 0 }",
    "when { context has class && [\"email\", \"us_ssn\"].contains(context.class) }",
    "when { principal in Group::\"deploy\" && resource in HttpHost::\"api.internal\" }",
    "when { context.destination.port + 9223372036854775365 > 0 }",
    "when { context has http && context.http == context.http && context.complete }",
    "when { principal.subject == \"svc-bot\" }",
    "when { context has http.query }",
    "when { context has \"http\" && context[\"http\"] has \"query\" && context[\"http\"][\"query\"] like \"*1\" }",
    "when { context has http && [context.http.path, \"x\"].contains(\"/c\") }",
    "when { context has http && {a: context.http}.a.path == \"/c\" }",
    "when { context has http && {Value: context.http.path}.Value == \"/c\" }",
    "when { (if context.complete then principal.issuer else \"\") != \"\" }",
    "when { context.destination.address.isInRange(ip(\"10.0.0.5/32\")) }",
    "when { resource is HttpEndpoint && action == Action::\"http:request\" }",
    "when { if context.complete then context.destination == context.destination else false }",
    "when { context has sql && context.sql.verbs.contains(\"delete\") }",
    "when { context has sql && [\"public.customers\"].containsAll(context.sql.reads) }",
    "when { context has sql && context.sql.functions == [\"b\", \"a\"] }",
    "when { context has sql && context.sql.sensitive.containsAny([\"us_ssn\", \"x\"]) }",
    "when { context has sql && context.sql has has_where && !context.sql.has_where }",
    "when { context has sql && context.sql.writes.isEmpty() && context.complete }",
    "when { context has sql && [context.sql].contains(context.sql) }",
    "unless { context has sql && context.sql has copied }",
];

#[test]
fn conditions_are_valid() {
    for condition in CONDITIONS {
        set(&format!("permit(principal, action, resource) {condition};"));
    }
}

fn policy() -> impl Strategy<Value = String> {
    let effect = prop::sample::select(vec!["permit", "permit", "forbid", "@approval(\"g\") forbid"]);
    let principal = prop::sample::select(vec![
        "principal",
        "principal == Workload::\"bot\"",
        "principal == Workload::\"other\"",
        "principal in Group::\"readers\"",
        "principal in Group::\"nobody\"",
        "principal is Workload",
        "principal is Workload in Group::\"deploy\"",
    ]);
    let action = prop::sample::select(vec![
        "action",
        "action == Action::\"http:request\"",
        "action in [Action::\"reveal\", Action::\"http:request\"]",
        "action == Action::\"reveal\"",
        "action in Action::\"admin\"",
        "action == Action::\"sql:statement\"",
        "action in [Action::\"sql:statement\", Action::\"reveal\"]",
    ]);
    let resource = prop::sample::select(vec![
        "resource",
        "resource in HttpHost::\"api.internal\"",
        "resource in HttpHost::\"b.internal\"",
        "resource == HttpEndpoint::\"api.internal/a\"",
        "resource is HttpEndpoint",
        "resource is TcpEndpoint",
        "resource is HttpEndpoint in HttpHost::\"api.internal\"",
        "resource == TcpEndpoint::\"10.0.0.5:5432\"",
        "resource in DatabaseServer::\"billing-db\"",
        "resource == Database::\"billing-db/app\"",
        "resource is Database in DatabaseServer::\"other\"",
    ]);
    let condition = prop::sample::select(&CONDITIONS[..]);
    (effect, principal, action, resource, condition)
        .prop_map(|(e, p, a, r, c)| format!("{e}({p}, {a}, {r}) {c};"))
}

fn operation() -> impl Strategy<Value = Operation> {
    let http = (
        prop::sample::select(vec!["GET", "POST", "DELETE"]),
        prop::sample::select(vec!["api.internal", "b.internal", "c.internal"]),
        prop::sample::select(vec!["/a", "/a/b", "/c"]),
        prop::option::of(prop::sample::select(vec!["q=1", "q=2"])),
        prop::sample::select(vec![443_u16, 442]),
    )
        .prop_map(|(m, h, p, q, port)| {
            let mut operation = request(m, h, p);
            operation.destination.port = port;
            if let (Value::Record(record), Some(query)) = (&mut operation.context.1, q) {
                record.insert("query", query.into());
            }
            operation
        });
    let tcp = prop::sample::select(vec!["10.0.0.5:5432", "10.0.0.6:22"]).prop_map(connect);
    prop_oneof![4 => http, 1 => tcp, 4 => statements()]
}

fn statements() -> impl Strategy<Value = Operation> {
    let some = |all: &'static [&'static str]| {
        prop::sample::subsequence(all, 0..=all.len()).prop_map(|chosen| words(&chosen))
    };
    (
        prop::sample::select(vec!["billing-db", "other"]),
        some(&["delete", "select"]),
        some(&["public.customers", "public.orders"]),
        some(&["a", "b"]),
        some(&["us_ssn"]),
        prop::option::of(some(&["us_ssn"])),
        prop::option::of(any::<bool>()),
        any::<bool>(),
    )
        .prop_map(
            |(server, verbs, reads, functions, sensitive, copied, has_where, complete)| {
                let mut operation = statement();
                operation.resource.id = format!("{server}/app").into();
                operation.resource.parents = vec![("DatabaseServer", server.into())];
                if let Value::Record(record) = &mut operation.context.1 {
                    record.extend([
                        ("verbs", verbs),
                        ("reads", reads),
                        ("functions", functions),
                        ("sensitive", sensitive),
                        ("complete", complete.into()),
                    ]);
                    record.extend(copied.map(|c| ("copied", c)));
                    record.extend(has_where.map(|h| ("has_where", h.into())));
                }
                operation
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// What is remembered is what would be decided.
    #[test]
    fn remembered_is_decided(
        policies in prop::collection::vec(policy(), 0..6),
        operations in prop::collection::vec(operation(), 1..12),
    ) {
        let world = World::default();
        let Ok(policies) = PolicySet::new(&[file("t.cedar", &policies.join("\n"))]) else {
            return Ok(());
        };
        let mut cache = DecisionCache::new();
        for operation in &operations {
            let query = world.query(operation);
            let (known, fresh) = (cache.decide(&policies, &query), policies.decide(&query));
            prop_assert_eq!(format!("{known:?}"), format!("{fresh:?}"));
        }
    }

    /// Slices, left-out members and left-out entities change nothing.
    #[test]
    fn sliced_is_whole(policies in prop::collection::vec(policy(), 0..8), operation in operation()) {
        let world = World::default();
        // Policies that strict validation refuses never come to decide.
        let Ok(policies) = PolicySet::new(&[file("t.cedar", &policies.join("\n"))]) else {
            return Ok(());
        };
        let decision = policies.decide(&world.query(&operation));
        let (ids_whole, allowed, failed) = whole(&policies, &world, &operation, None);
        let ids_sliced: Vec<_> = decision.policies.iter().map(ToString::to_string).collect();
        match decision.reason {
            Reason::PolicyPermit => {
                prop_assert!(allowed && !failed);
                prop_assert_eq!(ids_sliced, ids_whole);
            }
            Reason::PolicyForbid | Reason::ApprovalRequired => {
                prop_assert!(!allowed);
                prop_assert_eq!(ids_sliced, ids_whole);
            }
            Reason::PolicyDefaultDeny => prop_assert!(!allowed && !failed),
            Reason::PolicyError => prop_assert!(failed),
            other => prop_assert!(false, "{}", other),
        }
        if decision.effect == Effect::Allow {
            for (class, name) in world.classes.iter() {
                let (_, allowed, failed) = whole(&policies, &world, &operation, Some(name));
                prop_assert_eq!(decision.obligations.mask.contains(class), !allowed || failed, "{}", name);
            }
        }
    }
}

#[test]
fn a_wrong_set_never_replaces_a_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.cedar");
    let config = crate::config::Policy {
        dirs: vec![dir.path().into()],
    };
    let one = "@id(\"a\") permit(principal, action == Action::\"http:request\", resource);";
    std::fs::write(&path, one).unwrap();
    let store = PolicyStore::load(&config).unwrap();
    let first = store.current();
    assert_eq!(store.status().policies, 1);
    assert!(store.reload().unwrap().is_empty());
    assert_eq!(store.current().generation(), first.generation());

    std::fs::write(&path, "permit(oops").unwrap();
    let error = store.reload().unwrap_err();
    assert_eq!(error.reason(), Reason::PolicyError);
    assert_eq!(store.current().hash(), first.hash());
    assert!(store.status().error.unwrap().contains("a.cedar:1"));

    let two = format!("{one}\n@id(\"b\") forbid(principal, action == Action::\"tcp:connect\", resource);");
    std::fs::write(&path, &two).unwrap();
    let change = store.reload().unwrap();
    assert_eq!(
        (
            &change.before,
            change.added.len(),
            change.removed.len(),
            change.changed.len()
        ),
        (first.hash(), 1, 0, 0)
    );
    assert!(store.current().generation() > first.generation());
    assert!(store.status().error.is_none());

    std::fs::write(&path, one.replace("permit", "forbid")).unwrap();
    let change = store.reload().unwrap();
    assert_eq!(
        (change.removed.join(" "), change.changed.join(" ")),
        ("b".into(), "a".into())
    );
    std::fs::remove_dir_all(dir.path()).unwrap();
    assert!(store.reload().is_err());
    assert_eq!(store.current().hash(), &change.after);
    assert!(PolicyStore::load(&config).is_err());
}

#[test]
fn what_the_readme_shows_is_valid() {
    let text = include_str!("../../../policies/README.md");
    let blocks = |language: &str| {
        let fence = format!("```{language}\n");
        let parts = text.split(&fence).skip(1);
        let blocks: Vec<&str> = parts.filter_map(|p| Some(p.split_once("```")?.0)).collect();
        assert!(!blocks.is_empty(), "{language}");
        blocks.join("\n")
    };
    let set = set(&blocks("cedar"));
    assert!(set.warnings().is_empty(), "{:?}", set.warnings());
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("examples")).unwrap();
    std::fs::write(dir.path().join("examples/a.toml"), blocks("toml")).unwrap();
    let examples = examples(dir.path()).unwrap();
    assert_eq!(examples.len(), 3);
    for example in examples {
        example.question.ask().unwrap();
    }
}

/// Every member of the schema has a row, and every row is a member.
#[test]
fn the_readme_names_every_member_of_a_call_a_statement_and_a_login() {
    let text = include_str!("../../../policies/README.md");
    for record in ["aws", "sql", "connect"] {
        let (_, table) = text
            .split_once(&format!("| member of `context.{record}` |"))
            .unwrap();
        let rows = table.lines().skip(2).take_while(|l| l.starts_with('|'));
        let named: BTreeSet<&str> = rows
            .filter_map(|row| row.split('|').nth(1))
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .map(|name| name.trim_end_matches('?'))
            .collect();
        let members = &super::schema::schema().unwrap().actions["reveal"].context;
        let super::shape::Shape::Record(members) = &members[record].shape else {
            panic!("{record}");
        };
        assert_eq!(named, members.keys().map(|k| &**k).collect(), "{record}");
    }
}
