//! Handshakes over in-memory streams, on both legs, and the files of the host CA.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{clock::Clock, config, model::Reason};

const SECOND: Duration = Duration::from_secs(1);
const DIALLED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn ca(dir: &Path) -> Arc<HostCa> {
    Arc::new(HostCa::open_or_create(dir).unwrap())
}

fn acceptor(dir: &Path) -> Arc<Acceptor> {
    Arc::new(Acceptor::new(ca(dir), Clock::System).unwrap())
}

/// A workload's own TLS: trusts what is in `pem`.
fn workload(pem: &str, versions: &[&'static SupportedProtocolVersion], alpn: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn_vec(alpn);
    config
}

const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

/// One handshake between a workload and the acceptor, and an echo after it.
async fn meet(
    acceptor: &Arc<Acceptor>,
    config: Arc<ClientConfig>,
    name: &str,
) -> (
    Result<Vec<CertificateDer<'static>>, String>,
    Result<Accepted, TlsError>,
) {
    let (down, agent) = tokio::io::duplex(4096);
    let acceptor = Arc::clone(acceptor);
    let serving = tokio::spawn(async move {
        let (mut stream, accepted) = acceptor
            .accept(Box::new(agent), DIALLED, ALPN_HTTP1, SECOND)
            .await?;
        let mut word = [0; 4];
        if stream.read_exact(&mut word).await.is_ok() {
            stream.write_all(&word).await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.shutdown().await;
        }
        Ok(accepted)
    });
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let seen = async {
        let mut stream = TlsConnector::from(config)
            .connect(name, down)
            .await
            .map_err(|e| e.to_string())?;
        stream.write_all(b"ping").await.map_err(|e| e.to_string())?;
        let mut word = Vec::new();
        stream.read_to_end(&mut word).await.map_err(|e| e.to_string())?;
        assert_eq!(word, b"ping");
        Ok(stream
            .get_ref()
            .1
            .peer_certificates()
            .unwrap()
            .iter()
            .map(|c| c.clone().into_owned())
            .collect())
    }
    .await;
    (seen, serving.await.unwrap())
}

#[tokio::test]
async fn answers_in_the_name_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = acceptor(dir.path());
    let pem = ca(dir.path()).ca_pem();
    for (versions, version) in [(BOTH, "TLSv1.3"), (&BOTH[..1], "TLSv1.2")] {
        let config = Arc::new(workload(&pem, versions, &[b"h2", b"http/1.1"]));
        let (seen, accepted) = meet(&acceptor, config, "API.example.com").await;
        let chain = seen.unwrap();
        let (_, cert) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        assert_eq!(chain.len(), 1);
        assert!(!cert.is_ca());
        let life = cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp();
        assert!((86_400..=7 * 86_400).contains(&life), "{life}");
        let accepted = accepted.unwrap();
        assert_eq!(accepted.server_name.as_deref(), Some("api.example.com"));
        assert_eq!(accepted.alpn.as_deref(), Some("http/1.1"));
        assert_eq!(accepted.version, version);
        assert!(accepted.cipher.starts_with("TLS_"), "{}", accepted.cipher);
        assert_eq!(
            accepted.peer_name(DIALLED),
            PeerName::Dns("api.example.com".into())
        );
    }
    assert_eq!(acceptor.leaves().minted(), 1);
}

#[tokio::test]
async fn without_sni_the_address_is_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = acceptor(dir.path());
    let pem = ca(dir.path()).ca_pem();
    for versions in [BOTH, &BOTH[..1]] {
        let (seen, accepted) = meet(&acceptor, Arc::new(workload(&pem, versions, &[])), "192.0.2.7").await;
        seen.unwrap();
        let accepted = accepted.unwrap();
        assert_eq!(
            (accepted.server_name.as_deref(), accepted.alpn.as_deref()),
            (None, None)
        );
        assert_eq!(accepted.peer_name(DIALLED), PeerName::ip(DIALLED));
    }
    // A name that the workload expects without saying so is not guessed.
    let mut config = workload(&pem, BOTH, &[]);
    config.enable_sni = false;
    let (seen, accepted) = meet(&acceptor, Arc::new(config), "api.example.com").await;
    assert!(seen.unwrap_err().contains("not valid for name"));
    assert!(matches!(accepted, Err(TlsError::Downstream { .. })));
}

#[tokio::test]
async fn tickets_resume() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = acceptor(dir.path());
    let config = Arc::new(workload(&ca(dir.path()).ca_pem(), BOTH, ALPN_HTTP1));
    for _ in 0..2 {
        let (seen, accepted) = meet(&acceptor, Arc::clone(&config), "a.example").await;
        seen.unwrap();
        accepted.unwrap();
    }
    let (down, agent) = tokio::io::duplex(4096);
    let name = ServerName::try_from("a.example").unwrap();
    let (accepted, stream) = tokio::join!(
        acceptor.accept(Box::new(agent), DIALLED, ALPN_HTTP1, SECOND),
        TlsConnector::from(config).connect(name, down),
    );
    accepted.unwrap();
    assert_eq!(
        stream.unwrap().get_ref().1.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed)
    );
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let acceptor = acceptor(dir.path());
    let stranger = Arc::new(workload(&ca(other.path()).ca_pem(), BOTH, ALPN_HTTP1));
    let (seen, accepted) = meet(&acceptor, stranger, "a.example").await;
    assert!(seen.unwrap_err().contains("UnknownIssuer"));
    let error = accepted.unwrap_err();
    assert_eq!(error.reason(), Reason::TlsHandshake);
    assert!(error.to_string().contains("portcullis run"), "{error}");

    let grpc = Arc::new(workload(&ca(dir.path()).ca_pem(), BOTH, &[b"h2"]));
    let (seen, accepted) = meet(&acceptor, grpc, "a.example").await;
    assert!(seen.unwrap_err().contains("NoApplicationProtocol"));
    let error = accepted.unwrap_err().to_string();
    assert!(error.contains("speaks only h2"), "{error}");
}

#[tokio::test]
async fn garbage_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = acceptor(dir.path());
    // A record header that promises a handshake message of 16 MiB; plain text; a legal start and then silence.
    let huge = [&[0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 0x4000]].concat();
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], Reason::TlsHandshake),
        (&huge[..], Reason::TlsHandshake),
        (&[0x16, 3, 1, 0, 200, 1][..], Reason::Timeout),
    ] {
        let (mut down, agent) = tokio::io::duplex(1 << 17);
        down.write_all(bytes).await.unwrap();
        let error = acceptor
            .accept(Box::new(agent), DIALLED, ALPN_HTTP1, Duration::from_millis(200))
            .await
            .err()
            .expect("refused");
        assert_eq!(error.reason(), reason, "{error}");
    }
    let (down, agent) = tokio::io::duplex(64);
    drop(down);
    let error = acceptor
        .accept(Box::new(agent), DIALLED, ALPN_HTTP1, SECOND)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason(), Reason::PeerClosed);
}

#[tokio::test]
async fn a_client_hello_may_come_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = acceptor(dir.path());
    let config = Arc::new(workload(&ca(dir.path()).ca_pem(), BOTH, ALPN_HTTP1));
    // A narrow pipe splits every record. Below 6 bytes both sides would wait for room: rustls reads nothing while it
    // has something to write.
    let (down, agent) = tokio::io::duplex(16);
    let serving = tokio::spawn(async move {
        let accepted = acceptor
            .accept(Box::new(agent), DIALLED, ALPN_HTTP1, 10 * SECOND)
            .await;
        accepted.map(|(_, accepted)| accepted)
    });
    let name = ServerName::try_from("a.example").unwrap();
    let mut stream = TlsConnector::from(config).connect(name, down).await.unwrap();
    // Reads on, for the tickets that follow the handshake need room too.
    let _ = stream.read(&mut [0]).await;
    assert_eq!(
        serving.await.unwrap().unwrap().server_name.as_deref(),
        Some("a.example")
    );
}

#[tokio::test]
async fn hostile_names_get_no_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let acceptor = acceptor(dir.path());
    let mut config = workload(&ca(dir.path()).ca_pem(), BOTH, ALPN_HTTP1);
    config.enable_sni = true;
    // rustls would send it, and take it on our side too: the check is ours.
    let (seen, accepted) = meet(&acceptor, Arc::new(config), "a.0x7f").await;
    seen.unwrap_err();
    assert!(matches!(accepted, Err(TlsError::Name(InvalidName::Address))));
    assert!(acceptor.leaves().is_empty());
}

#[test]
fn the_leaf_cache_is_bounded_and_single_flight() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Arc::new(LeafCache::new(ca(dir.path()), Clock::System, 8).unwrap());
    let barrier = Arc::new(Barrier::new(16));
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let (cache, barrier) = (Arc::clone(&cache), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                cache.get(&PeerName::dns("one.example").unwrap()).unwrap().cert[0].clone()
            })
        })
        .collect();
    let certs: std::collections::HashSet<_> =
        threads.into_iter().map(|t| t.join().unwrap().to_vec()).collect();
    assert_eq!((certs.len(), cache.minted()), (1, 1));
    for n in 0..100 {
        cache
            .get(&PeerName::dns(&format!("n{n}.example")).unwrap())
            .unwrap();
        cache.get(&PeerName::dns("one.example").unwrap()).unwrap();
    }
    // The one in use stayed, the others pushed each other out.
    assert_eq!((cache.len(), cache.minted()), (8, 101));
}

#[test]
fn leaves_are_renewed_before_they_end() {
    let dir = tempfile::tempdir().unwrap();
    let day = 86_400_000_000_000;
    let start = 1_795_000_000_000_000_000;
    let now = Arc::new(AtomicI64::new(start));
    let clock = Clock::Manual(Arc::clone(&now));
    let ca = Arc::new(HostCa::open_or_create_at(dir.path(), &clock).unwrap());
    let end = ca.not_after();
    let cache = LeafCache::new(ca, clock.clone(), 8).unwrap();
    let name = PeerName::dns("a.example").unwrap();
    let not_after = |key: &rustls::sign::CertifiedKey| {
        x509_parser::parse_x509_certificate(&key.cert[0])
            .unwrap()
            .1
            .validity()
            .not_after
            .timestamp()
    };
    let first = not_after(&cache.get(&name).unwrap());
    now.store(start + day, Ordering::Release);
    assert_eq!(not_after(&cache.get(&name).unwrap()), first);
    now.store(start + 2 * day, Ordering::Release);
    assert!(not_after(&cache.get(&name).unwrap()) > first);
    // A clock that was set far back gives one that is valid then.
    now.store(start - 30 * day, Ordering::Release);
    assert!(not_after(&cache.get(&name).unwrap()) < first);
    // Nothing outlives the CA, and minting does not run wild near its end.
    now.store((end - 7_200) * 1_000_000_000, Ordering::Release);
    let minted = cache.minted();
    assert_eq!(not_after(&cache.get(&name).unwrap()), end);
    cache.get(&name).unwrap();
    assert_eq!(cache.minted(), minted + 1);
    now.store((end + 1) * 1_000_000_000, Ordering::Release);
    assert!(
        HostCa::open_or_create_at(dir.path(), &clock)
            .unwrap_err()
            .to_string()
            .contains("expired")
    );
}

#[test]
fn the_ca_is_kept_and_its_files_are_checked() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (key, cert) = (dir.path().join(KEY_FILE), dir.path().join(CERT_FILE));
    let open = || HostCa::open_or_create(dir.path());
    let first = open().unwrap();
    assert_eq!(open().unwrap().fingerprint(), first.fingerprint());
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(&cert).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        2,
        "no temporary file is left"
    );
    let der = CertificateDer::from_pem_slice(first.ca_pem().as_bytes()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    assert!(parsed.key_usage().unwrap().unwrap().value.key_cert_sign());

    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(open().unwrap_err().to_string().contains("others may read"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    // A crash between the two files: the certificate is made again for the key that is there.
    fs::remove_file(&cert).unwrap();
    assert_ne!(open().unwrap().fingerprint(), first.fingerprint());

    let second = HostCa::open_or_create(other.path()).unwrap();
    fs::write(&cert, second.ca_pem().as_bytes()).unwrap();
    assert!(open().unwrap_err().to_string().contains("does not belong"));
    fs::write(&cert, "junk").unwrap();
    assert!(open().unwrap_err().to_string().contains("no PEM certificate"));
    fs::remove_file(&key).unwrap();
    assert!(open().unwrap_err().to_string().contains("no key"));
    fs::write(&key, "junk").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(open().unwrap_err().to_string().contains("no ECDSA P-256 key"));
    fs::remove_file(&key).unwrap();
    std::os::unix::fs::symlink(other.path().join(KEY_FILE), &key).unwrap();
    assert!(open().is_err(), "a link is not followed");
}

#[test]
fn two_first_starts_at_once_agree() {
    let dir = tempfile::tempdir().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let dir = dir.path().to_owned();
            std::thread::spawn(move || HostCa::open_or_create(&dir).unwrap().fingerprint())
        })
        .collect();
    let prints: std::collections::HashSet<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(prints.len(), 1);
}

/// A destination with a certificate of `ca` for `san`, valid from and to these days from now.
fn destination(ca: &HostCa, san: SanType, days: std::ops::Range<i64>, alpn: &[&[u8]]) -> TlsAcceptor {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "destination");
    params.subject_alt_names = vec![san];
    let now = Clock::System.now_seconds();
    super::ca::set_validity(&mut params, now + days.start * 86_400, now + days.end * 86_400);
    let cert = params.signed_by(&key, &ca.issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn_vec(alpn);
    TlsAcceptor::from(Arc::new(config))
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.to_owned().try_into().unwrap())
}

fn connector(dir: &Path) -> Connector {
    Connector::new(&config::Tls {
        extra_roots_file: Some(dir.join(CERT_FILE)),
    })
    .unwrap()
}

/// What the connector says of a destination, and the SNI that the destination saw.
async fn dial(
    connector: &Connector,
    destination: &TlsAcceptor,
    name: &PeerName,
) -> (Result<UpstreamTls, TlsError>, Option<String>) {
    let (up, far) = tokio::io::duplex(4096);
    let (result, served) = tokio::join!(
        connector.connect(Box::new(up), name, ALPN_HTTP1),
        destination.accept(far)
    );
    let sni = served
        .ok()
        .and_then(|s| s.get_ref().1.server_name().map(str::to_owned));
    (result.map(|(_, tls)| tls), sni)
}

#[tokio::test]
async fn upstream_is_verified_by_the_same_name() {
    let dir = tempfile::tempdir().unwrap();
    let ca = ca(dir.path());
    let connector = connector(dir.path());
    let by_name = destination(&ca, dns("a.example"), -1..1, ALPN_HTTP1);
    let a = PeerName::dns("a.example").unwrap();
    let (tls, sni) = dial(&connector, &by_name, &a).await;
    let tls = tls.unwrap();
    assert_eq!((tls.version, tls.alpn.as_deref()), ("TLSv1.3", Some("http/1.1")));
    assert_eq!(tls.chain_sha256.len(), 64);
    assert_eq!(sni.as_deref(), Some("a.example"));
    // Resumed or not, the chain that was verified is the one that is recorded.
    assert_eq!(
        dial(&connector, &by_name, &a).await.0.unwrap().chain_sha256,
        tls.chain_sha256
    );

    let by_address = destination(&ca, SanType::IpAddress(DIALLED), -1..1, &[]);
    let (tls, sni) = dial(&connector, &by_address, &PeerName::ip(DIALLED)).await;
    assert_eq!((tls.unwrap().alpn, sni), (None, None));
    let (refused, _) = dial(&connector, &by_name, &PeerName::ip(DIALLED)).await;
    assert_eq!(refused.unwrap_err().reason(), Reason::UpstreamUntrusted);
}

#[tokio::test]
async fn untrusted_upstreams_are_refused_with_advice() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ca, stranger) = (ca(dir.path()), ca(other.path()));
    let connector = connector(dir.path());
    let a = PeerName::dns("a.example").unwrap();
    for (destination, word) in [
        (
            destination(&stranger, dns("a.example"), -1..1, &[]),
            "extra_roots_file",
        ),
        (destination(&ca, dns("a.example"), -9..-1, &[]), "expired at 20"),
        (
            destination(&ca, dns("a.example"), 1..9, &[]),
            "not valid before 20",
        ),
        (destination(&ca, dns("b.example"), -1..1, &[]), "b.example"),
    ] {
        let error = dial(&connector, &destination, &a).await.0.unwrap_err();
        assert_eq!(error.reason(), Reason::UpstreamUntrusted);
        let text = error.to_string();
        assert!(
            text.contains(word) && text.contains("a.example") && text.len() < 300,
            "{text}"
        );
    }
}

#[tokio::test]
async fn broken_upstreams_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    drop(ca(dir.path()));
    let tls = config::Tls {
        extra_roots_file: Some(dir.path().join(CERT_FILE)),
    };
    let connector = Connector::with_timeout(&tls, Duration::from_millis(100)).unwrap();
    let name = PeerName::dns("a.example").unwrap();
    let (up, mut far) = tokio::io::duplex(4096);
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let error = connector
        .connect(Box::new(up), &name, ALPN_HTTP1)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason(), Reason::UpstreamProtocolError);
    let (up, far) = tokio::io::duplex(4096);
    let error = connector
        .connect(Box::new(up), &name, ALPN_HTTP1)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason(), Reason::Timeout);
    drop(far);
    let (up, far) = tokio::io::duplex(4096);
    drop(far);
    let error = connector
        .connect(Box::new(up), &name, ALPN_HTTP1)
        .await
        .err()
        .unwrap();
    assert_eq!(error.reason(), Reason::UpstreamUnreachable);
}

#[tokio::test]
async fn roots_are_reloaded_as_a_whole() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (ca(dir.path()), ca(other.path()));
    let file = dir.path().join(CERT_FILE);
    let connector = connector(dir.path());
    let a = PeerName::dns("a.example").unwrap();
    let old = destination(&first, dns("a.example"), -1..1, &[]);
    dial(&connector, &old, &a).await.0.unwrap();
    fs::write(&file, "junk").unwrap();
    assert_eq!(
        connector.reload().unwrap_err().reason(),
        Reason::UpstreamUntrusted
    );
    dial(&connector, &old, &a).await.0.unwrap();
    fs::write(&file, second.ca_pem().as_bytes()).unwrap();
    connector.reload().unwrap();
    // Not resumed from before: the root is gone, and so are its sessions.
    assert!(dial(&connector, &old, &a).await.0.is_err());
    dial(
        &connector,
        &destination(&second, dns("a.example"), -1..1, &[]),
        &a,
    )
    .await
    .0
    .unwrap();
    let missing = config::Tls {
        extra_roots_file: Some("/nonexistent/roots.pem".into()),
    };
    assert!(Connector::new(&missing).is_err());
}
