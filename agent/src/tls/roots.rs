//! The trust anchors for upstreams: the host's own and the configured ones.

use std::path::Path;

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::TlsError;

/// Reads the host's roots and those of `extra`.
///
/// A root that cannot be parsed is named in a warning and left out, for a distribution's bundle may hold such.
///
/// # Errors
/// When `extra` is set but cannot be read or holds no usable certificate; when there is no root at all.
pub(super) fn load(extra: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("host roots: {error}");
    }
    let mut store = RootCertStore::empty();
    let (_, unusable) = store.add_parsable_certificates(found.certs);
    if unusable > 0 {
        tracing::warn!(unusable, "host roots: some cannot be parsed and are left out");
    }
    if let Some(path) = extra {
        add_file(&mut store, path)?;
    }
    if store.is_empty() {
        return Err(TlsError::NoRoots {
            message: "there is no trusted root certificate, so no upstream could be verified: \
                      install ca-certificates, or set [tls] extra_roots_file"
                .into(),
        });
    }
    Ok(store)
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let pem = std::fs::read(path).map_err(TlsError::file(path))?;
    let mut added = 0;
    for (number, cert) in CertificateDer::pem_slice_iter(&pem).enumerate() {
        let result = cert
            .map_err(|e| e.to_string())
            .and_then(|c| store.add(c).map_err(|e| e.to_string()));
        match result {
            Ok(()) => added += 1,
            Err(why) => {
                tracing::warn!(path = %path.display(), number = number + 1, "[tls] extra_roots_file: left out: {why}");
            }
        }
    }
    if added == 0 {
        return Err(TlsError::NoRoots {
            message: format!(
                "[tls] extra_roots_file: {} holds no usable PEM certificate",
                path.display()
            ),
        });
    }
    Ok(())
}
