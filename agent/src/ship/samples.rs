//! Entries of every kind, in the form in which this program records them, for tests of what is made of them.

use serde_json::{Value, json};

use crate::{
    ledger::{self, Recorded},
    model::{EntryKind, Seq},
};

const ISSUED: &str = "2026-11-26T01:02:03.000000004Z";

fn identity() -> Value {
    json!({
        "expires_at": "2026-11-26T02:02:03.000000000Z", "groups": ["agents", "night|shift"],
        "issuer": "https://issuer.internal", "key_id": "k1", "on_behalf_of": "ann@example.com",
        "subject": "agent-7", "token_id": "t-1",
    })
}

fn process() -> Value {
    json!({
        "cgroup": "/agents/bot", "exe": "/usr/bin/python3.11", "gid": 1000, "pid": 4711, "start_ns": 123_456_789,
        "tid": 4712, "uid": 1000,
    })
}

fn operation(action: &str, decision: &str, reason: &str, resource: &Value, context: &Value) -> Value {
    json!({
        "action": action, "context": context, "controls": ["AC-3", "AC-6"], "decision": decision,
        "destination": { "address": "10.1.2.3", "name": "api.internal", "name_verified": true, "port": 443 },
        "host": "host-1", "identity": identity(), "mask": ["email"], "message": "said = \"so\" | \\ and\nmore",
        "policies": ["read-only", "no-delete"], "policy_set": "5f".repeat(32), "process": process(),
        "protocol": action.split(':').next(), "reason": reason, "resource": resource,
        "session": "0199a000-0000-7000-8000-000000000001", "workload": "deploy-bot",
    })
}

fn http(method: &str, decision: &str, reason: &str) -> Value {
    operation(
        "http:request",
        decision,
        reason,
        &json!({ "id": "api.internal/customers/7", "type": "HttpEndpoint" }),
        &json!({ "http": {
            "access": "read", "complete": true, "host": "api.internal", "host_verified": true, "method": method,
            "path": "/customers/7", "port": 8443, "query": "a=1&b=[masked:email]", "scheme": "https",
        }}),
    )
}

fn sql(text: &str, verbs: &[&str], access: &str) -> Value {
    operation(
        "sql:statement",
        "allow",
        "policy_permit",
        &json!({ "id": "billing-db/app", "type": "Database" }),
        &json!({ "sql": {
            "access": access, "columns": ["public.people.email"], "complete": true, "database": "app",
            "functions": [], "incomplete": [], "phase": "simple", "read_schemas": ["public"],
            "reads": ["public.people"], "role": "app", "sensitive": ["email"], "statements": 1, "text": text,
            "transaction": "idle", "verbs": verbs, "write_schemas": [], "writes": [],
        }}),
    )
}

fn aws(action: &str, access: &str, destructive: bool) -> Value {
    operation(
        "aws:call",
        "allow",
        "policy_permit",
        &json!({ "id": "s3/bucket/key", "type": "AwsResource" }),
        &json!({ "aws": {
            "access": access, "action": action, "brokered": true, "complete": true, "destructive": destructive,
            "host": "bucket.s3.amazonaws.com", "host_verified": true, "incomplete": [], "method": "GET",
            "path": "/key", "region": "eu-central-1", "resource": "bucket/key", "resources": ["bucket/key"],
            "secret": false, "service": "s3", "signed": "header", "spend": false,
        }}),
    )
}

fn operations() -> Vec<Value> {
    let database = json!({ "id": "billing-db/app", "type": "Database" });
    let login = json!({ "connect": {
        "access": "read", "application": "psql", "brokered": true, "complete": true, "database": "app",
        "replication": false, "role": "app", "tls": true,
    }});
    let cancel =
        json!({ "cancel": { "access": "read", "complete": true, "database": "app", "role": "app" } });
    let mut all: Vec<Value> = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE", "MKCOL",
    ]
    .iter()
    .map(|method| http(method, "allow", "policy_permit"))
    .collect();
    all.extend([
        http("DELETE", "deny", "policy_forbid"),
        http("POST", "deny", "secret_leak"),
        http("POST", "deny", "approval_timeout"),
        sql("SELECT email FROM people", &["select"], "read"),
        sql("UPDATE people SET email = ''", &["update"], "write"),
        sql("INSERT INTO people VALUES (1)", &["insert"], "write"),
        sql("DELETE FROM people", &["delete"], "admin"),
        sql("CREATE TABLE t ()", &["create"], "admin"),
        sql("", &[], "admin"),
        operation("sql:connect", "allow", "policy_permit", &database, &login),
        operation("sql:cancel", "allow", "policy_permit", &database, &cancel),
        aws("s3:GetObject", "read", false),
        aws("s3:PutObject", "write", false),
        aws("s3:DeleteObject", "write", true),
        operation(
            "tcp:connect",
            "deny",
            "policy_default_deny",
            &json!({ "id": "10.0.0.5:5432", "type": "TcpEndpoint" }),
            &json!({ "tcp": { "access": "admin", "complete": false, "server_name": "db.internal" } }),
        ),
        operation(
            "tcp:connect",
            "allow",
            "policy_permit",
            &json!({ "id": "[fd00::5]:5432", "type": "TcpEndpoint" }),
            &json!({}),
        ),
        operation(
            "mcp:call",
            "allow",
            "approval_granted",
            &json!({ "id": "tools/search", "type": "McpTool" }),
            &json!({ "mcp": { "access": "read", "action": "tools/call", "complete": true, "tool": "search" } }),
        ),
        operation(
            "exec:run",
            "deny",
            "policy_forbid",
            &json!({ "id": "/usr/bin/nc", "type": "Program" }),
            &json!({ "exec": { "argv": ["nc", "-e", "/bin/sh"], "exe": "/usr/bin/nc" } }),
        ),
    ]);
    let mut approved = http("POST", "allow", "approval_granted");
    approved["approval"] = json!({
        "approver": "bob", "approvers": ["bob"], "groups": ["leads"], "id": "0199a000-0000-7000-8000-00000000000a",
        "scope": "once",
    });
    approved["credential"] = "api-key".into();
    all.push(approved);
    let mut stranger = http("GET", "deny", "identity_missing");
    stranger["identity"] = Value::Null;
    stranger["process"] = json!({ "gid": 0, "pid": 9, "start_ns": 1, "tid": 9, "uid": 0 });
    stranger["destination"] = json!({ "address": "fd00::5", "name_verified": false, "port": 80 });
    all.push(stranger);
    all
}

fn outcomes() -> Vec<Value> {
    let one = |reason: &str, status: &str| {
        json!({
            "bytes_down": 512, "bytes_up": 100, "duration_us": 1500,
            "credentials": [{ "reference": "api-key", "version": "2" }], "masked": { "email": 3, "us_ssn": 1 },
            "operation": "0199a000-0000-7000-8000-000000000002", "operation_seq": 7,
            "payload": { "down": { "bytes": 512, "frames": 1, "sha256": "ab".repeat(32) } }, "reason": reason,
            "status": status, "workload": "deploy-bot",
        })
    };
    vec![
        one("completed", "200"),
        one("completed", "SELECT 3"),
        one("upstream_unreachable", ""),
        one("upstream_untrusted", ""),
        one("interrupted", "502"),
    ]
}

fn sessions() -> Vec<Value> {
    let open = json!({
        "cgroup_id": 77, "destination": { "address": "10.1.2.3", "port": 443 }, "event": "open", "host": "host-1",
        "netns": 1, "process": process(), "session": "0199a000-0000-7000-8000-000000000001", "tls": {},
        "workload": "deploy-bot",
    });
    let mut close = open.clone();
    close["event"] = "close".into();
    close["bytes_down"] = 1000.into();
    close["bytes_up"] = 100.into();
    close["operations"] = 2.into();
    close["protocol"] = "http".into();
    close["reason"] = "completed".into();
    close["tls"] = json!({
        "downstream": { "alpn": "h2", "cipher": "TLS13_AES_256_GCM_SHA384", "sni": "api.internal", "version": "TLSv1.3" },
        "upstream": {
            "alpn": "h2", "chain_sha256": "cd".repeat(32), "cipher": "TLS13_AES_128_GCM_SHA256", "version": "TLSv1.3",
        },
    });
    let mut failed = close.clone();
    failed["reason"] = "tls_handshake".into();
    failed["tls"] = json!({});
    let mut unknown = open.clone();
    if let Some(members) = unknown.as_object_mut() {
        members.remove("workload");
    }
    vec![open, close, failed, unknown]
}

fn approvals() -> Vec<Value> {
    let approval = "0199a000-0000-7000-8000-00000000000a";
    let approver = json!({
        "authenticated_at": "2026-11-26T01:00:00.000000000Z", "groups": ["leads"], "issuer": "https://people",
        "name": "Bob B.", "subject": "bob", "token_id": "t-9", "via": "web",
    });
    let mut all = vec![json!({
        "action": "http:request", "approval": approval, "context": { "http": { "method": "POST" } },
        "controls": ["AC-3(2)"], "destination": { "address": "10.1.2.3", "name": "api.internal", "port": 443 },
        "digest": "00".repeat(32), "event": "requested", "expires_at": "2026-11-26T02:00:00.000000000Z",
        "host": "host-1", "identity": identity(), "message": "a new customer",
        "operation": "0199a000-0000-7000-8000-000000000002",
        "payload": { "bytes": 10, "shown": true, "truncated": false }, "policies": ["ask"],
        "policy_set": "5f".repeat(32), "process": { "exe": "/usr/bin/curl", "pid": 1, "uid": 0 }, "protocol": "http",
        "requirements": [{ "groups": ["leads"], "policy": "ask", "quorum": 1 }],
        "resource": { "id": "api.internal/customers", "type": "HttpEndpoint" },
        "session": "0199a000-0000-7000-8000-000000000001", "workload": "deploy-bot",
    })];
    for event in [
        "approved",
        "denied",
        "refused",
        "grant_ended",
        "break_glass_asked",
        "break_glass_given",
    ] {
        all.push(json!({
            "approval": approval, "approver": approver.clone(), "complete": true, "counts_for": ["leads"],
            "digest": "00".repeat(32), "event": event, "host": "host-1", "minutes": 15,
            "operation": "0199a000-0000-7000-8000-000000000002", "reason": "it is fine", "scope": { "once": true },
            "workload": "deploy-bot",
        }));
    }
    let mut covering = all[1].clone();
    covering["covers"] = "POST to api.internal/customers, for 15 minutes".into();
    all.push(covering);
    for event in ["expired", "lapsed", "grant_ended"] {
        all.push(json!({
            "approval": approval, "event": event, "host": "host-1", "reason": "agent_restarted",
            "workload": "deploy-bot",
        }));
    }
    for event in ["signed_in", "not_admitted"] {
        all.push(json!({ "approver": approver.clone(), "event": event }));
    }
    all.push(
        json!({ "approver": { "via": "slack" }, "event": "stranger", "more": 3, "reason": "bad signature" }),
    );
    all
}

fn workloads() -> Vec<Value> {
    let mut all = Vec::new();
    for (event, reason) in [
        ("bound", None),
        ("refreshed", None),
        ("failed", Some("identity_issuer_unreachable")),
        ("expired", Some("identity_expired")),
        ("revoked", Some("identity_revoked")),
        ("restored", None),
        ("removed", None),
    ] {
        let mut detail = identity();
        detail["actor"] = json!({ "pid": 7, "uid": 0 });
        detail["message"] = "said so".into();
        let mut entry = json!({ "detail": detail, "event": event, "workload": "deploy-bot" });
        if let Some(reason) = reason {
            entry["reason"] = reason.into();
        }
        all.push(entry);
    }
    for event in ["tagged", "removed"] {
        let detail = json!({ "cgroup": "/agents/bot", "cgroup_id": 77, "source": "config" });
        all.push(json!({ "detail": detail, "event": event, "workload": "deploy-bot" }));
    }
    all.push(json!({ "detail": {}, "event": "failed", "workload": "deploy-bot" }));
    all
}

fn changes() -> Vec<Value> {
    let actor = json!({ "pid": 7, "uid": 0 });
    let mut all = vec![
        json!({ "actor": actor, "after": "deploy-bot", "detail": { "cgroup": "/agents/bot" }, "subject": "tag" }),
        json!({ "actor": actor, "before": "deploy-bot", "detail": { "cgroup": "/agents/bot" }, "subject": "tag" }),
        json!({ "after": "00".repeat(32), "subject": "config" }),
        json!({ "after": "5f".repeat(32), "before": "4e".repeat(32), "subject": "policy" }),
        json!({ "after": "v2", "before": "v1", "subject": "key" }),
    ];
    for act in ["revoke", "restore"] {
        let detail = json!({ "act": act, "workload": "deploy-bot" });
        all.push(json!({ "actor": actor, "detail": detail, "subject": "revocation" }));
    }
    for event in ["obtained", "renewed", "failed", "expired", "revoked"] {
        let detail = json!({ "event": event, "expires_at": ISSUED, "message": "so", "reference": "api-key" });
        all.push(json!({
            "after": "2", "before": "1", "detail": detail, "subject": "credential", "workload": "deploy-bot",
        }));
    }
    all
}

/// The events of `EntryKind::Ledger`.
const CUSTODY: [&str; 15] = [
    "segment_sealed",
    "exported",
    "key_rotated",
    "witnessed",
    "timestamped",
    "payload_purged",
    "entries_purged",
    "hold_set",
    "hold_released",
    "shipped",
    "ship_failing",
    "ship_recovered",
    "ship_rejected",
    "budget_warning",
    "budget_exhausted",
];

fn others() -> Vec<(EntryKind, Value)> {
    let detail = json!({ "boot_id": "b", "clock": "system", "version": "0.1.0" });
    let mut all: Vec<(EntryKind, Value)> = ["started", "stopped", "recovered", "notification_failed"]
        .iter()
        .map(|event| (EntryKind::Agent, json!({ "detail": detail, "event": event })))
        .collect();
    let actor = json!({ "pid": 7, "uid": 1000 });
    all.push((
        EntryKind::Agent,
        json!({ "actor": actor, "detail": { "file": "/tmp/export.db", "sha256": "ab" }, "event": "exported" }),
    ));
    for event in CUSTODY {
        all.push((
            EntryKind::Ledger,
            json!({ "actor": actor, "detail": { "sink": "siem", "entries": 3 }, "event": event }),
        ));
    }
    all.push((
        EntryKind::Gap,
        json!({
            "detail": { "count": 6, "entries": 1, "frames": 2, "refused": 3, "why": "disk full" },
            "from": "2026-11-26T01:00:00.000000000Z", "reason": "ledger_unavailable", "to": ISSUED,
        }),
    ));
    all
}

/// One of each, and more; places from 0.
#[must_use]
pub fn samples() -> Vec<Recorded> {
    let kinds = [
        (EntryKind::Operation, operations()),
        (EntryKind::Outcome, outcomes()),
        (EntryKind::Session, sessions()),
        (EntryKind::Approval, approvals()),
        (EntryKind::Workload, workloads()),
        (EntryKind::Change, changes()),
    ];
    let all = kinds
        .into_iter()
        .flat_map(|(kind, all)| all.into_iter().map(move |members| (kind, members)))
        .chain(others());
    let at: jiff::Timestamp = ISSUED.parse().unwrap_or_default();
    let at_ns = i64::try_from(at.as_nanosecond()).unwrap_or_default();
    all.zip(0..)
        .map(|((kind, members), seq)| Recorded {
            seq: Seq(seq),
            body: ledger::entry(kind, at_ns, members).body,
        })
        .collect()
}
