//! What every event has.

use serde_json::Value;

use super::{
    super::view::{HostFacts, Severity, View},
    VERSION,
    out::Out,
};

/// An event class: its number, its name, its category's number and name.
pub(super) struct Class(i64, &'static str, i64, &'static str);

pub(super) const PROCESS: Class = Class(1007, "Process Activity", 1, "System Activity");
pub(super) const EVENT_LOG: Class = Class(1008, "Event Log Activity", 1, "System Activity");
pub(super) const FINDING: Class = Class(2004, "Detection Finding", 2, "Findings");
pub(super) const AUTHENTICATION: Class = Class(3002, "Authentication", 3, "Identity & Access Management");
pub(super) const AUTHORIZE: Class = Class(3003, "Authorize Session", 3, "Identity & Access Management");
pub(super) const ENTITY: Class = Class(3004, "Entity Management", 3, "Identity & Access Management");
pub(super) const NETWORK: Class = Class(4001, "Network Activity", 4, "Network Activity");
pub(super) const HTTP: Class = Class(4002, "HTTP Activity", 4, "Network Activity");
pub(super) const LIFECYCLE: Class = Class(6002, "Application Lifecycle", 6, "Application Activity");
pub(super) const API: Class = Class(6003, "API Activity", 6, "Application Activity");
pub(super) const DATASTORE: Class = Class(6005, "Datastore Activity", 6, "Application Activity");
pub(super) const ERROR: Class = Class(6008, "Application Error", 6, "Application Activity");

/// What was done, in the class's own numbers; 99 is what the class has no number for.
pub(super) type Activity<'a> = (i64, &'a str);

/// What became of it.
pub(super) const OTHER: i64 = 99;

/// Profiles of every event: `device`, and `action_id` and its like.
const PROFILES: [&str; 2] = ["host", "security_control"];
const PROXY: &str = "network_proxy";

/// Writes an event: head, then what `fill` has, then what is left over of the entry but the members `mapped`.
pub(super) fn write(
    view: &View<'_>,
    host: &HostFacts,
    class: &Class,
    activity: Activity<'_>,
    mapped: &[&str],
    fill: impl FnOnce(&mut Out),
) -> String {
    Out::document(view.text.len() * 2 + 1024, |o| {
        let (id, name) = activity;
        o.number("activity_id", id);
        o.text("activity_name", name);
        o.number("category_uid", class.2);
        o.text("category_name", class.3);
        o.number("class_uid", class.0);
        o.text("class_name", class.1);
        o.number("type_uid", class.0 * 100 + id);
        let severity = view.severity();
        o.number("severity_id", severity as i64);
        o.text("severity", severity.as_str());
        o.number("time", view.at_ns() / 1_000_000);
        status(o, view, class);
        o.text("message", &view.message());
        metadata(o, view, host, class);
        device(o, host);
        if severity >= Severity::High {
            o.flag("is_alert", true);
        }
        fill(o);
        unmapped(o, view, mapped);
        if host.raw || !view.body.is_object() {
            o.text("raw_data", view.text);
        }
    })
}

/// A finding's status is of another kind: it is new.
fn status(o: &mut Out, view: &View<'_>, class: &Class) {
    if class.0 == FINDING.0 {
        o.number("status_id", 1);
        o.text("status", "New");
    } else if let Some(success) = view.success() {
        let (id, word) = if success { (1, "Success") } else { (2, "Failure") };
        o.number("status_id", id);
        o.text("status", word);
    }
    o.text("status_code", view.text("status"));
    o.text("status_detail", view.text("reason"));
}

fn metadata(o: &mut Out, view: &View<'_>, host: &HostFacts, class: &Class) {
    o.object("metadata", |o| {
        o.text("version", VERSION);
        o.text("uid", view.id());
        o.number("sequence", i64::try_from(view.seq).unwrap_or(i64::MAX));
        o.text("correlation_uid", view.correlation());
        o.text("event_code", &view.code());
        o.text("original_time", view.text("at"));
        o.text("log_name", "ledger");
        o.text("log_provider", "portcullis");
        o.object("product", |o| {
            o.text("name", "Portcullis");
            o.text("vendor_name", "Portcullis");
            o.text("version", &host.version);
            o.object("feature", |o| o.text("name", view.kind()));
        });
        o.array("profiles", |o| {
            PROFILES.iter().for_each(|p| o.item(p));
            if class.0 == NETWORK.0 {
                o.item(PROXY);
            }
        });
        o.array("labels", |o| {
            texts(&view.body["controls"]).for_each(|c| o.item(c))
        });
    });
}

/// The host. What kind of machine it is, is not known here.
pub(super) fn device(o: &mut Out, host: &HostFacts) {
    o.object("device", |o| {
        o.text("hostname", &host.host);
        o.text("name", &host.host);
        o.number("type_id", 0);
    });
}

/// Members of every entry that have a place in every event.
const ALWAYS: [&str; 8] = ["at", "controls", "host", "id", "kind", "reason", "status", "v"];

/// What the class has no place for.
fn unmapped(o: &mut Out, view: &View<'_>, mapped: &[&str]) {
    let Some(members) = view.body.as_object() else {
        return;
    };
    o.object("unmapped", |o| {
        for (name, value) in members {
            let name = name.as_str();
            let empty = value.as_object().is_some_and(serde_json::Map::is_empty);
            if !empty && !ALWAYS.contains(&name) && !mapped.contains(&name) {
                o.value(name, value);
            }
        }
    });
}

/// The texts of an array.
pub(super) fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// A member's text.
pub(super) fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap_or_default()
}

/// A point in time, as milliseconds.
pub(super) fn time(o: &mut Out, key: &str, text: &str) {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        o.number(key, at.as_millisecond());
    }
}

/// Who acts: the workload, by its verified identity where it has one, and the process of it.
pub(super) fn workload_actor(o: &mut Out, view: &View<'_>) {
    o.object("actor", |o| {
        o.text("app_name", view.workload());
        process(o, "process", &view.body["process"]);
        user(o, "user", view.workload(), &view.body["identity"]);
        session(o, view.text("session"), &view.body["identity"]);
    });
}

/// A process. Without its number it is none.
pub(super) fn process(o: &mut Out, key: &str, process: &Value) {
    if process["pid"].as_i64().is_none() {
        return;
    }
    o.object(key, |o| {
        o.number_of("pid", &process["pid"]);
        file(o, text(process, "exe"));
        if let Some(uid) = process["uid"].as_i64() {
            o.object("user", |o| o.text("uid", &uid.to_string()));
        }
    });
}

/// An executable, and the process's name by it.
fn file(o: &mut Out, path: &str) {
    let name = path.rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        return;
    }
    o.text("name", name);
    o.object("file", |o| {
        o.text("name", name);
        o.text("path", path);
        o.number("type_id", 1);
    });
}

/// A workload as a user: the OIDC subject where it is known, else by its name.
pub(super) fn user(o: &mut Out, key: &str, workload: &str, identity: &Value) {
    let subject = text(identity, "subject");
    o.object(key, |o| {
        o.text("name", if workload.is_empty() { subject } else { workload });
        o.text("uid", subject);
        if !(workload.is_empty() && subject.is_empty()) {
            o.number("type_id", 4);
            o.text("type", "Service");
        }
        groups(o, identity);
    });
}

/// A human, by a verified token.
pub(super) fn human(o: &mut Out, key: &str, by: &Value) {
    let subject = text(by, "subject");
    if subject.is_empty() {
        return;
    }
    o.object(key, |o| {
        o.text("name", subject);
        o.text("uid", subject);
        o.text("full_name", text(by, "name"));
        o.number("type_id", 1);
        o.text("type", "User");
        groups(o, by);
    });
}

fn groups(o: &mut Out, identity: &Value) {
    o.array("groups", |o| {
        for name in texts(&identity["groups"]).filter(|n| !n.is_empty()) {
            o.element(|o| o.text("name", name));
        }
    });
}

/// A session under a token.
pub(super) fn session(o: &mut Out, uid: &str, identity: &Value) {
    o.object("session", |o| {
        o.text("uid", uid);
        o.text("issuer", text(identity, "issuer"));
        o.text("credential_uid", text(identity, "token_id"));
        time(o, "expiration_time", text(identity, "expires_at"));
        time(o, "created_time", text(identity, "authenticated_at"));
    });
}

/// An admin on this host, known by the kernel.
pub(super) fn admin(o: &mut Out, actor: &Value) {
    o.object("actor", |o| {
        process(o, "process", actor);
        if let Some(uid) = actor["uid"].as_i64() {
            o.object("user", |o| {
                o.text("uid", &uid.to_string());
                o.number("type_id", if uid == 0 { 2 } else { 1 });
            });
        }
    });
}

/// Where it comes from: this host. There is no address: the connection is intercepted before it has one.
pub(super) fn source(o: &mut Out, view: &View<'_>, host: &HostFacts) {
    o.object("src_endpoint", |o| {
        o.text("hostname", &host.host);
        o.text("name", view.workload());
    });
}

/// Where it goes.
pub(super) fn destination(o: &mut Out, destination: &Value) {
    let address = text(destination, "address");
    o.object("dst_endpoint", |o| {
        if address.parse::<std::net::IpAddr>().is_ok() {
            o.text("ip", address);
        }
        o.text("hostname", text(destination, "name"));
        if let Some(port) = destination["port"].as_i64().filter(|p| (0..=65_535).contains(p)) {
            o.number("port", port);
        }
    });
}

/// The connection.
pub(super) fn connection(o: &mut Out, view: &View<'_>) {
    let address = text(&view.body["destination"], "address").parse::<std::net::IpAddr>();
    o.object("connection_info", |o| {
        o.number("direction_id", 2);
        o.text("direction", "Outbound");
        o.text("protocol_name", "tcp");
        o.number("protocol_num", 6);
        if let Ok(address) = address {
            o.number("protocol_ver_id", if address.is_ipv4() { 4 } else { 6 });
        }
        o.text("uid", view.text("session"));
    });
}

/// What can be looked for across events: (name, kind, value).
pub(super) fn observables(o: &mut Out, all: &[(&str, i64, &str)]) {
    o.array("observables", |o| {
        for (name, kind, value) in all.iter().filter(|(_, _, value)| !value.is_empty()) {
            o.element(|o| {
                o.text("name", name);
                o.number("type_id", *kind);
                o.text("value", value);
            });
        }
    });
}

/// Kinds of [`observables`].
pub(super) mod observable {
    pub(crate) const HOSTNAME: i64 = 1;
    pub(crate) const ADDRESS: i64 = 2;
    pub(crate) const USER: i64 = 4;
    pub(crate) const URL: i64 = 6;
    pub(crate) const RESOURCE: i64 = 10;
}
