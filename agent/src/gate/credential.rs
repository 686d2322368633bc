//! Credentials for allowed operations, and the secrets that no other operation may carry.

use std::sync::Arc;

use serde::Serialize;

use super::{Gate, Permit};
use crate::{
    credential::{Asker, CredentialError, Material},
    mask::Secrets,
    model::Rfc3339,
};

/// A credential that an operation used, as its outcome has it. Nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Used {
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Rfc3339>,
    reference: Arc<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: Arc<str>,
}

impl Used {
    pub(super) fn of(material: &Material) -> Self {
        Self {
            expires_at: material.expires_at.map(Rfc3339),
            reference: Arc::clone(&material.reference),
            version: Arc::clone(&material.version),
        }
    }

    pub(super) fn named(reference: &str) -> Self {
        Self {
            expires_at: None,
            reference: reference.into(),
            version: "".into(),
        }
    }
}

impl Gate {
    /// What an allowed operation is sent with; its outcome says which, never what. From here on it is looked for in
    /// everything that passes.
    ///
    /// # Errors
    /// When it cannot be had: the operation must not go upstream.
    pub async fn credential(
        &self,
        permit: &mut Permit,
        reference: &str,
    ) -> Result<Arc<Material>, CredentialError> {
        let material = self
            .inner
            .shared
            .credentials
            .get(reference, &self.asker())
            .await?;
        self.used(permit, &material);
        Ok(material)
    }

    /// The same for a login: a password, with the user where it comes with one.
    ///
    /// # Errors
    /// When it cannot be had: the operation must not go upstream.
    pub async fn password(
        &self,
        permit: &mut Permit,
        reference: &str,
    ) -> Result<Arc<Material>, CredentialError> {
        let credentials = &self.inner.shared.credentials;
        let material = credentials.password(reference, &self.asker()).await?;
        self.used(permit, &material);
        Ok(material)
    }

    fn used(&self, permit: &mut Permit, material: &Material) {
        if let Some(secret) = material.secret() {
            // Its source has said so already, unless nobody listens to it.
            self.secrets().cover(&material.reference, secret.expose());
        }
        permit.uses(Used::of(material));
    }

    fn asker(&self) -> Asker {
        Asker {
            workload: self.workload().clone(),
            token: self.connection.identity.token(),
        }
    }

    /// The secrets that are in use.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.inner.shared.secrets
    }
}
