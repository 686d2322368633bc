//! Signing in with a browser: the authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636, RFC 9207).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{SignIn, SignInError};
use crate::{identity::fetch::FetchError, io::form::Form};

/// Bytes of a code that an issuer may give.
const MAX_CODE: usize = 4096;

/// One try of one browser. Its secrets stay here; the browser sees `state` and, hashed, the verifier.
pub struct Attempt {
    /// What ties the issuer's answer to the browser.
    pub state: String,
    /// What ties the token to the attempt.
    pub(super) nonce: String,
    verifier: Zeroizing<String>,
}

impl Attempt {
    /// With 256 random bits in each part.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: random(),
            nonce: random(),
            verifier: Zeroizing::new(random()),
        }
    }

    /// `code_challenge`, method S256.
    fn challenge(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.verifier.as_bytes());
        URL_SAFE_NO_PAD.encode(digest)
    }
}

impl Default for Attempt {
    fn default() -> Self {
        Self::new()
    }
}

fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

#[derive(Deserialize)]
struct Answer {
    id_token: Option<String>,
}

/// The ID token in a token endpoint's answer; the access token beside it is of no use here and is not kept.
pub(super) fn id_token(body: &[u8], url: &str) -> Result<Zeroizing<String>, SignInError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| FetchError::Content {
        url: url.to_owned(),
        message: "the answer is not a token's".into(),
    })?;
    let token = answer.id_token.ok_or_else(|| FetchError::Content {
        url: url.to_owned(),
        message: "the answer holds no id_token: let the client have scope openid".into(),
    })?;
    Ok(Zeroizing::new(token))
}

impl SignIn {
    /// Where the browser is sent.
    pub(super) async fn authorization_url(
        &self,
        attempt: &Attempt,
        redirect: &str,
    ) -> Result<String, SignInError> {
        let snapshot = self.issuer.snapshot().await?;
        let endpoint = snapshot.metadata.authorization_endpoint.as_deref();
        let endpoint = endpoint.ok_or(SignInError::NoEndpoint("authorization_endpoint"))?;
        let mut url = self.issuer.fetcher.endpoint(endpoint)?;
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.terms.client_id)
            .append_pair("redirect_uri", redirect)
            .append_pair("scope", &self.terms.scope)
            .append_pair("state", &attempt.state)
            .append_pair("nonce", &attempt.nonce)
            .append_pair("code_challenge", &attempt.challenge())
            .append_pair("code_challenge_method", "S256")
            // The issuer asks again who it is when that was too long ago, and says when it was.
            .append_pair("max_age", &self.terms.max_age.to_string());
        Ok(url.into())
    }

    /// The ID token for a code.
    pub(super) async fn redeem(
        &self,
        attempt: &Attempt,
        redirect: &str,
        code: &str,
        iss: Option<&str>,
    ) -> Result<Zeroizing<String>, SignInError> {
        let snapshot = self.issuer.snapshot().await?;
        let metadata = &snapshot.metadata;
        match iss {
            Some(iss) if iss != &*self.issuer.rules.issuer => {
                return Err(SignInError::Mismatch("iss is another issuer's"));
            }
            None if metadata.authorization_response_iss_parameter_supported => {
                return Err(SignInError::Mismatch("iss is missing"));
            }
            _ => {}
        }
        if code.is_empty() || code.len() > MAX_CODE {
            return Err(SignInError::Mismatch("code is missing or too long"));
        }
        let endpoint = metadata.token_endpoint.as_deref();
        let endpoint = endpoint.ok_or(SignInError::NoEndpoint("token_endpoint"))?;
        let url = self.issuer.fetcher.endpoint(endpoint)?;
        let mut form = Form::default();
        form.add("grant_type", "authorization_code");
        form.add("code", code);
        form.add("redirect_uri", redirect);
        form.add("code_verifier", &attempt.verifier);
        let authorization = self.authenticate(&mut form, metadata).await?;
        let body = self
            .issuer
            .fetcher
            .post(&url, form.into_body(), authorization)
            .await?;
        id_token(&body, endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_of_rfc_7636() {
        let attempt = Attempt {
            state: String::new(),
            nonce: String::new(),
            verifier: Zeroizing::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into()),
        };
        assert_eq!(attempt.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        let (one, two) = (Attempt::new(), Attempt::new());
        assert!(one.state != two.state && one.nonce != two.nonce && *one.verifier != *two.verifier);
        assert_eq!((one.state.len(), one.verifier.len()), (43, 43));
    }

    #[test]
    fn only_an_id_token_counts() {
        assert!(id_token(br#"{"access_token":"a"}"#, "u").is_err());
        assert!(id_token(b"<html>", "u").is_err());
        assert_eq!(
            id_token(br#"{"id_token":"a.b.c"}"#, "u").unwrap().as_str(),
            "a.b.c"
        );
    }
}
