//! Against npm `oidc-provider`, certified by the OpenID Foundation, as it comes.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use portcullis::{
    clock::Clock,
    credential::{Asker, Credentials},
    identity::{Identities, Timing},
    model::Reason,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::OnceCell,
};

use crate::rig::{AUDIENCE, config, name, sink, timing, until};

/// A running provider; ends with this.
struct Provider {
    issuer: String,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

/// The provider's packages, installed once below `target/` by the committed lock file.
async fn installed() -> &'static Path {
    static PLACE: OnceCell<PathBuf> = OnceCell::const_new();
    PLACE
        .get_or_init(|| async {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/oidc");
            let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("oidc");
            std::fs::create_dir_all(&place).unwrap();
            let lock = std::fs::read(source.join("package-lock.json")).unwrap();
            let fresh = std::fs::read(place.join("package-lock.json")).is_ok_and(|there| there == lock)
                && place.join("node_modules/.package-lock.json").exists();
            for file in ["package.json", "provider.mjs"] {
                // Whole or not at all: another run may be reading it.
                let aside = place.join(format!("{file}.{}", std::process::id()));
                std::fs::copy(source.join(file), &aside).unwrap();
                std::fs::rename(aside, place.join(file)).unwrap();
            }
            if !fresh {
                std::fs::write(place.join("package-lock.json"), lock).unwrap();
                let output = Command::new("npm")
                    .args([
                        "ci",
                        "--ignore-scripts",
                        "--no-audit",
                        "--no-fund",
                        "--prefer-offline",
                    ])
                    .current_dir(&place)
                    .output()
                    .await
                    .expect("npm is there");
                assert!(
                    output.status.success(),
                    "{}",
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            place
        })
        .await
}

impl Provider {
    async fn start(ttl: u64, public_jwk: &Value) -> Self {
        let place = installed().await;
        let options = json!({
            "ttl": ttl,
            "secret": { "id": "with-secret", "secret": "a+b/c:d e%41" },
            "key": { "id": "with-key", "jwk": public_jwk },
        });
        let mut child = Command::new("node")
            .arg("provider.mjs")
            .arg(options.to_string())
            .current_dir(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node is there");
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(Duration::from_secs(60), output.next_line())
            .await
            .expect("the provider starts in time")
            .unwrap()
            .expect("the provider starts");
        let said: Value = serde_json::from_str(&line).unwrap();
        Self {
            issuer: said["issuer"].as_str().unwrap().to_owned(),
            child,
            input,
            output,
        }
    }

    async fn rotate(&mut self) {
        self.input.write_all(b"rotate\n").await.unwrap();
        assert_eq!(
            self.output.next_line().await.unwrap().as_deref(),
            Some("{\"rotated\":true}")
        );
    }
}

/// A P-256 key pair: the private half in a file, the public one as JWK.
fn key(dir: &TempDir) -> Value {
    let pair = rcgen::KeyPair::generate().unwrap();
    std::fs::write(dir.path().join("key.pem"), pair.serialize_pem()).unwrap();
    let encoding = jsonwebtoken::EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&encoding, jsonwebtoken::Algorithm::ES256).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk["kid"] = json!("agent-1");
    jwk
}

/// The lines of a workload, by how its client shows who it is.
fn workload(dir: &TempDir, with_key: bool) -> String {
    let path = dir.path().display();
    if with_key {
        return format!(
            "client_id = \"with-key\"\nprivate_key_file = \"{path}/key.pem\"\nprivate_key_id = \"agent-1\"\nscope = \"api\""
        );
    }
    std::fs::write(dir.path().join("secret"), "a+b/c:d e%41\n").unwrap();
    format!("client_id = \"with-secret\"\nclient_secret_file = \"{path}/secret\"\nscope = \"api\"")
}

#[tokio::test]
async fn client_credentials_by_secret_and_by_key() {
    for with_key in [false, true] {
        let dir = TempDir::new().unwrap();
        let provider = Provider::start(3600, &key(&dir)).await;
        let config = config(&dir, &provider.issuer, "", &workload(&dir, with_key));
        let (events, _) = sink();
        let identities = Identities::start_with(&config, Clock::System, events, timing()).unwrap();
        identities.settled().await;
        let handle = identities.handle(&name()).unwrap();
        let identity = handle
            .check()
            .unwrap_or_else(|reason| panic!("{reason}: {:?}", identities.status()));
        assert_eq!(
            &*identity.subject,
            if with_key { "with-key" } else { "with-secret" }
        );
        assert_eq!(&*identity.issuer, provider.issuer);
        assert_eq!(
            identity.groups.iter().map(|g| &**g).collect::<Vec<_>>(),
            ["agents", "ci"]
        );
        let left = identity.expires_at - Clock::System.now_seconds();
        assert!((3500..=3600).contains(&left), "{left}");
    }
}

/// What the agent asks for in its own name, to give it to a service.
#[tokio::test]
async fn a_credential_by_secret_and_by_key() {
    use std::os::unix::fs::PermissionsExt as _;
    for with_key in [false, true] {
        let dir = TempDir::new().unwrap();
        let provider = Provider::start(3, &key(&dir)).await;
        let client = workload(&dir, with_key);
        for file in ["key.pem", "secret"].map(|name| dir.path().join(name)) {
            if file.exists() {
                std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        let text = format!(
            "[[credential]]\nname = \"api\"\n[credential.oauth]\nissuer = \"{}\"\nresource = \"{AUDIENCE}\"\n{client}\n",
            provider.issuer
        );
        let config = portcullis::config::parse("test".as_ref(), &text).unwrap();
        let credentials = Credentials::new(&config.credential);
        let asker = Asker {
            workload: name(),
            token: None,
        };
        let first = credentials.get("api", &asker).await.unwrap();
        let text = std::str::from_utf8(first.secret().unwrap().expose()).unwrap();
        assert_eq!(text.split('.').count(), 3, "a JWT");
        let left = first.expires_at.unwrap() - Clock::System.now_ns();
        assert!((1..=3_000_000_000).contains(&left), "{left}");
        // Another one before it ends, and without a failure on the way.
        until("renewed", || {
            credentials.status()[0]
                .version
                .as_ref()
                .is_some_and(|v| **v != *first.version)
        })
        .await;
        assert_eq!(credentials.status()[0].last_error, None);
    }
}

#[tokio::test]
async fn rotation_renewal_and_the_end_of_the_provider() {
    let dir = TempDir::new().unwrap();
    let mut provider = Provider::start(6, &key(&dir)).await;
    let config = config(&dir, &provider.issuer, "skew = \"0s\"", &workload(&dir, true));
    let (events, list) = sink();
    let quick = Timing {
        jwks_refresh: Duration::from_millis(200),
        ..timing()
    };
    let identities = Identities::start_with(&config, Clock::System, events, quick).unwrap();
    let handle = identities.handle(&name()).unwrap();
    until("bound", || handle.check().is_ok()).await;
    let first = handle.check().unwrap();
    let ended = handle.ended();

    // Renewed at two thirds of six seconds, under the same key.
    until("renewed", || {
        handle.check().is_ok_and(|i| i.token_id != first.token_id)
    })
    .await;
    assert_eq!(handle.check().unwrap().key_id, first.key_id);
    assert_eq!(ended.reason(), None, "the same subject goes on");

    // The old key is gone at once here: what it signed is replaced.
    provider.rotate().await;
    until("under the new key", || {
        handle.check().is_ok_and(|i| i.key_id != first.key_id)
    })
    .await;
    assert_eq!(ended.reason(), None, "{:?}", list.lock().unwrap());

    provider.child.kill().await.unwrap();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(20), ended)
            .await
            .unwrap(),
        Reason::IdentityExpired
    );
    until("unreachable", || {
        handle.check().err() == Some(Reason::IdentityIssuerUnreachable)
    })
    .await;
}

#[tokio::test]
async fn a_wrong_secret() {
    let dir = TempDir::new().unwrap();
    let provider = Provider::start(600, &key(&dir)).await;
    let lines = workload(&dir, false);
    std::fs::write(dir.path().join("secret"), "wrong").unwrap();
    let config = config(&dir, &provider.issuer, "", &lines);
    let (events, _) = sink();
    let identities = Identities::start_with(&config, Clock::System, events, timing()).unwrap();
    identities.settled().await;
    let handle = identities.handle(&name()).unwrap();
    assert_eq!(handle.check().unwrap_err(), Reason::IdentityMissing);
    let error = identities.status().remove(0).last_error.unwrap();
    assert!(error.contains("invalid_client"), "{error}");
    std::fs::write(dir.path().join("secret"), "a+b/c:d e%41").unwrap();
    until("bound", || handle.check().is_ok()).await;
}

/// A token as a helper would have it, which puts it into a file.
async fn fetched(provider: &Provider, resource: &str) -> String {
    // Set already by another test: the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let form = [
        ("grant_type", "client_credentials"),
        ("resource", resource),
        ("scope", "api"),
    ];
    // As RFC 6749 wants them, form-encoded.
    let (id, secret) = ("with-secret", "a%2Bb%2Fc%3Ad+e%2541");
    let answer: Value = reqwest::Client::new()
        .post(format!("{}/token", provider.issuer))
        .basic_auth(id, Some(secret))
        .form(&form)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    answer["access_token"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned()
}

#[tokio::test]
async fn token_file_wrong_audience_and_a_key_that_is_gone() {
    let dir = TempDir::new().unwrap();
    let mut provider = Provider::start(600, &key(&dir)).await;
    let file = dir.path().join("token");
    let config = config(
        &dir,
        &provider.issuer,
        "",
        &format!("token_file = \"{}\"", file.display()),
    );
    let (events, _) = sink();
    let quick = Timing {
        jwks_refresh: Duration::from_millis(100),
        ..timing()
    };
    std::fs::write(&file, fetched(&provider, AUDIENCE).await).unwrap();
    let identities = Identities::start_with(&config, Clock::System, events, quick).unwrap();
    let handle = identities.handle(&name()).unwrap();
    until("bound", || handle.check().is_ok()).await;
    let ended = handle.ended();
    std::fs::write(&file, fetched(&provider, "https://other.example").await).unwrap();
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(20), ended)
            .await
            .unwrap(),
        Reason::IdentityWrongAudience
    );
    std::fs::write(&file, fetched(&provider, AUDIENCE).await).unwrap();
    until("bound again", || handle.check().is_ok()).await;
    let ended = handle.ended();
    provider.rotate().await;
    assert_eq!(
        tokio::time::timeout(Duration::from_secs(20), ended)
            .await
            .unwrap(),
        Reason::IdentityUnknownKey
    );
}
