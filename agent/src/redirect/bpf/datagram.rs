//! Receiving the datagrams that were sent to the resolver, each with the record of who sent it and whom it asked.
//!
//! The record is found by the token in the packet's mark, which `ebpf/src/udp.rs` put there. Never by the source
//! address: the next socket may have it by now.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    os::fd::AsRawFd as _,
    sync::{Arc, Mutex, PoisonError},
};

use aya::maps::{HashMap, MapData, MapError};
use nix::{
    cmsg_space,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg},
};
use portcullis_abi as abi;
use tokio::{io::Interest, net::UdpSocket};

/// Bytes of a query that are taken: what EDNS asks for at most in practice; a longer one is dropped.
const MAX_QUERY: usize = 4096;

/// Records of datagrams on their way, by token. Clones share the map.
#[derive(Clone)]
pub(super) struct Tokens(Arc<Mutex<HashMap<MapData, u32, abi::Record>>>);

/// One datagram of a workload's socket.
pub(super) struct Datagram {
    /// Its payload.
    pub(super) message: Vec<u8>,
    /// The socket's own address: where an answer goes.
    pub(super) from: SocketAddr,
    /// Who sent it, and where to.
    pub(super) record: abi::Record,
}

/// What is received: of a datagram, and how many its socket had no room for until then.
pub(super) struct Arrived {
    /// `None` for one that is not to be answered: none of a workload's sockets sent it to a resolver, it is empty or too
    /// long, or an answer to it would leave loopback.
    pub(super) datagram: Option<Datagram>,
    /// Since the socket was made, modulo 2^32.
    pub(super) unread: u32,
}

struct Received {
    length: usize,
    from: Option<SocketAddr>,
    mark: u32,
    whole: bool,
    unread: u32,
}

impl Tokens {
    pub(super) fn new(map: HashMap<MapData, u32, abi::Record>) -> Self {
        Self(Arc::new(Mutex::new(map)))
    }

    /// Takes a record out. An entry that the map evicts is reused at once: only if it is still there to be removed, the
    /// copy was of it.
    fn take(&self, token: u32) -> Option<abi::Record> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match map.get(&token, 0) {
            Ok(record) => map.remove(&token).is_ok().then_some(record),
            Err(MapError::KeyNotFound) => None,
            Err(error) => {
                tracing::warn!(%error, "cannot read the record of a datagram");
                None
            }
        }
    }
}

/// The next datagram. Cancel-safe.
pub(super) async fn receive(socket: &UdpSocket, tokens: &Tokens) -> io::Result<Arrived> {
    let mut buffer = [0; MAX_QUERY];
    let received = socket
        .async_io(Interest::READABLE, || receive_now(socket, &mut buffer))
        .await?;
    Ok(Arrived {
        unread: received.unread,
        datagram: asked(&received, &buffer, tokens),
    })
}

fn asked(received: &Received, buffer: &[u8], tokens: &Tokens) -> Option<Datagram> {
    // Zero is what the mark of other packets is.
    let record = tokens.take(received.mark).filter(|_| received.mark != 0)?;
    let from = received
        .from
        .filter(|from| from.ip().to_canonical().is_loopback());
    let message = buffer
        .get(..received.length)
        .filter(|message| received.whole && !message.is_empty());
    let (from, message) = from.zip(message)?;
    Some(Datagram {
        message: message.to_vec(),
        from,
        record,
    })
}

fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = cmsg_space!(u32, u32);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let (mut mark, mut unread) = (0, 0);
    for found in message.cmsgs()? {
        match found {
            ControlMessageOwned::Unknown(found)
                if found.cmsg_header.cmsg_level == libc::SOL_SOCKET
                    && found.cmsg_header.cmsg_type == libc::SO_MARK =>
            {
                mark = found
                    .data_bytes
                    .first_chunk()
                    .map_or(0, |m| u32::from_ne_bytes(*m));
            }
            ControlMessageOwned::RxqOvfl(dropped) => unread = dropped,
            _ => {}
        }
    }
    Ok(Received {
        length: message.bytes,
        from: message.address.as_ref().and_then(address),
        mark,
        unread,
        whole: !message.flags.contains(MsgFlags::MSG_TRUNC),
    })
}

fn address(from: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = from.as_sockaddr_in().map(|v4| (v4.ip(), v4.port()).into());
    v4.or_else(|| from.as_sockaddr_in6().map(|v6| (v6.ip(), v6.port()).into()))
}
