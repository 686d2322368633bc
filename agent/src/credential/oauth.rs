//! An access token: client credentials (RFC 6749 section 4.4), or an exchange for the workload's own (RFC 8693).

use std::time::Duration;

use reqwest::{Method, Url};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    Secret,
    error::Failure,
    file,
    material::{MaterialValue, WorkloadToken},
    source::{Ask, Obtained},
    text::{self, Text},
    web::Web,
};
use crate::{
    config::{self, Grant},
    io::{
        client::{Key, authenticate},
        fetch::{Request, is_loopback, oauth_error, safe_url, shown},
        form::Form,
    },
};

/// How often a token is had anew that does not say when it ends.
const REFRESH: Duration = Duration::from_secs(300);

/// A client of a token endpoint.
pub(super) struct OAuth {
    config: config::OAuth,
}

/// What an issuer says of itself, as far as it is needed.
#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    issuer: String,
    token_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Token {
    access_token: Text,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    expires_in: Option<i64>,
}

impl OAuth {
    pub(super) fn new(config: config::OAuth) -> Self {
        Self { config }
    }

    pub(super) async fn obtain(&self, web: &Web, ask: Ask<'_>) -> Result<Obtained, Failure> {
        let (url, metadata) = self.endpoint(web).await?;
        let place = shown(&url);
        let token = match (self.config.grant, ask.party) {
            (Grant::ClientCredentials, _) => None,
            (Grant::TokenExchange, Some((_, token))) => Some(token),
            (Grant::TokenExchange, None) => return Err(Failure::new(place, "the workload has no token")),
        };
        let mut form = self.form(token);
        let authorization = self
            .authenticate(&mut form, &url, &metadata, ask.now_ns / 1_000_000_000)
            .await?;
        let mut request = Request::new(Method::POST).form(form.into_body());
        if let Some(value) = authorization {
            request = request.secret_header("authorization", value);
        }
        let answer = web.send(&url, request).await?;
        if answer.status != 200 {
            let word = oauth_error(&answer.body).map(|word| format!(" ({word})"));
            return Err(Failure::new(
                place,
                format!("answered {}{}", answer.status, word.unwrap_or_default()),
            ));
        }
        let token: Token = serde_json::from_slice(&answer.body)
            .map_err(|_| Failure::new(&*place, "its answer holds no access_token"))?;
        self.accept(token, ask.now_ns)
            .map_err(|message| Failure::new(place, message))
    }

    fn form(&self, token: Option<&WorkloadToken>) -> Form {
        let mut form = Form::default();
        if let Some(token) = token {
            form.add("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
            form.add("subject_token", token);
            form.add(
                "subject_token_type",
                self.config.subject_token_type.unwrap_or_default().as_str(),
            );
        } else {
            form.add("grant_type", "client_credentials");
        }
        for (key, value) in [
            ("scope", &self.config.scope),
            ("audience", &self.config.audience),
            ("resource", &self.config.resource),
        ] {
            if let Some(value) = value {
                form.add(key, value);
            }
        }
        form
    }

    async fn authenticate(
        &self,
        form: &mut Form,
        url: &Url,
        metadata: &Metadata,
        now: i64,
    ) -> Result<Option<Zeroizing<String>>, Failure> {
        let c = &self.config;
        let (path, text) = match (&c.client_secret_file, &c.private_key_file) {
            (Some(path), _) | (None, Some(path)) => (path, file::text(path).await?),
            (None, None) => return Err(Failure::new("oauth", "it has neither secret nor key")),
        };
        let key = if c.client_secret_file.is_some() {
            Key::Secret {
                secret: &text,
                methods: metadata.token_endpoint_auth_methods_supported.as_deref(),
            }
        } else {
            Key::Private {
                pem: &text,
                id: c.private_key_id.as_deref(),
                accepted: metadata
                    .token_endpoint_auth_signing_alg_values_supported
                    .as_deref(),
            }
        };
        authenticate(form, &c.client_id, &key, url.as_str(), now)
            .map_err(|e| Failure::new(path.display().to_string(), e.to_string()))
    }

    /// Where tokens are had: as configured, or as the issuer says.
    async fn endpoint(&self, web: &Web) -> Result<(Url, Metadata), Failure> {
        if let Some(endpoint) = &self.config.token_endpoint {
            let url = safe_url(endpoint).map_err(|e| Failure::new(endpoint.as_str(), e))?;
            return Ok((url, Metadata::default()));
        }
        let issuer = self.config.issuer.as_deref().unwrap_or_default();
        let own = safe_url(issuer).map_err(|e| Failure::new(issuer, e))?;
        let metadata = discover(web, issuer).await?;
        let wrong = |message: &str| Failure::new(issuer, message);
        // Mix-up: metadata that speaks for another issuer must not be sent the secret.
        if metadata.issuer != issuer {
            return Err(wrong("its metadata speaks for another issuer"));
        }
        let endpoint = metadata
            .token_endpoint
            .as_deref()
            .ok_or_else(|| wrong("it has no token_endpoint"))?;
        let url = safe_url(endpoint).map_err(|e| wrong(&format!("its token_endpoint {e}")))?;
        if url.scheme() == "http" && !is_loopback(&own) {
            return Err(wrong("its token_endpoint is not https"));
        }
        Ok((url, metadata))
    }

    fn accept(&self, token: Token, now_ns: i64) -> Result<Obtained, &'static str> {
        // What is exchanged need not be an access token: `N_A` says so (RFC 8693 section 2.2.1).
        let exchange = self.config.grant == Grant::TokenExchange;
        let bearer = token
            .token_type
            .as_deref()
            .is_none_or(|t| t.eq_ignore_ascii_case("bearer") || (exchange && t.eq_ignore_ascii_case("n_a")));
        if !bearer {
            return Err("token_type is not Bearer");
        }
        if token.access_token.0.is_empty() || token.access_token.0.contains(['\r', '\n', '\0']) {
            return Err("its access_token is none");
        }
        let expires_at = match token.expires_in {
            Some(seconds) if seconds <= 0 => return Err("it gave a token that has run out"),
            Some(seconds) => Some(now_ns.saturating_add(seconds.saturating_mul(1_000_000_000))),
            None => None,
        };
        Ok(Obtained {
            version: text::fingerprint(token.access_token.0.as_bytes()).into(),
            value: MaterialValue::Secret(Secret::text(token.access_token.0)),
            expires_at,
            refresh: Some(REFRESH),
            stamp: None,
            lease: None,
        })
    }
}

/// Metadata by OpenID Connect Discovery, else by RFC 8414.
async fn discover(web: &Web, issuer: &str) -> Result<Metadata, Failure> {
    let base = issuer.trim_end_matches('/');
    let wrong = |place: &str, message: &str| Failure::new(place, message);
    let openid = format!("{base}/.well-known/openid-configuration");
    let mut url = safe_url(&openid).map_err(|e| wrong(&openid, e))?;
    let mut answer = web.send(&url, Request::new(Method::GET)).await?;
    if answer.status == 404 {
        // Between host and path.
        let path = url
            .path()
            .trim_end_matches("/.well-known/openid-configuration")
            .to_owned();
        url.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
        answer = web.send(&url, Request::new(Method::GET)).await?;
    }
    if answer.status != 200 {
        return Err(wrong(url.as_str(), &format!("answered {}", answer.status)));
    }
    serde_json::from_slice(&answer.body).map_err(|_| wrong(url.as_str(), "is not an issuer's metadata"))
}
