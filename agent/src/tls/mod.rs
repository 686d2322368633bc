//! TLS on both legs: the host CA and its leaves towards the workload, verified connections to the destination.
//!
//! The rustls types end here: everything outside sees a [`BoxStream`](crate::io::BoxStream) and plain facts for the
//! ledger. The provider is named in every builder, so nothing depends on a process-wide default.
//!
//! Invariants: a leaf's key never touches a disk; an upstream certificate is always verified; every name that goes
//! into a certificate or to a verifier is a [`PeerName`], which hostile input cannot make odd.

mod accept;
mod ca;
mod connect;
mod end_point;
mod error;
mod leaf;
mod listener;
mod name;
mod roots;
mod web;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::{CipherSuite, ProtocolVersion, crypto::CryptoProvider};

pub use accept::{Accepted, Acceptor};
pub use ca::{CERT_FILE, HostCa, KEY_FILE};
pub use connect::{Connector, UpstreamTls};
pub use error::TlsError;
pub use leaf::{LEAVES, LeafCache};
pub use listener::ListenerTls;
pub use name::{InvalidName, PeerName};
pub use web::web_client;

/// The ALPN set offered and accepted for HTTP/1.1 alone (RFC 7301).
pub const ALPN_HTTP1: &[&[u8]] = &[b"http/1.1"];
/// The ALPN set of every protocol that may begin with TLS: what was chosen decides which one is spoken.
pub const ALPN_ANY: &[&[u8]] = &[b"http/1.1", b"postgresql"];
/// The ALPN set of PostgreSQL alone.
pub const ALPN_POSTGRES: &[&[u8]] = &[b"postgresql"];
/// The ALPN set of DNS over TLS (RFC 7858), by its name in IANA's registry.
pub const ALPN_DOT: &[&[u8]] = &[b"dot"];

/// The crypto provider of everything here: aws-lc, with the hybrid X25519MLKEM768 among its key exchanges.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::LazyLock<Arc<CryptoProvider>> =
        std::sync::LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// A protocol version as entries show it.
fn version_name(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "unknown",
    }
}

/// A cipher suite by its IANA name; rustls calls those of TLS 1.3 `TLS13_...`.
fn cipher_name(suite: Option<CipherSuite>) -> &'static str {
    match suite {
        Some(CipherSuite::TLS13_AES_128_GCM_SHA256) => "TLS_AES_128_GCM_SHA256",
        Some(CipherSuite::TLS13_AES_256_GCM_SHA384) => "TLS_AES_256_GCM_SHA384",
        Some(CipherSuite::TLS13_CHACHA20_POLY1305_SHA256) => "TLS_CHACHA20_POLY1305_SHA256",
        Some(other) => other.as_str().unwrap_or("unknown"),
        None => "unknown",
    }
}

/// An ALPN set in the form that rustls keeps.
fn alpn_vec(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|p| p.to_vec()).collect()
}

/// The negotiated ALPN name as text; it is always one of ours, which are ASCII.
fn alpn_text(alpn: Option<&[u8]>) -> Option<Arc<str>> {
    alpn.map(|p| String::from_utf8_lossy(p).into())
}
