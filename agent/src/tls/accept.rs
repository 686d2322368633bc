//! The handshake with a workload, as the destination it asked for.

use std::{
    io,
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::time::Instant;
use tokio_rustls::{LazyConfigAcceptor, StartHandshake};

use super::{
    HostCa, LEAVES, LeafCache, PeerName, TlsError, alpn_text, alpn_vec, cipher_name, error, version_name,
};
use crate::{clock::Clock, io::BoxStream, model::Side};

/// What was agreed with the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The SNI it sent, in lower case; `None` when it sent none (or an address, which RFC 6066 forbids as SNI).
    pub server_name: Option<Arc<str>>,
    /// The ALPN protocol; `None` when it offered none.
    pub alpn: Option<Arc<str>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
}

impl Accepted {
    /// The name to ask the destination for: the SNI, or the address that was dialled.
    #[must_use]
    pub fn peer_name(&self, dialled: IpAddr) -> PeerName {
        match &self.server_name {
            Some(name) => PeerName::Dns(Arc::clone(name)),
            None => PeerName::ip(dialled),
        }
    }
}

/// Answers workloads in the name of their destinations. Cheap to share; one per host CA.
pub struct Acceptor {
    leaves: Arc<LeafCache>,
    /// One configuration per ALPN set, of which there are a handful.
    configs: RwLock<Vec<Arc<ServerConfig>>>,
    base: ServerConfig,
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor")
            .field("leaves", &self.leaves)
            .finish_non_exhaustive()
    }
}

/// Resolves by SNI. The name is resolved, and a bad one refused, before the handshake goes on; here it is found again.
#[derive(Debug)]
struct BySni(Arc<LeafCache>);

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = PeerName::dns(hello.server_name()?).ok()?;
        self.0
            .get(&name)
            .inspect_err(|e| tracing::error!("no certificate for {name}: {e}"))
            .ok()
    }
}

/// Resolves to nothing: what a refused ClientHello is answered with, so that the workload gets an alert.
#[derive(Debug)]
struct Nothing;

impl ResolvesServerCert for Nothing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

impl Acceptor {
    /// An acceptor with a leaf cache of the usual size.
    ///
    /// # Errors
    /// When the leaves' or the tickets' key cannot be made.
    pub fn new(ca: Arc<HostCa>, clock: Clock) -> Result<Self, TlsError> {
        let leaves = Arc::new(LeafCache::new(ca, clock, LEAVES)?);
        let mut base = ServerConfig::builder_with_provider(super::provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(BySni(Arc::clone(&leaves))));
        // Tickets resume without a store on our side; their key lives as long as the process and is rotated within.
        base.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(TlsError::Config)?;
        base.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self {
            leaves,
            configs: RwLock::default(),
            base,
        })
    }

    /// The leaves, for metrics and tests.
    #[must_use]
    pub fn leaves(&self) -> &LeafCache {
        &self.leaves
    }

    /// Does the handshake on a stream whose next bytes are a ClientHello.
    ///
    /// The certificate is for the SNI or, without one, for `dialled`, the original destination's address. A workload
    /// that offers ALPN with nothing of `alpn` in it is refused with `no_application_protocol` (RFC 7301 section
    /// 3.2), never downgraded in silence; one that offers no ALPN at all is accepted. `timeout` bounds the whole.
    ///
    /// # Errors
    /// When the bytes are no ClientHello (rustls reads at most 64 KiB of one), the name is refused, the workload
    /// rejects the certificate, or time runs out. The workload has been sent an alert where one is due.
    pub async fn accept(
        &self,
        stream: BoxStream,
        dialled: IpAddr,
        alpn: &[&[u8]],
        timeout: Duration,
    ) -> Result<(BoxStream, Accepted), TlsError> {
        let deadline = Instant::now() + timeout;
        let late = |_| TlsError::Timeout {
            side: Side::Downstream,
            limit_ms: timeout.as_millis(),
        };
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
        let start = tokio::time::timeout_at(deadline, start)
            .await
            .map_err(late)?
            .map_err(|e| failure(e, None))?;
        let offered = offered_alpn(&start);
        let (config, server_name) = match self.choose(&start, dialled, alpn) {
            Ok(chosen) => chosen,
            Err(refused) => {
                let mut config = self.base.clone();
                config.cert_resolver = Arc::new(Nothing);
                // Sends the alert; that it fails is the point.
                drop(tokio::time::timeout_at(deadline, start.into_stream(Arc::new(config))).await);
                return Err(refused);
            }
        };
        let stream = tokio::time::timeout_at(deadline, start.into_stream(config))
            .await
            .map_err(late)?
            .map_err(|e| failure(e, offered.as_deref()))?;
        let session = stream.get_ref().1;
        let accepted = Accepted {
            server_name,
            alpn: alpn_text(session.alpn_protocol()),
            version: version_name(session.protocol_version()),
            cipher: cipher_name(session.negotiated_cipher_suite().map(|s| s.suite())),
        };
        Ok((Box::new(stream), accepted))
    }

    /// The configuration for a ClientHello, once its leaf is there.
    fn choose(
        &self,
        start: &StartHandshake<BoxStream>,
        dialled: IpAddr,
        alpn: &[&[u8]],
    ) -> Result<(Arc<ServerConfig>, Option<Arc<str>>), TlsError> {
        let shared = self.config(alpn);
        let Some(sni) = start
            .client_hello()
            .server_name()
            .map(PeerName::dns)
            .transpose()?
        else {
            let leaf = self.leaves.get(&PeerName::ip(dialled))?;
            let mut config = (*shared).clone();
            config.cert_resolver = Arc::new(SingleCertAndKey::from(leaf));
            return Ok((Arc::new(config), None));
        };
        self.leaves.get(&sni)?;
        let name = match sni {
            PeerName::Dns(name) => Some(name),
            PeerName::Ip(_) => None,
        };
        Ok((shared, name))
    }

    fn config(&self, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let find = |configs: &[Arc<ServerConfig>]| {
            configs
                .iter()
                .find(|c| c.alpn_protocols.iter().eq(alpn.iter()))
                .map(Arc::clone)
        };
        if let Some(config) = find(&self.configs.read().unwrap_or_else(PoisonError::into_inner)) {
            return config;
        }
        let mut configs = self.configs.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = find(&configs) {
            return config;
        }
        let mut config = self.base.clone();
        config.alpn_protocols = alpn_vec(alpn);
        let config = Arc::new(config);
        configs.push(Arc::clone(&config));
        config
    }
}

/// What the workload offered, for the message when none of it fits. Its own words: cut short and made printable.
fn offered_alpn(start: &StartHandshake<BoxStream>) -> Option<String> {
    let hello = start.client_hello();
    let names: Vec<_> = hello
        .alpn()?
        .take(4)
        .map(|p| p.get(..16).unwrap_or(p).escape_ascii().to_string())
        .collect();
    Some(names.join(", "))
}

fn failure(e: io::Error, offered: Option<&str>) -> TlsError {
    use rustls::{AlertDescription as Alert, Error};
    let message = match error::inner(&e) {
        Some(Error::AlertReceived(
            alert @ (Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown),
        )) => format!(
            "it does not trust this host's CA (alert {alert:?}): start it with `portcullis run`, or add ca.pem to its roots"
        ),
        Some(Error::NoApplicationProtocol) => format!(
            "it speaks only {}, which is not supported here: let it offer http/1.1 (or postgresql, for PostgreSQL)",
            offered.unwrap_or("other protocols")
        ),
        Some(known) => known.to_string(),
        None => {
            return TlsError::Closed {
                side: Side::Downstream,
                source: e,
            };
        }
    };
    TlsError::Downstream { message }
}
