//! How a protocol reaches the two ends of its connection: the destination only with a permit in hand, and TLS on
//! either leg where it begins in band.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Permit, TlsFacts};
use crate::{io::BoxStream, model::Reason};

/// Why no connection upstream, or no TLS, could be had.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct DialError {
    /// The reason, for the entry and the error.
    pub reason: Reason,
    /// What happened, without anything secret.
    pub detail: String,
}

/// TLS with the destination, begun by the protocol.
#[derive(Clone, Debug, Default)]
pub struct StartTls<'a> {
    /// The name to ask for and to verify; the address that was connected to where there is none.
    pub server_name: Option<Arc<str>>,
    /// The application protocols to offer (RFC 7301).
    pub alpn: &'a [&'a [u8]],
    /// The credential with the client certificate to present, by reference.
    pub certificate: Option<&'a str>,
}

/// A stream to the destination, encrypted and its certificate verified.
pub struct Secured {
    /// The stream.
    pub stream: BoxStream,
    /// The application protocol agreed on.
    pub alpn: Option<Arc<str>>,
    /// The hash of its certificate for channel binding (`tls-server-end-point`, RFC 5929 section 4); `None` where it
    /// is not defined.
    pub end_point: Option<Box<[u8]>>,
}

/// How a protocol gets its upstream: only with a permit in hand.
pub trait Dial: Send + Sync {
    /// Connects to the original destination, with TLS where the downstream leg has it.
    fn connect<'a>(&'a self, permit: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>>;

    /// The same, with a client certificate, by reference, in the handshake.
    fn connect_as<'a>(
        &'a self,
        _permit: &'a Permit,
        _certificate: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        not_here()
    }

    /// Connects to the original destination without TLS, for a protocol that begins it in band.
    fn connect_plain<'a>(&'a self, _permit: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        not_here()
    }

    /// Begins TLS on a stream that [`Dial::connect_plain`] gave. The certificate is verified, always.
    fn start_tls<'a>(
        &'a self,
        _permit: &'a Permit,
        _stream: BoxStream,
        _how: StartTls<'a>,
    ) -> BoxFuture<'a, Result<Secured, DialError>> {
        not_here()
    }

    /// Ends the workload's TLS here, where its next bytes are a ClientHello: as the destination that it asked for,
    /// agreeing on one of `alpn` if it offers any.
    fn accept_tls<'a>(
        &'a self,
        _downstream: BoxStream,
        _alpn: &'a [&'a [u8]],
    ) -> BoxFuture<'a, Result<(BoxStream, TlsFacts), DialError>> {
        not_here()
    }
}

/// What a dial answers that knows one kind of connection only.
fn not_here<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, DialError>> {
    Box::pin(std::future::ready(Err(DialError {
        reason: Reason::TlsHandshake,
        detail: "TLS cannot begin in band here".into(),
    })))
}
