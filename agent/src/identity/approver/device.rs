//! Signing in from a terminal: the device flow (RFC 8628).

use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{SignIn, SignInError, code};
use crate::{identity::fetch::FetchError, io::form::Form};

/// The least time between two questions (RFC 8628 section 3.2), unless the issuer says another.
const INTERVAL: u64 = 5;

/// What a human types where, and what the program asks with meanwhile.
#[derive(Deserialize)]
pub struct DeviceCode {
    #[serde(deserialize_with = "wiped")]
    device_code: Zeroizing<String>,
    /// What the human types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it.
    #[serde(default)]
    pub verification_uri_complete: Option<String>,
    /// Seconds until it is over.
    pub expires_in: u64,
    #[serde(default = "interval")]
    interval: u64,
}

fn interval() -> u64 {
    INTERVAL
}

fn wiped<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(d).map(Zeroizing::new)
}

impl DeviceCode {
    /// The time to let pass before the next question.
    #[must_use]
    pub fn pause(&self) -> Duration {
        Duration::from_secs(self.interval.clamp(1, 60))
    }

    /// The issuer wants to be asked more slowly, for the rest of the flow (RFC 8628 section 3.5).
    pub fn slow_down(&mut self) {
        self.interval = self.interval.saturating_add(5);
    }
}

/// How the device flow stands.
pub enum DevicePoll {
    /// The human has not finished.
    Pending,
    /// Ask more slowly.
    SlowDown,
    /// The ID token.
    Done(Zeroizing<String>),
}

impl SignIn {
    /// Begins.
    ///
    /// # Errors
    /// When the issuer has no device flow, or refuses the client.
    pub async fn device(&self) -> Result<DeviceCode, SignInError> {
        let snapshot = self.issuer.snapshot().await?;
        let endpoint = snapshot.metadata.device_authorization_endpoint.as_deref();
        let endpoint = endpoint.ok_or(SignInError::NoEndpoint("device_authorization_endpoint"))?;
        let url = self.issuer.fetcher.endpoint(endpoint)?;
        let mut form = Form::default();
        form.add("scope", &self.terms.scope);
        let authorization = self.authenticate(&mut form, &snapshot.metadata).await?;
        let body = self
            .issuer
            .fetcher
            .post(&url, form.into_body(), authorization)
            .await?;
        let wrong = |message: &str| FetchError::Content {
            url: endpoint.to_owned(),
            message: message.into(),
        };
        let code: DeviceCode =
            serde_json::from_slice(&body).map_err(|_| wrong("the answer is not a device code's"))?;
        // It goes to a terminal and to a human who trusts it.
        self.issuer.fetcher.endpoint(&code.verification_uri)?;
        let printable = |text: &str| text.len() <= 2048 && text.bytes().all(|b| (0x20..0x7f).contains(&b));
        let complete = code.verification_uri_complete.as_deref().unwrap_or_default();
        if ![&code.user_code, &code.verification_uri, complete]
            .into_iter()
            .all(printable)
        {
            return Err(wrong("the device code cannot be shown").into());
        }
        Ok(code)
    }

    /// Asks once.
    ///
    /// # Errors
    /// When the human said no, the code is over, or the issuer cannot be asked.
    pub async fn poll(&self, code: &DeviceCode) -> Result<DevicePoll, SignInError> {
        let snapshot = self.issuer.snapshot().await?;
        let endpoint = snapshot.metadata.token_endpoint.as_deref();
        let endpoint = endpoint.ok_or(SignInError::NoEndpoint("token_endpoint"))?;
        let url = self.issuer.fetcher.endpoint(endpoint)?;
        let mut form = Form::default();
        form.add("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
        form.add("device_code", &code.device_code);
        let authorization = self.authenticate(&mut form, &snapshot.metadata).await?;
        match self
            .issuer
            .fetcher
            .post(&url, form.into_body(), authorization)
            .await
        {
            Ok(body) => Ok(DevicePoll::Done(code::id_token(&body, endpoint)?)),
            Err(FetchError::Status {
                error: Some(word), ..
            }) => match word.as_str() {
                "authorization_pending" => Ok(DevicePoll::Pending),
                "slow_down" => Ok(DevicePoll::SlowDown),
                "access_denied" => Err(SignInError::Refused("the sign-in was declined".into())),
                "expired_token" => Err(SignInError::Refused("the code was not used in time".into())),
                _ => Err(SignInError::Refused(word)),
            },
            Err(error) => Err(error.into()),
        }
    }
}
