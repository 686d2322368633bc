//! Who answers what is held: humans who signed in at the approvers' issuer, each answer with a token that was verified
//! for it.
//!
//! Invariants: without `[approvals] issuer` nobody is an approver; an access token, a workload's own token or one that
//! was delegated (`act`) is no human's sign-in, whatever groups it names.

mod code;
mod device;
mod token;

use std::{path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use code::Attempt;
pub use device::{DeviceCode, DevicePoll};

use super::{
    IdentityError, Kept, Timing,
    fetch::FetchError,
    issuer::{Issuer, Metadata},
    source,
    verify::Failure,
};
use crate::{
    clock::Clock,
    config::{self, Config},
    io::{
        client::{self, Key},
        form::Form,
    },
    model::{Approver, Reason},
};

/// Why somebody is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// There are no approvers on this host.
    #[error(
        "this host has no approvers: set [approvals] issuer and client_id, and until then what needs approval is denied"
    )]
    NotConfigured,
    /// The issuer did not answer, or not as it should.
    #[error("{0}")]
    Issuer(#[from] FetchError),
    /// The token is not a sign-in that may be used here.
    #[error("{0}")]
    Token(#[from] Failure),
    /// The issuer cannot do what is asked of it.
    #[error("the issuer has no {0}: it does not offer this way of signing in")]
    NoEndpoint(&'static str),
    /// The issuer said no.
    #[error("the issuer refused: {0}")]
    Refused(String),
    /// The answer that the browser brought is not one to what was asked.
    #[error("the issuer's answer does not belong to this sign-in: {0}")]
    Mismatch(&'static str),
}

impl SignInError {
    /// For entries and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NotConfigured => Reason::ApprovalRequired,
            Self::Issuer(error) => error.reason(),
            Self::Token(failure) => failure.reason,
            Self::NoEndpoint(_) => Reason::IdentityIssuerUnreachable,
            Self::Refused(_) | Self::Mismatch(_) => Reason::IdentityInvalid,
        }
    }
}

/// What a program needs to know to sign somebody in; nothing of it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignInTerms {
    /// The issuer's URL.
    pub issuer: String,
    /// The OAuth 2.0 client that approvers sign in with.
    pub client_id: String,
    /// Scopes to ask for.
    pub scope: String,
    /// Seconds that a sign-in may be old.
    pub max_age: u64,
}

/// Signing in at one issuer as one client: device flow, code flow, and verification of what they bring.
pub struct SignIn {
    issuer: Issuer,
    terms: SignInTerms,
    secret: Option<PathBuf>,
}

impl SignIn {
    /// At `issuer`, whose `audience` counts for workloads only: an ID token's is the client.
    ///
    /// # Errors
    /// When the issuer's configuration cannot be used.
    pub fn new(
        issuer: &config::Issuer,
        terms: SignInTerms,
        secret: Option<PathBuf>,
        timing: Timing,
    ) -> Result<Self, IdentityError> {
        let mut issuer = issuer.clone();
        issuer.audience.clone_from(&terms.client_id);
        Ok(Self {
            issuer: Issuer::new(&issuer, timing)?,
            terms,
            secret,
        })
    }

    /// Verifies an ID token at `now`, in seconds since 1970 UTC.
    ///
    /// # Errors
    /// When it is none of this client's, too old, or the issuer's keys cannot be had.
    pub async fn verify(
        &self,
        token: &str,
        now: i64,
        via: &'static str,
        nonce: Option<&str>,
    ) -> Result<Approver, SignInError> {
        let max_age = i64::try_from(self.terms.max_age).unwrap_or(i64::MAX);
        let expected = token::Expected { via, nonce, max_age };
        let snapshot = self.issuer.snapshot().await?;
        let rules = &self.issuer.rules;
        match token::approver(token, rules, &snapshot.keys, now, &expected) {
            Err(failure) if failure.reason == Reason::IdentityUnknownKey => {
                match self.issuer.newer_than(snapshot.generation).await? {
                    Some(newer) => Ok(token::approver(token, rules, &newer.keys, now, &expected)?),
                    None => Err(failure.into()),
                }
            }
            other => Ok(other?),
        }
    }

    /// Adds who the client is to a form, or gives the `Authorization` header's value.
    async fn authenticate(
        &self,
        form: &mut Form,
        metadata: &Metadata,
    ) -> Result<Option<Zeroizing<String>>, SignInError> {
        let id = &self.terms.client_id;
        let Some(path) = &self.secret else {
            form.add("client_id", id);
            return Ok(None);
        };
        let secret = source::read(path, source::MAX_SECRET, "client_secret_file").await?;
        let key = Key::Secret {
            secret: &secret,
            methods: metadata.token_endpoint_auth_methods_supported.as_deref(),
        };
        // Only signing looks at endpoint and time.
        client::authenticate(form, id, &key, "", 0)
            .map_err(|e| Failure::new(Reason::IdentityMissing, e.to_string()).into())
    }
}

/// The host's approvers, as the configuration has them now. Clones share it.
#[derive(Clone)]
pub struct Approvers(Arc<Shared>);

struct Shared {
    clock: Clock,
    timing: Timing,
    current: ArcSwapOption<Kept<Arc<SignIn>>>,
}

impl Approvers {
    /// Those of a configuration that was checked; its task runs on the tokio runtime that this is called in.
    ///
    /// # Errors
    /// When their issuer cannot be used.
    pub fn start(config: &Config, clock: Clock, timing: Timing) -> Result<Self, IdentityError> {
        let approvers = Self(Arc::new(Shared {
            clock,
            timing,
            current: ArcSwapOption::empty(),
        }));
        approvers.reload(config)?;
        Ok(approvers)
    }

    /// Follows a changed configuration.
    ///
    /// # Errors
    /// When their issuer cannot be used; nothing has changed then.
    pub fn reload(&self, config: &Config) -> Result<(), IdentityError> {
        let approvals = &config.approvals;
        let issuer = config
            .issuer
            .iter()
            .find(|issuer| Some(&issuer.name) == approvals.issuer.as_ref());
        let (Some(issuer), Some(client)) = (issuer, &approvals.client_id) else {
            self.0.current.store(None);
            return Ok(());
        };
        let terms = SignInTerms {
            issuer: issuer.url.clone(),
            client_id: client.clone(),
            scope: with_openid(&approvals.scope),
            max_age: approvals.sign_in_age.as_secs(),
        };
        let secret = approvals.client_secret_file.clone();
        let value = Arc::new(SignIn::new(issuer, terms, secret, self.0.timing)?);
        let task = {
            let sign_in = Arc::clone(&value);
            tokio::spawn(async move { sign_in.issuer.keep_fresh().await }).abort_handle()
        };
        self.0.current.store(Some(Arc::new(Kept { value, task })));
        Ok(())
    }

    fn current(&self) -> Result<Arc<SignIn>, SignInError> {
        let current = self.0.current.load();
        let kept = current.as_ref().ok_or(SignInError::NotConfigured)?;
        Ok(Arc::clone(&kept.value))
    }

    /// How to sign in; `None` where nobody can.
    #[must_use]
    pub fn terms(&self) -> Option<SignInTerms> {
        self.current().ok().map(|sign_in| sign_in.terms.clone())
    }

    /// How old a sign-in may be.
    #[must_use]
    pub fn max_age(&self) -> Duration {
        self.terms()
            .map_or(Duration::ZERO, |terms| Duration::from_secs(terms.max_age))
    }

    /// Verifies an ID token for one answer, or for a look.
    ///
    /// # Errors
    /// When there are no approvers, or the token is not a fresh sign-in of one.
    pub async fn verify(&self, token: &str, via: &'static str) -> Result<Approver, SignInError> {
        self.current()?
            .verify(token, self.0.clock.now_seconds(), via, None)
            .await
    }

    /// Where the browser goes to sign in.
    ///
    /// # Errors
    /// When there are no approvers, or their issuer cannot be asked.
    pub async fn sign_in_url(&self, attempt: &Attempt, redirect: &str) -> Result<String, SignInError> {
        self.current()?.authorization_url(attempt, redirect).await
    }

    /// What the browser brought back, made an approver.
    ///
    /// # Errors
    /// When the answer is another sign-in's, or the issuer gives no token that may be used.
    pub async fn redeem(
        &self,
        attempt: &Attempt,
        redirect: &str,
        code: &str,
        iss: Option<&str>,
    ) -> Result<Approver, SignInError> {
        let sign_in = self.current()?;
        let token = sign_in.redeem(attempt, redirect, code, iss).await?;
        sign_in
            .verify(&token, self.0.clock.now_seconds(), "web", Some(&attempt.nonce))
            .await
    }
}

/// `openid` is what makes it a sign-in (OpenID Connect Core 1.0 section 3.1.2.1).
fn with_openid(scope: &str) -> String {
    if scope.split_ascii_whitespace().any(|word| word == "openid") {
        return scope.into();
    }
    format!("openid {scope}").trim_end().into()
}
