//! What happens to credentials, as it is told to the ledger. Never what they are.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use uuid::Uuid;

use crate::model::{Entry, EntryKind, Rfc3339, WorkloadName};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// It was had, where there was none.
    Obtained,
    /// Another one, or a longer life, took the place of the one before.
    Renewed,
    /// It could not be had. Told once for each cause.
    Failed,
    /// It ran out before another could be had.
    Expired,
    /// It was given back: its lease was revoked.
    Revoked,
}

impl Event {
    /// The word in the entry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Obtained => "obtained",
            Self::Renewed => "renewed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// One event in the life of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialEvent {
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// Which.
    pub reference: Arc<str>,
    /// Whose, where each workload has its own.
    pub workload: Option<WorkloadName>,
    /// What.
    pub event: Event,
    /// The version before.
    pub before: Option<Arc<str>>,
    /// The version now; with what failed, the one that was to be replaced.
    pub version: Option<Arc<str>>,
    /// When that one ends, nanoseconds since 1970 UTC.
    pub expires_at: Option<i64>,
    /// The user that was made for it.
    pub user: Option<Arc<str>>,
    /// More for a human.
    pub message: Option<String>,
}

/// Where events go. Called from tasks of this module: it must neither block nor call back into it.
pub type EventSink = Arc<dyn Fn(CredentialEvent) + Send + Sync>;

/// The members are in the order of their names: canonical JSON wants them sorted.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
    at: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a str>,
    detail: BTreeMap<&'static str, String>,
    id: Uuid,
    kind: &'static str,
    subject: &'static str,
    v: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a WorkloadName>,
}

impl CredentialEvent {
    /// The event as an entry for the ledger: kind `change`, subject `credential`, canonical JSON.
    #[must_use]
    pub fn entry(&self) -> Entry {
        let id = Uuid::now_v7();
        let mut detail = BTreeMap::from([
            ("event", self.event.as_str().to_owned()),
            ("reference", self.reference.to_string()),
        ]);
        if let Some(at) = self.expires_at {
            detail.insert("expires_at", Rfc3339(at).to_string());
        }
        if let Some(message) = &self.message {
            detail.insert("message", message.clone());
        }
        if let Some(user) = &self.user {
            detail.insert("user", user.to_string());
        }
        let over = matches!(self.event, Event::Expired | Event::Revoked);
        let body = Body {
            after: self.version.as_deref().filter(|_| !over),
            at: Rfc3339(self.at_ns),
            before: self
                .version
                .as_deref()
                .filter(|_| over)
                .or(self.before.as_deref()),
            detail,
            id,
            kind: EntryKind::Change.as_str(),
            subject: "credential",
            v: 1,
            workload: self.workload.as_ref(),
        };
        Entry {
            id,
            kind: EntryKind::Change,
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
        let event = CredentialEvent {
            at_ns: 1,
            reference: "db".into(),
            workload: Some(WorkloadName::new("w").unwrap()),
            event: Event::Renewed,
            before: Some("1".into()),
            version: Some("2".into()),
            expires_at: Some(2),
            user: None,
            message: None,
        };
        let entry = event.entry();
        assert_eq!(
            entry.body,
            format!(
                r#"{{"after":"2","at":"1970-01-01T00:00:00.000000001Z","before":"1","detail":{{"event":"renewed","expires_at":"1970-01-01T00:00:00.000000002Z","reference":"db"}},"id":"{}","kind":"change","subject":"credential","v":1,"workload":"w"}}"#,
                entry.id
            )
        );
    }
}
