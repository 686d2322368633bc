//! The way upstream: to the original destination, under the same name, and only with a permit; and TLS with the
//! workload where its protocol begins it in band.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Mutex, PoisonError},
};

use futures_util::future::BoxFuture;
use tokio::net::{TcpStream, UnixStream};

use crate::{
    config::Limits,
    credential::Credentials,
    gate::{Dial, DialError, Permit, Secured, StartTls, TlsBody, TlsFacts},
    io::BoxStream,
    mask::Secrets,
    model::{OriginalDst, Reason},
    redirect::Namespace,
    tls::{self, ALPN_HTTP1, Acceptor, Connector, PeerName, UpstreamTls},
};

/// How one connection reaches its destination.
pub(super) struct UpstreamDial<'a> {
    pub(super) original_dst: OriginalDst,
    /// The network namespace to go from, where that is not the agent's own.
    pub(super) namespace: Option<&'a Namespace>,
    /// The UNIX socket that is connected to in place of it.
    pub(super) unix: Option<&'a Path>,
    pub(super) tls: Option<TlsFacts>,
    pub(super) acceptor: &'a Acceptor,
    pub(super) connector: &'a Connector,
    pub(super) credentials: &'a Credentials,
    pub(super) secrets: &'a Secrets,
    pub(super) limits: &'a Limits,
    /// The port of the agent's own listeners.
    pub(super) own_port: u16,
    /// Where the approvers' page listens.
    pub(super) console: Option<SocketAddr>,
    /// What TLS was agreed on, for the session's entry.
    pub(super) legs: Legs,
}

/// What the last TLS handshake on either leg agreed on.
#[derive(Default)]
pub(super) struct Legs {
    downstream: Mutex<Option<TlsBody>>,
    upstream: Mutex<Option<TlsBody>>,
}

impl Legs {
    pub(super) fn new(downstream: Option<TlsBody>) -> Self {
        Self {
            downstream: Mutex::new(downstream),
            upstream: Mutex::default(),
        }
    }

    /// Both, downstream first.
    pub(super) fn take(&self) -> (Option<TlsBody>, Option<TlsBody>) {
        let take = |leg: &Mutex<Option<TlsBody>>| leg.lock().unwrap_or_else(PoisonError::into_inner).take();
        (take(&self.downstream), take(&self.upstream))
    }
}

/// TLS with the workload, as the session's entry has it.
pub(super) fn accepted_body(tls: &tls::Accepted) -> TlsBody {
    TlsBody {
        alpn: tls.alpn.as_deref().map(Into::into),
        chain_sha256: None,
        cipher: Some(tls.cipher.into()),
        sni: tls.server_name.clone(),
        version: Some(tls.version.into()),
    }
}

impl UpstreamDial<'_> {
    async fn tcp(&self) -> Result<TcpStream, DialError> {
        let to = self.original_dst.0;
        // A workload that asks for the agent's own listener would make it talk to itself for ever.
        if to.port() == self.own_port && to.ip().to_canonical().is_loopback() {
            let detail = format!("{to} is the agent's own listener");
            return Err(DialError {
                reason: Reason::UpstreamIsAgent,
                detail,
            });
        }
        // A workload must not even try to answer for its approvers.
        if self.console.is_some_and(|console| reaches(to, console)) {
            let detail = format!("{to} is the agent's page for approvers");
            return Err(DialError {
                reason: Reason::UpstreamIsAgent,
                detail,
            });
        }
        let patience = self.limits.handshake_timeout;
        let unreachable = |detail| DialError {
            reason: Reason::UpstreamUnreachable,
            detail,
        };
        let stream = tokio::time::timeout(patience, self.connect(to))
            .await
            .map_err(|_| unreachable(format!("connect to {to}: no answer in {patience:?}")))?
            .map_err(|e| unreachable(format!("connect to {to}: {e}")))?;
        // Requests and responses are written whole; waiting for more would only add latency.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        match self.namespace {
            None => TcpStream::connect(to).await,
            Some(namespace) => namespace.socket(to).await?.connect(to).await,
        }
    }

    async fn unix_socket(&self, path: &Path) -> Result<UnixStream, DialError> {
        let patience = self.limits.handshake_timeout;
        let unreachable = |detail| DialError {
            reason: Reason::UpstreamUnreachable,
            detail,
        };
        tokio::time::timeout(patience, UnixStream::connect(path))
            .await
            .map_err(|_| {
                unreachable(format!(
                    "connect to {}: no answer in {patience:?}",
                    path.display()
                ))
            })?
            .map_err(|e| unreachable(format!("connect to {}: {e}", path.display())))
    }

    /// The destination, by its own kind of socket.
    async fn plain(&self) -> Result<BoxStream, DialError> {
        let stream: BoxStream = match self.unix {
            Some(path) => Box::new(self.unix_socket(path).await?),
            None => Box::new(self.tcp().await?),
        };
        Ok(stream)
    }

    async fn open(&self, certificate: Option<&str>) -> Result<BoxStream, DialError> {
        let stream = self.plain().await?;
        let tls = match (&self.tls, certificate) {
            (Some(tls), _) => tls,
            (None, None) => return Ok(stream),
            (None, Some(_)) => {
                return Err(DialError {
                    reason: Reason::CredentialUnavailable,
                    detail: "a client certificate needs TLS".into(),
                });
            }
        };
        let how = StartTls {
            server_name: tls.server_name.clone(),
            alpn: ALPN_HTTP1,
            certificate,
        };
        Ok(self.secure(stream, &how).await?.stream)
    }

    async fn secure(&self, stream: BoxStream, how: &StartTls<'_>) -> Result<Secured, DialError> {
        let to = self.original_dst.0;
        let (stream, facts) = self.handshake(stream, how, to).await?;
        *self.legs.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Some(TlsBody {
            alpn: facts.alpn.as_deref().map(Into::into),
            chain_sha256: Some(facts.chain_sha256.to_string()),
            cipher: Some(facts.cipher.into()),
            sni: how.server_name.clone(),
            version: Some(facts.version.into()),
        });
        Ok(Secured {
            stream,
            alpn: facts.alpn,
            end_point: facts.end_point,
        })
    }

    async fn handshake(
        &self,
        stream: BoxStream,
        how: &StartTls<'_>,
        to: SocketAddr,
    ) -> Result<(BoxStream, UpstreamTls), DialError> {
        let failed = |e: tls::TlsError| DialError {
            reason: e.reason(),
            detail: format!("TLS with {to}: {e}"),
        };
        let name = match &how.server_name {
            Some(name) => PeerName::dns(name).map_err(|e| failed(e.into()))?,
            None => PeerName::ip(to.ip()),
        };
        let Some(reference) = how.certificate else {
            return self
                .connector
                .connect(stream, &name, how.alpn)
                .await
                .map_err(failed);
        };
        let certificate = self
            .credentials
            .certificate(reference)
            .await
            .map_err(|e| DialError {
                reason: Reason::CredentialUnavailable,
                detail: e.to_string(),
            })?;
        self.connector
            .connect_as(
                stream,
                &name,
                how.alpn,
                certificate.chain.clone(),
                certificate.key(),
            )
            .await
            .map_err(failed)
    }

    async fn accept(
        &self,
        downstream: BoxStream,
        alpn: &[&[u8]],
    ) -> Result<(BoxStream, TlsFacts), DialError> {
        let (stream, tls) = self
            .acceptor
            .accept(
                downstream,
                self.original_dst.0.ip(),
                alpn,
                self.limits.handshake_timeout,
            )
            .await
            .map_err(|e| DialError {
                reason: e.reason(),
                detail: e.to_string(),
            })?;
        if tls
            .server_name
            .as_deref()
            .is_some_and(|name| self.secrets.holds(name.as_bytes()))
        {
            return Err(DialError {
                reason: Reason::SecretLeak,
                detail: "the server name holds a credential".into(),
            });
        }
        *self
            .legs
            .downstream
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(accepted_body(&tls));
        let facts = TlsFacts {
            server_name: tls.server_name,
            alpn: tls.alpn,
        };
        Ok((stream, facts))
    }
}

/// Whether a connection to `to` ends at a listener of this host's on `listener`: its port on any address that is this
/// host's own, whichever of them the listener is bound to. Only an own address can be bound.
fn reaches(to: SocketAddr, listener: SocketAddr) -> bool {
    let ip = to.ip().to_canonical();
    to.port() == listener.port()
        && (ip == listener.ip().to_canonical()
            || ip.is_loopback()
            || ip.is_unspecified()
            || std::net::UdpSocket::bind((ip, 0)).is_ok())
}

impl Dial for UpstreamDial<'_> {
    fn connect<'a>(&'a self, _permit: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        Box::pin(self.open(None))
    }

    fn connect_as<'a>(
        &'a self,
        _permit: &'a Permit,
        certificate: &'a str,
    ) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        Box::pin(self.open(Some(certificate)))
    }

    fn connect_plain<'a>(&'a self, _permit: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        Box::pin(self.plain())
    }

    fn start_tls<'a>(
        &'a self,
        _permit: &'a Permit,
        stream: BoxStream,
        how: StartTls<'a>,
    ) -> BoxFuture<'a, Result<Secured, DialError>> {
        Box::pin(async move { self.secure(stream, &how).await })
    }

    fn accept_tls<'a>(
        &'a self,
        downstream: BoxStream,
        alpn: &'a [&'a [u8]],
    ) -> BoxFuture<'a, Result<(BoxStream, TlsFacts), DialError>> {
        Box::pin(self.accept(downstream, alpn))
    }
}

#[cfg(test)]
mod tests {
    use super::reaches;

    #[test]
    fn the_page_by_any_address_of_this_host() {
        let to = |to: &str, listener: &str| reaches(to.parse().unwrap(), listener.parse().unwrap());
        assert!(to("127.0.0.1:8443", "127.0.0.1:8443"));
        assert!(to("127.0.0.2:8443", "0.0.0.0:8443"));
        assert!(to("[::ffff:127.0.0.1]:8443", "0.0.0.0:8443"));
        assert!(to("[::1]:8443", "0.0.0.0:8443"));
        assert!(to("0.0.0.0:8443", "127.0.0.1:8443"));
        assert!(to("192.0.2.77:8443", "192.0.2.77:8443"));
        assert!(!to("127.0.0.1:8444", "127.0.0.1:8443"));
        assert!(!to("192.0.2.77:8443", "127.0.0.1:8443"));
    }
}
