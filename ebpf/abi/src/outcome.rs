//! Outcomes: what the programs count, by tagged cgroup.

/// What became of a connect, a send, a packet, a socket or an exec of a tagged cgroup. Numbers are never reused; slots
/// are [`OUTCOME_SLOTS`](crate::OUTCOME_SLOTS).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A TCP connect was sent to the agent.
    TcpRedirected = 0,
    /// A connect of a socket that is neither TCP nor UDP was denied.
    TypeDenied = 1,
    /// A UDP connect or send was denied.
    UdpDenied = 2,
    /// A UDP connect or send to port 53 was sent to the agent's resolver.
    DnsRedirected = 3,
    /// The egress guard dropped a packet.
    EgressDropped = 4,
    /// The egress guard let a packet pass: by an exemption.
    EgressExempt = 5,
    /// A socket of a kind that cannot be redirected was denied.
    SocketDenied = 6,
    /// A connect or send in a network namespace without a listener was denied.
    NetnsUnknown = 7,
    /// A connect or send was denied because the program could not do its work; `Site` says where.
    Failed = 8,
    /// A UDP connect or send to port 443 was denied: clients of QUIC fall back to TCP.
    QuicDenied = 9,
    /// A connect or send passed by an exemption.
    Exempt = 10,
    /// A bind to an address that is not loopback was denied.
    BindDenied = 11,
    /// A packet that came from elsewhere for a socket of the workload was dropped.
    IngressDropped = 12,
    /// A redirected connection reached the agent's listener with its record.
    TcpAccepted = 13,
    /// A redirected connection whose SYN had left ended before the agent's listener had it.
    TcpAbandoned = 14,
    /// A connect or send to a UNIX socket passed by its exact path.
    UnixAllowed = 15,
    /// A connect to a UNIX socket was sent to the agent.
    UnixRedirected = 16,
    /// A connect or send to a UNIX socket was denied.
    UnixDenied = 17,
    /// A socket of a family other than AF_INET, AF_INET6, AF_UNIX and AF_NETLINK was denied.
    FamilyDenied = 18,
    /// An io_uring was denied.
    IoUringDenied = 19,
    /// An access to a process outside of the workload (ptrace, process_vm, pidfd_getfd) was denied.
    TraceDenied = 20,
    /// A change of what paths mean (mount, chroot, pivot_root) was denied.
    MountDenied = 21,
    /// An exec was let run at once.
    ExecAllowed = 22,
    /// An exec was ended before its first instruction.
    ExecDenied = 23,
    /// An exec was stopped before its first instruction, for the agent to decide.
    ExecHeld = 24,
    /// A process that moved itself out of the workload's cgroup was ended.
    EscapeKilled = 25,
    /// A process was moved out of the workload's cgroup by somebody else.
    EscapeMoved = 26,
    /// The agent could not be told what a process did: the buffer was full.
    ExecLost = 27,
    /// The SYN of a redirected connection left for the agent's listener, with its record.
    TcpSent = 28,
    /// A process came into the workload from outside, with whatever sockets it had.
    ProcessArrived = 29,
    /// A device by which something leaves the host past every socket was denied.
    DeviceDenied = 30,
}

impl Outcome {
    /// All of them, in order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::TcpRedirected,
        Self::TypeDenied,
        Self::UdpDenied,
        Self::DnsRedirected,
        Self::EgressDropped,
        Self::EgressExempt,
        Self::SocketDenied,
        Self::NetnsUnknown,
        Self::Failed,
        Self::QuicDenied,
        Self::Exempt,
        Self::BindDenied,
        Self::IngressDropped,
        Self::TcpAccepted,
        Self::TcpAbandoned,
        Self::UnixAllowed,
        Self::UnixRedirected,
        Self::UnixDenied,
        Self::FamilyDenied,
        Self::IoUringDenied,
        Self::TraceDenied,
        Self::MountDenied,
        Self::ExecAllowed,
        Self::ExecDenied,
        Self::ExecHeld,
        Self::EscapeKilled,
        Self::EscapeMoved,
        Self::ExecLost,
        Self::TcpSent,
        Self::ProcessArrived,
        Self::DeviceDenied,
    ];

    /// The stable word, in metrics and `status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TcpRedirected => "tcp_redirected",
            Self::TypeDenied => "type_denied",
            Self::UdpDenied => "udp_denied",
            Self::DnsRedirected => "dns_redirected",
            Self::EgressDropped => "egress_dropped",
            Self::EgressExempt => "egress_exempt",
            Self::SocketDenied => "socket_denied",
            Self::NetnsUnknown => "netns_unknown",
            Self::Failed => "failed",
            Self::QuicDenied => "quic_denied",
            Self::Exempt => "exempt",
            Self::BindDenied => "bind_denied",
            Self::IngressDropped => "ingress_dropped",
            Self::TcpAccepted => "tcp_accepted",
            Self::TcpAbandoned => "tcp_abandoned",
            Self::UnixAllowed => "unix_allowed",
            Self::UnixRedirected => "unix_redirected",
            Self::UnixDenied => "unix_denied",
            Self::FamilyDenied => "family_denied",
            Self::IoUringDenied => "io_uring_denied",
            Self::TraceDenied => "trace_denied",
            Self::MountDenied => "mount_denied",
            Self::ExecAllowed => "exec_allowed",
            Self::ExecDenied => "exec_denied",
            Self::ExecHeld => "exec_held",
            Self::EscapeKilled => "escape_killed",
            Self::EscapeMoved => "escape_moved",
            Self::ExecLost => "exec_lost",
            Self::TcpSent => "tcp_sent",
            Self::ProcessArrived => "process_arrived",
            Self::DeviceDenied => "device_denied",
        }
    }
}
