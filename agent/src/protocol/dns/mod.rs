//! DNS (RFC 1034, 1035, 6891, 7766), over TCP, UDP and TLS.
//!
//! A query is an operation. What policy allows is asked of the host's resolvers, whichever resolver the workload asked,
//! and nothing that the workload wrote but name and type goes to them.

mod answer;
pub mod encrypted;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod operation;
mod query;
mod rate;
mod reply;
mod serve;
#[cfg(test)]
mod tests;

use futures_util::future::BoxFuture;
pub use query::carried;

use super::{Detection, Hint, Protocol, ProtocolError};
use crate::{
    gate::{Dial, Gate},
    io::BoxStream,
};

/// The port of DNS.
const PORT: u16 = 53;
/// The port of DNS over TLS (RFC 7858).
pub const PORT_TLS: u16 = 853;

/// The protocol `dns`.
#[derive(Default)]
pub struct Dns {
    rates: rate::Rates,
}

impl Protocol for Dns {
    fn name(&self) -> &'static str {
        "dns"
    }

    /// Bias: what goes to the ports of DNS is DNS whatever comes, and then refused if it is not. Elsewhere it is what
    /// any unknown protocol is.
    fn detect(&self, hint: &Hint<'_>) -> Detection {
        let port = hint.original_dst.port();
        let ours = port == PORT || (port == PORT_TLS && hint.tls);
        if hint.declared.is_none() && ours {
            Detection::Yes
        } else {
            Detection::No
        }
    }

    fn serve<'a>(
        &'a self,
        downstream: BoxStream,
        _upstream: &'a dyn Dial,
        gate: &'a Gate,
    ) -> BoxFuture<'a, Result<(), ProtocolError>> {
        Box::pin(serve::serve(downstream, gate, &self.rates))
    }
}
