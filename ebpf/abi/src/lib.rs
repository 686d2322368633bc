//! Structs shared by the eBPF programs and the agent.
//!
//! Invariants: `repr(C)`, no implicit padding (the size asserts are the proof: each struct's size is the sum of its
//! members' sizes), every address an IPv6 one in network order with IPv4 as `::ffff:a.b.c.d`, every port in host order.
//! Changing a layout means raising [`VERSION`], which moves the pinned maps to a new directory.
#![no_std]
#![warn(missing_docs)]

/// The layout's version, part of the path where maps are pinned.
pub const VERSION: u32 = 1;

/// Levels of the cgroup tree that the programs search for a tag, root included. A cgroup below that cannot be tagged;
/// its descendants may be as deep as they like.
pub const MAX_DEPTH: u32 = 32;

/// Tagged cgroups at once.
pub const MAX_TAGGED: usize = 4096;

/// Connects at once between the SYN and the accept queue.
pub const MAX_INFLIGHT: usize = 16_384;

/// What the agent tells the programs: the only element of `CONFIG`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Cookie of the network namespace in which the agent listens.
    pub netns: u64,
    /// TCP port of its listeners on 127.0.0.1 and `::1`, host order.
    pub port: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

/// What is known of a tagged cgroup in the kernel: the value of `TAGGED`, by cgroup id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// Zero; room for per-workload switches.
    pub flags: u64,
}

/// Who connects where: stored with the workload's socket, and handed over to the accepted one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Id of the tagged cgroup: the nearest tagged ancestor of the caller's, or its own.
    pub tagged: u64,
    /// Id of the caller's own cgroup.
    pub cgroup: u64,
    /// Start of the caller's process (its thread group leader), nanoseconds since boot.
    pub start_ns: u64,
    /// Cookie of the socket's network namespace.
    pub netns: u64,
    /// Cookie of the workload's socket.
    pub socket: u64,
    /// Thread group id, initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// The destination asked for.
    pub addr: [u32; 4],
    /// Its port, host order.
    pub port: u16,
    /// Zero.
    pub reserved: [u16; 3],
}

/// A connect in flight, as both ends of it can name it: the key of `INFLIGHT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Cookie of the network namespace.
    pub netns: u64,
    /// The workload's address.
    pub addr: [u32; 4],
    /// The workload's port, host order.
    pub port: u16,
    /// The agent's port, host order.
    pub agent_port: u16,
    /// Zero.
    pub reserved: u32,
}

/// What became of a connect, a send, a packet or a socket of a tagged cgroup.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A TCP connect was sent to the agent.
    TcpRedirected = 0,
    /// A connect of a socket that is neither TCP nor UDP was denied.
    TypeDenied = 1,
    /// A UDP connect or send was denied.
    UdpDenied = 2,
    /// A UDP connect or send to port 53 passed: the exemption `dns`.
    DnsExempt = 3,
    /// The egress guard dropped a packet.
    EgressDropped = 4,
    /// The egress guard let a DNS packet pass: the exemption `dns`.
    EgressDnsExempt = 5,
    /// A socket of a kind that cannot be redirected was denied.
    SocketDenied = 6,
    /// A connect or send in a network namespace without a listener was denied.
    NetnsUnknown = 7,
    /// A connect or send was denied because the program could not do its work; `Site` says where.
    Failed = 8,
}

impl Outcome {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::TcpRedirected,
        Self::TypeDenied,
        Self::UdpDenied,
        Self::DnsExempt,
        Self::EgressDropped,
        Self::EgressDnsExempt,
        Self::SocketDenied,
        Self::NetnsUnknown,
        Self::Failed,
    ];

    /// The stable word, in metrics and `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TcpRedirected => "tcp_redirected",
            Self::TypeDenied => "type_denied",
            Self::UdpDenied => "udp_denied",
            Self::DnsExempt => "dns_exempt",
            Self::EgressDropped => "egress_dropped",
            Self::EgressDnsExempt => "egress_dns_exempt",
            Self::SocketDenied => "socket_denied",
            Self::NetnsUnknown => "netns_unknown",
            Self::Failed => "failed",
        }
    }
}

/// Slots of [`Counters`]: more than there are outcomes, so that a new one does not change the layout.
pub const OUTCOME_SLOTS: usize = 16;

/// Per CPU and tagged cgroup: how often each [`Outcome`] happened. The value of `COUNTERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// By the outcome's number.
    pub by_outcome: [u64; OUTCOME_SLOTS],
}

impl Counters {
    /// How often `outcome` happened.
    #[must_use]
    pub const fn get(&self, outcome: Outcome) -> u64 {
        self.by_outcome[outcome as usize]
    }
}

/// Where in the programs something failed: the index into `ERRORS`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// The agent has not written `CONFIG`.
    Config = 0,
    /// connect: no ancestor of the caller's cgroup is tagged (a socket used outside of the workload that made it).
    ConnectUntagged = 1,
    /// connect: no socket storage.
    ConnectStorage = 2,
    /// connect: SO_BINDTODEVICE could not be cleared.
    ConnectDevice = 3,
    /// connect: the process's start could not be read.
    ConnectStart = 4,
    /// sendmsg: no ancestor of the caller's cgroup is tagged.
    SendUntagged = 5,
    /// sock_create: no ancestor of the caller's cgroup is tagged.
    SocketUntagged = 6,
    /// egress: no ancestor of the socket's cgroup is tagged.
    EgressUntagged = 7,
    /// egress: the packet's header could not be read.
    EgressHeader = 8,
    /// A tagged cgroup has no counters.
    CountersMissing = 9,
    /// TCP_CONNECT_CB: no full socket.
    SynSocket = 10,
    /// TCP_CONNECT_CB: state callbacks could not be switched on.
    SynFlags = 11,
    /// TCP_CONNECT_CB: the map of connects in flight did not take the entry.
    SynInflight = 12,
    /// PASSIVE_ESTABLISHED_CB: no full socket.
    AcceptSocket = 13,
    /// PASSIVE_ESTABLISHED_CB: no socket storage.
    AcceptStorage = 14,
    /// PASSIVE_ESTABLISHED_CB: the entry was evicted while it was being copied.
    AcceptEvicted = 15,
}

impl Site {
    /// All of them, in order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Config,
        Self::ConnectUntagged,
        Self::ConnectStorage,
        Self::ConnectDevice,
        Self::ConnectStart,
        Self::SendUntagged,
        Self::SocketUntagged,
        Self::EgressUntagged,
        Self::EgressHeader,
        Self::CountersMissing,
        Self::SynSocket,
        Self::SynFlags,
        Self::SynInflight,
        Self::AcceptSocket,
        Self::AcceptStorage,
        Self::AcceptEvicted,
    ];

    /// The stable word, in metrics and `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::ConnectUntagged => "connect_untagged",
            Self::ConnectStorage => "connect_storage",
            Self::ConnectDevice => "connect_device",
            Self::ConnectStart => "connect_start",
            Self::SendUntagged => "send_untagged",
            Self::SocketUntagged => "socket_untagged",
            Self::EgressUntagged => "egress_untagged",
            Self::EgressHeader => "egress_header",
            Self::CountersMissing => "counters_missing",
            Self::SynSocket => "syn_socket",
            Self::SynFlags => "syn_flags",
            Self::SynInflight => "syn_inflight",
            Self::AcceptSocket => "accept_socket",
            Self::AcceptStorage => "accept_storage",
            Self::AcceptEvicted => "accept_evicted",
        }
    }
}

/// Length of `ERRORS`: more than there are sites, so that a new one does not change the layout.
pub const SITE_SLOTS: usize = 32;

const _: () = {
    assert!(size_of::<Config>() == 8 + 2 + 6);
    assert!(size_of::<Tag>() == 8);
    assert!(size_of::<Record>() == 5 * 8 + 4 * 4 + 16 + 2 + 6);
    assert!(size_of::<Flow>() == 8 + 16 + 2 + 2 + 4);
    assert!(size_of::<Counters>() == 8 * OUTCOME_SLOTS);
    assert!(Outcome::ALL.len() <= OUTCOME_SLOTS);
    assert!(Site::ALL.len() <= SITE_SLOTS);
};

#[cfg(feature = "user")]
mod pod {
    // Safety: plain integers without padding, as asserted above; any bytes make a valid value.
    unsafe impl aya::Pod for super::Config {}
    unsafe impl aya::Pod for super::Tag {}
    unsafe impl aya::Pod for super::Record {}
    unsafe impl aya::Pod for super::Flow {}
    unsafe impl aya::Pod for super::Counters {}
}
