//! Credentials put into a request on its way up, after it was allowed and recorded.
//!
//! Invariants: what the workload sent in the place of the credential is gone before the credential is there; the
//! record names the credential and never holds it; whatever held it is wiped.

mod attach;
pub mod leak;
mod place;
mod query;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt, sync::Arc};

use zeroize::Zeroizing;

use super::aws::sign::{ChunkSigner, DROPPED, SignError};
use crate::config::{Inject, Upstream};

/// What injection changes in a request's head: first lines of the workload's are left out, then lines are added.
#[derive(Default)]
pub struct Injected {
    /// The `[[credential]]`, for the record.
    pub reference: Arc<str>,
    /// Names of fields of the workload's that do not go up, in lower case; all signs count as one.
    pub drop: Vec<Cow<'static, str>>,
    /// Header lines that go up in their stead, each with its CRLF. What is not secret may be among them.
    pub lines: Zeroizing<Vec<u8>>,
    /// The query (without `?`) that goes up in place of the workload's, where it changes.
    pub query: Option<Zeroizing<String>>,
    /// The same lines as they are recorded: `authorization: [injected:NAME]`.
    pub shown_lines: Vec<u8>,
    /// The same query as it is recorded; its last parameter is the credential's.
    pub shown_query: Option<String>,
    /// The secret itself is in the request, so that an answer could hold it: such an answer is asked for whole, and has
    /// to be readable. A signature is not.
    pub echoes: bool,
    /// What signs the body as it passes, where the workload has signed it piece by piece.
    pub chunks: Option<ChunkSigner>,
}

impl Injected {
    /// Whether a field of the workload's is left out, also where only some servers take it for the same one.
    #[must_use]
    pub fn drops(&self, name: &str) -> bool {
        self.drop.iter().any(|d| same_field(d, name))
    }
}

impl fmt::Debug for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injected")
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

/// The credential that requests to a destination carry: what is injected, else the client certificate.
pub fn reference(upstream: &Upstream) -> Option<Arc<str>> {
    let injected = upstream.inject.as_ref().and_then(|i| i.reference());
    injected.or(upstream.certificate.as_deref()).map(Arc::from)
}

/// Whether a field of the workload's means nothing, because it is taken out of the request.
pub fn replaces(inject: &Inject, name: &str) -> bool {
    let authorization = inject.bearer.is_some() || inject.basic.is_some();
    (authorization && same_field("authorization", name))
        || (inject.aws_sigv4.is_some() && DROPPED.iter().any(|d| same_field(d, name)))
        || inject.header.as_ref().is_some_and(|h| same_field(h, name))
}

/// Why a credential cannot be put into a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InjectError {
    /// It has bytes that its place cannot carry.
    #[error("credential '{0}' holds characters that cannot be sent in its place")]
    Unfit(Arc<str>),
    /// The request cannot be signed with it.
    #[error("the request cannot be signed: {0}")]
    Sign(#[from] SignError),
    /// It is of another kind than its place takes.
    #[error("credential '{0}' is not of the kind that is injected here")]
    Kind(Arc<str>),
}

/// Whether two field names are one to some server: CGI has letters, digits and one sign for everything else.
fn same_field(a: &str, b: &str) -> bool {
    let plain = |b: u8| {
        if b.is_ascii_alphanumeric() {
            b.to_ascii_lowercase()
        } else {
            b'-'
        }
    };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| plain(a) == plain(b))
}
