//! What happens to a workload's identity, as it is told to the ledger (AC-2).

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use uuid::Uuid;

use crate::model::{Entry, EntryKind, Identity, Reason, Rfc3339, WorkloadName};

/// Who on this host asked for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Actor {
    /// Process id, as seen by the agent.
    pub pid: i32,
    /// User id, as seen by the agent.
    pub uid: u32,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A token was verified where there was no valid one, or one of another subject.
    Bound,
    /// A fresh token of the same subject replaced the one before.
    Refreshed,
    /// An admin revoked the workload.
    Revoked,
    /// An admin restored it.
    Restored,
    /// The token ran out.
    Expired,
    /// No token could be had, or the one that was had is not valid.
    Failed,
    /// The workload left the configuration.
    Removed,
}

impl Event {
    /// The word in the entry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::Refreshed => "refreshed",
            Self::Revoked => "revoked",
            Self::Restored => "restored",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Removed => "removed",
        }
    }
}

/// One event in the life of a workload's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleEvent {
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// Whose.
    pub workload: WorkloadName,
    /// What.
    pub event: Event,
    /// Why, for what went wrong.
    pub reason: Option<Reason>,
    /// The identity bound, refreshed, or lost.
    pub identity: Option<Arc<Identity>>,
    /// Who revoked or restored.
    pub actor: Option<Actor>,
    /// More for a human. Never holds a token or a secret.
    pub detail: Option<String>,
}

/// Where events go. Called from tasks of this module and from [`super::Identities::revoke`]: it must neither
/// block nor call back into this module.
pub type EventSink = Arc<dyn Fn(LifecycleEvent) + Send + Sync>;

/// The members are in the order of their names: canonical JSON wants them sorted.
#[derive(Serialize)]
struct Body<'a> {
    at: Rfc3339,
    detail: BTreeMap<&'static str, serde_json::Value>,
    event: &'static str,
    id: Uuid,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    v: u8,
    workload: &'a WorkloadName,
}

impl LifecycleEvent {
    /// The event as an entry for the ledger: kind `workload`, canonical JSON.
    #[must_use]
    pub fn entry(&self) -> Entry {
        let id = Uuid::now_v7();
        let mut detail = BTreeMap::new();
        let mut put = |key, value: &str| detail.insert(key, serde_json::Value::from(value));
        if let Some(text) = &self.detail {
            put("message", text);
        }
        if let Some(identity) = &self.identity {
            put("issuer", &identity.issuer);
            put("key_id", &identity.key_id);
            put("subject", &identity.subject);
            put("token_id", &identity.token_id);
            put(
                "expires_at",
                &Rfc3339(identity.expires_at.saturating_mul(1_000_000_000)).to_string(),
            );
            if let Some(human) = &identity.on_behalf_of {
                put("on_behalf_of", human);
            }
            let groups: Vec<&str> = identity.groups.iter().map(AsRef::as_ref).collect();
            detail.insert("groups", groups.into());
        }
        if let Some(actor) = self.actor {
            // Written in the order of their names: the map keeps the order it is given.
            detail.insert("actor", serde_json::json!({ "pid": actor.pid, "uid": actor.uid }));
        }
        let body = Body {
            at: Rfc3339(self.at_ns),
            detail,
            event: self.event.as_str(),
            id,
            kind: EntryKind::Workload.as_str(),
            reason: self.reason,
            v: 1,
            workload: &self.workload,
        };
        Entry {
            id,
            kind: EntryKind::Workload,
            // Maps with text keys and plain values only: this cannot fail, and an empty body would be refused.
            body: serde_json::to_string(&body).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_canonical() {
        let event = LifecycleEvent {
            at_ns: 1,
            workload: WorkloadName::new("w").unwrap(),
            event: Event::Revoked,
            reason: Some(Reason::IdentityRevoked),
            identity: None,
            actor: Some(Actor { pid: 7, uid: 0 }),
            detail: Some("said \"so\"".into()),
        };
        let entry = event.entry();
        assert_eq!(
            entry.body,
            format!(
                r#"{{"at":"1970-01-01T00:00:00.000000001Z","detail":{{"actor":{{"pid":7,"uid":0}},"message":"said \"so\""}},"event":"revoked","id":"{}","kind":"workload","reason":"identity_revoked","v":1,"workload":"w"}}"#,
                entry.id
            )
        );
    }
}
