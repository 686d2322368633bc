//! HTTP to an issuer, with every bound that a hostile or broken one could lean on: time, size, scheme, redirects.

use std::time::Duration;

use reqwest::{Method, Url};
use zeroize::Zeroizing;

use super::error::IdentityError;
use crate::{
    config,
    io::fetch::{self, Request, is_loopback, oauth_error, shown},
    model::Reason,
};

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

impl From<fetch::FetchError> for FetchError {
    fn from(error: fetch::FetchError) -> Self {
        match error {
            fetch::FetchError::Unreachable { url, message } => Self::Unreachable { url, message },
            fetch::FetchError::TooLarge { url } => Self::TooLarge { url },
        }
    }
}

/// An HTTP client for one issuer.
#[derive(Clone, Debug)]
pub struct Fetcher {
    inner: fetch::Fetcher,
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
        let name = issuer.name.clone();
        Ok(Self {
            inner: fetch::Fetcher::new(ca_pem, timeout).map_err(|e| match e {
                fetch::SetupError::Roots(message) => IdentityError::CaFile {
                    issuer: name,
                    path: issuer.ca_file.clone().unwrap_or_default(),
                    message: message.into(),
                },
                fetch::SetupError::Tls(message) => IdentityError::Tls {
                    issuer: name,
                    message,
                },
            })?,
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
        self.send(url, Request::new(Method::GET)).await
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
        let mut request = Request::new(Method::POST).form(form);
        if let Some(value) = authorization {
            request = request.secret_header("authorization", value);
        }
        self.send(url, request).await
    }

    async fn send(&self, url: &Url, request: Request) -> Result<Zeroizing<Vec<u8>>, FetchError> {
        let answer = self.inner.send(url, request).await?;
        if answer.status != 200 {
            return Err(FetchError::Status {
                url: shown(url),
                status: answer.status,
                error: oauth_error(&answer.body),
            });
        }
        Ok(answer.body)
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
}
