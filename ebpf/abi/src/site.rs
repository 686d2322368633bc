//! Sites: where a program can fail.

/// Where in the programs something failed: the index into `ERRORS`. Sockets and packets have 0 to 39, UNIX sockets and
/// system calls 40 to 59, processes 60 to 79.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// Not used any more: the agent has not said where it listens.
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
    /// sendmsg: no socket storage.
    SendStorage = 16,
    /// sendmsg: the map of datagrams being sent did not take the entry.
    SendSending = 17,
    /// egress: the datagram got no token.
    EgressToken = 18,
    /// ingress: the packet's header could not be read.
    IngressHeader = 19,
    /// ingress: no ancestor of the socket's cgroup is tagged.
    IngressUntagged = 20,
    /// bind: no ancestor of the caller's cgroup is tagged.
    BindUntagged = 21,
    /// guard: a signal could not be sent.
    GuardSignal = 40,
    /// Not used any more: the guard's own map of processes took no more.
    GuardMembers = 41,
    /// guard: the map of processes that must end took no more.
    GuardCondemned = 42,
    /// guard: the agent does not keep up with events; this one is counted only.
    GuardEvent = 43,
    /// guard: a task's cgroup could not be read.
    GuardTask = 44,
    /// guard: a system call's arguments could not be read.
    GuardArguments = 45,
    /// connect or sendmsg of a UNIX socket: no ancestor of the caller's cgroup is tagged.
    UnixUntagged = 46,
    /// connect or sendmsg of a UNIX socket: the address could not be read.
    UnixAddress = 47,
    /// connect of a UNIX socket: the agent's path could not be put in its place.
    UnixRedirect = 48,
    /// fork: the new thread could not be read.
    ForkTask = 60,
    /// exec: the thread could not be read.
    ExecTask = 61,
    /// Not used any more: a process's id or start could not be read.
    ProcRead = 62,
    /// fork, exec or move: there are more processes of workloads than are remembered; it was ended.
    ProcsFull = 63,
    /// exec: the executed file could not be read.
    ExecFile = 64,
    /// exec: the process could not be held; it was ended.
    ExecHold = 65,
    /// exec: the process could not be ended.
    ExecKill = 66,
    /// device: no ancestor of the caller's cgroup is tagged.
    DeviceUntagged = 67,
}

impl Site {
    /// All of them, in order of their numbers.
    pub const ALL: &'static [Self] = &[
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
        Self::SendStorage,
        Self::SendSending,
        Self::EgressToken,
        Self::IngressHeader,
        Self::IngressUntagged,
        Self::BindUntagged,
        Self::GuardSignal,
        Self::GuardMembers,
        Self::GuardCondemned,
        Self::GuardEvent,
        Self::GuardTask,
        Self::GuardArguments,
        Self::UnixUntagged,
        Self::UnixAddress,
        Self::UnixRedirect,
        Self::ForkTask,
        Self::ExecTask,
        Self::ProcRead,
        Self::ProcsFull,
        Self::ExecFile,
        Self::ExecHold,
        Self::ExecKill,
        Self::DeviceUntagged,
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
            Self::SendStorage => "send_storage",
            Self::SendSending => "send_sending",
            Self::EgressToken => "egress_token",
            Self::IngressHeader => "ingress_header",
            Self::IngressUntagged => "ingress_untagged",
            Self::BindUntagged => "bind_untagged",
            Self::GuardSignal => "guard_signal",
            Self::GuardMembers => "guard_members",
            Self::GuardCondemned => "guard_condemned",
            Self::GuardEvent => "guard_event",
            Self::GuardTask => "guard_task",
            Self::GuardArguments => "guard_arguments",
            Self::UnixUntagged => "unix_untagged",
            Self::UnixAddress => "unix_address",
            Self::UnixRedirect => "unix_redirect",
            Self::ForkTask => "fork_task",
            Self::ExecTask => "exec_task",
            Self::ProcRead => "proc_read",
            Self::ProcsFull => "procs_full",
            Self::ExecFile => "exec_file",
            Self::ExecHold => "exec_hold",
            Self::ExecKill => "exec_kill",
            Self::DeviceUntagged => "device_untagged",
        }
    }
}
