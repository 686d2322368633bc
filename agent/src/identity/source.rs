//! Where a workload's token comes from: a file that someone keeps fresh, or the issuer's token endpoint.
//!
//! Tokens, client secrets and private keys are wiped when this module drops them (buffers inside the HTTP library are
//! not), and appear in no error. They are read from their files each time they are needed, so that replacing the file
//! is all that rotation takes.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    assertion,
    error::IdentityError,
    fetch::FetchError,
    issuer::{Issuer, Metadata},
    verify::{Failure, MAX_TOKEN},
};
use crate::{clock::Clock, config, model::Reason};

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

/// What tells one version of a file from the next, however it was written: renamed over, or in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
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

impl Stamp {
    /// Whether the file was changed so short a time ago that a further change might leave the same stamp: file times
    /// advance by ticks of up to 10 ms.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let (seconds, nanos) = self.changed;
        let changed = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Clock::System.now_ns().saturating_sub(changed) < 50_000_000
    }
}

/// The present version of a token file; `None` when it is not there.
pub async fn stamp(path: &Path) -> Option<Stamp> {
    let meta = tokio::fs::metadata(path).await.ok()?;
    Some(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
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
        let body = issuer.fetcher.post(&url, form.0, authorization).await?;
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
        match &self.key {
            ClientKey::Secret(path) => {
                let secret = read(path, MAX_SECRET, "client_secret_file").await?;
                let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
                let has = |method| methods.is_some_and(|all| all.iter().any(|one| one == method));
                if methods.is_none() || has("client_secret_basic") || !has("client_secret_post") {
                    return Ok(Some(basic(&self.id, &secret)));
                }
                form.add("client_id", &self.id);
                form.add("client_secret", &secret);
            }
            ClientKey::PrivateKey(path, key_id) => {
                let pem = read(path, MAX_SECRET, "private_key_file").await?;
                let accepted = metadata
                    .token_endpoint_auth_signing_alg_values_supported
                    .as_deref();
                let signed = assertion::sign(&pem, key_id.as_deref(), &self.id, endpoint, accepted, now)?;
                form.add("client_id", &self.id);
                form.add(
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                );
                form.add("client_assertion", &signed);
            }
        }
        Ok(None)
    }
}

/// `client_secret_basic`: both parts form-encoded before they are joined (RFC 6749 section 2.3.1).
pub(super) fn basic(id: &str, secret: &str) -> Zeroizing<String> {
    let mut pair = Form::default();
    pair.push(id);
    pair.0.push(':');
    pair.push(secret);
    let mut encoded = STANDARD.encode(pair.0.as_bytes());
    let value = Zeroizing::new(format!("Basic {encoded}"));
    encoded.zeroize();
    value
}

/// `application/x-www-form-urlencoded` in memory that is wiped; grown by copying, so room is made at the start.
pub(super) struct Form(pub(super) Zeroizing<String>);

impl Default for Form {
    fn default() -> Self {
        Self(Zeroizing::new(String::with_capacity(MAX_TOKEN)))
    }
}

impl Form {
    pub(super) fn add(&mut self, key: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.push(key);
        self.0.push('=');
        self.push(value);
    }

    fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                    self.0.push(char::from(byte));
                }
                b' ' => self.0.push('+'),
                _ => {
                    const HEX: &[u8; 16] = b"0123456789ABCDEF";
                    self.0.push('%');
                    self.0.push(char::from(HEX[usize::from(byte >> 4)]));
                    self.0.push(char::from(HEX[usize::from(byte & 15)]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_basic() {
        let mut form = Form::default();
        form.add("a", "x y&z=%ü");
        form.add("b", "1");
        assert_eq!(form.0.as_str(), "a=x+y%26z%3D%25%C3%BC&b=1");
        assert_eq!(
            basic("a:b", "c d").as_str(),
            format!("Basic {}", STANDARD.encode("a%3Ab:c+d"))
        );
    }

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
