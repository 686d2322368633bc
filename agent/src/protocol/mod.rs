//! Protocols: what each one exports, and the list of those that exist.
//!
//! A protocol turns the bytes of a connection into operations, asks the gate about each, and writes upstream only
//! what a permit allows. It sees nothing else of policy, masking or ledger.

#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod conformance;
pub mod dns;
pub mod http;
pub mod postgres;
pub mod tcp;
mod watch;
mod wire;

use std::{io, net::SocketAddr};

use futures_util::future::BoxFuture;

use crate::{
    gate::{Dial, Gate},
    io::BoxStream,
    ledger::LedgerError,
    model::{Reason, Side},
};

/// What is known of a connection before its protocol is.
#[derive(Clone, Copy, Debug)]
pub struct Hint<'a> {
    /// The first bytes that the workload sent; empty when it waits for the destination to speak first.
    pub first_bytes: &'a [u8],
    /// Where it wants to go.
    pub original_dst: SocketAddr,
    /// Whether the bytes came over TLS.
    pub tls: bool,
    /// The application protocol that TLS agreed on (ALPN).
    pub alpn: Option<&'a str>,
    /// The protocol that the configuration declares this destination to speak.
    pub declared: Option<&'a str>,
}

/// Whether a connection speaks a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detection {
    /// It does not.
    No,
    /// More bytes are needed to say.
    NeedMore,
    /// It does.
    Yes,
    /// It does, if the workload sends nothing until the destination has spoken.
    ServerSpeaksFirst,
}

/// One protocol.
pub trait Protocol: Send + Sync {
    /// Its name in entries and metrics.
    fn name(&self) -> &'static str;

    /// Whether a connection that begins so is this protocol's. Must not change its mind when more bytes come.
    fn detect(&self, hint: &Hint<'_>) -> Detection;

    /// Carries one connection until either side ends it.
    fn serve<'a>(
        &'a self,
        downstream: BoxStream,
        upstream: &'a dyn Dial,
        gate: &'a Gate,
    ) -> BoxFuture<'a, Result<(), ProtocolError>>;
}

/// A protocol's messages without IO: bytes in, events out, the same events however the bytes are split.
pub trait Codec {
    /// What is understood.
    type Event: PartialEq + std::fmt::Debug;
    /// Why a message is refused.
    type Fault: std::error::Error + PartialEq;

    /// Takes the next event from what one side has sent: how many bytes it took, and the event. `None` when more
    /// bytes are needed.
    ///
    /// # Errors
    /// When the bytes are not the protocol's, can be read in two ways, or exceed a bound.
    fn decode(&mut self, side: Side, input: &[u8]) -> Result<Option<(usize, Self::Event)>, Self::Fault>;
}

/// Why a connection ended otherwise than by a normal close.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The workload's side went away.
    #[error("the workload's side: {0}")]
    Downstream(#[source] io::Error),
    /// The destination's side went away.
    #[error("the destination's side: {0}")]
    Upstream(#[source] io::Error),
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    Timeout,
    /// What was sent was refused, and the connection cannot be used after it.
    #[error("refused: {0}")]
    Refused(Reason),
    /// An answer could not be passed on whole, so the connection cannot be used after it.
    #[error("cut off: {0}")]
    Cut(Reason),
    /// The ledger cannot record.
    #[error("the ledger: {0}")]
    Ledger(#[from] LedgerError),
}

impl ProtocolError {
    /// The reason, for the session's entry.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Downstream(_) | Self::Upstream(_) => Reason::PeerClosed,
            Self::Timeout => Reason::Timeout,
            Self::Refused(reason) | Self::Cut(reason) => *reason,
            Self::Ledger(_) => Reason::LedgerUnavailable,
        }
    }
}

/// The protocols that exist, in the order in which they are asked.
pub struct Registry {
    protocols: Vec<Box<dyn Protocol>>,
    fallback: tcp::Tcp,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            protocols: vec![
                Box::new(postgres::Postgres::default()),
                Box::new(http::Http),
                Box::new(dns::Dns::default()),
            ],
            fallback: tcp::Tcp,
        }
    }
}

impl Registry {
    /// The protocols, but for the fallback.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Protocol> {
        self.protocols.iter().map(|p| &**p)
    }

    /// What carries a connection that no protocol recognises.
    #[must_use]
    pub fn fallback(&self) -> &dyn Protocol {
        &self.fallback
    }
}
