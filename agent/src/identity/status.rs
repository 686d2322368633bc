//! What `portcullis status` says of a workload's identity.

use serde::Serialize;

use super::cell::{LastError, Snapshot};
use crate::model::{Reason, Rfc3339, WorkloadName};

/// One workload's state.
#[derive(Clone, Debug, Serialize)]
pub struct WorkloadStatus {
    /// Its name.
    pub workload: WorkloadName,
    /// Whether its operations are identified now.
    pub valid: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// `token_file`, `client_secret` or `private_key_jwt`.
    pub source: &'static str,
    /// The issuer's URL.
    pub issuer: String,
    /// The subject of the token held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// For whom it acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// The groups in the token held.
    pub groups: Vec<String>,
    /// The token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// `exp` of the token held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Rfc3339>,
    /// Until when it is taken: `exp` and the skew allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Rfc3339>,
    /// What went wrong last, and has not been made good since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error_at: Option<Rfc3339>,
    /// Since when it is revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_since: Option<Rfc3339>,
}

impl WorkloadStatus {
    pub(super) fn new(workload: &WorkloadName, source: &'static str, issuer: &str, now: Snapshot) -> Self {
        let identity = now.identity;
        let of = |f: fn(&crate::model::Identity) -> &str| identity.as_ref().map(|i| f(i).to_owned());
        let (last_error, last_error_at) = match now.last_error {
            Some(LastError { at_ns, message, .. }) => (Some(message), Some(Rfc3339(at_ns))),
            None => (None, None),
        };
        Self {
            workload: workload.clone(),
            valid: now.verdict.is_ok(),
            reason: now.verdict.err(),
            source,
            issuer: issuer.to_owned(),
            subject: of(|i| &i.subject),
            on_behalf_of: identity
                .as_ref()
                .and_then(|i| i.on_behalf_of.as_deref().map(str::to_owned)),
            groups: identity
                .iter()
                .flat_map(|i| i.groups.iter().map(ToString::to_string))
                .collect(),
            token_id: of(|i| &i.token_id),
            expires_at: identity
                .as_ref()
                .map(|i| Rfc3339(i.expires_at.saturating_mul(1_000_000_000))),
            valid_until: now.until_ns.map(Rfc3339),
            last_error,
            last_error_at,
            revoked_since: now.revoked.map(|r| Rfc3339(r.at_ns)),
        }
    }
}
