//! What credentials there are, as `GET /v1/credentials` says it.

use serde::{Deserialize, Serialize};

use super::agent::Agent;
use crate::{credential, model::Rfc3339};

/// One credential, for one workload where each has its own. Never what it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CredentialStatus {
    /// The `[[credential]]`.
    pub reference: String,
    /// Where it comes from: `file`, `systemd`, `aws_keys_file`, `vault`, `aws` or `oauth`.
    pub source: String,
    /// Whose it is, where it is had with each workload's own token.
    pub workload: Option<String>,
    /// Which one is at hand: a file's time, a version number, a lease or key id. Absent while none is.
    pub version: Option<String>,
    /// The user that was made for it.
    pub user: Option<String>,
    /// When it ends, RFC 3339, where it does.
    pub expires_at: Option<String>,
    /// When it was last asked for, RFC 3339.
    pub used_at: Option<String>,
    /// What went wrong last, if it still does.
    pub error: Option<String>,
    /// When, RFC 3339.
    pub error_at: Option<String>,
}

impl From<credential::CredentialStatus> for CredentialStatus {
    fn from(status: credential::CredentialStatus) -> Self {
        let text = |at: i64| Rfc3339(at).to_string();
        let (error_at, error) = status.last_error.unzip();
        Self {
            reference: status.reference,
            source: status.source.into(),
            workload: status.workload,
            version: status.version,
            user: status.user,
            expires_at: status.expires_at.map(text),
            used_at: status.used_at.map(text),
            error,
            error_at: error_at.map(text),
        }
    }
}

impl Agent {
    pub(super) fn credentials(&self) -> Vec<CredentialStatus> {
        let all = self.front.shared.credentials.status();
        all.into_iter().map(Into::into).collect()
    }
}
