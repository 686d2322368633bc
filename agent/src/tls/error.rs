//! What can go wrong with TLS, and what to do about it.

use std::{io, path::PathBuf};

use crate::model::{Reason, Side};

/// Why a CA could not be opened, or a TLS connection not made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of the host CA, or a file of roots, could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the host CA must not be used as it is.
    #[error("host CA: {path}: {message}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        message: String,
    },
    /// A file of the page's own certificate cannot be used.
    #[error("{path}: {message}")]
    Listener {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        message: String,
    },
    /// No trusted root at all: nothing upstream could be verified.
    #[error("{message}")]
    NoRoots {
        /// Where roots were looked for.
        message: String,
    },
    /// A certificate or key could not be made.
    #[error("cannot mint a certificate: {0}")]
    Mint(#[from] rcgen::Error),
    /// rustls refused a configuration of ours.
    #[error("TLS configuration: {0}")]
    Config(rustls::Error),
    /// The workload asked for a name that no certificate is made for.
    #[error("the workload asked for an invalid server name: {0}")]
    Name(#[from] super::InvalidName),
    /// The handshake with the workload failed.
    #[error("TLS handshake with the workload: {message}")]
    Downstream {
        /// Why, and what to do where something can be done.
        message: String,
    },
    /// The destination's certificate could not be verified.
    #[error("the certificate of {name} is not trusted: {message}")]
    Untrusted {
        /// The name or address that was asked for.
        name: String,
        /// Why, and what to do.
        message: String,
    },
    /// The handshake with the destination failed for another reason than its certificate.
    #[error("TLS handshake with {name}: {message}")]
    Upstream {
        /// The name or address that was asked for.
        name: String,
        /// Why.
        message: String,
    },
    /// A peer took too long.
    #[error("TLS handshake: no end within {limit_ms} ms")]
    Timeout {
        /// Whose handshake it was.
        side: Side,
        /// The limit, in milliseconds.
        limit_ms: u128,
    },
    /// A peer closed the connection during the handshake.
    #[error("the connection was closed during the TLS handshake: {source}")]
    Closed {
        /// Who closed it.
        side: Side,
        /// How.
        source: io::Error,
    },
}

impl TlsError {
    /// The reason, as it goes into entries and metrics.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::File { .. }
            | Self::Ca { .. }
            | Self::Listener { .. }
            | Self::Mint(_)
            | Self::Config(_)
            | Self::Name(_)
            | Self::Downstream { .. } => Reason::TlsHandshake,
            Self::NoRoots { .. } | Self::Untrusted { .. } => Reason::UpstreamUntrusted,
            Self::Upstream { .. } => Reason::UpstreamProtocolError,
            Self::Timeout { .. } => Reason::Timeout,
            Self::Closed { side, .. } => match side {
                Side::Downstream => Reason::PeerClosed,
                Side::Upstream => Reason::UpstreamUnreachable,
            },
        }
    }

    /// The side at fault; `None` when it is this host.
    #[must_use]
    pub fn side(&self) -> Option<Side> {
        match self {
            Self::File { .. }
            | Self::Ca { .. }
            | Self::Listener { .. }
            | Self::NoRoots { .. }
            | Self::Mint(_)
            | Self::Config(_) => None,
            Self::Name(_) | Self::Downstream { .. } => Some(Side::Downstream),
            Self::Untrusted { .. } | Self::Upstream { .. } => Some(Side::Upstream),
            Self::Timeout { side, .. } | Self::Closed { side, .. } => Some(*side),
        }
    }

    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

/// The rustls error inside an IO error, where there is one.
pub(super) fn inner(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref::<rustls::Error>()
}
