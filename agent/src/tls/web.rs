//! TLS for the agent's own requests over HTTP: the same roots, provider and verification as for upstreams.

use std::path::Path;

use rustls::ClientConfig;

use super::{TlsError, roots};

/// What an HTTP client is built with. `roots` is a PEM file beside the host's roots.
///
/// # Errors
/// When there is no root, or the file cannot be used.
pub fn web_client(roots: Option<&Path>) -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?
        .with_root_certificates(roots::load(roots)?)
        .with_no_client_auth())
}
