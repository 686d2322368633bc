//! Reasons as SQLSTATE (PostgreSQL, appendix A), and faults as reasons.

use super::frame::Fault;
use crate::model::Reason;

/// The SQLSTATE of a reason.
#[must_use]
pub fn code_of(reason: Reason) -> &'static str {
    match reason {
        Reason::IdentityMissing
        | Reason::IdentityExpired
        | Reason::IdentityNotYetValid
        | Reason::IdentityRevoked
        | Reason::IdentityWrongAudience
        | Reason::IdentityWrongIssuer
        | Reason::IdentityUnknownKey
        | Reason::IdentityInvalid
        | Reason::IdentityIssuerUnreachable
        | Reason::IdentityReplaced
        | Reason::WorkloadUnknown
        // invalid_authorization_specification
        => "28000",
        // program_limit_exceeded
        Reason::TooLarge => "54000",
        // protocol_violation
        Reason::ProtocolAmbiguous | Reason::ProtocolError | Reason::UpstreamProtocolError => "08P01",
        // admin_shutdown
        Reason::Draining | Reason::Interrupted => "57P01",
        // cannot_connect_now
        Reason::LedgerUnavailable | Reason::Overloaded | Reason::CredentialUnavailable => "57P03",
        // connection_failure
        Reason::UpstreamUnreachable
        | Reason::UpstreamUntrusted
        | Reason::UpstreamIsAgent
        | Reason::PeerClosed
        | Reason::TlsHandshake
        | Reason::NameMismatch => "08006",
        // idle_session_timeout
        Reason::Timeout => "57P05",
        // feature_not_supported
        Reason::EncodingUnreadable => "0A000",
        // query_canceled
        Reason::ApprovalTimeout | Reason::ApprovalLapsed => "57014",
        // configuration_limit_exceeded
        Reason::ApprovalOverloaded => "53400",
        // insufficient_privilege
        _ => "42501",
    }
}

/// The reason of a fault, for entries.
#[must_use]
pub fn reason_of(fault: Fault) -> Reason {
    match fault {
        Fault::TooLarge { .. } => Reason::TooLarge,
        Fault::Text => Reason::ProtocolAmbiguous,
        Fault::Length | Fault::Unexpected(_) | Fault::Fields | Fault::Truncated => Reason::ProtocolError,
    }
}
