//! The way to the server: with TLS or without, begun how, verified against which name.

use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout_at},
};

use crate::{
    config::{TlsNegotiation, UpstreamTlsMode},
    gate::{Dial, DialError, Gate, Permit, StartTls},
    io::BoxStream,
    model::{Reason, Transport},
};

/// The application protocol (RFC 7301; PostgreSQL, "SSL Session Encryption").
pub const ALPN: &[&[u8]] = &[b"postgresql"];

/// SSLRequest.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// How the workload's leg is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Not at all.
    Plain,
    /// After an SSLRequest.
    Asked,
    /// From the first byte.
    Direct,
}

/// TLS with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Off,
    /// Where the server has it.
    Prefer,
    /// Nothing goes without.
    Require,
}

/// The way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Whether there is TLS.
    pub tls: Tls,
    /// Whether TLS begins with the first byte.
    pub direct: bool,
    /// The name that its certificate must be for; its address where there is none.
    pub server_name: Option<Arc<str>>,
    /// Whether the application protocol is offered.
    pub alpn: bool,
    /// The credential with a client certificate, by reference.
    pub certificate: Option<Arc<str>>,
}

/// A connection to a server.
pub struct Opened {
    /// Its stream.
    pub stream: BoxStream,
    /// Whether it is encrypted.
    pub tls: bool,
    /// The hash of the server's certificate, for channel binding.
    pub end_point: Option<Box<[u8]>>,
}

impl Route {
    /// The way to a connection's destination: as configured, else as the workload's own leg is.
    #[must_use]
    pub fn of(gate: &Gate, way: Way) -> Self {
        let offered = gate.tls().is_some_and(|tls| tls.alpn.is_some());
        let sni = gate.tls().and_then(|tls| tls.server_name.clone());
        let Some(upstream) = gate.upstream() else {
            return Self {
                tls: if way == Way::Plain { Tls::Off } else { Tls::Require },
                direct: way == Way::Direct,
                server_name: sni,
                alpn: offered,
                certificate: None,
            };
        };
        let tls = match upstream.tls {
            // Servers have none on UNIX sockets, and clients ask for none there, whatever they were told.
            _ if gate.transport() == Transport::Unix => Tls::Off,
            Some(UpstreamTlsMode::Require) => Tls::Require,
            Some(UpstreamTlsMode::Prefer) => Tls::Prefer,
            Some(UpstreamTlsMode::Disable) => Tls::Off,
            // A client certificate is shown in TLS only.
            None if way == Way::Plain && upstream.certificate.is_none() => Tls::Off,
            None => Tls::Require,
        };
        let direct = match upstream.tls_negotiation {
            Some(TlsNegotiation::Direct) => true,
            Some(TlsNegotiation::Postgres) => false,
            None => way == Way::Direct,
        };
        // What the workload calls it does not count here: the credential is for the one that is configured.
        let name = upstream.server_name.as_deref().unwrap_or(&upstream.host);
        let literal = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        Self {
            tls,
            direct,
            server_name: (!literal).then(|| name.into()),
            // Servers want it where TLS begins with the first byte.
            alpn: offered || (direct && way != Way::Direct),
            certificate: upstream.certificate.as_deref().map(Into::into),
        }
    }

    /// Connects, with TLS as it should be.
    ///
    /// # Errors
    /// When the server cannot be reached, has no TLS where there must be some, or cannot be verified.
    pub async fn open(&self, dial: &dyn Dial, permit: &Permit, until: Instant) -> Result<Opened, DialError> {
        let mut stream = dial.connect_plain(permit).await?;
        if self.tls == Tls::Off {
            return Ok(Opened::plain(stream));
        }
        if !self.direct {
            match self.ask(&mut stream, until).await? {
                b'S' => {}
                b'N' if self.tls == Tls::Prefer => return Ok(Opened::plain(stream)),
                b'N' => {
                    return Err(DialError {
                        reason: Reason::UpstreamUnreachable,
                        detail: "the server does not support SSL, but SSL was required".into(),
                    });
                }
                _ => return Err(broken("the server's answer to an SSLRequest is none")),
            }
        }
        let how = StartTls {
            server_name: self.server_name.clone(),
            alpn: if self.alpn { ALPN } else { &[] },
            certificate: self.certificate.as_deref(),
        };
        let secured = dial.start_tls(permit, stream, how).await?;
        if self.direct && self.alpn && secured.alpn.is_none() {
            // What else listens there might take the first bytes for something of its own.
            return Err(broken(
                "the server did not agree on the application protocol postgresql",
            ));
        }
        Ok(Opened {
            stream: secured.stream,
            tls: true,
            end_point: secured.end_point,
        })
    }

    /// Exactly one byte is read: what follows it is the handshake's, or nothing.
    async fn ask(&self, stream: &mut BoxStream, until: Instant) -> Result<u8, DialError> {
        let asked = async {
            stream.write_all(&SSL_REQUEST).await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        match timeout_at(until, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(e)) => Err(DialError {
                reason: Reason::UpstreamUnreachable,
                detail: format!("the server closed the connection after an SSLRequest: {e}"),
            }),
            Err(_) => Err(DialError {
                reason: Reason::Timeout,
                detail: "the server did not answer an SSLRequest in time".into(),
            }),
        }
    }
}

impl Opened {
    fn plain(stream: BoxStream) -> Self {
        Self {
            stream,
            tls: false,
            end_point: None,
        }
    }
}

fn broken(detail: &str) -> DialError {
    DialError {
        reason: Reason::UpstreamProtocolError,
        detail: detail.into(),
    }
}
