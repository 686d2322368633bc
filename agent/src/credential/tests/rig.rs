//! What every test of credentials needs: credentials whose life is told, and servers that answer as they are told to.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::*;
use crate::config;

/// An asker without a token.
pub(super) fn anyone() -> Asker {
    Asker {
        workload: WorkloadName::new("bot").unwrap(),
        token: None,
    }
}

/// A workload with a token of its own; `subject` and `serial` are in it.
pub(super) fn asker(workload: &str, subject: &str, serial: u32) -> Asker {
    let claims = format!(r#"{{"iss":"https://i","sub":"{subject}","jti":"{serial}"}}"#);
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    Asker {
        workload: WorkloadName::new(workload).unwrap(),
        token: Some(Arc::new(Zeroizing::new(token))),
    }
}

/// Quick.
pub(super) fn timing() -> Timing {
    Timing {
        check: Duration::ZERO,
        exchange: Duration::from_millis(700),
        retry_min: Duration::from_millis(10),
        retry_asked: Duration::from_millis(10),
        retry_max: Duration::from_millis(50),
        stale: Duration::from_secs(60),
        idle: Duration::from_secs(60),
        grace: Duration::from_millis(20),
        closing: Duration::from_secs(5),
    }
}

/// What was told of credentials.
#[derive(Default)]
pub(super) struct Told {
    pub(super) events: Mutex<Vec<CredentialEvent>>,
    announced: Mutex<BTreeMap<String, Vec<Vec<u8>>>>,
}

impl SecretSink for Told {
    fn replace(&self, owner: &str, secrets: &[&[u8]]) {
        let secrets = secrets.iter().map(|s| s.to_vec()).collect();
        self.announced.lock().unwrap().insert(owner.into(), secrets);
    }
}

impl Told {
    /// `EVENT VERSION` of everything so far.
    pub(super) fn words(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let word = |e: &CredentialEvent| match &e.version {
            Some(version) => format!("{} {version}", e.event.as_str()),
            None => e.event.as_str().to_owned(),
        };
        events.iter().map(word).collect()
    }

    pub(super) fn count(&self, event: Event) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|e| e.event == event).count()
    }

    /// The secrets that an owner has announced last.
    pub(super) fn announced(&self, owner: &str) -> Vec<String> {
        let announced = self.announced.lock().unwrap();
        let secrets = announced.get(owner).cloned().unwrap_or_default();
        secrets
            .iter()
            .map(|s| String::from_utf8_lossy(s).into())
            .collect()
    }

    /// Nothing that was told says any of these.
    pub(super) fn says_none_of(&self, secrets: &[&str]) {
        for event in &*self.events.lock().unwrap() {
            let said = format!("{event:?} {}", event.entry().body);
            for secret in secrets {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }
}

/// Credentials by TOML, and what is told of them.
pub(super) fn start(toml: &str, timing: Timing) -> (Credentials, Arc<Told>) {
    let told = Arc::new(Told::default());
    let events = {
        let told = Arc::clone(&told);
        Arc::new(move |event| told.events.lock().unwrap().push(event))
    };
    let sink = Arc::clone(&told) as Arc<dyn SecretSink>;
    let all = Credentials::start_with(&parse(toml), Clock::System, sink, events, timing);
    (all, told)
}

pub(super) fn parse(toml: &str) -> Vec<Credential> {
    config::parse("test".as_ref(), toml).unwrap().credential
}

/// The secret of a credential, as text.
pub(super) async fn secret(all: &Credentials, name: &str, asker: &Asker) -> Result<String, String> {
    let material = all.get(name, asker).await.map_err(|e| e.to_string())?;
    let bytes = material.secret().ok_or("no secret")?.expose().to_vec();
    Ok(String::from_utf8(bytes).unwrap())
}

/// Waits for something to become true.
pub(super) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    for _ in 0..4000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}

/// The same as soon as it can be had.
pub(super) async fn eventually(all: &Credentials, name: &str, asker: &Asker) -> String {
    let mut last = String::new();
    for _ in 0..2000 {
        match secret(all, name, asker).await {
            Ok(secret) => return secret,
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {last}");
}

/// A request as a server got it.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// A form as pairs, decoded.
    pub(super) fn form(&self) -> BTreeMap<String, String> {
        let url = reqwest::Url::parse(&format!("http://x/?{}", self.body)).unwrap();
        url.query_pairs().into_owned().collect()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

type Answer = dyn Fn(&Asked) -> Response + Send + Sync;

/// A server on loopback that answers by a function. It ends with the test's runtime.
pub(super) async fn serve(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> SocketAddr {
    async fn handle(
        State(answer): State<Arc<Answer>>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let asked = Asked {
            method,
            path: uri.path().to_owned(),
            headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        };
        // Long enough for who has no patience, and not for ever.
        if asked.path.contains("slow") {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        answer(&asked)
    }
    let answer: Arc<Answer> = Arc::new(answer);
    let router = Router::new().fallback(handle).with_state(answer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

pub(super) fn json(status: u16, body: &serde_json::Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}

pub(super) fn plain(status: u16, kind: &'static str, body: impl Into<String>) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    let headers = [
        ("content-type", kind),
        ("location", "http://127.0.0.1:1/elsewhere"),
    ];
    (status, headers, body.into()).into_response()
}

/// A file that only its owner may read.
pub(super) fn put(path: &std::path::Path, content: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    // Renamed over, as careful people do.
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, content).unwrap();
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}
