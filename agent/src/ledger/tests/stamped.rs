//! RFC 3161 timestamps by OpenSSL's time-stamping authority, over the network and by hand.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex as StdMutex,
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
use verify::{Checks, verify_disclosure, verify_files};

use super::*;
use crate::{
    config,
    ledger::{
        disclose::disclose,
        timestamp::{StampError, TimestampStatus, Timestamps, TokenFlaw, TsaRoots, timestamp_request},
    },
};

/// OpenSSL's authority: a root, a certificate for time stamping, and one that is not.
struct Tsa {
    dir: TempDir,
}

fn openssl(dir: &Path, args: &[&str]) {
    let out = Command::new("openssl")
        .current_dir(dir)
        .args(args)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

impl Tsa {
    fn new(key: &[&str]) -> Self {
        let dir = dir();
        let at = dir.path();
        let config = "
[ca]
basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign
subjectKeyIdentifier=hash
[stamp]
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=critical,timeStamping
[web]
extendedKeyUsage=critical,timeStamping,serverAuth
[tsa]
default_tsa=tsa_1
[tsa_1]
serial=serial
crypto_device=builtin
default_policy=1.2.3.4.1
digests=sha256
signer_digest=sha256
accuracy=secs:1
clock_precision_digits=3
tsa_name=yes
ess_cert_id_chain=no
";
        std::fs::write(at.join("tsa.cnf"), config).unwrap();
        std::fs::write(at.join("serial"), "01").unwrap();
        let with = |args: &[&str]| openssl(at, &[args, key].concat());
        with(&[
            "req",
            "-x509",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=Test Root",
            "-keyout",
            "root.key",
            "-out",
            "root.pem",
            "-config",
            "/dev/null",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-newkey",
        ]);
        for name in ["stamp", "web"] {
            let (key_file, csr, pem) = (
                format!("{name}.key"),
                format!("{name}.csr"),
                format!("{name}.pem"),
            );
            let subject = format!("/O=Test/CN=Test TSA {name}");
            with(&[
                "req",
                "-new",
                "-nodes",
                "-subj",
                &subject,
                "-keyout",
                &key_file,
                "-out",
                &csr,
                "-config",
                "/dev/null",
                "-newkey",
            ]);
            openssl(
                at,
                &[
                    "x509",
                    "-req",
                    "-in",
                    &csr,
                    "-CA",
                    "root.pem",
                    "-CAkey",
                    "root.key",
                    "-CAcreateserial",
                    "-days",
                    "20",
                    "-extfile",
                    "tsa.cnf",
                    "-extensions",
                    name,
                    "-out",
                    &pem,
                ],
            );
        }
        Self { dir }
    }

    fn roots(&self) -> TsaRoots {
        TsaRoots::from_pem(&std::fs::read(self.ca()).unwrap()).unwrap()
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("root.pem")
    }

    fn reply(&self, request: &[u8]) -> Vec<u8> {
        let at = self.dir.path();
        std::fs::write(at.join("q.tsq"), request).unwrap();
        openssl(
            at,
            &[
                "ts",
                "-reply",
                "-config",
                "tsa.cnf",
                "-queryfile",
                "q.tsq",
                "-signer",
                "stamp.pem",
                "-inkey",
                "stamp.key",
                "-out",
                "r.tsr",
            ],
        );
        std::fs::read(at.join("r.tsr")).unwrap()
    }
}

/// How the authority of a test behaves.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    Dead,
    Garbage,
    /// Answers what it answered before.
    Stale,
}

struct Served {
    tsa: Tsa,
    mood: StdMutex<Mood>,
    last: StdMutex<Vec<u8>>,
}

async fn answer(State(served): State<Arc<Served>>, body: Bytes) -> (StatusCode, Vec<u8>) {
    let mood = *served.mood.lock().unwrap();
    let mut last = served.last.lock().unwrap();
    match mood {
        Mood::Good => *last = served.tsa.reply(&body),
        Mood::Dead => return (StatusCode::SERVICE_UNAVAILABLE, Vec::new()),
        Mood::Garbage => return (StatusCode::OK, b"<html>".to_vec()),
        Mood::Stale => {}
    }
    (StatusCode::OK, last.clone())
}

async fn serve(tsa: Tsa) -> (Arc<Served>, config::Timestamp) {
    let served = Arc::new(Served {
        tsa,
        mood: StdMutex::new(Mood::Good),
        last: StdMutex::default(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/tsa", listener.local_addr().unwrap());
    let app = Router::new()
        .route("/tsa", post(answer))
        .with_state(Arc::clone(&served));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let timestamp = config::Timestamp {
        url,
        interval: Duration::from_millis(50),
        timeout: Duration::from_secs(20),
        ca_file: Some(served.tsa.ca()),
    };
    (served, timestamp)
}

fn quick(dir: &TempDir) -> Ledger {
    let mut options = options(Durability::Process);
    options.checkpoint_after = Duration::from_millis(5);
    Ledger::open(dir.path(), options).unwrap()
}

async fn until(timestamps: &Timestamps, what: impl Fn(&TimestampStatus) -> bool) {
    for _ in 0..6_000 {
        if what(&timestamps.status()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?}", timestamps.status())
}

fn with_roots(dir: &TempDir, tsa: Option<TsaRoots>) -> Result<Report, VerifyError> {
    let checks = Checks {
        tsa,
        ..Checks::default()
    };
    verify_files(&[dir.path().into()], &checks, &mut |_| {}).map_err(|f| f.error)
}

const RSA: &[&str] = &["rsa:2048"];
const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_are_stamped_and_stamps_verify() {
    let dir = dir();
    let (served, config) = serve(Tsa::new(P256)).await;
    let ledger = quick(&dir);
    sample(&ledger).await;
    assert!(matches!(
        with_roots(&dir, Some(served.tsa.roots())),
        Err(VerifyError::Untimed)
    ));
    let timestamps = Timestamps::start(&ledger, &config).unwrap();
    let size = ledger.append(agent("started")).await.unwrap().0 + 1;
    until(&timestamps, |s| s.size >= size && s.error.is_none()).await;
    drop(timestamps);
    // Each failure is shown, and delays nothing.
    for (mood, says) in [
        (Mood::Dead, "status 503"),
        (Mood::Garbage, "no RFC 3161 token"),
        (Mood::Stale, "something else than this checkpoint"),
    ] {
        *served.mood.lock().unwrap() = mood;
        let timestamps = Timestamps::start(&ledger, &config).unwrap();
        ledger.append(agent("started")).await.unwrap();
        until(&timestamps, |s| {
            s.error.as_ref().is_some_and(|e| e.contains(says))
        })
        .await;
    }
    ledger.seal().await.unwrap().unwrap();
    ledger.close();

    for roots in [None, Some(served.tsa.roots())] {
        let report = with_roots(&dir, roots.clone()).unwrap();
        let stamp = report.timestamp.unwrap();
        assert!(report.timestamps >= 1 && stamp.size >= size && stamp.trusted == roots.is_some());
        assert!(stamp.tsa.contains("Test TSA stamp"), "{}", stamp.tsa);
    }
    // Somebody else's roots.
    let other = Tsa::new(P256).roots();
    let flaw = with_roots(&dir, Some(other)).unwrap_err();
    assert!(
        matches!(
            flaw,
            VerifyError::Timestamp {
                flaw: TokenFlaw::Chain(_),
                ..
            }
        ),
        "{flaw}"
    );
    // With the entry disclosed alone.
    let made = disclose(dir.path(), "0").unwrap();
    assert!(!made.timestamps.is_empty());
    let checks = Checks {
        tsa: Some(served.tsa.roots()),
        ..Checks::default()
    };
    let told = verify_disclosure(&serde_json::to_string(&made).unwrap(), &checks).unwrap();
    assert!(told.timestamps[0].trusted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_hand_and_every_changed_byte_is_found() {
    let (dir, tsa) = (dir(), Tsa::new(RSA));
    let ledger = quick(&dir);
    sample(&ledger).await;
    assert!(timestamp_request(dir.path()).is_err());
    ledger.seal().await.unwrap().unwrap();
    let (size, request) = timestamp_request(dir.path()).unwrap();
    let answer = tsa.reply(&request);
    // Meanwhile the ledger goes on, and is sealed again.
    sample(&ledger).await;
    ledger.seal().await.unwrap().unwrap();
    let other = Tsa::new(RSA).roots();
    let refused = ledger
        .add_timestamp(answer.clone(), Some(other), Value::Null)
        .await;
    assert!(matches!(refused, Err(StampError::Token(TokenFlaw::Chain(_)))));
    let actor = json!({ "pid": 1, "uid": 0 });
    let stamped = ledger
        .add_timestamp(answer, Some(tsa.roots()), actor)
        .await
        .unwrap();
    assert_eq!(stamped.size, size);
    let foreign = tsa.reply(&timestamp::request(&[7; 32], None));
    let refused = ledger.add_timestamp(foreign, None, Value::Null).await;
    assert!(matches!(refused, Err(StampError::Unknown)));
    ledger.close();
    let report = with_roots(&dir, Some(tsa.roots())).unwrap();
    assert_eq!((report.timestamps, report.unknown_timestamps), (1, 0));

    let live = std::fs::canonicalize(db(&dir)).unwrap();
    let conn = rusqlite::Connection::open(&live).unwrap();
    let token: Vec<u8> = conn
        .query_row("SELECT token FROM timestamp", [], |r| r.get(0))
        .unwrap();
    let note: String = {
        let first = rusqlite::Connection::open(segment_path(dir.path(), 0)).unwrap();
        let sql = "SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1";
        first.query_row(sql, [], |r| r.get(0)).unwrap()
    };
    assert!(timestamp::verify(&token, note.as_bytes(), None, Some(&tsa.roots())).is_ok());
    let mut unseen = 0;
    for i in 0..token.len() {
        let mut changed = token.clone();
        changed[i] ^= 1;
        if timestamp::verify(&changed, note.as_bytes(), None, Some(&tsa.roots())).is_ok() {
            unseen += 1;
        }
    }
    // What no signature covers says nothing: versions, algorithm parameters, who the signer says that it is.
    assert!(unseen < token.len() / 8, "{unseen} of {}", token.len());
    conn.execute("DELETE FROM timestamp", []).unwrap();
    drop(conn);
    let error = with_roots(&dir, None).unwrap_err();
    assert!(
        matches!(
            error,
            VerifyError::Entry {
                flaw: verify::EntryFlaw::Timestamp { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn openssl_reads_our_request_and_we_refuse_a_certificate_for_more() {
    let tsa = Tsa::new(P256);
    let request = timestamp::request(&[7; 32], Some(0x80_00_00_00_00_00_00_01));
    let reply = tsa.reply(&request);
    assert!(timestamp::token_of(&reply).is_ok());
    openssl(
        tsa.dir.path(),
        &[
            "ts",
            "-verify",
            "-queryfile",
            "q.tsq",
            "-in",
            "r.tsr",
            "-CAfile",
            "root.pem",
        ],
    );
    // OpenSSL itself does not sign with such a certificate.
    let out = Command::new("openssl")
        .current_dir(tsa.dir.path())
        .args([
            "ts",
            "-reply",
            "-config",
            "tsa.cnf",
            "-queryfile",
            "q.tsq",
            "-signer",
            "web.pem",
            "-inkey",
            "web.key",
        ])
        .output()
        .unwrap();
    assert!(!out.status.success());
}
