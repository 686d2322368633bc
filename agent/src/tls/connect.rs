//! The handshake with a destination: always verified, with the name that the workload asked for.

use std::{fmt::Write as _, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rustls::{
    CertificateError, ClientConfig,
    client::Resumption,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::TlsConnector;

use super::{PeerName, TlsError, alpn_text, alpn_vec, cipher_name, end_point, error, roots, version_name};
use crate::{
    config,
    io::BoxStream,
    model::{Rfc3339, Side},
};

/// How many upstream names sessions are kept for, to resume with.
const SESSIONS: usize = 256;
/// The time for a handshake, if none is set.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What was agreed with the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite's IANA name.
    pub cipher: &'static str,
    /// SHA-256, in hex, over the SHA-256 of each certificate's DER, in the order sent, the leaf first.
    pub chain_sha256: Arc<str>,
    /// The ALPN protocol the destination chose; `None` when it chose none.
    pub alpn: Option<Arc<str>>,
    /// The hash of its certificate that a login can be bound to; `None` where none is defined.
    pub end_point: Option<Box<[u8]>>,
}

/// Connects to destinations. Clones share roots and sessions.
#[derive(Clone)]
pub struct Connector(Arc<Inner>);

struct Inner {
    extra: Option<PathBuf>,
    timeout: Duration,
    /// Swapped as a whole with its sessions: what was verified with old roots is not resumed with new ones.
    config: ArcSwap<ClientConfig>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("extra_roots_file", &self.0.extra)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector that trusts the host's roots and `extra_roots_file`. Ten seconds for a handshake.
    ///
    /// # Errors
    /// When `extra_roots_file` cannot be used, or there is no root at all.
    pub fn new(config: &config::Tls) -> Result<Self, TlsError> {
        Self::with_timeout(config, TIMEOUT)
    }

    /// As [`Connector::new`], with another time for a handshake.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn with_timeout(config: &config::Tls, timeout: Duration) -> Result<Self, TlsError> {
        let extra = config.extra_roots_file.clone();
        let client = client_config(roots::load(extra.as_deref())?)?;
        Ok(Self(Arc::new(Inner {
            extra,
            timeout,
            config: ArcSwap::from_pointee(client),
        })))
    }

    /// Reads the roots again; the old ones stay in force when that fails.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let client = client_config(roots::load(self.0.extra.as_deref())?)?;
        self.0.config.store(Arc::new(client));
        Ok(())
    }

    /// Does the handshake on a connected stream.
    ///
    /// A DNS name is sent as SNI and verified; an address is verified as such (iPAddress SAN) and no SNI is sent.
    /// `alpn` is offered as it is; nothing is offered when it is empty.
    ///
    /// # Errors
    /// [`TlsError::Untrusted`] when the certificate cannot be verified, with what to do about it; otherwise as the
    /// destination failed.
    pub async fn connect(
        &self,
        stream: BoxStream,
        name: &PeerName,
        alpn: &[&[u8]],
    ) -> Result<(BoxStream, UpstreamTls), TlsError> {
        self.handshake(self.0.config.load_full(), stream, name, alpn)
            .await
    }

    /// The same, and presents a client certificate to a destination that asks for one. Sessions are not resumed: one
    /// that was opened with a certificate is its holder's.
    ///
    /// # Errors
    /// As [`Connector::connect`], and when certificate and key do not belong together.
    pub async fn connect_as(
        &self,
        stream: BoxStream,
        name: &PeerName,
        alpn: &[&[u8]],
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
    ) -> Result<(BoxStream, UpstreamTls), TlsError> {
        let mut config = (*self.0.config.load_full()).clone();
        let key =
            CertifiedKey::from_der(chain, key.clone_key(), &super::provider()).map_err(TlsError::Config)?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
        config.resumption = Resumption::disabled();
        self.handshake(Arc::new(config), stream, name, alpn).await
    }

    async fn handshake(
        &self,
        config: Arc<ClientConfig>,
        stream: BoxStream,
        name: &PeerName,
        alpn: &[&[u8]],
    ) -> Result<(BoxStream, UpstreamTls), TlsError> {
        let server_name = name.server_name()?;
        let connector = TlsConnector::from(config);
        let connecting = connector.with_alpn(alpn_vec(alpn)).connect(server_name, stream);
        let limit = self.0.timeout;
        let stream = tokio::time::timeout(limit, connecting)
            .await
            .map_err(|_| TlsError::Timeout {
                side: Side::Upstream,
                limit_ms: limit.as_millis(),
            })?
            .map_err(|e| failure(e, name))?;
        let session = stream.get_ref().1;
        let upstream = UpstreamTls {
            version: version_name(session.protocol_version()),
            cipher: cipher_name(session.negotiated_cipher_suite().map(|s| s.suite())),
            chain_sha256: chain_sha256(session.peer_certificates().unwrap_or_default()),
            alpn: alpn_text(session.alpn_protocol()),
            end_point: session
                .peer_certificates()
                .and_then(<[_]>::first)
                .and_then(end_point::hash),
        };
        Ok((Box::new(stream), upstream))
    }
}

fn client_config(roots: rustls::RootCertStore) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(config)
}

fn chain_sha256(chain: &[CertificateDer<'_>]) -> Arc<str> {
    let mut all = digest::Context::new(&digest::SHA256);
    for cert in chain {
        all.update(digest::digest(&digest::SHA256, cert).as_ref());
    }
    hex::encode(all.finish()).into()
}

fn failure(e: io::Error, name: &PeerName) -> TlsError {
    let name = name.to_string();
    match error::inner(&e) {
        Some(rustls::Error::InvalidCertificate(why)) => TlsError::Untrusted {
            name,
            message: advice(why),
        },
        Some(rustls::Error::NoCertificatesPresented) => TlsError::Untrusted {
            name,
            message: "it presented none".into(),
        },
        Some(known) => TlsError::Upstream {
            name,
            message: known.to_string(),
        },
        None => TlsError::Closed {
            side: Side::Upstream,
            source: e,
        },
    }
}

/// Why a certificate was refused, and what to do. Never the certificate itself: names in it are cut short.
fn advice(why: &CertificateError) -> String {
    let at = |t: &UnixTime| {
        let seconds = i64::try_from(t.as_secs()).unwrap_or(i64::MAX);
        let text = Rfc3339(seconds.saturating_mul(1_000_000_000)).to_string();
        text.get(..19).map_or(text.clone(), |s| format!("{s}Z"))
    };
    match why {
        CertificateError::Expired => "it has expired: its owner must renew it".into(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!(
                "it expired at {}: its owner must renew it, or this host's clock is wrong",
                at(not_after)
            )
        }
        CertificateError::NotValidYet => "it is not valid yet: check this host's clock".into(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!(
                "it is not valid before {}: check this host's clock",
                at(not_before)
            )
        }
        CertificateError::UnknownIssuer => {
            "it is signed by an authority that this host does not trust: add that \
             authority's certificate to [tls] extra_roots_file or to the host's roots, then reload"
                .into()
        }
        CertificateError::NotValidForName => "it is for another name".into(),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let mut message = String::from("it is for another name");
            for (n, shown) in presented.iter().take(3).enumerate() {
                let shown: String = shown.chars().filter(char::is_ascii_graphic).take(80).collect();
                let _ = write!(message, "{}{shown}", if n == 0 { ": " } else { ", " });
            }
            message + "; ask for a name that it covers"
        }
        CertificateError::Revoked => "it was revoked".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not meant for a TLS server (extended key usage)".into()
        }
        CertificateError::BadEncoding => "it cannot be parsed".into(),
        CertificateError::BadSignature => "its signature is wrong".into(),
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "it is an authority's certificate used as a server's own: its owner must issue one with CA:FALSE"
                .into()
        }
        other => {
            let text: String = other.to_string().chars().take(160).collect();
            format!("{text}: its owner must replace it")
        }
    }
}
