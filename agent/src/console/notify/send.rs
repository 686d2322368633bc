//! One try to send.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use reqwest::{Client, Url, header};

use crate::tls;

/// For one try.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a try failed. Holds nothing of the URL, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Worth another try.
    Again(String),
    /// Not worth one.
    Final(String),
}

/// An HTTP client for one target.
pub fn client(roots: Option<&Path>) -> Result<Client, String> {
    let builder = tls::web_client(roots).map_err(|e| e.to_string())?;
    builder
        .timeout(PATIENCE)
        .pool_max_idle_per_host(1)
        .build()
        .map_err(|e| e.to_string())
}

/// Sends a JSON body.
pub async fn post(
    client: &Client,
    url: Url,
    body: Bytes,
    headers: &[(&'static str, String)],
) -> Result<(), Failure> {
    let mut request = client
        .post(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body);
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let response = request
        .send()
        .await
        .map_err(|e| Failure::Again(plain(&e.without_url())))?;
    let status = response.status();
    match status.as_u16() {
        200..=299 => Ok(()),
        408 | 425 | 429 | 500..=599 => Err(Failure::Again(format!("it answered {status}"))),
        _ => Err(Failure::Final(format!("it answered {status}"))),
    }
}

fn plain(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer in ten seconds"
    } else if error.is_connect() {
        "it cannot be reached"
    } else {
        "the connection broke"
    };
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause.and_then(std::error::Error::source) {
        cause = Some(next);
    }
    cause.map_or_else(|| what.into(), |cause| format!("{what}: {cause}"))
}

/// Tells whoever clicked what came of it.
pub async fn answer_slack(url: String, said: &serde_json::Value) {
    let (Ok(client), Ok(url)) = (client(None), Url::parse(&url)) else {
        return;
    };
    if let Err(failure) = post(&client, url, said.to_string().into(), &[]).await {
        tracing::warn!("Slack was not told what came of a click: {failure:?}");
    }
}
