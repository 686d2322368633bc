//! HTTP to an issuer, with every bound that a hostile or broken one could lean on: time, size, scheme, redirects.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{Client, RequestBuilder, Url, header, redirect};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use zeroize::Zeroizing;

use super::error::IdentityError;
use crate::{config, model::Reason};

/// Bytes of any answer of an issuer: metadata, key set, token.
pub const MAX_BODY: usize = 256 * 1024;

/// Why an issuer's answer could not be had. Holds no secret and nothing of a body.
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
    /// Another status than 200.
    #[error("{url}: answered {status}{}", error.as_ref().map(|e| format!(" ({e})")).unwrap_or_default())]
    Status {
        /// Which endpoint.
        url: String,
        /// The status code.
        status: u16,
        /// OAuth's `error` word (RFC 6749 section 5.2), where there is one.
        error: Option<String>,
    },
    /// More than 256 KiB.
    #[error("{url}: the answer is longer than 256 KiB")]
    TooLarge {
        /// Which endpoint.
        url: String,
    },
    /// An answer that says something else than it must.
    #[error("{url}: {message}")]
    Content {
        /// Which endpoint.
        url: String,
        /// What is wrong.
        message: String,
    },
    /// Metadata that speaks for another issuer than the configured one.
    #[error("{url}: issuer is not the configured URL, to the byte")]
    WrongIssuer {
        /// Which endpoint.
        url: String,
    },
}

impl FetchError {
    /// For entries and denials.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } | Self::Status { .. } | Self::TooLarge { .. } | Self::Content { .. } => {
                Reason::IdentityIssuerUnreachable
            }
            Self::WrongIssuer { .. } => Reason::IdentityWrongIssuer,
        }
    }
}

/// An HTTP client for one issuer.
#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client,
    /// The issuer itself is on loopback over plain http, so its endpoints may be too.
    plain_loopback: bool,
}

impl Fetcher {
    /// A client that trusts the host's roots, and the issuer's `ca_file`.
    ///
    /// # Errors
    /// When the URL is not https (or http on loopback), or the roots cannot be used.
    pub fn new(
        issuer: &config::Issuer,
        ca_pem: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<Self, IdentityError> {
        let url = issuer_url(issuer)?;
        let tls = |message: String| IdentityError::Tls {
            issuer: issuer.name.clone(),
            message,
        };
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
            .tls_backend_preconfigured(tls_config(issuer, ca_pem)?);
        Ok(Self {
            client: builder.build().map_err(|e| tls(chain(&e)))?,
            plain_loopback: url.scheme() == "http",
        })
    }

    /// Whether an endpoint from the issuer's metadata may be asked.
    ///
    /// # Errors
    /// When it is not https, but for an issuer that is itself on plain loopback.
    pub fn endpoint(&self, url: &str) -> Result<Url, FetchError> {
        let wrong = |message: &str| FetchError::Content {
            url: url.chars().take(200).collect(),
            message: message.into(),
        };
        let parsed = Url::parse(url).map_err(|_| wrong("is not a URL"))?;
        match parsed.scheme() {
            "https" => Ok(parsed),
            "http" if self.plain_loopback && is_loopback(&parsed) => Ok(parsed),
            _ => Err(wrong("the endpoint is not https")),
        }
    }

    /// GET, for JSON.
    ///
    /// # Errors
    /// When there is no answer, or it is not 200, or too long.
    pub async fn get(&self, url: &Url) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        self.send(url, self.client.get(url.clone())).await
    }

    /// POST of a form, `authorization` being a whole header value.
    ///
    /// # Errors
    /// As [`Fetcher::get`].
    pub async fn post(
        &self,
        url: &Url,
        form: Zeroizing<String>,
        authorization: Option<Zeroizing<String>>,
    ) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        let mut request = self
            .client
            .post(url.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            // Owned, not copied: wiped when the library drops it.
            .body(Bytes::from_owner(form));
        if let Some(value) = authorization
            && let Ok(mut value) = header::HeaderValue::from_maybe_shared(Bytes::from_owner(value))
        {
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        self.send(url, request).await
    }

    async fn send(&self, url: &Url, request: RequestBuilder) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        let name = shown(url);
        let unreachable = |e: reqwest::Error| FetchError::Unreachable {
            url: shown(url),
            message: chain(&e.without_url()),
        };
        let mut response = request
            .header(header::ACCEPT, "application/json")
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status().as_u16();
        let mut body = Zeroizing::new(Vec::new());
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(FetchError::TooLarge { url: name });
            }
            body.extend_from_slice(&chunk);
        }
        if status != 200 {
            return Err(FetchError::Status {
                url: name,
                status,
                error: oauth_error(&body),
            });
        }
        Ok(body)
    }
}

/// The configured issuer URL, if it may be used.
///
/// # Errors
/// When it is not https (or http on loopback), or has a query or a fragment.
pub fn issuer_url(issuer: &config::Issuer) -> Result<Url, IdentityError> {
    let wrong = |message: &str| IdentityError::Url {
        issuer: issuer.name.clone(),
        message: message.into(),
    };
    let url = Url::parse(&issuer.url).map_err(|_| wrong("is not a URL"))?;
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err(wrong("an issuer has neither user, query nor fragment"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(wrong("use https; plain http is for loopback only")),
    }
}

fn is_loopback(url: &Url) -> bool {
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
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
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

fn oauth_error(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let word = value.get("error")?.as_str()?;
    let plain =
        !word.is_empty() && word.len() <= 64 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    plain.then(|| word.to_owned())
}

fn tls_config(issuer: &config::Issuer, ca_pem: Option<&[u8]>) -> Result<ClientConfig, IdentityError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(issuer = issuer.name, %error, "a root certificate of the host cannot be read");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(pem) = ca_pem {
        let wrong = |message: &str| IdentityError::CaFile {
            issuer: issuer.name.clone(),
            path: issuer.ca_file.clone().unwrap_or_default(),
            message: message.into(),
        };
        let certificates = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| wrong("is not PEM"))?;
        let count = certificates.len();
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 || added < count {
            return Err(wrong("holds no certificate, or one that cannot be read"));
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| IdentityError::Tls {
            issuer: issuer.name.clone(),
            message: e.to_string(),
        })?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(url: &str) -> config::Issuer {
        let text = format!("[[issuer]]\nname = \"a\"\nurl = \"{url}\"\naudience = \"x\"\n");
        config::parse("t".as_ref(), &text).unwrap().issuer.remove(0)
    }

    #[test]
    fn https_unless_loopback() {
        for good in [
            "https://a.example/r",
            "http://127.0.0.1:1",
            "http://[::1]:1",
            "http://localhost:1",
        ] {
            assert!(issuer_url(&issuer(good)).is_ok(), "{good}");
        }
        for bad in [
            "http://a.example",
            "http://127.0.0.1.a.example",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "https://a.example?x=1",
            "https://u:p@a.example",
            "a.example",
        ] {
            assert!(issuer_url(&issuer(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn endpoints_stay_as_safe_as_the_issuer() {
        let timeout = Duration::from_secs(1);
        let remote = Fetcher::new(&issuer("https://a.example"), None, timeout).unwrap();
        assert!(remote.endpoint("https://keys.example/k").is_ok());
        assert!(remote.endpoint("http://127.0.0.1/k").is_err());
        assert!(remote.endpoint("file:///etc/shadow").is_err());
        let local = Fetcher::new(&issuer("http://127.0.0.1:1"), None, timeout).unwrap();
        assert!(local.endpoint("http://127.0.0.1:2/k").is_ok());
        assert!(local.endpoint("http://a.example/k").is_err());
    }

    #[test]
    fn only_oauth_words_are_repeated() {
        assert_eq!(
            oauth_error(br#"{"error":"invalid_client"}"#).as_deref(),
            Some("invalid_client")
        );
        assert_eq!(oauth_error(br#"{"error":"Secret s3cr3t!"}"#), None);
        assert_eq!(oauth_error(b"<html>"), None);
    }
}
