//! The issuer's door and its three endpoints.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Client, ClientAuth, Fault, Mint, Shared, now, people};

/// Serves until dropped.
pub(super) async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(discovery))
        .route("/jwks", get(jwks))
        .route("/token", post(token))
        .merge(people::routes())
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), gatekeeper))
        .with_state(Arc::clone(&shared));
    let door = Door {
        listener,
        acceptor,
        shared,
    };
    // Never ends by itself.
    let _ = axum::serve(door, router).await;
}

/// Accepts connections, or drops them while the issuer is down.
struct Door {
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
}

/// A connection, plain or TLS.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Stream for T {}

impl axum::serve::Listener for Door {
    type Io = Box<dyn Stream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let Ok((stream, peer)) = self.listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            if self.shared.has(Fault::Down) {
                reset(&stream);
                continue;
            }
            let Some(acceptor) = &self.acceptor else {
                return (Box::new(stream), peer);
            };
            let handshake = tokio::time::timeout(Duration::from_secs(5), acceptor.accept(stream));
            if let Ok(Ok(stream)) = handshake.await {
                return (Box::new(stream), peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Counts, and is down.
async fn gatekeeper(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let down = {
        let mut inner = shared.lock();
        *inner.requests.entry(path).or_default() += 1;
        inner.faults.contains(&Fault::Down)
    };
    if down {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::CONNECTION, "close")]).into_response();
    }
    next.run(request).await
}

async fn discovery(State(shared): State<Arc<Shared>>) -> Response {
    if shared.has(Fault::RedirectDiscovery) {
        return (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response();
    }
    let issuer = if shared.has(Fault::WrongIssuer) {
        "https://issuer.invalid"
    } else {
        &shared.url
    };
    let url = &shared.url;
    let methods = shared.lock().auth_methods.clone();
    Json(json!({
        "issuer": issuer,
        "jwks_uri": format!("{url}/jwks"),
        "token_endpoint": format!("{url}/token"),
        "authorization_endpoint": format!("{url}/authorize"),
        "device_authorization_endpoint": format!("{url}/device"),
        "authorization_response_iss_parameter_supported": true,
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": ["ES256", "RS256", "EdDSA"],
        "grant_types_supported": ["client_credentials"],
        "id_token_signing_alg_values_supported": ["ES256", "RS256"],
        "response_types_supported": ["token"],
        "subject_types_supported": ["public"],
    }))
    .into_response()
}

async fn jwks(State(shared): State<Arc<Shared>>) -> Response {
    loop {
        let switched = shared.switched.notified();
        if !shared.has(Fault::SlowKeys) {
            break;
        }
        switched.await;
    }
    if shared.has(Fault::RedirectKeys) {
        return (StatusCode::FOUND, [(header::LOCATION, "http://127.0.0.2:9/jwks")]).into_response();
    }
    let keys: Vec<Value> = shared.lock().keys.iter().map(|key| key.jwk.clone()).collect();
    if shared.has(Fault::HugeKeys) {
        return Json(json!({ "keys": keys, "padding": "x".repeat(2 << 20) })).into_response();
    }
    Json(json!({ "keys": keys })).into_response()
}

async fn token(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    axum::Form(form): axum::Form<Vec<(String, String)>>,
) -> Response {
    if shared.has(Fault::TokensDown) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    shared.lock().last_form.clone_from(&form);
    let field = |name: &str| {
        form.iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let refuse = |status: StatusCode, error: &str| (status, Json(json!({ "error": error }))).into_response();
    if let Some(answer) = people::token(&shared, &field) {
        return answer;
    }
    if field("grant_type") != Some("client_credentials") {
        return refuse(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    if shared.has(Fault::RefuseTokens) {
        return refuse(StatusCode::BAD_REQUEST, "invalid_client");
    }
    let Some(client) = authenticate(&shared, &headers, &field) else {
        return refuse(StatusCode::UNAUTHORIZED, "invalid_client");
    };
    let Some(audience) = field("resource").or_else(|| field("audience")) else {
        return refuse(StatusCode::BAD_REQUEST, "invalid_target");
    };
    let now = now();
    let Value::Object(claims) = json!({
        "iss": shared.url,
        "sub": client.subject,
        "aud": audience,
        "groups": client.groups,
        "iat": now,
        "exp": now + client.ttl.as_secs(),
        "jti": uuid::Uuid::now_v7().to_string(),
    }) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mint = Mint {
        rsa: false,
        claims,
        typ: Some("at+jwt".into()),
    };
    match shared.sign(&mint) {
        Ok(token) => Json(json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": client.ttl.as_secs(),
        }))
        .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn authenticate<'a>(
    shared: &Shared,
    headers: &HeaderMap,
    field: &dyn Fn(&str) -> Option<&'a str>,
) -> Option<Client> {
    let clients = shared.lock().clients.clone();
    if let Some(assertion) = field("client_assertion") {
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        let client = clients
            .get(field("client_id")?)
            .filter(|_| field("client_assertion_type") == Some(kind))?;
        let ClientAuth::PublicKey(algorithm, pem) = &client.auth else {
            return None;
        };
        let key = match algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(pem.as_bytes()),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(pem.as_bytes()),
            _ => DecodingKey::from_ec_pem(pem.as_bytes()),
        };
        let mut validation = Validation::new(*algorithm);
        validation.set_audience(&[format!("{}/token", shared.url)]);
        validation.set_issuer(&[field("client_id")?]);
        validation.set_required_spec_claims(&["exp", "iss", "sub", "aud"]);
        jsonwebtoken::decode::<Value>(assertion, &key.ok()?, &validation).ok()?;
        return Some(client.clone());
    }
    let (id, secret) = match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let encoded = value.to_str().ok()?.strip_prefix("Basic ")?;
            let pair = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
            let (id, secret) = pair.split_once(':')?;
            (decoded(id)?, decoded(secret)?)
        }
        None => (field("client_id")?.to_owned(), field("client_secret")?.to_owned()),
    };
    let client = clients.get(&id)?;
    matches!(&client.auth, ClientAuth::Secret(expected) if *expected == secret).then(|| client.clone())
}

/// Form decoding of one value.
fn decoded(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(&format!("http://a/?x={text}")).ok()?;
    url.query_pairs().next().map(|(_, value)| value.into_owned())
}
