//! RFC 3161 tokens over checkpoints.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::super::timestamp::{TokenFlaw, TsaRoots, verify};
use crate::model::Rfc3339;

/// A timestamp that was verified.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Stamp {
    /// How many entries the checkpoint covers.
    pub size: u64,
    /// When, RFC 3339.
    pub at: String,
    /// The subject of the certificate that signed it.
    pub tsa: String,
    /// Whether the certificate chains to roots that were given; otherwise the token only fits itself.
    pub trusted: bool,
}

/// Verifies a token over a checkpoint's note.
pub(super) fn check(
    note: &str,
    size: u64,
    token: &[u8],
    roots: Option<&TsaRoots>,
) -> Result<Stamp, TokenFlaw> {
    let token = verify(token, note.as_bytes(), None, roots)?;
    Ok(Stamp {
        size,
        at: Rfc3339(token.at_ns).to_string(),
        tsa: token.tsa,
        trusted: roots.is_some(),
    })
}

/// The same for one in base64.
pub(super) fn check_token(
    note: &str,
    size: u64,
    token: &str,
    roots: Option<&TsaRoots>,
) -> Result<Stamp, TokenFlaw> {
    let bytes = STANDARD
        .decode(token)
        .map_err(|_| TokenFlaw::Form("it is not base64"))?;
    check(note, size, &bytes, roots)
}
