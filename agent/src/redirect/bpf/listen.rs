//! The listeners, and the sockets of the resolver.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::redirect::{Kept, RedirectError, sys};

/// Connections that may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Bytes of the kernel's that questions may take until they are read: a thousand or two, with what the kernel keeps of
/// each. It doubles what it is told (socket(7)).
const QUESTIONS: usize = 512 * 1024;

/// On 127.0.0.1, and on `::1` where the host has IPv6. Neither TCP fast open, which would let accept(2) come before
/// the record, nor SO_REUSEPORT, by which another process could take a share of the connections.
pub(super) struct Listeners {
    v4: TcpListener,
    v6: Option<TcpListener>,
}

/// Whether loopback has its addresses yet: in a new network namespace it is down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loopback {
    Up,
    Later,
}

impl Listeners {
    /// Those that were kept under this name while no agent ran, with the connections that wait in them, or new ones.
    pub(super) fn bind(
        port: u16,
        loopback: Loopback,
        name: &str,
        kept: &mut Kept,
    ) -> Result<Self, RedirectError> {
        let v4 = (IpAddr::from(Ipv4Addr::LOCALHOST), port).into();
        let v6 = (IpAddr::from(Ipv6Addr::LOCALHOST), port).into();
        let mut open = |address| match kept.tcp(name, address) {
            Some(listener) => adopt(listener),
            None => listen(address, loopback),
        };
        Ok(Self {
            v4: open(v4).map_err(|source| refused(v4, source))?,
            v6: match open(v6) {
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

    /// What the service manager is asked to keep.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let v6 = self.v6.as_ref().map(AsFd::as_fd);
        [self.v4.as_fd()].into_iter().chain(v6)
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

    /// The same as a poll, for a task that has many of these. Which of both comes first is to change, so that neither keeps
    /// the other waiting.
    pub(super) fn poll_accept(
        &self,
        context: &mut Context<'_>,
        v6_first: bool,
    ) -> Poll<io::Result<TcpStream>> {
        let (v4, v6) = (Some(&self.v4), self.v6.as_ref());
        let order = if v6_first { [v6, v4] } else { [v4, v6] };
        for listener in order.into_iter().flatten() {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    }
}

/// The resolver's sockets, on the same addresses and with the same port number.
pub(super) fn resolver(
    port: u16,
    loopback: Loopback,
    name: &str,
    kept: &mut Kept,
) -> Result<(UdpSocket, Option<UdpSocket>), RedirectError> {
    let mut datagrams = |address| match kept.udp(name, address) {
        Some(socket) => adopt_datagrams(socket),
        None => datagrams(address, loopback),
    };
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
fn datagrams(address: SocketAddr, loopback: Loopback) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    match loopback {
        // The host's own namespace: of others there are many, and each of them has what is usual.
        Loopback::Up => setsockopt(&socket, sockopt::RcvBufForce, &QUESTIONS)?,
        Loopback::Later => freebind(&socket, address)?,
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    told_of(&socket)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Lets a socket have an address that the namespace has not yet (ip(7), IP_FREEBIND).
fn freebind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv4() {
        socket.set_freebind_v4(true)
    } else {
        socket.set_freebind_v6(true)
    }
}

/// One that was kept has the datagrams that came meanwhile.
fn adopt_datagrams(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    told_of(&socket)?;
    UdpSocket::from_std(socket)
}

/// What each datagram comes with: its mark, and how many there was no room for before it.
fn told_of(socket: impl AsFd) -> io::Result<()> {
    sys::receive_marks(&socket)?;
    setsockopt(&socket, sockopt::RxqOvfl, &1)?;
    Ok(())
}

fn listen(address: SocketAddr, loopback: Loopback) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Without it, connections of the agent before this one, in TIME_WAIT, would keep the port for a minute. It does not
    // let two listeners share a port.
    socket.set_reuse_address(true)?;
    if loopback == Loopback::Later {
        freebind(&socket, address)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
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
