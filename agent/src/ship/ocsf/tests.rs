//! Which event an entry becomes, and that everything becomes one. Whether events are valid by the published schema is
//! tested in `tests/clients/ship`, with the schema from its registry.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::samples::samples, *};
use crate::model::Seq;

fn facts() -> HostFacts {
    HostFacts::new("host-1")
}

fn read(entry: &Recorded) -> Value {
    serde_json::from_str(&ocsf(entry, &facts())).unwrap()
}

/// The first sample for which `is` holds, and its event.
fn find(is: impl Fn(&Value) -> bool) -> (Value, Value) {
    let found = samples().into_iter().find_map(|entry| {
        let body: Value = serde_json::from_str(&entry.body).unwrap();
        is(&body).then(|| (body, read(&entry)))
    });
    found.unwrap()
}

#[test]
fn a_request_is_http_activity() {
    let (entry, event) = find(|b| b["decision"] == "deny" && b["reason"] == "policy_forbid");
    assert_eq!(
        (&event["class_uid"], &event["type_uid"]),
        (&json!(4002), &json!(400_202))
    );
    assert_eq!(event["time"], 1_795_654_923_000_i64);
    assert_eq!(event["metadata"]["uid"], entry["id"]);
    assert_eq!(event["metadata"]["correlation_uid"], entry["id"]);
    assert_eq!(event["metadata"]["event_code"], "operation.deny.http:request");
    assert_eq!(event["metadata"]["labels"], json!(["AC-3", "AC-6"]));
    assert_eq!(
        (&event["action_id"], &event["disposition_id"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(
        (&event["status_id"], &event["severity_id"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(
        event["http_request"]["url"]["url_string"],
        "https://api.internal:8443/customers/7?a=1&b=[masked:email]"
    );
    assert_eq!(event["actor"]["user"]["uid"], "agent-7");
    assert_eq!(event["actor"]["process"]["file"]["path"], "/usr/bin/python3.11");
    assert_eq!(event["actor"]["session"]["uid"], entry["session"]);
    assert_eq!(event["authorizations"][1]["policy"]["uid"], "no-delete");
    assert_eq!(
        event["dst_endpoint"],
        json!({"hostname": "api.internal", "ip": "10.1.2.3", "port": 443})
    );
    // What has no place in the class is still there.
    assert_eq!(event["unmapped"]["context"], entry["context"]);
    assert_eq!(event["unmapped"]["identity"]["on_behalf_of"], "ann@example.com");
}

#[test]
fn each_kind_has_its_class() {
    let class = |is: fn(&Value) -> bool| find(is).1["class_uid"].as_i64().unwrap();
    assert_eq!(class(|b| b["action"] == "sql:statement"), 6005);
    assert_eq!(class(|b| b["action"] == "aws:call"), 6003);
    assert_eq!(class(|b| b["action"] == "mcp:call"), 6003);
    assert_eq!(class(|b| b["action"] == "tcp:connect"), 4001);
    assert_eq!(class(|b| b["action"] == "exec:run"), 1007);
    assert_eq!(class(|b| b["kind"] == "outcome"), 4001);
    assert_eq!(class(|b| b["kind"] == "session"), 4001);
    assert_eq!(class(|b| b["event"] == "bound"), 3002);
    assert_eq!(class(|b| b["event"] == "signed_in"), 3002);
    assert_eq!(class(|b| b["event"] == "approved"), 3003);
    assert_eq!(class(|b| b["event"] == "tagged"), 3004);
    assert_eq!(class(|b| b["kind"] == "change"), 3004);
    assert_eq!(class(|b| b["event"] == "started"), 6002);
    assert_eq!(class(|b| b["event"] == "notification_failed"), 6008);
    assert_eq!(class(|b| b["kind"] == "ledger"), 1008);
    assert_eq!(class(|b| b["kind"] == "gap"), 2004);
}

/// The strings of a value, by what they say.
fn strings<'v>(value: &'v Value, into: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => into.push(text),
        Value::Array(all) => all.iter().for_each(|v| strings(v, into)),
        Value::Object(all) => all.values().for_each(|v| strings(v, into)),
        _ => {}
    }
}

#[test]
fn nothing_an_entry_says_is_dropped() {
    for entry in samples() {
        let event = read(&entry);
        let body: Value = serde_json::from_str(&entry.body).unwrap();
        let (mut said, mut told) = (Vec::new(), Vec::new());
        strings(&body, &mut said);
        strings(&event, &mut told);
        // The host is `device`, and the kind is the product's feature; both are told here as well.
        for text in said {
            let there = told.iter().any(|t| t.contains(text));
            assert!(
                there || text.is_empty(),
                "{text:?} of {} is not in {event}",
                entry.body
            );
        }
    }
}

#[test]
fn what_is_no_entry_becomes_an_event_too() {
    for body in [
        "",
        "null",
        "[1]",
        "{",
        "\"x\"",
        r#"{"kind":"operation"}"#,
        r#"{"kind":7,"at":{}}"#,
    ] {
        let entry = Recorded {
            seq: Seq(5),
            body: body.into(),
        };
        let event = read(&entry);
        assert_eq!(event["metadata"]["sequence"], 5);
        assert_eq!(event["metadata"]["version"], VERSION);
        assert!(body.is_empty() || body.starts_with('{') && body.len() > 1 || event["raw_data"] == body);
    }
}

#[test]
fn the_text_itself_goes_along_where_that_is_wanted() {
    let mut facts = facts();
    facts.raw = true;
    let entry = &samples()[0];
    let event: Value = serde_json::from_str(&ocsf(entry, &facts)).unwrap();
    assert_eq!(event["raw_data"], entry.body.as_str());
}

/// Any JSON, shallow.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,8}", inner, 0..4)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Puts `new` in the place that `at` counts to, in order.
fn replace(value: &mut Value, at: &mut usize, new: &Value) {
    if *at == 0 {
        *value = new.clone();
        *at = usize::MAX;
        return;
    }
    if *at == usize::MAX {
        return;
    }
    *at -= 1;
    match value {
        Value::Array(all) => all.iter_mut().for_each(|v| replace(v, at, new)),
        Value::Object(all) => all.values_mut().for_each(|v| replace(v, at, new)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn any_member_may_be_anything(which in any::<prop::sample::Index>(), at in 1_usize..60, new in any_json()) {
        let all = samples();
        let entry = which.get(&all);
        let mut body: Value = serde_json::from_str(&entry.body).unwrap();
        replace(&mut body, &mut { at }, &new);
        let event = read(&Recorded { seq: entry.seq, body: body.to_string() });
        for required in ["activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time"] {
            prop_assert!(event[required].is_i64(), "{required}");
        }
        let type_uid = event["class_uid"].as_i64().unwrap() * 100 + event["activity_id"].as_i64().unwrap();
        prop_assert_eq!(event["type_uid"].as_i64(), Some(type_uid));
    }

    #[test]
    fn any_text_becomes_an_event(body in "\\PC{0,64}", seq in any::<u64>()) {
        read(&Recorded { seq: Seq(seq), body });
    }
}
