//! The listeners, and the sockets of the resolver.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::redirect::{RedirectError, sys};

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// On 127.0.0.1, and on `::1` where the host has IPv6. Neither TCP fast open, which would let accept(2) come before
/// the record, nor SO_REUSEPORT, by which another process could take a share of the connections.
pub(super) struct Listeners {
    v4: TcpListener,
    v6: Option<TcpListener>,
}

impl Listeners {
    pub(super) fn bind(port: u16) -> Result<Self, RedirectError> {
        let v4 = (IpAddr::from(Ipv4Addr::LOCALHOST), port).into();
        let v6 = (IpAddr::from(Ipv6Addr::LOCALHOST), port).into();
        Ok(Self {
            v4: listen(v4).map_err(|source| refused(v4, source))?,
            v6: match listen(v6) {
                Ok(listener) => Some(listener),
                // A host without IPv6: a workload's IPv6 connects are refused there.
                Err(error) if is_without_ipv6(&error) => {
                    tracing::warn!(%error, "no listener on ::1: IPv6 connects of workloads will be refused");
                    None
                }
                Err(source) => return Err(refused(v6, source)),
            },
        })
    }

    pub(super) fn v4(&self) -> &TcpListener {
        &self.v4
    }

    /// The next connection of either. Cancel-safe, as `TcpListener::accept` is.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        let accepted = match &self.v6 {
            Some(v6) => tokio::select! {
                accepted = self.v4.accept() => accepted,
                accepted = v6.accept() => accepted,
            },
            None => self.v4.accept().await,
        };
        accepted.map(|(stream, _)| stream)
    }
}

/// The resolver's sockets, on the same addresses and with the same port number.
pub(super) fn resolver(port: u16) -> Result<(UdpSocket, Option<UdpSocket>), RedirectError> {
    let v4 = (IpAddr::from(Ipv4Addr::LOCALHOST), port).into();
    let v6 = (IpAddr::from(Ipv6Addr::LOCALHOST), port).into();
    let v6 = match datagrams(v6) {
        Ok(socket) => Some(socket),
        // Said above.
        Err(error) if is_without_ipv6(&error) => None,
        Err(source) => return Err(refused(v6, source)),
    };
    Ok((datagrams(v4).map_err(|source| refused(v4, source))?, v6))
}

/// Without SO_REUSEADDR, by which another process could take the port of a UDP socket.
fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    sys::receive_marks(&socket)?;
    UdpSocket::from_std(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Without it, connections of the agent before this one, in TIME_WAIT, would keep the port for a minute. It does not
    // let two listeners share a port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

fn refused(address: SocketAddr, source: io::Error) -> RedirectError {
    if source.kind() == io::ErrorKind::AddrInUse {
        RedirectError::PortUsed { address }
    } else {
        RedirectError::Listen { address, source }
    }
}
