//! Whom the commands speak to: this host's daemon, or a page.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Limited};
use reqwest::{Method, StatusCode, Url, header};
use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::store::{Store, StoreError};
use crate::{
    cli::control::{Control, ControlError},
    config::Config,
    console::text::visible,
    identity::SignInError,
    tls,
};

/// For an answer; a watcher's takes up to 25 seconds.
const TIMEOUT: Duration = Duration::from_secs(45);
/// The most that is read of an answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why a command did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum AskError {
    /// The daemon or the page said no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// There is no sign-in to answer with.
    #[error("{0}: sign in with `portcullis approvals login{1}`")]
    NotSignedIn(String, String),
    /// The sign-in is kept, but must not be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Signing in failed.
    #[error(transparent)]
    SignIn(#[from] SignInError),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl AskError {
    /// As `portcullis approvals --help` documents it.
    pub(in crate::cli) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { status, .. } if *status == StatusCode::UNAUTHORIZED => 4,
            Self::Refused { status, .. } if status.is_client_error() => 3,
            Self::NotSignedIn(..) => 4,
            Self::Refused { .. } | Self::Store(_) | Self::SignIn(_) | Self::Failed(_) => 1,
        }
    }
}

enum Way {
    Socket(Control),
    Web { client: Box<reqwest::Client>, base: Url },
}

/// Whom the commands speak to.
pub(in crate::cli) struct Client {
    way: Way,
    pub(super) store: Store,
    /// What `login` is to be called with, for messages.
    hint: String,
}

impl Client {
    pub(in crate::cli) fn new(
        url: Option<&str>,
        roots: Option<&Path>,
        config: Option<&Config>,
    ) -> anyhow::Result<Self> {
        let Some(text) = url else {
            let run_dir = &config.context("a configuration")?.host.run_dir;
            return Ok(Self {
                way: Way::Socket(Control::new(run_dir).with_timeout(TIMEOUT)),
                store: Store::new(&run_dir.display().to_string())?,
                hint: String::new(),
            });
        };
        let base = Url::parse(text).with_context(|| format!("--url {text}"))?;
        let loopback = matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if base.scheme() != "https" && !(base.scheme() == "http" && loopback) {
            bail!("--url {text}: it begins with https://, for a sign-in is sent there");
        }
        let client = tls::web_client(roots)?.timeout(TIMEOUT).build()?;
        Ok(Self {
            store: Store::new(&base.origin().ascii_serialization())?,
            way: Way::Web {
                client: Box::new(client),
                base,
            },
            hint: format!(" --url {text}"),
        })
    }

    /// With another time for an answer of this host's daemon.
    pub(in crate::cli) fn patient(mut self, timeout: Duration) -> Self {
        if let Way::Socket(control) = self.way {
            self.way = Way::Socket(control.with_timeout(timeout));
        }
        self
    }

    /// Looks. The control socket asks for no sign-in; a page does.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        match &self.way {
            Way::Socket(control) => control.get(path).await.map_err(AskError::from),
            Way::Web { .. } => self.web(Method::GET, path, None, Some(self.token()?)).await,
        }
    }

    /// Asks how to sign in, which anyone may.
    pub(super) async fn get_openly<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        match &self.way {
            Way::Socket(control) => control.get(path).await.map_err(AskError::from),
            Way::Web { .. } => self.web(Method::GET, path, None, None).await,
        }
    }

    /// Answers, with the sign-in.
    pub(in crate::cli) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, AskError> {
        let token = self.token()?;
        let said = match &self.way {
            Way::Socket(control) => {
                let control = control.clone().with_token(token);
                control.post(path, body).await.map_err(AskError::from)
            }
            Way::Web { .. } => {
                let body = serde_json::to_vec(body).map_err(|e| AskError::Failed(e.to_string()))?;
                self.web(Method::POST, path, Some(body), Some(token)).await
            }
        };
        said.map_err(|error| self.explained(error))
    }

    /// A token that is refused is a sign-in that is over.
    fn explained(&self, error: AskError) -> AskError {
        match error {
            AskError::Refused { status, message } if status == StatusCode::UNAUTHORIZED => {
                AskError::NotSignedIn(message, self.hint.clone())
            }
            other => other,
        }
    }

    fn token(&self) -> Result<Zeroizing<String>, AskError> {
        let now = crate::clock::Clock::System.now_seconds();
        match self.store.load()? {
            Some(kept) if kept.expires_at > now => Ok(kept.token),
            Some(_) => Err(AskError::NotSignedIn(
                "your sign-in is over".into(),
                self.hint.clone(),
            )),
            None => Err(AskError::NotSignedIn(
                "you are not signed in".into(),
                self.hint.clone(),
            )),
        }
    }

    async fn web<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        token: Option<Zeroizing<String>>,
    ) -> Result<T, AskError> {
        let Way::Web { client, base } = &self.way else {
            return Err(AskError::Failed("there is no --url".into()));
        };
        let failed = |e: &dyn std::fmt::Display| AskError::Failed(format!("{base}: {e}"));
        let url = base.join(path).map_err(|e| failed(&e))?;
        let mut request = client.request(method, url);
        if let Some(token) = token {
            request = request.bearer_auth(token.as_str());
        }
        if let Some(body) = body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body);
        }
        let response = request.send().await.map_err(|e| {
            let chain = anyhow::Error::from(e.without_url());
            failed(&crate::cli::control::chain(&chain))
        })?;
        let status = response.status();
        let body = Limited::new(reqwest::Body::from(response), MAX_ANSWER);
        let bytes = body.collect().await.map_err(|e| failed(&e))?.to_bytes();
        if !status.is_success() {
            let message = visible(&crate::cli::control::explain(&bytes)).into_owned();
            return Err(self.explained(AskError::Refused { status, message }));
        }
        serde_json::from_slice(&bytes).map_err(|e| failed(&e))
    }
}

impl From<ControlError> for AskError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Refused { status, message } => Self::Refused { status, message },
            other => Self::Failed(other.to_string()),
        }
    }
}
