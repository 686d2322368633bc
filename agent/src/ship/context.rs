//! What a sink is built with: this host's name, and the secrets that it is allowed to have.

use std::sync::Arc;

use super::{Class, ShipError};
use crate::{
    clock::Clock,
    credential::{Asker, Certificate, Credentials, Material},
    model::WorkloadName,
};

/// What a sink is built with; clones share it.
#[derive(Clone, Debug)]
pub struct Context {
    /// This host's name.
    pub host: Arc<str>,
    /// The secrets of the configuration.
    pub credentials: Credentials,
    /// The time.
    pub clock: Clock,
}

impl Context {
    /// What a `[[credential]]` gives now: a secret text, or AWS keys. Ask again for every connection or try, so that a
    /// new one counts at once.
    ///
    /// # Errors
    /// When it cannot be had; temporary, for someone may put it there.
    pub async fn material(&self, name: &str) -> Result<Arc<Material>, ShipError> {
        let denied = |why: String| ShipError::temporary(Class::Denied, why);
        // The configuration's check has let none through that takes a workload's token.
        let asker = Asker {
            workload: WorkloadName::new("portcullis").map_err(|e| denied(e.to_string()))?,
            token: None,
        };
        let had = self.credentials.get(name, &asker).await;
        had.map_err(|e| denied(e.to_string()))
    }

    /// A secret text, without white space around it.
    ///
    /// # Errors
    /// As [`Self::material`], and when it is not text.
    pub async fn secret(&self, name: &str) -> Result<zeroize::Zeroizing<String>, ShipError> {
        let material = self.material(name).await?;
        let text = material
            .secret()
            .and_then(|secret| std::str::from_utf8(secret.expose()).ok())
            .ok_or_else(|| {
                ShipError::temporary(Class::Denied, format!("credential '{name}' is not a secret text"))
            })?;
        Ok(zeroize::Zeroizing::new(text.trim().to_owned()))
    }

    /// A client certificate.
    ///
    /// # Errors
    /// As [`Self::material`].
    pub async fn certificate(&self, name: &str) -> Result<Certificate, ShipError> {
        let had = self.credentials.certificate(name).await;
        had.map_err(|e| ShipError::temporary(Class::Denied, e.to_string()))
    }
}
