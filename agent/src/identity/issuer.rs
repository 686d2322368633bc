//! One issuer: discovery (OpenID Connect Discovery 1.0 section 4), its keys, cached and refreshed.
//!
//! Bias: keys that were fetched stay in use while the issuer cannot be reached, for a day at most. Keys that the
//! issuer took away are gone at the next refresh, and what they verified with them.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use tokio::sync::{Mutex, watch};

use super::{
    Timing,
    error::IdentityError,
    fetch::{FetchError, Fetcher, issuer_url},
    jwks::Keys,
    verify::Rules,
};
use crate::config;

/// How long keys may be used that could not be refreshed.
const MAX_STALE: Duration = Duration::from_secs(24 * 3600);

/// What discovery says, as far as it is needed.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    issuer: String,
    jwks_uri: String,
    /// Where tokens are had.
    #[serde(default)]
    pub token_endpoint: Option<String>,
    /// Where a browser goes to sign in.
    #[serde(default)]
    pub authorization_endpoint: Option<String>,
    /// Where a device code is had (RFC 8628).
    #[serde(default)]
    pub device_authorization_endpoint: Option<String>,
    /// Whether answers to a browser name the issuer (RFC 9207).
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    /// How a client shows who it is; `client_secret_basic` where absent.
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// Algorithms for `private_key_jwt`.
    #[serde(default)]
    pub token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
}

/// Metadata and keys, of one fetch.
#[derive(Debug)]
pub struct Snapshot {
    /// From discovery.
    pub metadata: Metadata,
    /// From `jwks_uri`.
    pub keys: Keys,
    /// Counts the fetches of this issuer.
    pub generation: u64,
    fetched: Instant,
}

/// One issuer.
pub struct Issuer {
    /// Its part of the configuration, and the bytes of its `ca_file`: what it was made from.
    made_from: (config::Issuer, Option<Vec<u8>>),
    /// What its tokens must be like.
    pub rules: Rules,
    /// HTTP to it.
    pub fetcher: Fetcher,
    timing: Timing,
    cached: ArcSwapOption<Snapshot>,
    /// Held while fetching, so that a hundred workloads fetch once.
    attempts: Mutex<Attempts>,
    generation: watch::Sender<u64>,
}

#[derive(Default)]
struct Attempts {
    failed: Option<(Instant, FetchError)>,
    /// When an unknown key last made us fetch.
    forced: Option<Instant>,
    generation: u64,
}

impl Issuer {
    /// Sets it up, without asking it anything yet.
    ///
    /// # Errors
    /// When its configuration cannot be used.
    pub fn new(config: &config::Issuer, timing: Timing) -> Result<Self, IdentityError> {
        let ca_pem = read_ca(config)?;
        let url = issuer_url(config)?;
        let mut algorithms = Vec::new();
        for word in &config.algorithms {
            algorithms.push(asymmetric(word).ok_or_else(|| IdentityError::Algorithm {
                issuer: config.name.clone(),
                algorithm: word.clone(),
            })?);
        }
        tracing::debug!(issuer = config.name, %url, "issuer set up");
        Ok(Self {
            fetcher: Fetcher::new(config, ca_pem.as_deref(), timing.http_timeout)?,
            rules: Rules {
                name: config.name.as_str().into(),
                issuer: config.url.as_str().into(),
                audience: config.audience.clone(),
                algorithms,
                groups_claim: config.groups_claim.clone(),
                required_claims: config.required_claims.clone(),
                skew: i64::try_from(config.skew.as_secs()).unwrap_or(300).min(300),
            },
            made_from: (config.clone(), ca_pem),
            timing,
            cached: ArcSwapOption::empty(),
            attempts: Mutex::default(),
            generation: watch::Sender::new(0),
        })
    }

    /// Whether it was made from just this, so that a reload can keep it.
    #[must_use]
    pub fn is(&self, config: &config::Issuer) -> bool {
        self.made_from.0 == *config && read_ca(config).is_ok_and(|pem| pem == self.made_from.1)
    }

    /// Changes whenever keys were fetched.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Metadata and keys, from the cache where there are any.
    ///
    /// # Errors
    /// When nothing is cached and the issuer cannot be asked, or has just failed to answer.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, FetchError> {
        if let Some(cached) = self.usable() {
            return Ok(cached);
        }
        let mut attempts = self.attempts.lock().await;
        if let Some(cached) = self.usable() {
            return Ok(cached);
        }
        if let Some((at, error)) = &attempts.failed
            && at.elapsed() < self.timing.retry_min
        {
            return Err(error.clone());
        }
        self.fetch(&mut attempts).await
    }

    /// Newer keys than `seen`, because a token's key was not among those. `None` where they were fetched for that
    /// reason too short a time ago: tokens with made-up key ids must not make us hammer the issuer.
    ///
    /// # Errors
    /// When the issuer cannot be asked.
    pub async fn newer_than(&self, seen: u64) -> Result<Option<Arc<Snapshot>>, FetchError> {
        let mut attempts = self.attempts.lock().await;
        if let Some(cached) = self.usable().filter(|cached| cached.generation > seen) {
            return Ok(Some(cached));
        }
        if attempts
            .forced
            .is_some_and(|at| at.elapsed() < self.timing.refetch_min)
        {
            return Ok(None);
        }
        attempts.forced = Some(Instant::now());
        self.fetch(&mut attempts).await.map(Some)
    }

    /// Refreshes the cache for as long as it is polled.
    pub async fn keep_fresh(&self) {
        let mut pause = self.timing.retry_min;
        loop {
            let due = match self.cached.load().as_ref() {
                // Not used by any workload yet: nothing to keep fresh.
                None => self.timing.jwks_refresh,
                Some(cached) => self.timing.jwks_refresh.saturating_sub(cached.fetched.elapsed()),
            };
            tokio::time::sleep(due.max(Duration::from_millis(1))).await;
            let mut attempts = self.attempts.lock().await;
            let fresh = self
                .cached
                .load()
                .as_ref()
                .is_some_and(|cached| cached.fetched.elapsed() < self.timing.jwks_refresh);
            if fresh {
                continue;
            }
            let result = self.fetch(&mut attempts).await;
            drop(attempts);
            match result {
                Ok(_) => pause = self.timing.retry_min,
                Err(error) => {
                    tracing::warn!(issuer = self.made_from.0.name, %error, "keys could not be refreshed");
                    tokio::time::sleep(super::jittered(pause)).await;
                    pause = (pause * 2).min(self.timing.retry_max);
                }
            }
        }
    }

    fn usable(&self) -> Option<Arc<Snapshot>> {
        self.cached
            .load_full()
            .filter(|cached| cached.fetched.elapsed() < MAX_STALE)
    }

    async fn fetch(&self, attempts: &mut Attempts) -> Result<Arc<Snapshot>, FetchError> {
        match self.ask().await {
            Ok((metadata, keys)) => {
                attempts.failed = None;
                attempts.generation += 1;
                let snapshot = Arc::new(Snapshot {
                    metadata,
                    keys,
                    generation: attempts.generation,
                    fetched: Instant::now(),
                });
                self.cached.store(Some(Arc::clone(&snapshot)));
                self.generation.send_replace(attempts.generation);
                Ok(snapshot)
            }
            Err(error) => {
                attempts.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn ask(&self) -> Result<(Metadata, Keys), FetchError> {
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.rules.issuer.trim_end_matches('/')
        );
        let content = |url: &str, message: &str| FetchError::Content {
            url: url.to_owned(),
            message: message.into(),
        };
        let body = self.fetcher.get(&self.fetcher.endpoint(&url)?).await?;
        let metadata: Metadata =
            serde_json::from_slice(&body).map_err(|_| content(&url, "is not a provider's metadata"))?;
        // Mix-up: metadata that speaks for another issuer must not lend it its keys.
        if metadata.issuer != *self.rules.issuer {
            return Err(FetchError::WrongIssuer { url });
        }
        let keys_url = self.fetcher.endpoint(&metadata.jwks_uri)?;
        let body = self.fetcher.get(&keys_url).await?;
        let keys = Keys::parse(&body).map_err(|message| content(&metadata.jwks_uri, message))?;
        if keys.is_empty() {
            return Err(content(
                &metadata.jwks_uri,
                "the key set holds no key that can be used",
            ));
        }
        Ok((metadata, keys))
    }
}

fn read_ca(config: &config::Issuer) -> Result<Option<Vec<u8>>, IdentityError> {
    let Some(path) = &config.ca_file else {
        return Ok(None);
    };
    let read: &Path = path;
    std::fs::read(read).map(Some).map_err(|e| IdentityError::CaFile {
        issuer: config.name.clone(),
        path: path.clone(),
        message: e.to_string(),
    })
}

fn asymmetric(word: &str) -> Option<jsonwebtoken::Algorithm> {
    use jsonwebtoken::AlgorithmFamily;
    word.parse::<jsonwebtoken::Algorithm>()
        .ok()
        .filter(|algorithm| algorithm.family() != AlgorithmFamily::Hmac)
}
