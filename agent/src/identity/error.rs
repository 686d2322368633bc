//! What can go wrong with the identities as a whole. What is wrong with one token is a [`super::verify::Failure`].

use std::path::PathBuf;

use crate::model::Reason;

/// Why identities cannot be set up, or a revocation not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// `[[issuer]] url` is no URL that may be used.
    #[error("[[issuer]] '{issuer}': url: {message}")]
    Url {
        /// The issuer's name.
        issuer: String,
        /// What is wrong, and what to write instead.
        message: String,
    },
    /// `[[issuer]] algorithms` names one that is unknown or symmetric.
    #[error(
        "[[issuer]] '{issuer}': algorithm '{algorithm}' is not accepted: use RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 EdDSA"
    )]
    Algorithm {
        /// The issuer's name.
        issuer: String,
        /// The word found.
        algorithm: String,
    },
    /// `[[issuer]] ca_file` cannot be read, or holds no certificate.
    #[error("[[issuer]] '{issuer}': ca_file {path}: {message}")]
    CaFile {
        /// The issuer's name.
        issuer: String,
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The TLS library refuses its set-up.
    #[error("[[issuer]] '{issuer}': TLS set-up: {message}")]
    Tls {
        /// The issuer's name.
        issuer: String,
        /// Why.
        message: String,
    },
    /// A workload names an issuer that is not there.
    #[error("[[workload]] '{workload}': there is no [[issuer]] '{issuer}'")]
    NoIssuer {
        /// The workload's name.
        workload: String,
        /// The issuer's name.
        issuer: String,
    },
    /// A workload has neither a token file nor a client.
    #[error(
        "[[workload]] '{0}' needs token_file, or client_id with one of client_secret_file and private_key_file"
    )]
    NoSource(String),
    /// The list of revoked workloads cannot be read. Nothing starts then: it might hold this very workload.
    #[error("{path}: the list of revoked workloads cannot be read: {message}")]
    RevocationsRead {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// The list of revoked workloads cannot be written. A revocation holds until the agent stops all the same;
    /// a restoration has not happened.
    #[error("{path}: the list of revoked workloads cannot be written: {source}")]
    RevocationsWrite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No workload of that name.
    #[error("there is no workload '{0}'")]
    UnknownWorkload(String),
}

impl IdentityError {
    /// The reason that an entry about this error carries.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownWorkload(_) => Reason::WorkloadUnknown,
            Self::RevocationsRead { .. } | Self::RevocationsWrite { .. } => Reason::IdentityRevoked,
            Self::Url { .. }
            | Self::Algorithm { .. }
            | Self::CaFile { .. }
            | Self::Tls { .. }
            | Self::NoIssuer { .. }
            | Self::NoSource(_) => Reason::IdentityMissing,
        }
    }
}
