//! A human who answers what is held: what a verified token said.

use std::sync::Arc;

/// An approver's verified OIDC identity, for one answer. Only `identity/` makes one, after verifying the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// `iss`.
    pub issuer: Arc<str>,
    /// `sub`.
    pub subject: Arc<str>,
    /// A name for people: `name`, `preferred_username` or `email`, else the subject.
    pub name: Arc<str>,
    /// Groups from the issuer's configured claim.
    pub groups: Arc<[Arc<str>]>,
    /// `jti`, or the first 16 bytes of the token's SHA-256 in hex where it has none.
    pub token_id: Arc<str>,
    /// How the human was reached: `cli`, `web`, `slack`.
    pub via: &'static str,
    /// `auth_time`, else `iat`: when the human was seen by the issuer, seconds since 1970 UTC.
    pub authenticated_at: i64,
    /// `exp`, seconds since 1970 UTC.
    pub expires_at: i64,
}
