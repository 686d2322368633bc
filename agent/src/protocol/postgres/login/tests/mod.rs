//! Logins over in-memory streams: real gate, policy, ledger and TLS, a made-up server and a made-up workload.

mod brokered;
mod cancelled;
mod negotiated;
mod relayed;
mod scram;

use std::{
    collections::VecDeque,
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, BytesMut};
use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    super::{
        frame::{self, Reader, put_cstr},
        startup::{self, First, Startup},
    },
    Established, Shared, login,
};
use crate::{
    clock::Clock,
    config,
    credential::Credentials,
    gate::{Dial, DialError, Permit, Secured, StartTls, TlsFacts, testing::Rig},
    io::BoxStream,
    model::{Reason, WorkloadName},
    protocol::{ProtocolError, wire::Wire},
    tls::{Acceptor, Connector, HostCa, PeerName},
};

pub(super) const ALLOW: &str = r#"@id("allow") permit (principal, action, resource);"#;
pub(super) const DENY: &str = r#"@id("no") @reason("not here") forbid (principal, action, resource);"#;
pub(super) const TO: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5432);
const NAME: &str = "db.internal";

/// What a made-up server does with one connection.
type Play = Box<dyn FnOnce(Peer) -> BoxFuture<'static, ()> + Send>;

/// One end of a connection, with messages.
pub(super) struct Peer {
    stream: Option<BoxStream>,
    input: BytesMut,
    tls: Arc<Keys>,
}

/// Keys and roots of both ends.
pub(super) struct Keys {
    ca_pem: Arc<str>,
    server: Arc<rustls::ServerConfig>,
    /// The hash of the server's certificate.
    pub(super) end_point: Box<[u8]>,
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Peer {
    fn stream(&mut self) -> &mut BoxStream {
        self.stream.as_mut().unwrap()
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        // The other side may have heard enough.
        let _ = self.stream().write_all(bytes).await;
        let _ = self.stream().flush().await;
    }

    /// Sends a message.
    pub(super) async fn say(&mut self, tag: u8, body: &[u8]) {
        let mut out = BytesMut::new();
        frame::write(&mut out, tag, |out| out.put_slice(body));
        self.send(&out).await;
    }

    async fn more(&mut self) -> bool {
        let stream = self.stream.as_mut().unwrap();
        stream.read_buf(&mut self.input).await.unwrap_or(0) > 0
    }

    /// The next single byte.
    pub(super) async fn byte(&mut self) -> Option<u8> {
        while self.input.is_empty() {
            if !self.more().await {
                return None;
            }
        }
        Some(self.input.get_u8())
    }

    /// The next message; `None` at the end.
    pub(super) async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(message) = frame::message(&self.input, 1 << 20).unwrap() {
                let (tag, body, length) = (message.tag, message.body.to_vec(), message.len());
                self.input.advance(length);
                return Some((tag, body));
            }
            if !self.more().await {
                assert!(self.input.is_empty(), "cut: {}", self.input.escape_ascii());
                return None;
            }
        }
    }

    /// The next message, which must be of this type.
    pub(super) async fn expect(&mut self, tag: u8) -> Vec<u8> {
        let message = self.message().await;
        match message {
            Some((found, body)) if found == tag => body,
            other => panic!("expected {:?}, got {other:?}", char::from(tag)),
        }
    }

    /// The first message of a connection.
    pub(super) async fn first(&mut self) -> Option<First> {
        loop {
            if let Some((length, first)) = startup::parse(&self.input).unwrap() {
                self.input.advance(length);
                return Some(first);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The login message.
    pub(super) async fn startup(&mut self) -> Startup {
        match self.first().await {
            Some(First::Startup(startup)) => startup,
            other => panic!("{other:?}"),
        }
    }

    /// A server's side of an SSLRequest, or of direct TLS.
    pub(super) async fn accept_tls(&mut self, direct: bool) {
        if !direct {
            assert_eq!(self.first().await, Some(First::Ssl));
            self.send(b"S").await;
        }
        assert!(self.input.is_empty(), "nothing comes before the handshake");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.tls.server));
        if let Ok(stream) = acceptor.accept(self.stream.take().unwrap()).await {
            self.stream = Some(Box::new(stream));
        } else {
            self.stream = Some(Box::new(tokio::io::empty()));
        }
    }

    /// A workload's side of an SSLRequest.
    pub(super) async fn ask_tls(&mut self, alpn: &[&[u8]]) {
        self.send(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await;
        assert_eq!(self.byte().await, Some(b'S'));
        self.connect_tls(alpn).await.unwrap();
    }

    async fn connect_tls(&mut self, alpn: &[&[u8]]) -> std::io::Result<()> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.tls.ca_pem.as_bytes()).unwrap())
            .unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector
            .connect(ServerName::try_from(NAME).unwrap(), self.stream.take().unwrap())
            .await?;
        self.stream = Some(Box::new(stream));
        Ok(())
    }

    /// What a server says once a login is done.
    pub(super) async fn consent(&mut self, key: &[u8]) {
        self.say(b'R', &[0; 4]).await;
        self.welcome(key).await;
    }

    pub(super) async fn welcome(&mut self, key: &[u8]) {
        self.say(b'S', b"client_encoding\0UTF8\0").await;
        self.say(b'S', b"standard_conforming_strings\0on\0").await;
        self.say(b'K', &[&7_u32.to_be_bytes(), key].concat()).await;
        self.say(b'Z', b"I").await;
    }

    /// Everything up to ReadyForQuery or the end: types and bodies.
    pub(super) async fn until_ready(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some(message) = self.message().await {
            let ready = message.0 == b'Z';
            all.push(message);
            if ready {
                break;
            }
        }
        all
    }
}

/// A startup message.
pub(super) fn startup_message(version: u32, parameters: &[(&str, &str)]) -> BytesMut {
    let mut out = BytesMut::new();
    frame::write_untagged(&mut out, |out| {
        out.put_u32(version);
        for (name, value) in parameters {
            put_cstr(out, name.as_bytes());
            put_cstr(out, value.as_bytes());
        }
        out.put_u8(0);
    });
    out
}

/// The usual one.
pub(super) fn ada() -> BytesMut {
    startup_message(3 << 16, &[("user", "ada"), ("database", "app")])
}

/// The fields of an ErrorResponse, as text.
pub(super) fn error(message: &(u8, Vec<u8>)) -> String {
    assert_eq!(message.0, b'E', "{message:?}");
    let mut r = Reader::new(&message.1);
    let mut text = String::new();
    loop {
        match r.u8().unwrap() {
            0 => break,
            tag => {
                text.push(char::from(tag));
                text.push('=');
                text.push_str(r.text().unwrap());
                text.push('|');
            }
        }
    }
    r.end().unwrap();
    text
}

/// A made-up destination: what it does with its first connection, its second one...
pub(super) struct Server {
    plays: Mutex<VecDeque<Play>>,
    keys: Arc<Keys>,
    acceptor: Acceptor,
    connector: Connector,
    credentials: Credentials,
    /// How often it was connected to.
    pub(super) dials: Mutex<Vec<&'static str>>,
}

impl Dial for Server {
    fn connect<'a>(&'a self, _: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        panic!("PostgreSQL begins TLS in band");
    }

    fn connect_plain<'a>(&'a self, _: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        self.dials.lock().unwrap().push("tcp");
        let (near, far) = tokio::io::duplex(64 * 1024);
        if let Some(play) = self.plays.lock().unwrap().pop_front() {
            tokio::spawn(play(self.peer(Box::new(far))));
        }
        Box::pin(std::future::ready(Ok(Box::new(near) as BoxStream)))
    }

    fn start_tls<'a>(
        &'a self,
        _: &'a Permit,
        stream: BoxStream,
        how: StartTls<'a>,
    ) -> BoxFuture<'a, Result<Secured, DialError>> {
        self.dials.lock().unwrap().push("tls");
        Box::pin(async move {
            let name = match &how.server_name {
                Some(name) => PeerName::dns(name).unwrap(),
                None => PeerName::ip(TO.ip()),
            };
            let failed = |e: crate::tls::TlsError| DialError {
                reason: e.reason(),
                detail: e.to_string(),
            };
            let (stream, facts) = match how.certificate {
                None => self
                    .connector
                    .connect(stream, &name, how.alpn)
                    .await
                    .map_err(failed)?,
                Some(reference) => {
                    let certificate = self.credentials.certificate(reference).await.unwrap();
                    self.connector
                        .connect_as(
                            stream,
                            &name,
                            how.alpn,
                            certificate.chain.clone(),
                            certificate.key(),
                        )
                        .await
                        .map_err(failed)?
                }
            };
            Ok(Secured {
                stream,
                alpn: facts.alpn,
                end_point: facts.end_point,
            })
        })
    }

    fn accept_tls<'a>(
        &'a self,
        downstream: BoxStream,
        alpn: &'a [&'a [u8]],
    ) -> BoxFuture<'a, Result<(BoxStream, TlsFacts), DialError>> {
        Box::pin(async move {
            let accepted = self
                .acceptor
                .accept(downstream, TO.ip(), alpn, Duration::from_secs(3))
                .await;
            let (stream, tls) = accepted.map_err(|e| DialError {
                reason: e.reason(),
                detail: e.to_string(),
            })?;
            let facts = TlsFacts {
                server_name: tls.server_name,
                alpn: tls.alpn,
            };
            Ok((stream, facts))
        })
    }
}

impl Server {
    fn peer(&self, stream: BoxStream) -> Peer {
        Peer {
            stream: Some(stream),
            input: BytesMut::new(),
            tls: Arc::clone(&self.keys),
        }
    }

    /// How often it was connected to, and whether with TLS.
    pub(super) fn dials(&self) -> Vec<&'static str> {
        self.dials.lock().unwrap().clone()
    }
}

/// Everything that a test needs.
pub(super) struct Bench {
    pub(super) rig: Rig,
    pub(super) shared: Shared,
    pub(super) server: Server,
    pub(super) dir: tempfile::TempDir,
}

/// How a login went.
pub(super) struct Went<T> {
    /// What `login` returned, as text where it is an error.
    pub(super) result: Result<Option<Established>, ProtocolError>,
    /// What the workload came back with.
    pub(super) workload: T,
    /// How many operations were decided.
    pub(super) operations: u64,
}

impl<T> Went<T> {
    pub(super) fn reason(&self) -> Option<Reason> {
        self.result.as_ref().err().map(ProtocolError::reason)
    }

    pub(super) fn established(&self) -> &Established {
        match &self.result {
            Ok(Some(established)) => established,
            Ok(None) => panic!("no login"),
            Err(e) => panic!("{e}"),
        }
    }
}

impl Bench {
    pub(super) fn new(policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = Arc::new(HostCa::open_or_create(dir.path()).unwrap());
        let key = KeyPair::from_pem(&std::fs::read_to_string(dir.path().join("ca.key")).unwrap()).unwrap();
        let ca_der = CertificateDer::from_pem_slice(ca.ca_pem().as_bytes()).unwrap();
        let issuer = rcgen::Issuer::from_ca_cert_der(&ca_der, key).unwrap();
        let own = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![
            SanType::DnsName(NAME.try_into().unwrap()),
            SanType::IpAddress(TO.ip()),
        ];
        let cert = params.signed_by(&own, &issuer).unwrap();
        let own = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der()));
        let mut server = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], own)
            .unwrap();
        server.alpn_protocols = vec![b"postgresql".to_vec()];
        let keys = Arc::new(Keys {
            ca_pem: ca.ca_pem(),
            server: Arc::new(server),
            end_point: aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, cert.der())
                .as_ref()
                .into(),
        });
        let roots = config::Tls {
            extra_roots_file: Some(dir.path().join("ca.pem")),
        };
        let mut rig = Rig::new(policy);
        rig.limits.handshake_timeout = Duration::from_secs(5);
        let credentials = rig.shared.credentials.clone();
        Self {
            rig,
            shared: Shared::default(),
            server: Server {
                plays: Mutex::default(),
                keys,
                acceptor: Acceptor::new(ca, Clock::System).unwrap(),
                connector: Connector::new(&roots).unwrap(),
                credentials,
                dials: Mutex::default(),
            },
            dir,
        }
    }

    /// Says what the server does with its next connection.
    pub(super) fn play<F: Future<Output = ()> + Send + 'static>(
        &self,
        play: impl FnOnce(Peer) -> F + Send + 'static,
    ) {
        self.server
            .plays
            .lock()
            .unwrap()
            .push_back(Box::new(move |peer| Box::pin(play(peer))));
    }

    /// The destination as `[[upstream]]` has it: a brokered login as `svc` with the password `hunter2`.
    pub(super) fn broker(&mut self, more: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.dir.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "[[credential]]\nname = \"db-password\"\nfile = \"{}\"\n[[upstream]]\nname = \"billing\"\n\
             protocol = \"postgres\"\nhost = \"127.0.0.1\"\nserver_name = \"{NAME}\"\nport = 5432\n\
             login = \"brokered\"\nuser = \"svc\"\n{}{more}",
            file.display(),
            if more.contains("credential =") {
                ""
            } else {
                "credential = \"db-password\"\n"
            },
        );
        self.configure(&text);
    }

    pub(super) fn configure(&mut self, text: &str) {
        let config = config::parse(std::path::Path::new("test"), text).unwrap();
        self.rig.shared.credentials.reload(&config.credential);
        self.rig.upstream = config.upstream.first().cloned().map(Arc::new);
    }

    /// Carries one connection of a workload to the end of its login, or to its end.
    pub(super) async fn run<T, F: Future<Output = T>>(
        &self,
        server_name: Option<&str>,
        workload: impl FnOnce(Peer) -> F,
    ) -> Went<T> {
        let gate = self.rig.gate(TO, server_name);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let login = async {
            let mut wire = Wire::new(Box::new(near));
            let result = Box::pin(login(&mut wire, &self.server, &gate, &self.shared)).await;
            if !matches!(result, Ok(Some(_))) {
                wire.close(Duration::from_secs(1)).await;
            }
            (result, wire)
        };
        let both = async { tokio::join!(login, workload(self.server.peer(Box::new(far)))) };
        let ((result, _wire), workload) = tokio::time::timeout(Duration::from_secs(20), Box::pin(both))
            .await
            .expect("a login ends");
        Went {
            result,
            workload,
            operations: gate.operations(),
        }
    }

    /// The bodies of all entries, when everything else is done.
    pub(super) fn entries(&self) -> Vec<serde_json::Value> {
        self.rig.shared.ledger.close();
        let db = rusqlite::Connection::open(self.rig.dir.path().join("ledger.db")).unwrap();
        let mut rows = db.prepare("SELECT body FROM entry ORDER BY seq").unwrap();
        let bodies = rows.query_map([], |row| row.get::<_, String>(0)).unwrap();
        bodies
            .map(|b| serde_json::from_str(&b.unwrap()).unwrap())
            .collect()
    }
}

/// A name that is none of the rig's.
pub(super) fn other_workload() -> WorkloadName {
    WorkloadName::new("other").unwrap()
}
