//! A ledger as a day on a host leaves it, in the shapes that the agent writes.

use serde_json::{Value, json};

use crate::{
    config::Durability,
    ledger::{Ledger, Options, entry, tree::sha256},
    model::EntryKind,
};

/// As the agent keeps it: the files of the policy set.
pub const POLICY: &str = r#"[["site.cedar","@id(\"all\") permit(principal, action, resource);\n@id(\"never\") permit(principal, action, resource);"]]"#;
/// What a workload sent, to see how it is shown.
pub const HOSTILE: &str = "https://api.internal/<script>alert(1)</script>?q='\"&x=\u{202e}\u{1b}[31m";
pub const START: i64 = 1_795_242_600_000_000_000;
pub const SECOND: i64 = 1_000_000_000;

pub struct World {
    pub dir: tempfile::TempDir,
    ledger: Ledger,
    now: i64,
}

/// An operation on its way into the ledger.
pub struct Operation {
    pub workload: &'static str,
    pub session: String,
    pub subject: Option<&'static str>,
    pub on_behalf_of: Option<&'static str>,
    pub action: &'static str,
    pub resource: &'static str,
    pub reason: &'static str,
    pub policies: &'static [&'static str],
    pub approver: Option<&'static str>,
    /// How it ended, where it was allowed and its end is on record.
    pub outcome: Option<&'static str>,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // One checkpoint, when it is closed.
        let options = Options {
            checkpoint_after: std::time::Duration::from_secs(3600),
            ..Options::new("host-1", Durability::Process)
        };
        let ledger = Ledger::open(dir.path(), options).unwrap();
        Self {
            dir,
            ledger,
            now: START,
        }
    }

    pub fn db(&self) -> std::path::PathBuf {
        self.dir.path().join("ledger.db")
    }

    /// Seals all of it.
    pub fn close(&self) {
        self.ledger.close();
    }

    /// One more entry, a second later than the one before.
    pub async fn add(&mut self, kind: EntryKind, members: Value) -> uuid::Uuid {
        self.now += SECOND;
        let entry = entry(kind, self.now, members);
        let id = entry.id;
        self.ledger.append(entry).await.unwrap();
        id
    }

    pub async fn operation(&mut self, o: Operation) {
        let allowed = matches!(o.reason, "policy_permit" | "approval_granted");
        let mut body = json!({
            "action": o.action, "context": {"http": {"method": "GET"}}, "decision": if allowed { "allow" } else { "deny" },
            "destination": {"address": "192.0.2.7", "name": "api.internal", "name_verified": true, "port": 443},
            "host": "host-1", "identity": null, "policies": o.policies, "policy_set": hash(),
            "process": {"exe": "/usr/bin/curl", "pid": 7}, "protocol": "http", "reason": o.reason,
            "resource": {"id": o.resource, "type": "HttpEndpoint"}, "session": o.session, "workload": o.workload,
        });
        if let Some(subject) = o.subject {
            body["identity"] = json!({
                "expires_at": "2026-11-26T01:00:00.000000000Z", "groups": ["agents"], "issuer": "https://issuer.internal",
                "key_id": "k1", "subject": subject, "token_id": "t1",
            });
            if let Some(human) = o.on_behalf_of {
                body["identity"]["on_behalf_of"] = human.into();
            }
        }
        if let Some(approver) = o.approver {
            body["approval"] = json!({ "approver": approver, "id": "a1" });
        }
        let id = self.add(EntryKind::Operation, body).await;
        if let Some(reason) = o.outcome.filter(|_| allowed) {
            let outcome = json!({
                "bytes_down": 0, "bytes_up": 0, "duration_us": 900, "masked": {"email": 3, "us_ssn": 1},
                "credentials": [{"reference": "api-key", "version": "v2"}], "operation": id.to_string(),
                "payload": {}, "reason": reason, "status": "200", "workload": o.workload,
            });
            self.add(EntryKind::Outcome, outcome).await;
        }
    }

    /// A connection, opened and closed; its id.
    pub async fn session(&mut self, workload: &str, protocol: &str, tls: Value, bytes: u64) -> String {
        let id = uuid::Uuid::now_v7().to_string();
        let mut body = json!({
            "cgroup_id": 5, "destination": {"address": "192.0.2.7", "port": 443}, "event": "open", "host": "host-1",
            "netns": 1, "process": {"exe": "/usr/bin/curl", "pid": 7}, "session": id, "tls": {}, "workload": workload,
        });
        self.add(EntryKind::Session, body.clone()).await;
        body["event"] = "close".into();
        body["tls"] = tls;
        for (key, value) in [
            ("protocol", Value::from(protocol)),
            ("reason", "completed".into()),
            ("operations", 2.into()),
            ("bytes_up", bytes.into()),
            ("bytes_down", (bytes * 3).into()),
        ] {
            body[key] = value;
        }
        self.add(EntryKind::Session, body).await;
        id
    }

    async fn workload(&mut self, workload: &str, event: &str, detail: Value) {
        let body = json!({ "workload": workload, "event": event, "detail": detail });
        self.add(EntryKind::Workload, body).await;
    }

    async fn change(&mut self, subject: &str, members: Value) {
        let mut body = json!({ "subject": subject });
        for (key, value) in members.as_object().unwrap() {
            body[key] = value.clone();
        }
        self.add(EntryKind::Change, body).await;
    }

    async fn custody(&mut self, event: &str) {
        let body = json!({ "event": event, "actor": {"pid": 9, "uid": 0}, "detail": {"why": "routine"} });
        self.add(EntryKind::Ledger, body).await;
    }
}

fn hash() -> String {
    hex::encode(sha256(&[POLICY.as_bytes()]))
}

pub fn tls() -> Value {
    json!({
        "downstream": {"alpn": "h2", "cipher": "TLS13_AES_256_GCM_SHA384", "sni": "api.internal", "version": "TLSv1_3"},
        "upstream": {"alpn": "h2", "chain_sha256": "ab".repeat(32), "cipher": "TLS13_AES_256_GCM_SHA384",
          "sni": "api.internal", "version": "TLSv1_3"},
    })
}

pub fn read(session: &str) -> Operation {
    Operation {
        workload: "bot-a",
        session: session.into(),
        subject: Some("agent:bot-a"),
        on_behalf_of: None,
        action: "http:request",
        resource: "https://api.internal/customers",
        reason: "policy_permit",
        policies: &["all"],
        approver: None,
        outcome: Some("completed"),
    }
}

/// A day on which everything was as it should be.
pub async fn day() -> World {
    let mut w = World::new();
    w.ledger.policy_set(&hash(), POLICY).await.unwrap();
    let started = json!({ "version": "0.1.0", "boot_id": "b", "clock": "system", "config_sha256": "c0ffee",
        "durability": "process", "policy_set": hash() });
    w.add(EntryKind::Agent, json!({ "event": "started", "detail": started }))
        .await;
    lives(&mut w).await;
    traffic(&mut w).await;
    people(&mut w).await;
    w.add(EntryKind::Agent, reconciled("reconciled", &json!([])))
        .await;
    let doors = json!([
        { "door": "tcp", "mechanism": "redirect", "result": "closed" },
        { "door": "packet", "mechanism": null, "result": "open" },
    ]);
    w.add(
        EntryKind::Agent,
        json!({ "event": "selftest", "detail": { "doors": doors } }),
    )
    .await;
    for event in [
        "exported",
        "hold_set",
        "shipped",
        "ship_failing",
        "ship_recovered",
        "budget_warning",
    ] {
        w.custody(event).await;
    }
    let gap = json!({ "detail": {"count": 2, "entries": 1, "frames": 1, "refused": 0}, "from": "2026-11-26T00:00:00.000000000Z",
        "reason": "ledger_unavailable", "to": "2026-11-26T00:00:01.000000000Z" });
    w.add(EntryKind::Gap, gap).await;
    w
}

async fn lives(w: &mut World) {
    let identity = |token: &str, human: Option<&str>| {
        let mut detail = json!({ "issuer": "https://issuer.internal", "key_id": "k1", "subject": "agent:bot-a", "token_id": token,
            "expires_at": "2026-11-26T01:00:00.000000000Z", "groups": ["agents"] });
        if let Some(human) = human {
            detail["on_behalf_of"] = human.into();
        }
        detail
    };
    w.workload("bot-a", "tagged", json!({ "cgroup": "/a" })).await;
    w.workload("bot-a", "bound", identity("t1", None)).await;
    w.workload("bot-a", "refreshed", identity("t2", None)).await;
    w.workload("bot-a", "refreshed", identity("t3", Some("ada")))
        .await;
    w.workload("bot-b", "failed", json!({ "message": "no token" }))
        .await;
    w.workload("bot-b", "revoked", json!({ "actor": {"pid": 9, "uid": 0} }))
        .await;
    w.change(
        "tag",
        json!({ "actor": {"pid": 9, "uid": 0}, "after": "bot-a", "detail": {"cgroup": "/a"} }),
    )
    .await;
    w.change(
        "revocation",
        json!({ "actor": {"pid": 9, "uid": 0}, "detail": {"act": "revoke", "workload": "bot-b"} }),
    )
    .await;
    w.change("config", json!({ "after": "c0ffee" })).await;
    w.change("policy", json!({ "before": "0".repeat(64), "after": hash() }))
        .await;
    w.change(
        "policy",
        json!({ "detail": {"refused": "line 3: no such action"} }),
    )
    .await;
    for (event, version) in [("obtained", "v1"), ("renewed", "v2")] {
        let detail =
            json!({ "event": event, "reference": "api-key", "expires_at": "2026-11-27T00:00:00.000000000Z" });
        w.change("credential", json!({ "after": version, "detail": detail }))
            .await;
    }
}

async fn traffic(w: &mut World) {
    let s = w.session("bot-a", "http", tls(), 100).await;
    w.operation(read(&s)).await;
    w.operation(Operation {
        resource: "https://api.internal/orders",
        ..read(&s)
    })
    .await;
    w.operation(Operation {
        on_behalf_of: Some("ada"),
        reason: "approval_granted",
        approver: Some("ben"),
        ..read(&s)
    })
    .await;
    w.operation(Operation {
        outcome: Some("upstream_untrusted"),
        ..read(&s)
    })
    .await;
    for reason in [
        "policy_default_deny",
        "policy_forbid",
        "secret_leak",
        "ledger_unavailable",
    ] {
        let policies: &[&str] = if reason == "policy_forbid" {
            &["no-deletes"]
        } else {
            &[]
        };
        w.operation(Operation {
            reason,
            policies,
            action: "sql:statement",
            resource: if reason == "policy_forbid" {
                HOSTILE
            } else {
                "orders"
            },
            ..read(&s)
        })
        .await;
    }
    let s = w.session("bot-b", "tcp", json!({}), 0).await;
    w.operation(Operation {
        workload: "bot-b",
        subject: None,
        reason: "identity_revoked",
        policies: &[],
        ..read(&s)
    })
    .await;
}

async fn people(w: &mut World) {
    let ben = json!({ "issuer": "https://people.internal", "subject": "ben", "via": "web" });
    let asked = json!({ "approval": "a1", "event": "requested", "action": "http:request", "identity": {"subject": "agent:bot-a",
        "on_behalf_of": "ada"}, "resource": {"id": "https://api.internal/customers"}, "operation": "o1", "digest": "d1",
        "policy_set": hash(), "requirements": [], "workload": "bot-a" });
    w.add(EntryKind::Approval, asked).await;
    let said = json!({ "approval": "a1", "event": "approved", "approver": ben, "complete": true, "counts_for": ["dba"],
        "covers": "GET below /customers for 10 minutes", "reason": "looked at it", "workload": "bot-a" });
    w.add(EntryKind::Approval, said).await;
    for event in ["break_glass_asked", "break_glass_given"] {
        let glass = json!({ "approval": "g1", "event": event, "approver": ben, "reason": "outage", "workload": "bot-a" });
        w.add(EntryKind::Approval, glass).await;
    }
    let stranger = json!({ "event": "not_admitted", "approver": {"issuer": "https://people.internal", "subject": "eve", "via": "web"} });
    w.add(EntryKind::Approval, stranger).await;
}

/// What should not be, one of each kind.
pub async fn misdeeds(w: &mut World) {
    let difference = json!({
        "at": "2026-03-02T09:00:00.000000000Z", "cgroup_id": 7, "count": 1, "what": "untaken", "workload": "deploy-bot",
    });
    w.add(
        EntryKind::Agent,
        reconciled("reconciliation_failed", &json!([difference])),
    )
    .await;
    let s = w
        .session(
            "bot-c",
            "http",
            json!({ "downstream": {"version": "TLSv1_3", "cipher": "x"} }),
            70,
        )
        .await;
    let plain = |s: &str| Operation {
        workload: "bot-c",
        subject: Some("agent:bot-c"),
        ..read(s)
    };
    w.operation(Operation {
        policies: &[],
        ..plain(&s)
    })
    .await;
    w.operation(Operation {
        subject: None,
        ..plain(&s)
    })
    .await;
    w.operation(Operation {
        outcome: None,
        ..plain(&s)
    })
    .await;
    let asked = json!({ "approval": "a2", "event": "requested", "identity": {"subject": "agent:bot-c", "on_behalf_of": "ada"},
        "action": "http:request", "resource": {"id": "r"}, "workload": "bot-c" });
    w.add(EntryKind::Approval, asked).await;
    let own = json!({ "approval": "a2", "event": "approved", "complete": true, "approver": {"subject": "ada", "via": "cli"} });
    w.add(EntryKind::Approval, own).await;
    let bare = json!({ "action": "http:request", "decision": "deny", "reason": "policy_forbid", "policy_set": "f".repeat(64),
        "policies": ["p"], "session": s, "workload": "bot-c" });
    w.add(EntryKind::Operation, bare).await;
    // Whatever was open before it is interrupted.
    w.add(
        EntryKind::Agent,
        json!({ "event": "recovered", "detail": {"entries": 3} }),
    )
    .await;
}

/// What the kernel counted of one cgroup.
fn reconciled(event: &str, differences: &Value) -> Value {
    let cgroup = json!({
        "cgroup_id": 7, "outcomes": { "tcp_redirected": 3, "udp_denied": 1 }, "sessions": 3, "workload": "deploy-bot",
    });
    json!({ "event": event, "detail": { "cgroups": [cgroup], "differences": differences, "read": { "from": 0, "to": 9 } } })
}
