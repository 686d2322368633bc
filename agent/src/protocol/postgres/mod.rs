//! PostgreSQL (frontend/backend protocol 3.0 and 3.2).

mod catalog;
mod codec;
mod deny;
pub mod explain;
pub mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod lineage;
mod login;
mod operation;
pub mod record;
mod session;
mod sql;
mod sqlstate;
mod startup;
#[cfg(test)]
mod tests;
pub mod value;

use std::time::Duration;

use futures_util::future::BoxFuture;

pub use codec::{Codec, Event};

use super::{Detection, Hint, Protocol, ProtocolError, wire::Wire};
use crate::{
    gate::{Dial, Gate},
    io::BoxStream,
};

/// How long a refused workload has to read why.
const PATIENCE: Duration = Duration::from_secs(2);

/// The protocol `postgres`.
#[derive(Default)]
pub struct Postgres {
    shared: login::Shared,
    understanding: session::Understanding,
}

impl Protocol for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    /// Bias: what is declared or agreed on (ALPN) to be PostgreSQL is that whatever comes, and then refused if it is not.
    fn detect(&self, hint: &Hint<'_>) -> Detection {
        match (hint.declared, hint.alpn) {
            (Some(declared), _) if declared == self.name() => Detection::Yes,
            (Some(_), _) => Detection::No,
            (None, Some("postgresql")) => Detection::Yes,
            (None, Some(_)) => Detection::No,
            (None, None) => startup::detect(hint.first_bytes),
        }
    }

    fn serve<'a>(
        &'a self,
        downstream: BoxStream,
        upstream: &'a dyn Dial,
        gate: &'a Gate,
    ) -> BoxFuture<'a, Result<(), ProtocolError>> {
        Box::pin(async move {
            let mut wire = Wire::new(downstream);
            let result = self.carry(&mut wire, upstream, gate).await;
            match &result {
                Err(ProtocolError::Downstream(_) | ProtocolError::Ledger(_)) => {}
                // The last words say that it ends, and why.
                _ => wire.close(gate.limits().handshake_timeout.min(PATIENCE)).await,
            }
            result
        })
    }
}

impl Postgres {
    async fn carry(&self, wire: &mut Wire, dial: &dyn Dial, gate: &Gate) -> Result<(), ProtocolError> {
        let Some(mut established) = login::login(wire, dial, gate, &self.shared).await? else {
            return Ok(());
        };
        // A user that was made for this connection is needed for as long as there is a connection.
        let _login = established.login.take();
        session::serve(established, wire, gate, &self.understanding).await
    }
}
