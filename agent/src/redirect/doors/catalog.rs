//! The doors, and for each what can close it. Order: sockets, io_uring, UNIX sockets, processes, the host itself.

use portcullis_abi::guard::flag;

use super::{
    Door,
    Mechanism::{Absent, Cgroup, Destroy, Guard, Kill, Lsm, Redirect, Sysctl},
    Need::{self, Destroys, IoUringOff, NoProtocol, Program},
    Way,
};

const fn way(mechanism: super::Mechanism, needs: &'static [Need]) -> Way {
    Way { mechanism, needs }
}

const CONNECTS: Way = way(
    Redirect,
    &[Program("connect4"), Program("connect6"), Program("workload_ops")],
);
const SENDS: Way = way(
    Cgroup,
    &[
        Program("sendmsg4"),
        Program("sendmsg6"),
        Program("connect4"),
        Program("connect6"),
    ],
);
const SOCKETS: Way = way(Cgroup, &[Program("sock_create")]);
const DEVICES: Way = way(Cgroup, &[Program("device")]);
const EGRESS: Way = way(Guard, &[Program("egress")]);
const NO_IO_URING: Way = way(Sysctl, &[IoUringOff]);

/// It kills the caller of socket(2) for such a family, and of io_uring_setup(2), by which one could be made unseen.
/// It knows the numbers of x86-64 alone.
#[cfg(target_arch = "x86_64")]
const CALLS: Way = way(Kill, &[Program("sys_enter")]);
#[cfg(not(target_arch = "x86_64"))]
const CALLS: Way = way(Kill, &[Program("sys_enter of x86-64")]);
const FAMILIES: Way = way(Lsm, &[Program("lsm_socket_create")]);
const ACCESS: Way = way(Lsm, &[Program("lsm_ptrace")]);
const PATHS_BY_NAME: Way = way(Cgroup, &[Program("connect_unix"), Program("sendmsg_unix")]);
/// In place of those, by whose socket it is and the name that it is bound to.
const PATHS_BY_OWNER: Way = way(Lsm, &[Program("lsm_unix_connect"), Program("lsm_unix_send")]);

const NO_HOOK: &str = "no hook and no guard is in place: restart the daemon";
const NOT_ROOT: &str = "run the workload without root and without capabilities";
const UNSEEN: &str = "no hook of a cgroup sees sockets of this family, and no LSM program or tracepoint looks at it: run the workload without CAP_NET_RAW, or with RestrictAddressFamilies=";
const PATHS: &str = "connects to UNIX sockets are not looked at: daemons of this host (a container runtime, D-Bus, systemd) may act for the workload if the socket's mode lets it in";
const TRACE: &str =
    "access to other processes of the same user is not looked at: run the workload under a user of its own";

/// What a switch of `[[workload]] guard` opens for one workload, whatever closes it on the host. Connects and sends by
/// io_uring are not among them: they meet the cgroup's hooks as any other.
pub(super) const SWITCHES: &[(u64, &[&str])] = &[
    (flag::FAMILIES, &["packet", "vsock", "xdp", "other-family"]),
    (flag::IO_URING, &["io-uring-socket"]),
    (flag::TRACE, &["ptrace", "process-vm", "pidfd-getfd"]),
    (flag::MOUNT, &["mount-namespace"]),
    (flag::DEVICES, &["rdma", "tap", "vhost-vsock"]),
    (
        flag::UNIX,
        &[
            "unix-path",
            "unix-abstract",
            "unix-dgram",
            "unix-known",
            "fd-passing",
        ],
    ),
];

/// Every door.
pub const DOORS: &[Door] = &[
    Door {
        id: "tcp",
        what: "TCP connect, IPv4, IPv6 and v4-mapped, blocking or not",
        root: false,
        ways: &[CONNECTS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "tcp-fastopen",
        what: "TCP fast open: data in the SYN (MSG_FASTOPEN, TCP_FASTOPEN_CONNECT)",
        root: false,
        ways: &[CONNECTS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "tcp-repair",
        what: "TCP_REPAIR: a connection made up without a handshake",
        root: true,
        ways: &[CONNECTS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "tcp-reconnect",
        what: "AF_UNSPEC: a connected socket dissolved and connected elsewhere",
        root: false,
        ways: &[CONNECTS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "tcp-bind-device",
        what: "SO_BINDTODEVICE: a socket that sends by a device, before or after its connect",
        root: false,
        ways: &[
            way(
                Redirect,
                &[Program("connect4"), Program("connect6"), Program("egress")],
            ),
            EGRESS,
        ],
        open: NO_HOOK,
    },
    Door {
        id: "ip-transparent",
        what: "IP_TRANSPARENT: a foreign source address",
        root: true,
        ways: &[CONNECTS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "udp",
        what: "UDP send with an address, IPv4, IPv6 and v4-mapped",
        root: false,
        ways: &[SENDS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "udp-connected",
        what: "UDP connect and send",
        root: false,
        ways: &[SENDS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "quic",
        what: "UDP to port 443",
        root: false,
        ways: &[SENDS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "dns",
        what: "names asked of a resolver, which can carry data out",
        root: false,
        ways: &[way(
            Redirect,
            &[
                Program("sendmsg4"),
                Program("sendmsg6"),
                Program("recvmsg4"),
                Program("recvmsg6"),
            ],
        )],
        open: "UDP to port 53 passes as a counted exemption: what is asked of a resolver is not looked at",
    },
    Door {
        id: "raw",
        what: "raw IP sockets, also with a header of their own (IP_HDRINCL)",
        root: true,
        ways: &[SOCKETS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "ping",
        what: "ICMP datagram sockets",
        root: false,
        ways: &[SOCKETS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "mptcp",
        what: "multipath TCP",
        root: false,
        ways: &[SOCKETS, CONNECTS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "sctp",
        what: "SCTP",
        root: false,
        ways: &[SOCKETS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "udplite",
        what: "UDP-Lite",
        root: false,
        ways: &[SOCKETS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "packet",
        what: "AF_PACKET: frames written to a device",
        root: true,
        ways: &[FAMILIES, CALLS, way(Absent, &[NoProtocol("PACKET")])],
        open: UNSEEN,
    },
    Door {
        id: "vsock",
        what: "AF_VSOCK: the host of this virtual machine, or guests of this one",
        root: false,
        ways: &[FAMILIES, CALLS, way(Absent, &[NoProtocol("AF_VSOCK")])],
        open: UNSEEN,
    },
    Door {
        id: "xdp",
        what: "AF_XDP: frames written to a device's queue",
        root: true,
        ways: &[FAMILIES, CALLS, way(Absent, &[NoProtocol("XDP")])],
        open: UNSEEN,
    },
    Door {
        id: "other-family",
        what: "sockets of any other family (AF_ALG, AF_CAN, AF_TIPC, AF_BLUETOOTH, AF_RDS, AF_SMC ...)",
        root: false,
        ways: &[FAMILIES, CALLS],
        open: UNSEEN,
    },
    Door {
        id: "rdma",
        what: "RDMA (/dev/infiniband): messages by the adapter, past the host's network",
        root: false,
        ways: &[DEVICES],
        open: NO_HOOK,
    },
    Door {
        id: "tap",
        what: "a tap of the host's network (/dev/net/tun): frames written to a device",
        root: false,
        ways: &[DEVICES],
        open: NO_HOOK,
    },
    Door {
        id: "vhost-vsock",
        what: "the host's end of VSOCK (/dev/vhost-vsock): a guest that is none, and talks to the host's services",
        root: false,
        ways: &[DEVICES],
        open: NO_HOOK,
    },
    Door {
        id: "listen-tcp",
        what: "a TCP server that answers to others than this host",
        root: false,
        ways: &[EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "listen-udp",
        what: "a UDP socket that hears others than this host",
        root: false,
        ways: &[way(Guard, &[Program("ingress")])],
        open: "what arrives for a bound UDP socket is heard, though nothing can be answered: a firewall can drop it",
    },
    Door {
        id: "io-uring-connect",
        what: "IORING_OP_CONNECT",
        root: false,
        ways: &[NO_IO_URING, CALLS, CONNECTS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "io-uring-send",
        what: "IORING_OP_SENDMSG and IORING_OP_SEND, also by the kernel's own thread (SQPOLL)",
        root: false,
        ways: &[NO_IO_URING, CALLS, SENDS, EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "io-uring-socket",
        what: "IORING_OP_SOCKET of a family that only system calls are watched for",
        root: false,
        ways: &[NO_IO_URING, FAMILIES, CALLS],
        open: "io_uring makes sockets of any family, unseen by what watches system calls: sysctl kernel.io_uring_disabled=2",
    },
    Door {
        id: "unix-path",
        what: "a UNIX stream socket with a path: docker.sock, containerd, D-Bus, systemd, ssh-agent",
        root: false,
        ways: &[PATHS_BY_NAME, PATHS_BY_OWNER],
        open: PATHS,
    },
    Door {
        id: "unix-abstract",
        what: "a UNIX socket in the abstract name space",
        root: false,
        ways: &[PATHS_BY_NAME, PATHS_BY_OWNER],
        open: PATHS,
    },
    Door {
        id: "unix-dgram",
        what: "a UNIX datagram sent to a path or an abstract name",
        root: false,
        ways: &[PATHS_BY_NAME, PATHS_BY_OWNER],
        open: PATHS,
    },
    Door {
        id: "unix-known",
        what: "a database on this host by its UNIX socket (.s.PGSQL.5432)",
        root: false,
        ways: &[PATHS_BY_NAME, PATHS_BY_OWNER],
        open: "not redirected: what is said on it is neither decided nor recorded; have the database listen on TCP alone",
    },
    Door {
        id: "fd-passing",
        what: "a socket made outside and handed in (SCM_RIGHTS)",
        root: false,
        ways: &[PATHS_BY_NAME, PATHS_BY_OWNER],
        open: "a socket keeps the cgroup of its making, and UNIX sockets, by which one comes, are open",
    },
    Door {
        id: "older-sockets",
        what: "sockets older than the tag: made in the cgroup before it, or brought by a process that is moved in",
        root: false,
        ways: &[way(
            Destroy,
            &[
                Destroys,
                Program("task_moved"),
                Program("task_forked"),
                Program("bind4"),
                Program("bind6"),
            ],
        )],
        open: "the kernel destroys no sockets (CONFIG_INET_DIAG_DESTROY), or lets nobody look at another process's (kernel.yama.ptrace_scope=3): a process that is moved in keeps those that it has, so start it inside (portcullis run, or a tagged unit)",
    },
    Door {
        id: "ptrace",
        what: "ptrace of a process outside, which then connects",
        root: false,
        ways: &[ACCESS, CALLS],
        open: TRACE,
    },
    Door {
        id: "process-vm",
        what: "process_vm_writev into a process outside",
        root: false,
        ways: &[ACCESS, CALLS],
        open: TRACE,
    },
    Door {
        id: "pidfd-getfd",
        what: "pidfd_getfd: a socket taken from a process outside",
        root: false,
        ways: &[ACCESS, CALLS],
        open: TRACE,
    },
    Door {
        id: "leave-cgroup",
        what: "the process moves itself to another cgroup",
        root: true,
        ways: &[way(Kill, &[Program("task_moved")])],
        open: "root can move itself to another cgroup, and sockets that it makes there are not the workload's: run the workload without root",
    },
    Door {
        id: "moved-out",
        what: "somebody else moves the process to another cgroup",
        root: true,
        ways: &[],
        open: "root outside can move a process out: that is counted and recorded where task_moved is attached, and ends the process where [[workload]] guard says moved = \"kill\"",
    },
    Door {
        id: "user-namespace",
        what: "a user namespace, for capabilities within",
        root: false,
        ways: &[way(Cgroup, &[Program("sock_create"), Program("egress")]), EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "network-namespace",
        what: "another network namespace, with devices of its own",
        root: false,
        ways: &[
            way(
                Cgroup,
                &[
                    Program("connect4"),
                    Program("connect6"),
                    Program("sendmsg4"),
                    Program("sendmsg6"),
                    Program("egress"),
                ],
            ),
            EGRESS,
        ],
        open: NO_HOOK,
    },
    Door {
        id: "mount-namespace",
        what: "mounts that change what a path means, in a user and mount namespace of its own",
        root: false,
        ways: &[
            way(
                Lsm,
                &[
                    Program("lsm_mount"),
                    Program("lsm_umount"),
                    Program("lsm_move_mount"),
                    Program("lsm_pivotroot"),
                    Program("lsm_chroot"),
                ],
            ),
            CALLS,
        ],
        open: "mounts are not looked at; they matter where UNIX sockets are allowed by their path",
    },
    Door {
        id: "mount-root",
        what: "mounts that change what a path means, by root",
        root: true,
        ways: &[],
        open: "who has CAP_SYS_ADMIN over the host may mount, unless [[workload]] guard says mount = \"deny\"; it matters where UNIX sockets are allowed by their path",
    },
    Door {
        id: "setuid",
        what: "a set-user-id helper that makes the socket",
        root: false,
        ways: &[way(Cgroup, &[Program("sock_create"), Program("egress")]), EGRESS],
        open: NO_HOOK,
    },
    Door {
        id: "bpf",
        what: "bpf(2): programs detached, maps changed, pins removed",
        root: true,
        ways: &[],
        open: NOT_ROOT,
    },
    Door {
        id: "host-network",
        what: "the host's routes, devices, traffic control and firewall changed by netlink",
        root: true,
        ways: &[],
        open: NOT_ROOT,
    },
];
