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

/// The secret part; clones share it.
#[derive(Clone)]
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
#[derive(Clone)]
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

    /// The user, where it comes with one.
    #[must_use]
    pub fn user(&self) -> Option<&Arc<str>> {
        match &self.value {
            MaterialValue::Login { user, .. } => Some(user),
            MaterialValue::Secret(_) | MaterialValue::Aws(_) => None,
        }
    }

    /// AWS keys, where it is some.
    #[must_use]
    pub fn aws(&self) -> Option<&AwsKeys> {
        match &self.value {
            MaterialValue::Aws(keys) => Some(keys),
            MaterialValue::Secret(_) | MaterialValue::Login { .. } => None,
        }
    }

    /// The same for longer.
    pub(super) fn until(&self, expires_at: Option<i64>) -> Self {
        Self {
            reference: Arc::clone(&self.reference),
            version: Arc::clone(&self.version),
            expires_at,
            value: self.value.clone(),
        }
    }

    /// What must not be seen anywhere.
    pub(super) fn secrets(&self) -> Vec<&[u8]> {
        match &self.value {
            MaterialValue::Secret(secret) | MaterialValue::Login { password: secret, .. } => {
                vec![secret.expose()]
            }
            MaterialValue::Aws(keys) => std::iter::once(&keys.secret_access_key)
                .chain(&keys.session_token)
                .map(Secret::expose)
                .collect(),
        }
    }

    /// Whether someone else than its one keeper holds it.
    pub(super) fn is_held(self: &Arc<Self>) -> bool {
        let secret = match &self.value {
            MaterialValue::Secret(secret) | MaterialValue::Login { password: secret, .. } => secret,
            MaterialValue::Aws(keys) => &keys.secret_access_key,
        };
        Arc::strong_count(self) > 1 || secret.holders() > 1
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
