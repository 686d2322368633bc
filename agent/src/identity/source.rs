//! Where a workload's token comes from: a file that someone keeps fresh, or the issuer's token endpoint.
//!
//! Tokens, client secrets and private keys are wiped when this module drops them (buffers inside the HTTP library are
//! not), and appear in no error. They are read from their files each time they are needed, so that replacing the file
//! is all that rotation takes.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

use super::{
    error::IdentityError,
    fetch::FetchError,
    issuer::{Issuer, Metadata},
    verify::{Failure, MAX_TOKEN},
};
use crate::{
    config,
    io::{
        Stamp,
        client::{self, Key},
        form::Form,
    },
    model::Reason,
};

/// A token; wiped when dropped.
pub type Token = Zeroizing<String>;

/// Bytes of a secret or a key file.
pub(super) const MAX_SECRET: u64 = 64 * 1024;

/// Where a workload's token comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file that someone keeps fresh.
    File(PathBuf),
    /// The client credentials grant (RFC 6749 section 4.4).
    Client(Client),
}

/// An OAuth 2.0 client.
#[derive(Clone, Debug)]
pub struct Client {
    id: String,
    key: ClientKey,
    scope: Option<String>,
}

#[derive(Clone, Debug)]
enum ClientKey {
    Secret(PathBuf),
    /// `private_key_jwt`, with the key's `kid`.
    PrivateKey(PathBuf, Option<String>),
}

impl Source {
    /// From `[[workload]]`.
    ///
    /// # Errors
    /// When it names none.
    pub fn new(workload: &config::Workload) -> Result<Self, IdentityError> {
        if let Some(path) = &workload.token_file {
            return Ok(Self::File(path.clone()));
        }
        let key = match (&workload.client_secret_file, &workload.private_key_file) {
            (Some(path), None) => ClientKey::Secret(path.clone()),
            (None, Some(path)) => ClientKey::PrivateKey(path.clone(), workload.private_key_id.clone()),
            _ => return Err(IdentityError::NoSource(workload.name.to_string())),
        };
        match &workload.client_id {
            Some(id) => Ok(Self::Client(Client {
                id: id.clone(),
                key,
                scope: workload.scope.clone(),
            })),
            None => Err(IdentityError::NoSource(workload.name.to_string())),
        }
    }

    /// The word in a status.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::File(_) => "token_file",
            Self::Client(Client { key, .. }) => match key {
                ClientKey::Secret(_) => "client_secret",
                ClientKey::PrivateKey(..) => "private_key_jwt",
            },
        }
    }
}

/// The present version of a token file; `None` when it is not there.
pub async fn stamp(path: &Path) -> Option<Stamp> {
    Some(Stamp::of(&tokio::fs::metadata(path).await.ok()?))
}

/// Reads a token file.
///
/// # Errors
/// When it is not there, empty, or too long.
pub async fn read_token(path: &Path) -> Result<Token, Failure> {
    // Room for white space around the token.
    read(path, MAX_TOKEN as u64 + 1024, "token_file").await
}

/// A file's text without the white space around it.
pub(super) async fn read(path: &Path, limit: u64, key: &str) -> Result<Zeroizing<String>, Failure> {
    let missing = |what: &str| {
        Failure::new(
            Reason::IdentityMissing,
            format!("{key} {}: {what}", path.display()),
        )
    };
    let meta = tokio::fs::metadata(path)
        .await
        .map_err(|e| missing(&e.kind().to_string()))?;
    if !meta.is_file() {
        // Opening a pipe would wait for a writer.
        return Err(missing("is not a regular file"));
    }
    if meta.mode() & 0o007 != 0 {
        tracing::warn!(file = %path.display(), "{key} can be used by everyone on this host");
    }
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|e| missing(&e.kind().to_string()))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 * 1024));
    let read = file.take(limit + 1).read_to_end(&mut bytes).await;
    read.map_err(|e| missing(&e.kind().to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::new(
            Reason::IdentityInvalid,
            format!("{key} {}: is longer than {limit} bytes", path.display()),
        ));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Failure::new(
            Reason::IdentityInvalid,
            format!("{key} {}: is not text", path.display()),
        )
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(missing("is empty"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
}

/// Why no token was had from the issuer.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// The issuer did not give one.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Secret or key cannot be used.
    #[error(transparent)]
    Local(#[from] Failure),
}

impl Client {
    /// Asks for a token for the issuer's audience.
    ///
    /// # Errors
    /// When the secret cannot be read, or the issuer gives no token.
    pub async fn obtain(&self, issuer: &Issuer, metadata: &Metadata, now: i64) -> Result<Token, ObtainError> {
        let content = |url: &str, message: &str| FetchError::Content {
            url: url.to_owned(),
            message: message.into(),
        };
        let endpoint = metadata
            .token_endpoint
            .as_deref()
            .ok_or_else(|| content(&issuer.rules.issuer, "the issuer has no token_endpoint"))?;
        let url = issuer.fetcher.endpoint(endpoint)?;
        let mut form = Form::default();
        form.add("grant_type", "client_credentials");
        if let Some(scope) = &self.scope {
            form.add("scope", scope);
        }
        let audience = &issuer.rules.audience;
        // RFC 8707 wants a URI; issuers from before it know `audience`, and the others ignore it.
        if reqwest::Url::parse(audience).is_ok_and(|url| url.fragment().is_none()) {
            form.add("resource", audience);
        }
        form.add("audience", audience);
        let authorization = self.authenticate(&mut form, metadata, endpoint, now).await?;
        let body = issuer.fetcher.post(&url, form.into_body(), authorization).await?;
        let mut answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| content(endpoint, "the answer holds no access_token"))?;
        let token = Zeroizing::new(std::mem::take(&mut answer.access_token));
        if answer
            .token_type
            .is_some_and(|t| !t.eq_ignore_ascii_case("bearer"))
        {
            return Err(content(endpoint, "token_type is not Bearer").into());
        }
        Ok(token)
    }

    /// Adds who we are to the form, or gives the `Authorization` header's value.
    async fn authenticate(
        &self,
        form: &mut Form,
        metadata: &Metadata,
        endpoint: &str,
        now: i64,
    ) -> Result<Option<Zeroizing<String>>, ObtainError> {
        let (text, key_id) = match &self.key {
            ClientKey::Secret(path) => (read(path, MAX_SECRET, "client_secret_file").await?, None),
            ClientKey::PrivateKey(path, id) => (
                read(path, MAX_SECRET, "private_key_file").await?,
                Some(id.as_deref()),
            ),
        };
        let key = match key_id {
            None => Key::Secret {
                secret: &text,
                methods: metadata.token_endpoint_auth_methods_supported.as_deref(),
            },
            Some(id) => Key::Private {
                pem: &text,
                id,
                accepted: metadata
                    .token_endpoint_auth_signing_alg_values_supported
                    .as_deref(),
            },
        };
        client::authenticate(form, &self.id, &key, endpoint, now)
            .map_err(|e| Failure::new(Reason::IdentityMissing, format!("private_key_file: {e}")).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn token_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let reason = |r: Result<Token, Failure>| r.map_err(|f| f.reason).map(|t| t.to_string());
        assert_eq!(reason(read_token(&path).await), Err(Reason::IdentityMissing));
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(reason(read_token(&path).await), Err(Reason::IdentityMissing));
        std::fs::write(&path, "\n a.b.c\n").unwrap();
        assert_eq!(reason(read_token(&path).await), Ok("a.b.c".into()));
        std::fs::write(&path, "a".repeat(20 * 1024)).unwrap();
        assert_eq!(reason(read_token(&path).await), Err(Reason::IdentityInvalid));
        assert_eq!(reason(read_token(dir.path()).await), Err(Reason::IdentityMissing));
    }
}
