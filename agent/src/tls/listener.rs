//! TLS of the agent's own page: a certificate that the admin brings, read again on reload.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::TlsError;
use crate::{io::BoxStream, model::Side};

/// Answers for the agent itself, under one certificate.
pub struct ListenerTls {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
}

impl ListenerTls {
    /// Reads both files.
    ///
    /// # Errors
    /// When one cannot be read, holds no PEM of its kind, others may read the key, or the two do not belong together.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: certificate.into(),
            key: key.into(),
            config: ArcSwap::new(config(certificate, key)?),
        })
    }

    /// Reads them again, for handshakes from now on.
    ///
    /// # Errors
    /// As [`ListenerTls::load`]; the former certificate stays then.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.config.store(config(&self.certificate, &self.key)?);
        Ok(())
    }

    /// Does the handshake within `timeout`.
    ///
    /// # Errors
    /// When the other side does something else, or takes too long.
    pub async fn accept(&self, stream: BoxStream, timeout: Duration) -> Result<BoxStream, TlsError> {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let done = tokio::time::timeout(timeout, acceptor.accept(stream)).await;
        let stream = done
            .map_err(|_| TlsError::Timeout {
                side: Side::Downstream,
                limit_ms: timeout.as_millis(),
            })?
            .map_err(|source| TlsError::Closed {
                side: Side::Downstream,
                source,
            })?;
        Ok(Box::new(stream))
    }
}

fn config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |path: &Path, message: &str| TlsError::Listener {
        path: path.into(),
        message: message.into(),
    };
    let pem = std::fs::read(certificate).map_err(TlsError::file(certificate))?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .unwrap_or_default();
    if chain.is_empty() {
        return Err(wrong(certificate, "it holds no PEM certificate"));
    }
    let mode = std::fs::metadata(key).map_err(TlsError::file(key))?.mode();
    if mode & 0o077 != 0 {
        return Err(wrong(key, "others may read it: chmod 0600 it"));
    }
    let pem = Zeroizing::new(std::fs::read(key).map_err(TlsError::file(key))?);
    let private =
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| wrong(key, "it holds no PEM private key"))?;
    let mut config = ServerConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| {
            wrong(
                key,
                &format!("it does not go with {}: {e}", certificate.display()),
            )
        })?;
    config.alpn_protocols = super::alpn_vec(super::ALPN_HTTP1);
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn both_files_must_fit() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        let pair = rcgen::generate_simple_self_signed(["page".to_owned()]).unwrap();
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        let said = || {
            ListenerTls::load(&cert, &key)
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        let private = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        private(0o644);
        assert!(said().unwrap_err().contains("chmod 0600"));
        private(0o600);
        said().unwrap();
        let tls = ListenerTls::load(&cert, &key).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&key, other.serialize_pem()).unwrap();
        assert!(said().unwrap_err().contains("does not go with"));
        assert!(tls.reload().is_err());
        std::fs::write(&cert, "x").unwrap();
        assert!(said().unwrap_err().contains("no PEM certificate"));
    }
}
