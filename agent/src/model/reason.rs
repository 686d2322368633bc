//! The closed set of reasons: every denial, close and failure has one, in entries, errors and metrics alike.

/// Why something was allowed, denied or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// A policy permits it.
    PolicyPermit,
    /// A policy forbids it.
    PolicyForbid,
    /// No policy permits it.
    PolicyDefaultDeny,
    /// A policy could not be evaluated.
    PolicyError,
    /// A human must approve it, and nobody can be asked.
    ApprovalRequired,
    /// Humans approved it.
    ApprovalGranted,
    /// A human said no.
    ApprovalDenied,
    /// Nobody answered while it was held.
    ApprovalTimeout,
    /// What was asked for is over: the policy changed, the identity ended, or the agent stopped.
    ApprovalLapsed,
    /// Too much waits for humans already.
    ApprovalOverloaded,
    /// It carries a secret that the agent injects elsewhere.
    SecretLeak,
    /// The cgroup is not a workload's.
    WorkloadUnknown,
    /// No token could be had for the workload.
    IdentityMissing,
    /// The token has expired.
    IdentityExpired,
    /// The token is not valid yet, or issued in the future.
    IdentityNotYetValid,
    /// An admin revoked the workload.
    IdentityRevoked,
    /// The token is for another audience.
    IdentityWrongAudience,
    /// The token is of another issuer.
    IdentityWrongIssuer,
    /// The token's key is not among the issuer's.
    IdentityUnknownKey,
    /// The token's signature or form is wrong, or its algorithm is not allowed.
    IdentityInvalid,
    /// The issuer cannot be reached, and nothing valid is cached.
    IdentityIssuerUnreachable,
    /// The workload's token now names another subject, so what was opened under the former one ends.
    IdentityReplaced,
    /// The ledger cannot record it.
    LedgerUnavailable,
    /// The bytes are not the protocol's, or can be read in two ways.
    ProtocolAmbiguous,
    /// The bytes break the protocol.
    ProtocolError,
    /// A statement cannot be parsed, so nobody can say what it would do; or a message is of a kind that is not carried.
    NotUnderstood,
    /// Another operation of the same message was denied, so that none of it runs.
    BatchDenied,
    /// A part exceeds a documented limit.
    TooLarge,
    /// A peer kept the other waiting too long.
    Timeout,
    /// A content encoding that cannot be read.
    EncodingUnreadable,
    /// The name asked for is not the one that was verified.
    NameMismatch,
    /// The destination refused, or could not be reached.
    UpstreamUnreachable,
    /// The destination's certificate could not be verified.
    UpstreamUntrusted,
    /// The destination broke the protocol.
    UpstreamProtocolError,
    /// The destination would be the agent itself.
    UpstreamIsAgent,
    /// The credential to log in with cannot be had.
    CredentialUnavailable,
    /// What it refers to does not exist, or is not this workload's.
    TargetUnknown,
    /// The TLS handshake with the workload failed.
    TlsHandshake,
    /// A peer went away first.
    PeerClosed,
    /// The agent is stopping.
    Draining,
    /// A limit on concurrent work was reached.
    Overloaded,
    /// It was only recorded; nobody decides on it.
    Observed,
    /// It ended as it should.
    Completed,
    /// The agent stopped before it could say how it ended.
    Interrupted,
}

impl Reason {
    /// The stable word, in entries, errors and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PolicyPermit => "policy_permit",
            Self::PolicyForbid => "policy_forbid",
            Self::PolicyDefaultDeny => "policy_default_deny",
            Self::PolicyError => "policy_error",
            Self::ApprovalRequired => "approval_required",
            Self::ApprovalGranted => "approval_granted",
            Self::ApprovalDenied => "approval_denied",
            Self::ApprovalTimeout => "approval_timeout",
            Self::ApprovalLapsed => "approval_lapsed",
            Self::ApprovalOverloaded => "approval_overloaded",
            Self::SecretLeak => "secret_leak",
            Self::WorkloadUnknown => "workload_unknown",
            Self::IdentityMissing => "identity_missing",
            Self::IdentityExpired => "identity_expired",
            Self::IdentityNotYetValid => "identity_not_yet_valid",
            Self::IdentityRevoked => "identity_revoked",
            Self::IdentityWrongAudience => "identity_wrong_audience",
            Self::IdentityWrongIssuer => "identity_wrong_issuer",
            Self::IdentityUnknownKey => "identity_unknown_key",
            Self::IdentityInvalid => "identity_invalid",
            Self::IdentityIssuerUnreachable => "identity_issuer_unreachable",
            Self::IdentityReplaced => "identity_replaced",
            Self::LedgerUnavailable => "ledger_unavailable",
            Self::ProtocolAmbiguous => "protocol_ambiguous",
            Self::ProtocolError => "protocol_error",
            Self::NotUnderstood => "not_understood",
            Self::BatchDenied => "batch_denied",
            Self::TooLarge => "too_large",
            Self::Timeout => "timeout",
            Self::EncodingUnreadable => "encoding_unreadable",
            Self::NameMismatch => "name_mismatch",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamUntrusted => "upstream_untrusted",
            Self::UpstreamProtocolError => "upstream_protocol_error",
            Self::UpstreamIsAgent => "upstream_is_agent",
            Self::CredentialUnavailable => "credential_unavailable",
            Self::TargetUnknown => "target_unknown",
            Self::TlsHandshake => "tls_handshake",
            Self::PeerClosed => "peer_closed",
            Self::Observed => "observed",
            Self::Draining => "draining",
            Self::Overloaded => "overloaded",
            Self::Completed => "completed",
            Self::Interrupted => "interrupted",
        }
    }

    /// What a program that meets this denial can do about it.
    #[must_use]
    pub fn guidance(self) -> &'static str {
        match self {
            Self::PolicyForbid | Self::PolicyDefaultDeny => {
                "Do not retry. Ask the host's administrator for a grant, naming the entry id."
            }
            Self::PolicyError => {
                "Do not retry. Tell the host's administrator that the policy could not be evaluated."
            }
            Self::ApprovalRequired => {
                "A human must approve this operation, and this host has no approvers. Tell its administrator."
            }
            Self::ApprovalDenied => "Do not retry. A human said no; `message` says why.",
            Self::ApprovalTimeout => {
                "Nobody has answered yet. The request stays open: retry the operation unchanged, and it passes once it is approved."
            }
            Self::ApprovalLapsed => {
                "What approvers were asked is over. Retry the operation, and they are asked again."
            }
            Self::ApprovalOverloaded => {
                "Too much of this workload waits for approval. Retry when its open requests are answered."
            }
            Self::SecretLeak => {
                "Do not retry. The request holds a credential that this workload must not have."
            }
            Self::WorkloadUnknown
            | Self::IdentityMissing
            | Self::IdentityExpired
            | Self::IdentityNotYetValid
            | Self::IdentityIssuerUnreachable
            | Self::IdentityReplaced => {
                "The workload has no valid identity now. Retry later, or tell the host's administrator."
            }
            Self::IdentityRevoked
            | Self::IdentityWrongAudience
            | Self::IdentityWrongIssuer
            | Self::IdentityUnknownKey
            | Self::IdentityInvalid => {
                "Do not retry. The host's administrator must restore the workload's identity."
            }
            Self::LedgerUnavailable | Self::Overloaded | Self::Draining | Self::Interrupted => {
                "Nothing was sent. Retry later."
            }
            Self::ProtocolAmbiguous | Self::ProtocolError => {
                "Send a request that can be read in one way only."
            }
            Self::NotUnderstood => {
                "Send a statement that PostgreSQL's own grammar can parse, in UTF-8; of DNS, a query for the records of one name."
            }
            Self::BatchDenied => "Nothing was sent. Send the statements one by one, without the denied one.",
            Self::TooLarge => "Send a smaller request.",
            Self::Timeout => "Retry, and send or read without long pauses.",
            Self::EncodingUnreadable => "Ask for the content unencoded or with gzip.",
            Self::NameMismatch => "Use the same name in the TLS server name and in the Host header.",
            Self::UpstreamUnreachable | Self::UpstreamProtocolError | Self::PeerClosed => {
                "The destination failed. Retry if the operation is safe to repeat."
            }
            Self::UpstreamUntrusted => {
                "The destination's certificate is not trusted by this host. Tell the host's administrator."
            }
            Self::UpstreamIsAgent => "Do not retry. The agent itself is not a destination.",
            Self::CredentialUnavailable => {
                "Nothing was sent. The host's administrator must provide the credential for this destination."
            }
            Self::TargetUnknown => "Nothing to do: what it refers to is over, or is not this workload's.",
            Self::TlsHandshake => "Trust this host's certificate authority.",
            Self::PolicyPermit | Self::ApprovalGranted | Self::Observed | Self::Completed => "Nothing to do.",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}
