//! What a credential gives: the secret itself, and what of it may be told.

use std::{fmt, sync::Arc};

use super::Secret;
use crate::model::WorkloadName;

/// A workload's own token; wiped when its last holder drops it.
pub type WorkloadToken = Arc<zeroize::Zeroizing<String>>;

/// For whom a credential is asked: some differ from workload to workload.
#[derive(Clone)]
pub struct Asker {
    /// The workload.
    pub workload: WorkloadName,
    /// Its own verified OIDC token, for sources that exchange it.
    pub token: Option<WorkloadToken>,
}

/// What a credential gives at one moment. The secret part is wiped when the last holder drops it.
pub struct Material {
    /// The `[[credential]]`.
    pub reference: Arc<str>,
    /// What tells it from the one before: a file's time, a version number, a lease or key id. Nothing secret.
    pub version: Arc<str>,
    /// When it ends, nanoseconds since 1970 UTC, where it does.
    pub expires_at: Option<i64>,
    /// The secret part.
    pub value: MaterialValue,
}

/// The secret part.
pub enum MaterialValue {
    /// A password, a token, an API key.
    Secret(Secret),
    /// A user with its password, where the source makes both.
    Login {
        /// The user.
        user: Arc<str>,
        /// Its password.
        password: Secret,
    },
    /// AWS keys.
    Aws(AwsKeys),
}

/// AWS keys, long-lived or of a session.
pub struct AwsKeys {
    /// `AKIA...` or `ASIA...`; not secret.
    pub access_key_id: Arc<str>,
    /// What signs.
    pub secret_access_key: Secret,
    /// Goes with keys of a session.
    pub session_token: Option<Secret>,
}

impl Material {
    /// The password, token or key, where it is one.
    #[must_use]
    pub fn secret(&self) -> Option<&Secret> {
        match &self.value {
            MaterialValue::Secret(secret) | MaterialValue::Login { password: secret, .. } => Some(secret),
            MaterialValue::Aws(_) => None,
        }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("reference", &self.reference)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
