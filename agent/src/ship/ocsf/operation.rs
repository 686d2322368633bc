//! Operations: what a workload asked for, and what was decided.

use serde_json::Value;

use super::{
    super::view::{HostFacts, View},
    event::{
        self, API, Activity, DATASTORE, HTTP, NETWORK, OTHER, PROCESS, connection, destination, observable,
        observables, source, text, texts, workload_actor,
    },
    first, number,
    out::Out,
};

/// Members that every operation's event has a place for.
const MAPPED: [&str; 7] = [
    "action",
    "decision",
    "message",
    "policies",
    "policy_set",
    "session",
    "workload",
];

/// The methods that the schema knows.
const METHODS: [&str; 9] = [
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];

/// An operation's entry.
pub(super) fn operation(view: &View<'_>, host: &HostFacts) -> String {
    let context = &view.body["context"];
    let action = view.text("action");
    match action.split(':').next().unwrap_or_default() {
        "http" => http(view, host, &context["http"]),
        "sql" => sql(view, host, context),
        "tcp" => tcp(view, host),
        "exec" => exec(view, host, &context["exec"]),
        "aws" => call(view, host, &context["aws"]),
        other => call(view, host, &context[other]),
    }
}

/// What was decided, and by which policies.
fn decision(o: &mut Out, view: &View<'_>) {
    let allowed = view.text("decision") == "allow";
    let approved = !text(&view.body["approval"], "scope").is_empty();
    let (action, word) = if allowed { (1, "Allowed") } else { (2, "Denied") };
    o.number("action_id", action);
    o.text("action", word);
    let (disposition, word) = match (allowed, approved) {
        (true, true) => (8, "Approved"),
        (true, false) => (1, "Allowed"),
        (false, _) => (2, "Blocked"),
    };
    o.number("disposition_id", disposition);
    o.text("disposition", word);
    o.array("authorizations", |o| {
        for policy in texts(&view.body["policies"]).filter(|p| !p.is_empty()) {
            o.element(|o| {
                o.text("decision", view.text("decision"));
                o.object("policy", |o| {
                    o.text("uid", policy);
                    o.flag("is_applied", true);
                });
            });
        }
    });
    o.object("policy", |o| {
        o.text("uid", view.text("policy_set"));
        if !view.text("policy_set").is_empty() {
            o.text("name", "policy set");
            o.text("desc", view.text("message"));
            o.flag("is_applied", true);
        }
    });
}

/// The parts that all operations share.
fn common(o: &mut Out, view: &View<'_>, host: &HostFacts) {
    decision(o, view);
    workload_actor(o, view);
    source(o, view, host);
    destination(o, &view.body["destination"]);
}

fn seen(o: &mut Out, view: &View<'_>, more: &[(&str, i64, &str)]) {
    let to = &view.body["destination"];
    let mut all = vec![
        ("dst_endpoint.hostname", observable::HOSTNAME, text(to, "name")),
        ("dst_endpoint.ip", observable::ADDRESS, text(to, "address")),
        (
            "actor.user.uid",
            observable::USER,
            text(&view.body["identity"], "subject"),
        ),
    ];
    all.extend_from_slice(more);
    observables(o, &all);
}

/// `scheme://host:port/path?query`, without what is not known.
fn url_text(part: &Value) -> String {
    let host = text(part, "host");
    if host.is_empty() {
        return String::new();
    }
    let scheme = match text(part, "scheme") {
        "" => "https",
        scheme => scheme,
    };
    let mut url = format!("{scheme}://{host}");
    if let Some(port) = part["port"].as_u64()
        && !matches!((scheme, port), ("https", 443) | ("http", 80))
    {
        url.push_str(&format!(":{port}"));
    }
    url.push_str(text(part, "path"));
    if let Some(query) = part["query"].as_str() {
        url.push('?');
        url.push_str(query);
    }
    url
}

/// The request, of `context.http` or the like.
fn http_request(o: &mut Out, part: &Value, url: &str) {
    o.object("http_request", |o| {
        // The schema has a closed list; another method is the activity's name.
        o.text(
            "http_method",
            Some(text(part, "method"))
                .filter(|m| METHODS.contains(m))
                .unwrap_or_default(),
        );
        o.object("url", |o| {
            o.text("url_string", url);
            o.text("scheme", text(part, "scheme"));
            o.text("hostname", text(part, "host"));
            if let Some(port) = part["port"].as_i64().filter(|p| (0..=65_535).contains(p)) {
                o.number("port", port);
            }
            // One of path and url_string has to be there.
            match text(part, "path") {
                "" if url.is_empty() => o.text("path", "/"),
                path => o.text("path", path),
            }
            o.text("query_string", text(part, "query"));
        });
    });
}

fn http(view: &View<'_>, host: &HostFacts, part: &Value) -> String {
    let activity: Activity<'_> = match text(part, "method") {
        "CONNECT" => (1, "Connect"),
        "DELETE" => (2, "Delete"),
        "GET" => (3, "Get"),
        "HEAD" => (4, "Head"),
        "OPTIONS" => (5, "Options"),
        "POST" => (6, "Post"),
        "PUT" => (7, "Put"),
        "TRACE" => (8, "Trace"),
        "PATCH" => (9, "Patch"),
        "" => (0, "Unknown"),
        other => (OTHER, other),
    };
    event::write(view, host, &HTTP, activity, &MAPPED, |o| {
        let url = url_text(part);
        common(o, view, host);
        o.text("app_name", view.text("protocol"));
        connection(o, view);
        http_request(o, part, &url);
        seen(o, view, &[("http_request.url.url_string", observable::URL, &url)]);
    })
}

/// By what a call does, as far as its access says.
fn crud(part: &Value) -> Activity<'static> {
    if part["destructive"] == true {
        return (4, "Delete");
    }
    match text(part, "access") {
        "read" => (2, "Read"),
        "write" => (3, "Update"),
        "admin" => (OTHER, "Admin"),
        _ => (0, "Unknown"),
    }
}

/// A call: AWS, MCP, or a protocol that this version does not know.
fn call(view: &View<'_>, host: &HostFacts, part: &Value) -> String {
    event::write(view, host, &API, crud(part), &MAPPED, |o| {
        common(o, view, host);
        let operation = match text(part, "action") {
            "" => view.text("action"),
            action => action,
        };
        o.object("api", |o| {
            o.text(
                "operation",
                if operation.is_empty() {
                    "unknown"
                } else {
                    operation
                },
            );
            o.object("request", |o| o.text("uid", view.id()));
            o.object("service", |o| o.text("name", text(part, "service")));
        });
        o.array("resources", |o| {
            let mut named = false;
            for resource in texts(&part["resources"]).filter(|r| !r.is_empty()) {
                named = true;
                o.element(|o| {
                    o.text("name", resource);
                    o.text("type", text(&view.body["resource"], "type"));
                });
            }
            if !named && !text(&view.body["resource"], "id").is_empty() {
                o.element(|o| {
                    o.text("name", text(&view.body["resource"], "id"));
                    o.text("type", text(&view.body["resource"], "type"));
                });
            }
        });
        let url = url_text(part);
        if !url.is_empty() {
            http_request(o, part, &url);
        }
        let resource = text(&view.body["resource"], "id");
        seen(o, view, &[("resources[].name", observable::RESOURCE, resource)]);
    })
}

fn has(verbs: &Value, wanted: &[&str]) -> bool {
    texts(verbs).any(|v| wanted.contains(&v))
}

/// What a statement does, by the gravest of its verbs.
fn statement(part: &Value) -> Activity<'static> {
    let verbs = &part["verbs"];
    if has(verbs, &["delete", "truncate", "drop"]) {
        (7, "Delete")
    } else if has(verbs, &["update", "merge"]) {
        (2, "Update")
    } else if has(verbs, &["insert", "copy_from", "copy"]) && text(part, "access") != "read" {
        (5, "Write")
    } else if has(verbs, &["create"]) {
        (6, "Create")
    } else if text(part, "access") == "read" {
        (1, "Read")
    } else {
        (4, "Query")
    }
}

fn sql(view: &View<'_>, host: &HostFacts, context: &Value) -> String {
    let (part, activity) = if context["sql"].is_object() {
        (&context["sql"], statement(&context["sql"]))
    } else if context["connect"].is_object() {
        (&context["connect"], (3, "Connect"))
    } else {
        (&context["cancel"], (OTHER, "Cancel"))
    };
    event::write(view, host, &DATASTORE, activity, &MAPPED, |o| {
        common(o, view, host);
        let resource = text(&view.body["resource"], "id");
        o.number("type_id", 1);
        o.text("type", "Database");
        o.object("database", |o| {
            o.text(
                "name",
                match text(part, "database") {
                    "" if resource.is_empty() => "unknown",
                    "" => resource,
                    name => name,
                },
            );
            o.text("uid", resource);
            o.number("type_id", 1);
            o.text("type", "Relational");
        });
        // One table only is the class's; all of them are in unmapped.
        let table = match first(&part["writes"]) {
            "" => first(&part["reads"]),
            written => written,
        };
        o.object("table", |o| o.text("name", table));
        if let Some(query) = part["text"].as_str() {
            o.object("query_info", |o| {
                o.text("uid", view.id());
                o.text("query_string", if query.is_empty() { "--" } else { query });
                // The query has a name where its operation has no id.
                if view.id().is_empty() {
                    o.text("name", "statement");
                }
            });
        }
        seen(o, view, &[("database.uid", observable::RESOURCE, resource)]);
    })
}

fn tcp(view: &View<'_>, host: &HostFacts) -> String {
    let activity = if view.text("decision") == "allow" {
        (1, "Open")
    } else {
        (5, "Refuse")
    };
    event::write(view, host, &NETWORK, activity, &MAPPED, |o| {
        common(o, view, host);
        connection(o, view);
        seen(o, view, &[]);
    })
}

/// A process that was started or kept from it.
fn exec(view: &View<'_>, host: &HostFacts, part: &Value) -> String {
    event::write(view, host, &PROCESS, (1, "Launch"), &MAPPED, |o| {
        decision(o, view);
        workload_actor(o, view);
        let pid = part["pid"]
            .as_i64()
            .or_else(|| view.body["process"]["pid"].as_i64());
        o.object("process", |o| {
            o.number("pid", pid.unwrap_or_default());
            let path = match text(part, "exe") {
                "" => text(&view.body["resource"], "id"),
                exe => exe,
            };
            let name = path.rsplit('/').next().unwrap_or_default();
            o.text("name", name);
            if !name.is_empty() {
                o.object("file", |o| {
                    o.text("name", name);
                    o.text("path", path);
                    o.number("type_id", 1);
                });
            }
            let argv: Vec<&str> = texts(&part["argv"]).collect();
            o.text("cmd_line", &argv.join(" "));
        });
        if let Some(code) = number(view.text("status")) {
            o.number("exit_code", code);
        }
        seen(o, view, &[]);
    })
}
