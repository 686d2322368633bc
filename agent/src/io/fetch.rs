//! HTTP to what the agent itself depends on (issuers, Vault, AWS STS), with every bound that a hostile or broken one
//! could lean on: time, size, scheme, redirects. Nothing that is sent or received appears in an error.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Client, Method, Url, header, redirect};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use zeroize::Zeroizing;

/// Bytes of any answer: metadata, key set, token, secret.
pub const MAX_BODY: usize = 256 * 1024;

/// Why there is no answer. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No connection, TLS refused, reset, time-out.
    #[error("{url}: {message}")]
    Unreachable {
        /// Which endpoint.
        url: String,
        /// Why, in the words of the library.
        message: String,
    },
    /// More than 256 KiB.
    #[error("{url}: the answer is longer than 256 KiB")]
    TooLarge {
        /// Which endpoint.
        url: String,
    },
}

/// Why there can be no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The file with roots is none.
    #[error("{0}")]
    Roots(&'static str),
    /// The TLS library refuses its set-up.
    #[error("TLS set-up: {0}")]
    Tls(String),
}

/// What is asked.
pub struct Request {
    method: Method,
    headers: Vec<(&'static str, Zeroizing<String>)>,
    body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
    accept: &'static str,
}

/// The text's own memory, not a copy.
fn bytes(mut text: Zeroizing<String>) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(std::mem::take(&mut *text).into_bytes())
}

/// What came back.
pub struct Answer {
    /// The status code. Redirects are not followed.
    pub status: u16,
    /// The body, wiped when dropped.
    pub body: Zeroizing<Vec<u8>>,
}

impl Request {
    /// One without a body.
    #[must_use]
    pub fn new(method: Method) -> Self {
        Self {
            method,
            headers: Vec::new(),
            body: None,
            accept: "application/json",
        }
    }

    /// With a header whose value is secret.
    #[must_use]
    pub fn secret_header(mut self, name: &'static str, value: Zeroizing<String>) -> Self {
        self.headers.push((name, value));
        self
    }

    /// With a form (`application/x-www-form-urlencoded`).
    #[must_use]
    pub fn form(mut self, form: Zeroizing<String>) -> Self {
        self.body = Some(("application/x-www-form-urlencoded", bytes(form)));
        self
    }

    /// With JSON.
    #[must_use]
    pub fn json(mut self, json: Zeroizing<String>) -> Self {
        self.body = Some(("application/json", bytes(json)));
        self
    }

    /// With something else, for which the answer is of the kind `accept`.
    #[must_use]
    pub fn bytes(mut self, kind: &'static str, body: Vec<u8>, accept: &'static str) -> Self {
        self.body = Some((kind, Zeroizing::new(body)));
        self.accept = accept;
        self
    }
}

/// An HTTP client that trusts the host's roots and some more.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
}

impl Fetcher {
    /// `ca_pem` holds further roots; `timeout` bounds each exchange.
    ///
    /// # Errors
    /// When the roots cannot be used.
    pub fn new(ca_pem: Option<&[u8]>, timeout: Duration) -> Result<Self, SetupError> {
        let builder = Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout)
            // An answer from where we were not told to ask is no answer.
            .redirect(redirect::Policy::none())
            .referer(false)
            // The agent's environment does not decide whom it believes.
            .no_proxy()
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")))
            .pool_max_idle_per_host(1)
            .tls_backend_preconfigured(tls_config(ca_pem)?);
        Ok(Self {
            client: builder.build().map_err(|e| SetupError::Tls(chain(&e)))?,
        })
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    /// When there is no answer, or it is too long.
    pub async fn send(&self, url: &Url, request: Request) -> Result<Answer, FetchError> {
        let unreachable = |e: reqwest::Error| FetchError::Unreachable {
            url: shown(url),
            message: chain(&e.without_url()),
        };
        let mut builder = self.client.request(request.method, url.clone());
        // Owned, not copied: wiped when the library drops it.
        for (name, value) in request.headers {
            let Ok(mut value) = header::HeaderValue::from_maybe_shared(Bytes::from_owner(value)) else {
                return Err(FetchError::Unreachable {
                    url: shown(url),
                    message: format!("what is to be sent as {name} can be no header"),
                });
            };
            value.set_sensitive(true);
            builder = builder.header(name, value);
        }
        if let Some((kind, body)) = request.body {
            builder = builder
                .header(header::CONTENT_TYPE, kind)
                .body(Bytes::from_owner(body));
        }
        let mut response = builder
            .header(header::ACCEPT, request.accept)
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status().as_u16();
        // Grown in steps that wipe what they leave behind.
        let mut body = Zeroizing::new(Vec::with_capacity(16 * 1024));
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(FetchError::TooLarge { url: shown(url) });
            }
            if body.len() + chunk.len() > body.capacity() {
                let mut larger = Zeroizing::new(Vec::with_capacity(MAX_BODY));
                larger.extend_from_slice(&body);
                body = larger;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }
}

/// A URL that secrets may be sent to: https, or http on loopback; without user, query or fragment.
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn safe_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL: write https://HOST")?;
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err("has neither user, query nor fragment");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("is to be https; plain http is for loopback only"),
    }
}

/// Whether a URL's host is this host by its loopback.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback()),
        None => false,
    }
}

/// The URL without what may be a secret.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// OAuth's `error` word (RFC 6749 section 5.2), where there is one that is just a word.
#[must_use]
pub fn oauth_error(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let word = value.get("error")?.as_str()?;
    let plain =
        !word.is_empty() && word.len() <= 64 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    plain.then(|| word.to_owned())
}

/// An error with its causes: the outermost alone says "error sending request".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

fn tls_config(ca_pem: Option<&[u8]>) -> Result<ClientConfig, SetupError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "a root certificate of the host cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(pem) = ca_pem {
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| SetupError::Roots("is not PEM"))?;
        let count = certificates.len();
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 || added < count {
            return Err(SetupError::Roots(
                "holds no certificate, or one that cannot be read",
            ));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| SetupError::Tls(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_oauth_words_are_repeated() {
        assert_eq!(
            oauth_error(br#"{"error":"invalid_client"}"#).as_deref(),
            Some("invalid_client")
        );
        assert_eq!(oauth_error(br#"{"error":"Secret s3cr3t!"}"#), None);
        assert_eq!(oauth_error(b"<html>"), None);
    }

    #[test]
    fn secrets_go_over_tls_or_nowhere() {
        for good in ["https://a.example/r", "http://127.0.0.1:1", "http://[::1]:1"] {
            assert!(safe_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://a.example",
            "http://127.0.0.1.a.example",
            "https://a.example?x=1",
            "https://u:p@a.example",
            "a.example",
        ] {
            assert!(safe_url(bad).is_err(), "{bad}");
        }
    }
}
