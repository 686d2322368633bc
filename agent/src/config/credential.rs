//! `[[credential]]`: secrets by reference, and where they come from.

use std::path::PathBuf;

use serde::Deserialize;

use super::upstream::is_name;

/// `[[credential]]`: a secret by reference, a password or a client certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// How `[[upstream]]` refers to it, and how entries do.
    pub name: String,
    /// A file with a password; a line end after it does not count.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// The same as a systemd credential (`LoadCredential=`), by its name.
    #[serde(default)]
    pub systemd: Option<String>,
    /// A file with a certificate and those that lead to its root, PEM.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// A file with the certificate's private key, PEM.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
}

impl Credential {
    /// Whether it is a client certificate.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        self.certificate_file.is_some()
    }
}

/// Whether a credential names exactly one source.
pub(super) fn check_credential(credential: &Credential) -> Result<(), String> {
    if !is_name(&credential.name) {
        return Err("a name is 1 to 64 of A-Z a-z 0-9 . _ -".into());
    }
    if let Some(name) = &credential.systemd
        && (!is_name(name) || name.starts_with('.'))
    {
        return Err("systemd is the name of a credential, not a path".into());
    }
    let c = credential;
    match (&c.file, &c.systemd, &c.certificate_file, &c.key_file) {
        (Some(_), None, None, None)
        | (None, Some(_), None, None)
        | (None, Some(_), Some(_), None)
        | (None, None, Some(_), Some(_)) => Ok(()),
        _ => Err("a password needs either file or systemd; a client certificate needs certificate_file with either key_file or systemd".into()),
    }
}
