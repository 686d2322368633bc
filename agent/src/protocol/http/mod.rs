//! HTTP/1.1 and 1.0 (RFC 9110, RFC 9112).
//!
//! A request is read strictly, brought into one form, decided and recorded, and only then written upstream in that
//! form; the response is read as strictly. What two readers could understand differently is refused.
//!
//! The parts without IO are `head`, `target`, `headers`, `body`, `request`, `response`, `encoding`; `serve` reads
//! requests, `forward` carries a permitted one, with `upload` and `reply` as its two directions.

mod aws;
mod body;
mod codec;
mod encoding;
mod fault;
mod forward;
#[doc(hidden)]
pub mod fuzzing;
mod gather;
mod guard;
mod head;
mod headers;
mod hold;
mod inject;
mod lines;
mod mask;
mod operation;
mod problem;
mod record;
mod reply;
mod request;
mod response;
mod scrub;
mod serve;
mod target;
#[cfg(test)]
mod tests;
mod through;
mod upload;

use futures_util::future::BoxFuture;

use super::{Detection, Hint, Protocol, ProtocolError};
use crate::{
    gate::{Dial, Gate},
    io::BoxStream,
};

/// The protocol `http`.
pub struct Http;

/// The most bytes of a first line that is looked at to recognise the protocol.
const FIRST_LINE: usize = 8 * 1024;

/// Methods after which a blank is enough: what follows is HTTP, if perhaps bad HTTP.
const METHODS: [&[u8]; 10] = [
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"CONNECT", b"PRI",
];

impl Protocol for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    /// Bias: towards HTTP, which then refuses what it cannot read, rather than towards an unread relay.
    fn detect(&self, hint: &Hint<'_>) -> Detection {
        let bytes = hint.first_bytes;
        let start = bytes
            .iter()
            .position(|b| !matches!(b, b'\r' | b'\n'))
            .unwrap_or(bytes.len());
        let rest = &bytes[start..bytes.len().min(start + FIRST_LINE)];
        let line_end = memchr::memchr(b'\n', rest);
        let line = &rest[..line_end.unwrap_or(rest.len())];
        let word = line.iter().position(|b| !is_token(*b)).unwrap_or(line.len());
        // Whatever comes after them, and however it arrives: so many empty lines before a request are no HTTP.
        if start >= 64 {
            return Detection::No;
        }
        if rest.is_empty() {
            return Detection::NeedMore;
        }
        if word == 0 || word > 32 {
            return Detection::No;
        }
        if word == line.len() && line_end.is_none() {
            return Detection::NeedMore;
        }
        if METHODS.iter().any(|m| **m == line[..word]) && matches!(line.get(word), Some(b' ' | b'\t')) {
            return Detection::Yes;
        }
        if !matches!(line.get(word), Some(b' ' | b'\t')) {
            return Detection::No;
        }
        let versioned = line.windows(5).any(|w| w.eq_ignore_ascii_case(b"HTTP/"));
        match (versioned, line_end) {
            (true, _) => Detection::Yes,
            (false, None) if line.len() < FIRST_LINE => Detection::NeedMore,
            (false, _) => Detection::No,
        }
    }

    fn serve<'a>(
        &'a self,
        downstream: BoxStream,
        upstream: &'a dyn Dial,
        gate: &'a Gate,
    ) -> BoxFuture<'a, Result<(), ProtocolError>> {
        Box::pin(serve::serve(downstream, upstream, gate))
    }
}

/// A character of a method (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
