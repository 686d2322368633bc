//! HashiCorp Vault and OpenBao, by their HTTP API (version 1): a secret of the KV engine (version 2), or a user of the
//! database engine with its lease.

mod lease;
mod login;
mod read;

use reqwest::{Method, Url};
use zeroize::Zeroizing;

pub(super) use self::{lease::Lease, login::Session};
use super::{
    error::Failure,
    source::{Ask, Obtained},
    web::Web,
};
use crate::{
    config,
    io::fetch::{Answer, Request, safe_url, shown},
};

/// A secret in a Vault.
pub(super) struct Vault {
    config: config::Vault,
}

impl Vault {
    pub(super) fn new(config: config::Vault) -> Self {
        Self { config }
    }

    pub(super) async fn obtain(&self, web: &Web, ask: Ask<'_>) -> Result<Obtained, Failure> {
        match (&self.config.path, &self.config.database_role) {
            (Some(path), _) => self.read_secret(web, ask, path).await,
            (None, Some(role)) => self.make_user(web, &ask, role).await,
            (None, None) => Err(Failure::new("vault", "it has neither path nor database_role")),
        }
    }

    /// `PREFIX/ONE/OR/MORE` below `/v1/`, percent-encoded where it needs to be.
    fn url(&self, parts: &[&str]) -> Result<Url, Failure> {
        let address = self.config.address.as_str();
        let mut url = safe_url(address).map_err(|e| Failure::new(address, e))?;
        url.path_segments_mut()
            .map_err(|()| Failure::new(address, "is no address of a Vault"))?
            .pop_if_empty()
            .push("v1")
            .extend(parts.iter().flat_map(|part| part.split('/')));
        Ok(url)
    }

    async fn call(
        &self,
        web: &Web,
        method: Method,
        url: &Url,
        token: Option<&str>,
        body: Option<Zeroizing<String>>,
    ) -> Result<Answer, Failure> {
        // Proof against requests that someone was tricked into sending; agents and proxies may want it.
        let mut request = Request::new(method).secret_header("x-vault-request", text("true"));
        if let Some(namespace) = &self.config.namespace {
            request = request.secret_header("x-vault-namespace", text(namespace));
        }
        if let Some(token) = token {
            request = request.secret_header("x-vault-token", text(token));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        web.send(url, request).await
    }
}

/// What a status other than 200 means. Nothing of the answer's text is repeated.
fn refused(url: &Url, status: u16) -> Failure {
    let place = shown(url);
    match status {
        400 => Failure::gone(
            place,
            "refused it (400): is there such a role, and is the login still good?",
        ),
        403 => Failure::gone(
            place,
            "permission denied (403): look at the policy of the login's role",
        ),
        404 => Failure::gone(place, "nothing is there (404): look at mount and path, or role"),
        301..=308 => Failure::new(
            place,
            format!("it redirects ({status}): give the address of the active node, or of a load balancer"),
        ),
        429 | 472 | 473 => Failure::new(place, format!("it is busy or a standby ({status})")),
        503 => Failure::new(place, "it is sealed or in maintenance (503)"),
        other => Failure::new(place, format!("answered {other}")),
    }
}

fn text(text: &str) -> Zeroizing<String> {
    Zeroizing::new(text.to_owned())
}

/// JSON in memory that is wiped: an object of texts.
fn object(members: &[(&str, &str)]) -> Zeroizing<String> {
    let room: usize = members.iter().map(|(k, v)| k.len() + 2 * v.len() + 8).sum();
    let mut out = Zeroizing::new(String::with_capacity(room + 64));
    out.push('{');
    for (at, (key, value)) in members.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_string(&mut out, key);
        out.push(':');
        push_string(&mut out, value);
    }
    out.push('}');
    out
}

fn push_string(out: &mut String, value: &str) {
    // Text alone does not fail to be JSON.
    let quoted = Zeroizing::new(serde_json::to_string(value).unwrap_or_default());
    out.push_str(&quoted);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects() {
        let json = object(&[("a", "x\"y"), ("b", "")]);
        assert_eq!(json.as_str(), r#"{"a":"x\"y","b":""}"#);
    }
}
