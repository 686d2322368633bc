//! `[credential.vault]`

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{super::load, check_text, check_url};

/// `[credential.vault]`: a secret in HashiCorp Vault or OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    /// `https://HOST:8200`
    pub address: String,
    /// PEM roots for its TLS, beside the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The namespace (`X-Vault-Namespace`).
    #[serde(default)]
    pub namespace: Option<String>,
    /// Where the secrets engine is mounted; `secret` with `path`, `database` with `database_role`.
    #[serde(default)]
    pub mount: Option<String>,
    /// A secret of the KV engine, version 2, as in `vault kv get -mount=MOUNT PATH`.
    #[serde(default)]
    pub path: Option<String>,
    /// Which field of it.
    #[serde(default)]
    pub field: Option<String>,
    /// How often it is read again while it is used.
    #[serde(default = "default_refresh", deserialize_with = "load::duration")]
    pub refresh: Duration,
    /// A role of the database engine, as in `vault read MOUNT/creds/ROLE`: each gives a user of its own.
    #[serde(default)]
    pub database_role: Option<String>,
    /// Log in with a token that someone keeps fresh in a file, a Vault agent for one.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Log in as an AppRole.
    #[serde(default)]
    pub approle: Option<AppRole>,
    /// Log in with the workload's own token.
    #[serde(default)]
    pub jwt: Option<JwtLogin>,
}

/// `[credential.vault.approle]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// `vault read auth/approle/role/NAME/role-id`; not secret.
    pub role_id: String,
    /// A file with a secret id of that role.
    pub secret_id_file: PathBuf,
    /// Where the auth method is mounted.
    #[serde(default = "default_approle")]
    pub mount: String,
}

/// `[credential.vault.jwt]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtLogin {
    /// The role of the auth method.
    pub role: String,
    /// Where it is mounted.
    #[serde(default = "default_jwt")]
    pub mount: String,
}

fn default_refresh() -> Duration {
    Duration::from_secs(60)
}
fn default_approle() -> String {
    "approle".into()
}
fn default_jwt() -> String {
    "jwt".into()
}

impl Vault {
    /// Where the secrets engine is mounted.
    #[must_use]
    pub fn mount(&self) -> &str {
        match &self.mount {
            Some(mount) => mount,
            None if self.database_role.is_some() => "database",
            None => "secret",
        }
    }

    /// Which field of a secret of the KV engine.
    #[must_use]
    pub fn field(&self) -> &str {
        self.field.as_deref().unwrap_or("value")
    }

    pub(super) fn check(&self) -> Result<(), String> {
        check_url("address", &self.address)?;
        check_path("mount", self.mount())?;
        match (&self.path, &self.database_role) {
            (Some(path), None) => {
                check_path("path", path)?;
                if path.starts_with("data/") || path.starts_with(&format!("{}/", self.mount())) {
                    return Err(format!(
                        "path is what `vault kv get -mount={} PATH` takes: without the mount and without data/",
                        self.mount()
                    ));
                }
                check_text("field", self.field())?;
            }
            (None, Some(role)) => {
                check_segment("database_role", role)?;
                if self.field.is_some() {
                    return Err("field is for path: a database_role gives a user with its password".into());
                }
            }
            _ => {
                return Err(
                    "needs either path (a secret of the KV engine, version 2) or database_role".into(),
                );
            }
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.refresh) {
            return Err("refresh is between 1s and 1h".into());
        }
        if let Some(namespace) = &self.namespace {
            check_path("namespace", namespace)?;
        }
        match (&self.token_file, &self.approle, &self.jwt) {
            (Some(_), None, None) => Ok(()),
            (None, Some(approle), None) => {
                check_text("approle: role_id", &approle.role_id)?;
                check_path("approle: mount", &approle.mount)
            }
            (None, None, Some(jwt)) => {
                check_text("jwt: role", &jwt.role)?;
                check_path("jwt: mount", &jwt.mount)
            }
            _ => Err(
                "needs one way to log in: token_file, approle = { role_id, secret_id_file } or \
                      jwt = { role }"
                    .into(),
            ),
        }
    }
}

/// A path below `/v1/`: what a URL would make of `..` or nothing is refused.
fn check_path(key: &str, path: &str) -> Result<(), String> {
    check_text(key, path)?;
    path.split('/').try_for_each(|part| {
        check_segment(key, part)
            .map_err(|_| format!("{key} '{path}' is names with / between them, without one at either end"))
    })
}

fn check_segment(key: &str, part: &str) -> Result<(), String> {
    check_text(key, part)?;
    if part == "." || part == ".." || part.contains(['/', '?', '#', '%', '\\']) {
        return Err(format!("{key} '{part}' is a name, without / ? # % \\"));
    }
    Ok(())
}
