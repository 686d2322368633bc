//! TLS for the agent's own requests over HTTP: the same roots, provider and verification as for upstreams.

use std::path::Path;

use rustls::ClientConfig;

use super::{TlsError, roots};

/// What an HTTP client is built with. `extra` is a PEM file with roots beside the host's.
///
/// # Errors
/// When there is no root, or the file cannot be used.
pub fn web_client(extra: Option<&Path>) -> Result<reqwest::ClientBuilder, TlsError> {
    let config = ClientConfig::builder_with_provider(super::provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?
        .with_root_certificates(roots::load(extra)?)
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        // What is asked is asked there and nowhere else, whatever an answer or the environment says.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION"))))
}
