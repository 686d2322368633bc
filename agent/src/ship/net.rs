//! Connections to receivers: TCP, and TLS that is always verified, with a client certificate where one is named.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{Class, Context, ShipError};
use crate::{
    config,
    io::BoxStream,
    tls::{Connector, PeerName, TlsError},
};

/// For the name, the connection and the handshake, each.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom to connect to.
pub(super) struct Target {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// `None` for plain TCP.
    pub tls: Option<Tls>,
}

/// How the receiver is verified, and what it is shown.
pub(super) struct Tls {
    connector: Connector,
    name: PeerName,
    certificate: Option<String>,
}

/// A connection.
pub(super) struct Connected {
    /// The bytes.
    pub stream: BoxStream,
    /// The socket below, to ask the kernel about it.
    pub socket: std::net::TcpStream,
    /// What TLS chose.
    pub alpn: Option<Arc<str>>,
    /// Where it ended.
    pub peer: SocketAddr,
    /// How long the TCP handshake took: a round trip.
    pub round_trip: Duration,
}

impl Tls {
    /// Verified by the host's roots and those of `ca_file`, as `name`.
    pub(super) fn new(
        name: &str,
        ca_file: Option<PathBuf>,
        certificate: Option<String>,
    ) -> Result<Self, ShipError> {
        let local = |why: String| ShipError::temporary(Class::Local, why);
        let settings = config::Tls {
            extra_roots_file: ca_file,
        };
        let connector = Connector::with_timeout(&settings, PATIENCE).map_err(|e| local(e.to_string()))?;
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let name = match bare.parse() {
            Ok(address) => PeerName::Ip(address),
            Err(_) => PeerName::dns(bare).map_err(|e| local(format!("'{name}': {e}")))?,
        };
        Ok(Self {
            connector,
            name,
            certificate,
        })
    }
}

impl Target {
    /// `host:port`, for errors and receipts.
    pub(super) fn shown(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Connects.
    pub(super) async fn connect(&self, context: &Context, alpn: &[&[u8]]) -> Result<Connected, ShipError> {
        let shown = self.shown();
        let unreachable = |why: String| ShipError::temporary(Class::Unreachable, format!("{shown}: {why}"));
        let began = Instant::now();
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = timeout(PATIENCE, TcpStream::connect((host, self.port)))
            .await
            .map_err(|_| ShipError::temporary(Class::Timeout, format!("{shown}: no connection in time")))?
            .map_err(|e| unreachable(e.to_string()))?;
        let round_trip = began.elapsed();
        let (stream, socket, peer) = prepare(stream).map_err(|e| unreachable(e.to_string()))?;
        let Some(tls) = &self.tls else {
            return Ok(Connected {
                stream: Box::new(stream),
                socket,
                alpn: None,
                peer,
                round_trip,
            });
        };
        let stream: BoxStream = Box::new(stream);
        let done = match &tls.certificate {
            None => tls.connector.connect(stream, &tls.name, alpn).await,
            Some(name) => {
                // Asked for again each time, so that a renewed one counts at once.
                let certificate = context.certificate(name).await?;
                let chain = certificate.chain.clone();
                tls.connector
                    .connect_as(stream, &tls.name, alpn, chain, certificate.key())
                    .await
            }
        };
        let (stream, agreed) = done.map_err(|e| {
            if matches!(e, TlsError::Untrusted { .. }) {
                // Its authority may have changed, and the file with it: the next try shall see that.
                if let Err(e) = tls.connector.reload() {
                    tracing::warn!(receiver = %shown, "roots cannot be read again: {e}");
                }
            }
            unreachable(e.to_string())
        })?;
        Ok(Connected {
            stream,
            socket,
            alpn: agreed.alpn,
            peer,
            round_trip,
        })
    }
}

/// Sets the socket up, and keeps a second handle on it.
fn prepare(stream: TcpStream) -> io::Result<(TcpStream, std::net::TcpStream, SocketAddr)> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    // A receiver that is gone without a word is noticed while nothing is sent, too.
    setsockopt(&stream, sockopt::KeepAlive, &true)?;
    setsockopt(&stream, sockopt::TcpKeepIdle, &60)?;
    setsockopt(&stream, sockopt::TcpKeepInterval, &15)?;
    setsockopt(&stream, sockopt::TcpKeepCount, &4)?;
    let stream = stream.into_std()?;
    let socket = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, socket, peer))
}
