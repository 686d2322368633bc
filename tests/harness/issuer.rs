//! An OIDC issuer in this process: discovery, keys, token endpoint, and switches for everything that can go wrong.
//!
//! For the demo and for tests; it hands tokens to whoever asks [`Issuer::mint`].

mod http;
mod people;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
pub use people::Human;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A running issuer; stops when the last clone is dropped.
#[derive(Clone)]
pub struct Issuer(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    task: tokio::task::AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    url: String,
    address: SocketAddr,
    ca_pem: Option<String>,
    inner: Mutex<Inner>,
    /// Woken when a fault is switched.
    switched: tokio::sync::Notify,
}

struct Inner {
    keys: Vec<SigningKey>,
    clients: HashMap<String, Client>,
    faults: HashSet<Fault>,
    requests: HashMap<String, u64>,
    auth_methods: Vec<&'static str>,
    last_form: Vec<(String, String)>,
    people: people::People,
}

/// One of the issuer's own keys.
#[derive(Clone)]
struct SigningKey {
    algorithm: Algorithm,
    kid: String,
    encoding: EncodingKey,
    public_pem: String,
    jwk: Value,
}

/// A client of the token endpoint.
#[derive(Clone)]
pub struct Client {
    /// How it shows who it is.
    pub auth: ClientAuth,
    /// `sub` of its tokens.
    pub subject: String,
    /// Groups in its tokens.
    pub groups: Vec<String>,
    /// How long its tokens live.
    pub ttl: Duration,
}

/// How a client shows who it is.
#[derive(Clone)]
pub enum ClientAuth {
    /// `client_secret_basic` or `client_secret_post`.
    Secret(String),
    /// `private_key_jwt`: algorithm and public key (SPKI PEM).
    PublicKey(Algorithm, String),
}

/// What the issuer does wrong while it is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// New connections are dropped, requests on old ones get 503.
    Down,
    /// Discovery speaks for another issuer.
    WrongIssuer,
    /// The key set is 2 MiB long.
    HugeKeys,
    /// The key set never comes.
    SlowKeys,
    /// The key set is a redirect to another host.
    RedirectKeys,
    /// Discovery is a redirect to another path here.
    RedirectDiscovery,
    /// The token endpoint answers 400 `invalid_client` to everyone.
    RefuseTokens,
    /// Only the token endpoint answers 503.
    TokensDown,
}

/// What to put into a token.
#[derive(Clone, Debug)]
pub struct Mint {
    /// Signed with RS256 rather than ES256.
    pub rsa: bool,
    /// The payload.
    pub claims: Map<String, Value>,
    /// The header's `typ`.
    pub typ: Option<String>,
}

impl Issuer {
    /// Starts on plain http; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start(address: SocketAddr) -> Result<Self> {
        Self::start_on(TcpListener::bind(address).await?, None)
    }

    /// Starts on https with a certificate of its own, given by [`Issuer::ca_pem`].
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn start_tls(address: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let name = listener.local_addr()?.ip().to_string();
        let issued = rcgen::generate_simple_self_signed(vec![name, "localhost".into()])?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls_pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der())
            .map_err(|e| anyhow!(e))?;
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)?;
        Self::start_on(
            listener,
            Some((TlsAcceptor::from(Arc::new(config)), issued.cert.pem())),
        )
    }

    fn start_on(listener: TcpListener, tls: Option<(TlsAcceptor, String)>) -> Result<Self> {
        let address = listener.local_addr()?;
        let (acceptor, ca_pem) = tls.unzip();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            url: format!("{scheme}://{address}"),
            address,
            ca_pem,
            inner: Mutex::new(Inner {
                keys: vec![
                    SigningKey::new(Algorithm::ES256)?,
                    SigningKey::new(Algorithm::RS256)?,
                ],
                clients: HashMap::new(),
                faults: HashSet::new(),
                requests: HashMap::new(),
                auth_methods: vec!["client_secret_basic", "client_secret_post", "private_key_jwt"],
                last_form: Vec::new(),
                people: people::People::default(),
            }),
            switched: tokio::sync::Notify::new(),
        });
        let serving = http::serve(listener, acceptor, Arc::clone(&shared));
        let task = tokio::spawn(serving);
        Ok(Self(Arc::new(Running {
            shared,
            task: task.abort_handle(),
        })))
    }

    /// The issuer URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.shared.url
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.shared.address
    }

    /// The certificate to trust, of an issuer on https.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.0.shared.ca_pem.as_deref()
    }

    /// A token, ES256; `extra` is laid over the usual claims, and `null` there takes a claim away.
    ///
    /// # Errors
    /// When signing fails.
    pub fn mint(
        &self,
        sub: &str,
        aud: &str,
        groups: &[&str],
        ttl: Duration,
        extra: &Value,
    ) -> Result<String> {
        self.sign(&self.claims(sub, aud, groups, ttl, extra))
    }

    /// What [`Issuer::mint`] signs.
    #[must_use]
    pub fn claims(&self, sub: &str, aud: &str, groups: &[&str], ttl: Duration, extra: &Value) -> Mint {
        let now = now();
        let mut claims = Map::new();
        for (name, value) in [
            ("iss", json!(self.url())),
            ("sub", json!(sub)),
            ("aud", json!(aud)),
            ("groups", json!(groups)),
            ("iat", json!(now)),
            ("nbf", json!(now)),
            ("exp", json!(now + ttl.as_secs())),
            ("jti", json!(uuid::Uuid::now_v7().to_string())),
        ] {
            claims.insert(name.into(), value);
        }
        for (name, value) in extra.as_object().into_iter().flatten() {
            if value.is_null() {
                claims.remove(name);
            } else {
                claims.insert(name.clone(), value.clone());
            }
        }
        Mint {
            rsa: false,
            claims,
            typ: Some("at+jwt".into()),
        }
    }

    /// Signs a token with the newest key.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign(&self, mint: &Mint) -> Result<String> {
        self.0.shared.sign(mint)
    }

    /// Signs claims with the newest ES256 key under any header.
    ///
    /// # Errors
    /// When signing fails.
    pub fn sign_as(&self, header: &Header, claims: &Map<String, Value>) -> Result<String> {
        let key = self.0.shared.key(false);
        jsonwebtoken::encode(header, claims, &key.encoding).context("signing")
    }

    /// The newest public key as PEM, with its `kid`: what an attacker can have, too.
    #[must_use]
    pub fn public_key(&self, rsa: bool) -> (String, String) {
        let key = self.0.shared.key(rsa);
        (key.kid, key.public_pem)
    }

    /// Makes new keys. The old ones stay in the set for tokens that are out, unless `drop_old`.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn rotate(&self, drop_old: bool) -> Result<()> {
        let fresh = [
            SigningKey::new(Algorithm::ES256)?,
            SigningKey::new(Algorithm::RS256)?,
        ];
        let mut inner = self.0.shared.lock();
        if drop_old {
            inner.keys.clear();
        }
        inner.keys.extend(fresh);
        Ok(())
    }

    /// Lets a client in at the token endpoint.
    pub fn client(&self, id: &str, client: Client) {
        self.0.shared.lock().clients.insert(id.to_owned(), client);
    }

    /// Which ways to show who one is the metadata offers.
    pub fn auth_methods(&self, methods: &[&'static str]) {
        self.0.shared.lock().auth_methods = methods.to_vec();
    }

    /// Switches a fault on or off.
    pub fn fault(&self, fault: Fault, on: bool) {
        let mut inner = self.0.shared.lock();
        if on {
            inner.faults.insert(fault);
        } else {
            inner.faults.remove(&fault);
        }
        drop(inner);
        self.0.shared.switched.notify_waiters();
    }

    /// How many requests for a path came, e.g. `/jwks`.
    #[must_use]
    pub fn requests(&self, path: &str) -> u64 {
        self.0.shared.lock().requests.get(path).copied().unwrap_or(0)
    }

    /// The form that the token endpoint had last.
    #[must_use]
    pub fn last_form(&self) -> Vec<(String, String)> {
        self.0.shared.lock().last_form.clone()
    }
}

impl SigningKey {
    fn new(algorithm: Algorithm) -> Result<Self> {
        let kind = match algorithm {
            Algorithm::RS256 => &rcgen::PKCS_RSA_SHA256,
            _ => &rcgen::PKCS_ECDSA_P256_SHA256,
        };
        let pair = rcgen::KeyPair::generate_for(kind)?;
        let pem = pair.serialize_pem();
        let encoding = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes())?,
            _ => EncodingKey::from_ec_pem(pem.as_bytes())?,
        };
        let kid = format!("{algorithm:?}-{}", uuid::Uuid::now_v7()).to_lowercase();
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&encoding, algorithm)?)?;
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        Ok(Self {
            algorithm,
            kid,
            encoding,
            public_pem: pair.public_key_pem(),
            jwk,
        })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has(&self, fault: Fault) -> bool {
        self.lock().faults.contains(&fault)
    }

    #[allow(clippy::expect_used)] // There are always both.
    fn key(&self, rsa: bool) -> SigningKey {
        let algorithm = if rsa { Algorithm::RS256 } else { Algorithm::ES256 };
        let inner = self.lock();
        let newest = inner.keys.iter().rev().find(|key| key.algorithm == algorithm);
        newest.expect("a key of each kind").clone()
    }

    fn sign(&self, mint: &Mint) -> Result<String> {
        let key = self.key(mint.rsa);
        let mut header = Header::new(key.algorithm);
        header.typ.clone_from(&mint.typ);
        header.kid = Some(key.kid);
        jsonwebtoken::encode(&header, &mint.claims, &key.encoding).context("signing")
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}
