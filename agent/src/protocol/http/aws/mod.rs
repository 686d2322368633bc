//! AWS, carried on HTTP: what a request asks of which service, and signing it with keys that the workload never sees.
//!
//! Invariants: what is not sure is never guessed down; what two servers could take for different operations is refused;
//! nothing that the workload signed with goes up beside a signature of the agent's.

mod auth;
mod call;
mod chunked;
mod claim;
mod connection;
mod deny;
mod endpoint;
mod operation;
mod params;
pub mod pieces;
mod resource;
mod rest;
mod s3;
pub mod sign;
mod table;
#[cfg(test)]
mod tests;

use auth::Place;
use call::{needs_body, read};
pub use chunked::{inner_encoding, is_chunked};
use claim::{Claim, Custom, claim};
pub use connection::InHand;
pub use deny::Style;
use endpoint::Plane;

/// The body of a request, as far as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// It has none.
    None,
    /// It was not read.
    Unread,
    /// All of it, as its Content-Encoding has it.
    Bytes(&'a [u8]),
}

/// Why a request could be taken for more than one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each variant's text is its documentation
pub enum Ambiguity {
    #[error("the operation is named twice, in two places, or in a way that no service reads")]
    Action,
    #[error("X-Amz-Target is malformed, or stands beside another name of an operation")]
    Target,
    #[error("X-Amz-Target names an operation of another service than it is sent to")]
    Service,
    #[error("two sub-resources are asked for, or one in another writing")]
    SubResource,
    #[error("{0} is given more than once, or in another writing")]
    Repeated(&'static str),
    #[error("the parameters are too many, or badly encoded")]
    Parameters,
    #[error("a header that says what is asked for is not text")]
    Header,
    #[error("it is signed twice, or its signature is where it cannot be replaced, or malformed")]
    Signature,
}
