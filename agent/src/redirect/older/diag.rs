//! Sockets of a network namespace, as the kernel lists them, and their end: sock_diag(7).
//!
//! `SOCK_DESTROY` (CONFIG_INET_DIAG_DESTROY) aborts: a TCP peer gets a reset, what was to be sent is dropped, and the
//! process gets ECONNABORTED. The socket itself stays, and can be connected anew.

use std::{io, net::SocketAddr, os::fd::OwnedFd, time::Duration};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, SockDiagDestroy, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, nlas::Nla},
};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};
use nix::sched::{CloneFlags, setns};
use socket2::SockRef;

/// `IPPROTO_UDPLITE`, `IPPROTO_RAW`
const IPPROTO_UDPLITE: u8 = 136;
const IPPROTO_RAW: u8 = 255;
/// `INET_DIAG_CGROUP_ID` (linux/inet_diag.h)
const CGROUP_ID: u16 = 21;
/// `TCP_LISTEN`, `TCP_TIME_WAIT` (net/tcp_states.h)
pub(super) const LISTEN: u8 = 10;
const TIME_WAIT: u8 = 6;
/// How long the kernel may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the kernel gives at once is at most this, in bytes (`NLMSG_GOODSIZE`, with room).
const BUFFER: usize = 64 * 1024;

/// What a listed socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    UdpLite,
    /// Any, with its own header.
    Raw,
}

impl Protocol {
    /// Those without which the listing is of no use, first.
    const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::UdpLite, Self::Raw];

    fn number(self) -> u8 {
        match self {
            Self::Tcp => IPPROTO_TCP,
            Self::Udp => IPPROTO_UDP,
            Self::UdpLite => IPPROTO_UDPLITE,
            Self::Raw => IPPROTO_RAW,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::UdpLite => "udplite",
            Self::Raw => "raw",
        }
    }
}

/// A socket, as it is listed.
#[derive(Clone, Debug)]
pub(super) struct Listed {
    pub(super) protocol: Protocol,
    /// As of TCP; UDP has ESTABLISHED (1) and CLOSE (7).
    pub(super) state: u8,
    pub(super) local: SocketAddr,
    /// `None` where it is connected to nobody.
    pub(super) remote: Option<SocketAddr>,
    /// 0 where no process has it any more.
    pub(super) inode: u32,
    pub(super) cookie: u64,
    /// The cgroup in which it was made; `None` where the kernel does not tell.
    pub(super) cgroup: Option<u64>,
    family: u8,
    id: SocketId,
}

impl Listed {
    fn new(protocol: Protocol, response: InetResponse) -> Self {
        let header = response.header;
        let (family, state, inode, id) = (header.family, header.state, header.inode, header.socket_id);
        let remote = SocketAddr::new(id.destination_address, id.destination_port);
        let connected = id.destination_port != 0 || !id.destination_address.is_unspecified();
        let cgroup = response.nlas.iter().find_map(|nla| match nla {
            Nla::Other(other) => cgroup_id(other),
            _ => None,
        });
        Self {
            protocol,
            state,
            local: canonical(SocketAddr::new(id.source_address, id.source_port)),
            remote: connected.then(|| canonical(remote)),
            inode,
            cookie: u64::from_ne_bytes(id.cookie),
            cgroup,
            family,
            id,
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn cgroup_id(nla: &netlink_packet_core::DefaultNla) -> Option<u64> {
    use netlink_packet_core::Nla as _;
    if nla.kind() != CGROUP_ID || nla.value_len() != 8 {
        return None;
    }
    let mut value = [0; 8];
    nla.emit_value(&mut value);
    Some(u64::from_ne_bytes(value))
}

/// The kernel's list of one network namespace.
pub(super) struct Diag(Socket);

/// Does `work` on a thread of its own in a network namespace.
pub(super) fn within<T: Send>(
    namespace: OwnedFd,
    work: impl FnOnce(&Diag) -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let inside = std::thread::Builder::new()
            .name("sock_diag".into())
            .spawn_scoped(scope, move || {
                setns(namespace, CloneFlags::CLONE_NEWNET)?;
                work(&Diag::open()?)
            })?;
        inside
            .join()
            .map_err(|_| io::Error::other("the thread in the namespace ended"))?
    })
}

impl Diag {
    /// In the calling thread's namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
        SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// The sockets that are wanted, of all that are hashed: TCP but fresh ones and those in TIME_WAIT, UDP that is bound
    /// or connected, and raw ones.
    pub(super) fn list(&self, mut wanted: impl FnMut(&Listed) -> bool) -> io::Result<Vec<Listed>> {
        let mut all = Vec::new();
        for protocol in Protocol::ALL {
            for family in [AF_INET, AF_INET6] {
                let listed = self.dump(family, protocol, |listed| {
                    if wanted(&listed) {
                        all.push(listed);
                    }
                });
                match listed {
                    // Not in this kernel.
                    Err(_) if matches!(protocol, Protocol::UdpLite | Protocol::Raw) || family == AF_INET6 => {
                    }
                    done => done?,
                }
            }
        }
        Ok(all)
    }

    fn dump(&self, family: u8, protocol: Protocol, mut each: impl FnMut(Listed)) -> io::Result<()> {
        let any = if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        };
        let request = request(family, protocol, any);
        self.send(SockDiagMessage::InetRequest(request), NLM_F_REQUEST | NLM_F_DUMP)?;
        self.receive(|message: SockDiagMessage| {
            if let SockDiagMessage::InetResponse(response) = message {
                each(Listed::new(protocol, *response));
            }
        })
    }

    /// Aborts a socket. False where it is gone already.
    ///
    /// # Errors
    /// `Unsupported` where the kernel cannot do it, for sockets of this kind or for any.
    pub(super) fn destroy(&self, listed: &Listed) -> io::Result<bool> {
        let request = request(listed.family, listed.protocol, listed.id.clone());
        let message = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
        self.send(message, NLM_F_REQUEST | NLM_F_ACK)?;
        match self.receive(|_: SockDiagMessage| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn send<M: NetlinkSerializable>(&self, message: M, flags: u16) -> io::Result<()>
    where
        NetlinkPayload<M>: From<M>,
    {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0).map(drop)
    }

    /// Until the kernel has said all.
    fn receive<M: NetlinkDeserializable>(&self, mut each: impl FnMut(M)) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            let received = self.0.recv(&mut buffer, 0)?;
            let mut rest = buffer.get(..received).unwrap_or_default();
            while !rest.is_empty() {
                let message = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
                let length = usize::try_from(message.header.length)
                    .unwrap_or(0)
                    .next_multiple_of(4);
                match message.payload {
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => each(message),
                    _ => {}
                }
                // A length of nothing would never end.
                rest = rest.get(length.max(1)..).unwrap_or_default();
            }
        }
    }
}

fn request(family: u8, protocol: Protocol, socket_id: SocketId) -> InetRequest {
    let mut states = StateFlags::all();
    states.remove(StateFlags::from_bits_retain(1 << TIME_WAIT));
    InetRequest {
        family,
        protocol: protocol.number(),
        extensions: ExtensionFlags::empty(),
        states,
        socket_id,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::redirect::older) fn listed(
        protocol: Protocol,
        state: u8,
        local: &str,
        remote: Option<&str>,
    ) -> Listed {
        Listed {
            protocol,
            state,
            local: local.parse().unwrap(),
            remote: remote.map(|remote| remote.parse().unwrap()),
            inode: 1,
            cookie: 1,
            cgroup: None,
            family: AF_INET,
            id: SocketId::new_v4(),
        }
    }

    /// Listing needs no rights.
    #[test]
    fn a_socket_is_listed_with_what_it_is() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        udp.connect("127.0.0.1:9").unwrap();
        let local = udp.local_addr().unwrap();
        let diag = Diag::open().unwrap();
        let found = diag.list(|listed| listed.local == local).unwrap();
        let [found] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(found.protocol, Protocol::Udp);
        assert_eq!(found.remote, Some("127.0.0.1:9".parse().unwrap()));
        assert_eq!(found.cookie, SockRef::from(&udp).cookie().unwrap());
        assert_eq!(
            found.cgroup.is_some(),
            std::path::Path::new("/proc/self/cgroup").exists()
        );
    }
}
