//! `[credential.oauth]`

use std::path::PathBuf;

use serde::Deserialize;

use super::{check_text, check_url};

/// `[credential.oauth]`: an access token of an OAuth 2.0 token endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth {
    /// The issuer's URL, whose metadata names the token endpoint.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The token endpoint, where there is no such metadata.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// The client that the agent is there.
    pub client_id: String,
    /// A file with its secret.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// A file with its private key (PEM), for `private_key_jwt` (RFC 7523).
    #[serde(default)]
    pub private_key_file: Option<PathBuf>,
    /// The private key's `kid`.
    #[serde(default)]
    pub private_key_id: Option<String>,
    /// How the token is had.
    #[serde(default)]
    pub grant: Grant,
    /// What the workload's token is, in a token exchange.
    #[serde(default)]
    pub subject_token_type: Option<SubjectToken>,
    /// Scopes to ask for.
    #[serde(default)]
    pub scope: Option<String>,
    /// For whom the token is to be.
    #[serde(default)]
    pub audience: Option<String>,
    /// The same as a URI (RFC 8707).
    #[serde(default)]
    pub resource: Option<String>,
    /// PEM roots for the endpoint's TLS, beside the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// How a token is had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// In the agent's own name (RFC 6749 section 4.4).
    #[default]
    ClientCredentials,
    /// For the workload's own token (RFC 8693).
    TokenExchange,
}

/// What a workload's token is, to who exchanges it (RFC 8693 section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectToken {
    /// An access token of the same issuer.
    #[default]
    AccessToken,
    /// An ID token.
    IdToken,
    /// A JWT of another issuer.
    Jwt,
}

impl SubjectToken {
    /// The URN.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            Self::IdToken => "urn:ietf:params:oauth:token-type:id_token",
            Self::Jwt => "urn:ietf:params:oauth:token-type:jwt",
        }
    }
}

impl OAuth {
    pub(super) fn check(&self) -> Result<(), String> {
        match (&self.issuer, &self.token_endpoint) {
            (Some(url), None) => check_url("issuer", url)?,
            (None, Some(url)) => check_url("token_endpoint", url)?,
            _ => return Err("needs either issuer or token_endpoint, a URL".into()),
        }
        check_text("client_id", &self.client_id)?;
        match (&self.client_secret_file, &self.private_key_file) {
            (Some(_), None) if self.private_key_id.is_some() => {
                return Err("private_key_id is for private_key_file".into());
            }
            (Some(_), None) | (None, Some(_)) => {}
            _ => return Err("needs either client_secret_file or private_key_file".into()),
        }
        if self.subject_token_type.is_some() && self.grant != Grant::TokenExchange {
            return Err("subject_token_type is for grant = \"token_exchange\"".into());
        }
        for (key, text) in [
            ("scope", &self.scope),
            ("audience", &self.audience),
            ("resource", &self.resource),
        ] {
            if let Some(text) = text {
                check_text(key, text)?;
            }
        }
        Ok(())
    }
}
