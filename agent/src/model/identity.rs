//! Who a workload is: what a verified token said.

use std::sync::Arc;

/// A workload's verified OIDC identity. Only `identity/` makes one, after verifying the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `iss`, as configured and as the token says.
    pub issuer: Arc<str>,
    /// The issuer's name in the configuration.
    pub issuer_name: Arc<str>,
    /// `sub`.
    pub subject: Arc<str>,
    /// Groups from the configured claim.
    pub groups: Arc<[Arc<str>]>,
    /// `jti`, or the first 16 bytes of the token's SHA-256 in hex where it has none.
    pub token_id: Arc<str>,
    /// `kid` of the key that verified it.
    pub key_id: Arc<str>,
    /// `iat`, seconds since 1970 UTC, where the token has one.
    pub issued_at: Option<i64>,
    /// `exp`, seconds since 1970 UTC.
    pub expires_at: i64,
    /// The human it acts for: `sub` of the token whose `act` claim (RFC 8693) names this workload.
    pub on_behalf_of: Option<Arc<str>>,
}
