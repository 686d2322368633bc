//! A ledger with entries for every view to show.

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    super::super::{Durability, Ledger, Options, entry, tree},
    NOW, STEP,
};
use crate::model::EntryKind;

struct Teller {
    ledger: Ledger,
    at: i64,
    /// Hash of the policy set.
    set: String,
    session: String,
}

/// Tells it; in three parts, of which two are sealed, if that is asked for.
pub(super) async fn told(dir: &TempDir, sealed: bool) -> Ledger {
    let ledger = Ledger::open(dir.path(), Options::new("host-1", Durability::Process)).unwrap();
    let text = json!([
        ["schema.cedarschema", "// @id(\"not-one\")"],
        ["a.cedar", "@id(\"reads\") permit(principal, action, resource);\n@id(\"unused\") forbid(principal, action, resource);"],
    ])
    .to_string();
    let set = hex::encode(tree::sha256(&[text.as_bytes()]));
    ledger.policy_set(&set, &text).await.unwrap();
    let session = Uuid::now_v7().to_string();
    let mut teller = Teller {
        ledger,
        at: NOW,
        set,
        session,
    };
    teller.changes().await;
    teller.seal(sealed).await;
    teller.session("open", json!({})).await;
    teller.work().await;
    teller.seal(sealed).await;
    teller.end().await;
    teller.ledger
}

/// Members, and more that count before them.
fn with(mut members: Value, more: &Value) -> Value {
    let own = members.as_object_mut().unwrap();
    own.extend(more.as_object().unwrap().clone());
    members
}

impl Teller {
    async fn tell(&mut self, kind: EntryKind, members: Value) -> String {
        self.at += STEP;
        let told = entry(kind, self.at, members);
        let id = told.id.to_string();
        self.ledger.append(told).await.unwrap();
        id
    }

    async fn seal(&self, sealed: bool) {
        if sealed {
            self.ledger.seal().await.unwrap();
        }
    }

    async fn changes(&mut self) {
        let set = self.set.clone();
        for config in ["c1", "c2"] {
            let detail = json!({ "config_sha256": config, "policy_set": set, "version": "1" });
            self.tell(EntryKind::Agent, json!({ "event": "started", "detail": detail }))
                .await;
        }
        let actor = json!({ "pid": 9, "uid": 0 });
        let detail = json!({ "added": ["reads"], "removed": [], "changed": [] });
        for change in [
            json!({ "subject": "policy", "before": "x", "after": set, "detail": detail }),
            json!({ "subject": "policy", "detail": { "refused": "line 3" } }),
            json!({ "subject": "tag", "actor": actor, "after": "bot-a", "detail": { "cgroup": "/a" } }),
            json!({ "subject": "credential", "after": "v1", "detail": { "event": "obtained", "reference": "db-login" } }),
        ] {
            self.tell(EntryKind::Change, change).await;
        }
        let detail =
            json!({ "issuer": "i", "subject": "sub-1", "groups": ["g"], "token_id": "t", "key_id": "k" });
        for event in [
            json!({ "workload": "bot-a", "event": "bound", "detail": detail }),
            json!({ "workload": "bot-a", "event": "expired", "reason": "identity_expired", "detail": {} }),
        ] {
            self.tell(EntryKind::Workload, event).await;
        }
    }

    async fn session(&mut self, event: &str, more: Value) {
        let members = json!({
            "destination": {"address": "192.0.2.7", "port": 443}, "event": event,
            "process": {"exe": "/usr/bin/curl", "pid": 7}, "session": self.session, "tls": {}, "workload": "bot-a",
        });
        self.tell(EntryKind::Session, with(members, &more)).await;
    }

    async fn operation(&mut self, decision: &str, more: Value) -> String {
        let members = json!({
            "action": "sql:statement", "context": {"sql": {"text": "select '[masked:name]'"}}, "decision": decision,
            "destination": {"address": "192.0.2.7", "port": 443}, "identity": {"subject": "sub-1"},
            "policies": ["reads"], "policy_set": self.set, "process": {"exe": "/usr/bin/curl", "pid": 7},
            "protocol": "postgres", "reason": "policy_permit", "resource": {"id": "shop/orders", "type": "Relation"},
            "session": self.session, "workload": "bot-a",
        });
        self.tell(EntryKind::Operation, with(members, &more)).await
    }

    async fn work(&mut self) {
        let request = Uuid::now_v7().to_string();
        let asked = json!({
            "action": "sql:statement", "approval": request, "event": "requested", "identity": {"subject": "sub-1"},
            "policy_set": self.set, "requirements": [], "resource": {"id": "shop/orders"}, "workload": "bot-a",
        });
        self.tell(EntryKind::Approval, asked).await;
        let by = json!({ "subject": "alice", "issuer": "i", "via": "cli", "name": "Alice" });
        let said = json!({
            "approval": request, "approver": by, "complete": true, "counts_for": ["dba"], "event": "approved",
            "policy_set": self.set, "reason": "ok", "workload": "bot-a",
        });
        self.tell(EntryKind::Approval, said).await;
        let approval = json!({ "approval": {"id": request, "approver": "alice"}, "credential": "db-login" });
        let allowed = self.operation("allow", approval).await;
        let denied = json!({ "reason": "policy_default_deny", "policies": [], "message": "no" });
        self.operation("deny", denied).await;
        self.operation(
            "deny",
            json!({ "reason": "ledger_unavailable", "workload": "bot-b" }),
        )
        .await;
        let outcome = json!({
            "bytes_down": 9, "bytes_up": 7, "credentials": [{"reference": "db-login", "version": "v1"}],
            "duration_us": 5, "masked": {"email": 3, "us_ssn": 1}, "operation": allowed, "payload": {},
            "reason": "upstream_unreachable", "status": "SELECT 1", "workload": "bot-a",
        });
        self.tell(EntryKind::Outcome, outcome).await;
        // Of this one nobody says how it ended.
        self.operation("allow", json!({})).await;
    }

    async fn end(&mut self) {
        let leg = json!({
            "chain_sha256": "ab", "cipher": "TLS13_AES_256_GCM_SHA384", "sni": "db.internal", "version": "TLSv1.3",
        });
        let closed = json!({
            "bytes_down": 9, "bytes_up": 7, "operations": 4, "protocol": "postgres", "reason": "timeout",
            "tls": {"downstream": leg, "upstream": leg},
        });
        self.session("close", closed).await;
        let detail = json!({
            "asked": {"controls": ["AU-2"]}, "bytes": 5, "file": "/e.db", "sha256": "aa",
            "exported": {"entries": 9, "first": 0, "frames": 0, "root": "bb", "selected": 3},
        });
        let exported =
            json!({ "event": "exported", "actor": {"uid": 0, "pid": 4, "login": "root"}, "detail": detail });
        self.tell(EntryKind::Ledger, exported).await;
        let lost = json!({
            "detail": {"count": 2}, "from": "2026-11-21T06:00:00.000000000Z", "reason": "ledger_unavailable",
            "to": "2026-11-21T06:00:01.000000000Z",
        });
        self.tell(EntryKind::Gap, lost).await;
        self.tell(EntryKind::Agent, json!({ "event": "stopped", "detail": {} }))
            .await;
    }
}
