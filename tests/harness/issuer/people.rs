//! People at the issuer: whoever is in front of the browser says yes to everything.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{Issuer, Mint, Shared, now};

/// Somebody at the issuer.
#[derive(Clone, Debug)]
pub struct Human {
    /// `sub`.
    pub subject: String,
    /// `name`.
    pub name: String,
    /// `groups`.
    pub groups: Vec<String>,
    /// How long ago they were seen by the issuer.
    pub seen: Duration,
    /// How long their ID tokens live.
    pub ttl: Duration,
}

impl Human {
    /// Somebody who was just seen.
    #[must_use]
    pub fn new(subject: &str, groups: &[&str]) -> Self {
        let mut name = subject.to_owned();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Self {
            subject: subject.into(),
            name,
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            seen: Duration::ZERO,
            ttl: Duration::from_secs(3600),
        }
    }
}

/// Who is in front of the browser, and what waits for them.
#[derive(Default)]
pub(super) struct People {
    present: Option<Human>,
    codes: HashMap<String, Asked>,
    devices: HashMap<String, Option<Human>>,
}

struct Asked {
    client: String,
    redirect: String,
    challenge: String,
    nonce: Value,
    by: Human,
}

impl Issuer {
    /// Puts somebody in front of the browser.
    pub fn present(&self, human: &Human) {
        self.0.shared.lock().people.present = Some(human.clone());
    }

    /// An ID token of somebody for a client, as a sign-in gives it.
    ///
    /// # Errors
    /// When signing fails.
    pub fn id_token(&self, human: &Human, client: &str, extra: &Value) -> anyhow::Result<String> {
        self.0.shared.id_token(human, client, &Value::Null, extra)
    }

    /// Whoever is present types in a code of the device flow.
    pub fn type_in(&self, user_code: &str) {
        let mut inner = self.0.shared.lock();
        let human = inner.people.present.clone();
        if let Some(device) = inner.people.devices.get_mut(user_code) {
            *device = human;
        }
    }
}

impl Shared {
    fn id_token(&self, human: &Human, client: &str, nonce: &Value, extra: &Value) -> anyhow::Result<String> {
        let now = now();
        let mut claims = json!({
            "iss": self.url, "sub": human.subject, "aud": client, "name": human.name, "groups": human.groups,
            "iat": now, "exp": now + human.ttl.as_secs(), "auth_time": now.saturating_sub(human.seen.as_secs()),
            "jti": uuid::Uuid::now_v7().to_string(), "nonce": nonce,
        });
        for (name, value) in extra.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let Value::Object(mut claims) = claims else {
            anyhow::bail!("claims are an object")
        };
        claims.retain(|_, value| !value.is_null());
        self.sign(&Mint {
            rsa: true,
            claims,
            typ: None,
        })
    }
}

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/authorize", get(authorize))
        .route("/device", post(device))
}

async fn authorize(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let field = |name: &str| query.get(name).cloned().unwrap_or_default();
    let right = field("response_type") == "code"
        && field("code_challenge_method") == "S256"
        && field("scope").split(' ').any(|s| s == "openid");
    let mut inner = shared.lock();
    let Some(by) = inner.people.present.clone().filter(|_| right) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let code = uuid::Uuid::now_v7().to_string();
    let asked = Asked {
        client: field("client_id"),
        redirect: field("redirect_uri"),
        challenge: field("code_challenge"),
        nonce: json!(query.get("nonce")),
        by,
    };
    inner.people.codes.insert(code.clone(), asked);
    let Ok(mut url) = reqwest::Url::parse(&field("redirect_uri")) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    url.query_pairs_mut()
        .append_pair("code", &code)
        .append_pair("state", &field("state"))
        .append_pair("iss", &shared.url);
    Redirect::to(url.as_str()).into_response()
}

async fn device(State(shared): State<Arc<Shared>>) -> Response {
    let code = uuid::Uuid::now_v7().to_string();
    shared.lock().people.devices.insert(code.clone(), None);
    Json(json!({
        // The user's code is the device's, to keep this short.
        "device_code": code, "user_code": code, "verification_uri": format!("{}/here", shared.url),
        "expires_in": 60, "interval": 1,
    }))
    .into_response()
}

/// The token endpoint, for what people did.
pub(super) fn token<'a>(shared: &Shared, field: &dyn Fn(&str) -> Option<&'a str>) -> Option<Response> {
    let refuse = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    let mut inner = shared.lock();
    let (by, client, nonce) = match field("grant_type")? {
        "authorization_code" => {
            let verifier = field("code_verifier").unwrap_or_default();
            let digest = digest::digest(&digest::SHA256, verifier.as_bytes());
            let asked = field("code").and_then(|code| inner.people.codes.remove(code));
            let asked = asked.filter(|asked| {
                asked.challenge == URL_SAFE_NO_PAD.encode(digest)
                    && field("redirect_uri") == Some(&asked.redirect)
                    && field("client_id") == Some(&asked.client)
            });
            match asked {
                Some(asked) => (asked.by, asked.client, asked.nonce),
                None => return Some(refuse("invalid_grant")),
            }
        }
        "urn:ietf:params:oauth:grant-type:device_code" => {
            let code = field("device_code").unwrap_or_default();
            match inner.people.devices.get(code).cloned() {
                None => return Some(refuse("invalid_grant")),
                Some(None) => return Some(refuse("authorization_pending")),
                Some(Some(human)) => {
                    inner.people.devices.remove(code);
                    let client = field("client_id").unwrap_or_default().to_owned();
                    (human, client, Value::Null)
                }
            }
        }
        _ => return None,
    };
    drop(inner);
    let token = shared.id_token(&by, &client, &nonce, &Value::Null);
    Some(match token {
        Ok(token) => Json(json!({
            "id_token": token, "access_token": "opaque", "token_type": "Bearer", "expires_in": 3600,
        }))
        .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    })
}
