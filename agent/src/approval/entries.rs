//! The entries of approvals: what was asked, what was said, how it ended.

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{
    book::Request,
    grant::Grant,
    show::{context, resource},
    view::State,
};
use crate::model::{Approver, Entry, EntryKind, Rfc3339, WorkloadName};

fn entry(at_ns: i64, host: &str, event: &str, members: Json) -> Entry {
    let mut map = match members {
        Json::Object(map) => map,
        _ => Map::new(),
    };
    map.retain(|_, value| !value.is_null());
    map.insert("event".into(), event.into());
    map.insert("host".into(), host.into());
    Entry::of(EntryKind::Approval, at_ns, map)
}

/// A human as entries have it.
fn approver(by: &Approver) -> Json {
    json!({
        "authenticated_at": Rfc3339(by.authenticated_at.saturating_mul(1_000_000_000)).to_string(),
        "groups": by.groups,
        "issuer": by.issuer,
        "name": by.name,
        "subject": by.subject,
        "token_id": by.token_id,
        "via": by.via,
    })
}

/// Approvers are asked.
pub fn requested(request: &Request, host: &str) -> Entry {
    let (ask, operation) = (&request.ask, &*request.ask.operation);
    let terms = ask.decision.hold.as_deref().cloned().unwrap_or_default();
    let requirements = terms
        .requirements
        .iter()
        .map(|r| json!({ "groups": r.groups, "policy": r.policy, "quorum": r.quorum }));
    let members = json!({
        "action": operation.action,
        "approval": request.id,
        "context": context(operation),
        "controls": ask.decision.controls,
        "destination": {
            "address": operation.destination.address,
            "name": operation.destination.name,
            "name_verified": operation.destination.name_verified,
            "port": operation.destination.port,
        },
        "digest": hex::encode(request.digest),
        "expires_at": Rfc3339(request.until.at_ns()).to_string(),
        "identity": {
            "groups": ask.identity.groups,
            "issuer": ask.identity.issuer,
            "on_behalf_of": ask.identity.on_behalf_of,
            "subject": ask.identity.subject,
            "token_id": ask.identity.token_id,
        },
        "message": ask.decision.message,
        "operation": operation.id,
        "payload": {
            "bytes": ask.payload.bytes,
            "shown": ask.payload.shown,
            "truncated": ask.payload.truncated,
        },
        "policies": ask.decision.policies,
        "policy_set": ask.decision.policy_set,
        "process": {
            "exe": ask.process.exe.as_ref().map(|e| e.to_string_lossy()),
            "pid": ask.process.pid,
            "uid": ask.process.uid,
        },
        "protocol": operation.protocol,
        "requirements": requirements.collect::<Vec<_>>(),
        "resource": { "id": resource(operation), "type": operation.resource.kind },
        "session": ask.session,
        "workload": ask.workload,
    });
    entry(request.asked_ns, host, "requested", members)
}

/// What one human said of a request.
pub struct Said<'a> {
    pub by: &'a Approver,
    pub approve: bool,
    pub reason: &'a str,
    /// How far the human let it reach.
    pub scope: Json,
    /// The groups that it counts for.
    pub groups: &'a [std::sync::Arc<str>],
    /// Whether nothing more is needed.
    pub complete: bool,
    /// What it grants, spelled out, where it is complete and reaches beyond this operation.
    pub covers: Option<&'a str>,
}

/// A human answered.
pub fn answered(request: &Request, said: &Said<'_>, at_ns: i64, host: &str) -> Entry {
    let members = json!({
        "approval": request.id,
        "approver": approver(said.by),
        "complete": said.complete,
        "counts_for": said.groups,
        "covers": said.covers,
        "digest": hex::encode(request.digest),
        "operation": request.ask.operation.id,
        "policy_set": request.ask.decision.policy_set,
        "reason": said.reason,
        "scope": said.scope,
        "workload": request.ask.workload,
    });
    entry(
        at_ns,
        host,
        if said.approve { "approved" } else { "denied" },
        members,
    )
}

/// A human tried to answer and may not.
pub fn refused(
    approval: Uuid,
    workload: Option<&WorkloadName>,
    by: &Approver,
    why: &str,
    at_ns: i64,
    host: &str,
) -> Entry {
    let members = json!({
        "approval": approval,
        "approver": approver(by),
        "reason": why,
        "workload": workload,
    });
    entry(at_ns, host, "refused", members)
}

/// A request ended without enough answers.
pub fn ended(approval: Uuid, workload: &str, state: State, why: &str, at_ns: i64, host: &str) -> Entry {
    let members = json!({ "approval": approval, "reason": why, "workload": workload });
    entry(at_ns, host, state.as_str(), members)
}

/// What one of the two people of a break-glass grant said.
pub struct Glass<'a> {
    pub id: Uuid,
    pub workload: &'a WorkloadName,
    pub minutes: u32,
    pub reason: &'a str,
    pub by: &'a Approver,
    /// The second one, who puts it in force.
    pub given: bool,
}

/// A break-glass grant was asked for, or given by its second person.
pub fn break_glass(glass: &Glass<'_>, at_ns: i64, host: &str) -> Entry {
    let members = json!({
        "approval": glass.id,
        "approver": approver(glass.by),
        "minutes": glass.minutes,
        "reason": glass.reason,
        "workload": glass.workload,
    });
    let event = if glass.given {
        "break_glass_given"
    } else {
        "break_glass_asked"
    };
    entry(at_ns, host, event, members)
}

/// A grant ended.
pub fn grant_ended(grant: &Grant, why: &str, by: Option<(&Approver, &str)>, at_ns: i64, host: &str) -> Entry {
    let members = json!({
        "approval": grant.id,
        "approver": by.map(|(by, _)| approver(by)),
        "covers": grant.text,
        "note": by.map(|(_, reason)| reason),
        "reason": why,
        "scope": grant.scope().as_str(),
        "used": grant.used,
        "workload": grant.workload,
    });
    entry(at_ns, host, "grant_ended", members)
}
