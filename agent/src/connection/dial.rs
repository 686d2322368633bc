//! The way upstream: to the original destination, under the same name, and only with a permit.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

use crate::{
    config::Limits,
    gate::{Dial, DialError, Permit, TlsBody, TlsFacts},
    io::BoxStream,
    model::{OriginalDst, Reason},
    tls::{ALPN_HTTP1, Connector, PeerName},
};

/// How one connection reaches its destination.
pub(super) struct UpstreamDial<'a> {
    pub(super) original_dst: OriginalDst,
    pub(super) tls: Option<TlsFacts>,
    pub(super) connector: &'a Connector,
    pub(super) limits: &'a Limits,
    /// The port of the agent's own listeners.
    pub(super) own_port: u16,
    /// What the last TLS handshake upstream agreed on.
    pub(super) facts: Arc<Mutex<Option<TlsBody>>>,
}

impl UpstreamDial<'_> {
    async fn open(&self) -> Result<BoxStream, DialError> {
        let to = self.original_dst.0;
        // A workload that asks for the agent's own listener would make it talk to itself for ever.
        if to.port() == self.own_port && to.ip().to_canonical().is_loopback() {
            let detail = format!("{to} is the agent's own listener");
            return Err(DialError {
                reason: Reason::UpstreamIsAgent,
                detail,
            });
        }
        let patience = self.limits.handshake_timeout;
        let stream = match tokio::time::timeout(patience, TcpStream::connect(to)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => {
                let detail = format!("connect to {to}: {e}");
                return Err(DialError {
                    reason: Reason::UpstreamUnreachable,
                    detail,
                });
            }
            Err(_) => {
                let detail = format!("connect to {to}: no answer in {patience:?}");
                return Err(DialError {
                    reason: Reason::UpstreamUnreachable,
                    detail,
                });
            }
        };
        // Requests and responses are written whole; waiting for more would only add latency.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = match &tls.server_name {
            Some(name) => PeerName::Dns(Arc::clone(name)),
            None => PeerName::ip(to.ip()),
        };
        let (stream, facts) = self
            .connector
            .connect(Box::new(stream), &name, ALPN_HTTP1)
            .await
            .map_err(|e| DialError {
                reason: e.reason(),
                detail: format!("TLS with {to}: {e}"),
            })?;
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Some(TlsBody {
            alpn: facts.alpn.as_deref().map(Into::into),
            chain_sha256: Some(facts.chain_sha256.to_string()),
            cipher: Some(facts.cipher.into()),
            sni: tls.server_name.clone(),
            version: Some(facts.version.into()),
        });
        Ok(stream)
    }
}

impl Dial for UpstreamDial<'_> {
    fn connect<'a>(&'a self, _permit: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        Box::pin(self.open())
    }
}
