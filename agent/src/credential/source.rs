//! Where a credential comes from, one file for each kind of place.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    error::Failure,
    file::{self, Form},
    material::{MaterialValue, WorkloadToken},
    oauth::OAuth,
    sts::Sts,
    vault::{Lease, Session, Vault},
    web::Web,
};
use crate::{config, io::Stamp, model::WorkloadName};

/// For what a source is asked.
pub(super) struct Ask<'a> {
    /// The workload and its token, where the source needs them.
    pub party: Option<(&'a WorkloadName, &'a WorkloadToken)>,
    /// What the source remembers from one time to the next.
    pub memory: &'a mut Memory,
    /// Nanoseconds since 1970 UTC.
    pub now_ns: i64,
}

/// What a source remembers between two times for one key.
#[derive(Default)]
pub(super) struct Memory {
    /// The login to Vault that reads secrets of the KV engine.
    pub session: Option<Arc<Session>>,
}

/// What a source gives.
pub(super) struct Obtained {
    /// The secret part.
    pub value: MaterialValue,
    /// See [`super::Material::version`].
    pub version: Arc<str>,
    /// When it ends, nanoseconds since 1970 UTC.
    pub expires_at: Option<i64>,
    /// When to look again, where it does not say when it ends.
    pub refresh: Option<Duration>,
    /// The file that it was read from.
    pub stamp: Option<Stamp>,
    /// What keeps it alive.
    pub lease: Option<Lease>,
}

/// A place.
pub(super) enum Source {
    /// A file, or a credential of systemd.
    File(file::Place, Form),
    /// Vault.
    Vault(Vault, Web),
    /// AWS STS.
    Sts(Sts, Web),
    /// An OAuth 2.0 token endpoint.
    OAuth(OAuth, Web),
}

impl Source {
    /// From a configuration that was checked; `None` for a client certificate, which is read at use.
    pub(super) fn new(credential: &config::Credential, timeout: Duration) -> Option<Self> {
        let web = |ca_file: &Option<PathBuf>| Web::new(ca_file.clone(), timeout);
        if let Some(vault) = &credential.vault {
            return Some(Self::Vault(Vault::new(vault.clone()), web(&vault.ca_file)));
        }
        if let Some(role) = &credential.aws {
            return Some(Self::Sts(Sts::new(role.clone()), web(&role.ca_file)));
        }
        if let Some(oauth) = &credential.oauth {
            return Some(Self::OAuth(OAuth::new(oauth.clone()), web(&oauth.ca_file)));
        }
        if let Some(path) = &credential.aws_keys_file {
            let profile = credential.profile.as_deref().unwrap_or("default");
            return Some(Self::File(
                file::Place::File(path.clone()),
                Form::AwsKeys(profile.into()),
            ));
        }
        file::Place::of(credential)
            .filter(|_| !credential.is_certificate())
            .map(|place| Self::File(place, Form::Password))
    }

    /// Asks for it.
    pub(super) async fn obtain(&self, ask: Ask<'_>) -> Result<Obtained, Failure> {
        match self {
            Self::File(place, form) => file::obtain(place, form).await,
            Self::Vault(vault, web) => vault.obtain(web, ask).await,
            Self::Sts(sts, web) => sts.obtain(web, ask).await,
            Self::OAuth(oauth, web) => oauth.obtain(web, ask).await,
        }
    }

    /// A longer life for a lease: when it ends now.
    pub(super) async fn renew(&self, lease: &Lease, now_ns: i64) -> Result<i64, Failure> {
        match self {
            Self::Vault(vault, web) => vault.renew(web, lease, now_ns).await,
            Self::File(..) | Self::Sts(..) | Self::OAuth(..) => Err(Failure::new("", "there is no lease")),
        }
    }

    /// Gives a lease back.
    pub(super) async fn revoke(&self, lease: &Lease) -> Result<(), Failure> {
        match self {
            Self::Vault(vault, web) => vault.revoke(web, lease).await,
            Self::File(..) | Self::Sts(..) | Self::OAuth(..) => Ok(()),
        }
    }

    /// Logs out, where it logged in.
    pub(super) async fn forget(&self, memory: &mut Memory) {
        if let (Self::Vault(vault, web), Some(session)) = (self, memory.session.take()) {
            vault.log_out(web, &session).await;
        }
    }

    /// Whether it is a file.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::File(..))
    }

    /// The file, where it is one.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(place, _) => place.path().ok(),
            Self::Vault(..) | Self::Sts(..) | Self::OAuth(..) => None,
        }
    }

    /// Reads further roots again when it next asks.
    pub(super) fn reset(&self) {
        match self {
            Self::File(..) => {}
            Self::Vault(_, web) | Self::Sts(_, web) | Self::OAuth(_, web) => web.reset(),
        }
    }
}
