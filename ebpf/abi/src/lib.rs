//! Structs shared by the eBPF programs and the agent.
//!
//! Invariants: `repr(C)`, no implicit padding (the size asserts are the proof: each struct's size is the sum of its
//! members' sizes), every address an IPv6 one in network order with IPv4 as `::ffff:a.b.c.d`, every port in host order.
//! Changing a layout means raising [`VERSION`], which moves the pinned maps to a new directory.
#![no_std]
#![warn(missing_docs)]

mod exec;
pub mod guard;
mod outcome;
mod process;
mod site;

pub use exec::*;
pub use outcome::Outcome;
pub use process::{MAX_PROCESSES, Proc};
pub use site::Site;

/// The layout's version, part of the path where maps are pinned.
pub const VERSION: u32 = 2;

/// Levels of the cgroup tree that the programs search for a tag, root included. A cgroup below that cannot be tagged;
/// its descendants may be as deep as they like.
pub const MAX_DEPTH: u32 = 32;

/// Tagged cgroups at once.
pub const MAX_TAGGED: usize = 4096;

/// Connects at once between the SYN and the accept queue.
pub const MAX_INFLIGHT: usize = 16_384;

/// Datagrams at once between the hook that sent them to the resolver and the packet.
pub const MAX_SENDING: usize = 4096;

/// Datagrams at once on their way to the resolver.
pub const MAX_DATAGRAMS: usize = 16_384;

/// Exemptions at once: one bit each in the value of `EXEMPT_OF`.
pub const MAX_EXEMPT: usize = 64;

/// Bytes of the ring buffer of [`Strange`] namespaces.
pub const STRANGE_BYTES: usize = 64 * 1024;

/// Network namespaces with listeners at once.
pub const MAX_NETNS: usize = 1024;

/// Where the agent listens in a network namespace: the value of `NETNS`, by the namespace's cookie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// TCP port of its listeners on 127.0.0.1 and `::1`, host order.
    pub tcp: u16,
    /// UDP port of its resolver on the same addresses, host order.
    pub dns: u16,
    /// Zero.
    pub reserved: u32,
}

/// A process of a workload is in a network namespace in which the agent does not listen, or made or used a socket there:
/// an event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strange {
    /// The namespace's cookie.
    pub netns: u64,
    /// The thread, initial pid namespace.
    pub tid: u32,
    /// Zero.
    pub reserved: u32,
}

impl Strange {
    /// From the bytes of an event, as this host orders them; `None` where they are too few.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (netns, rest) = bytes.split_first_chunk()?;
        let (tid, _) = rest.split_first_chunk()?;
        Some(Self {
            netns: u64::from_ne_bytes(*netns),
            tid: u32::from_ne_bytes(*tid),
            reserved: 0,
        })
    }
}

/// What passes by exemption: an element of `EXEMPT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    /// When it ends, nanoseconds since boot; 0 for an element that is none.
    pub until_ns: u64,
    /// The other side's network.
    pub addr: [u32; 4],
    /// Its mask; the address has no bit outside of it.
    pub mask: [u32; 4],
    /// The first port: the other side's, or where `listen` is not 0 the workload's own; host order.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// IP protocol number: TCP or UDP.
    pub protocol: u8,
    /// Not 0: for what others begin.
    pub listen: u8,
    /// Zero.
    pub reserved: u16,
}

/// What is known of a tagged cgroup in the kernel: the value of `TAGGED`, by cgroup id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// Per-workload switches: sockets have bits 0 to 7, the guard 8 to 15 and from 24 on
    /// ([`guard::flag`]), processes 16 to 23.
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

/// Slots of [`Counters`]: more than there are outcomes, so that a new one does not change the layout.
pub const OUTCOME_SLOTS: usize = 64;

/// Per CPU and tagged cgroup: how often each [`Outcome`] happened. The value of `COUNTERS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// By the outcome's number.
    pub by_outcome: [u64; OUTCOME_SLOTS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            by_outcome: [0; OUTCOME_SLOTS],
        }
    }
}

impl Counters {
    /// How often `outcome` happened.
    #[must_use]
    pub const fn get(&self, outcome: Outcome) -> u64 {
        self.by_outcome[outcome as usize]
    }
}

/// Length of `ERRORS`: more than there are sites, so that a new one does not change the layout.
pub const SITE_SLOTS: usize = 128;

const _: () = {
    assert!(size_of::<Ports>() == 2 + 2 + 4);
    assert!(size_of::<Strange>() == 8 + 4 + 4);
    assert!(size_of::<Exempt>() == 8 + 16 + 16 + 2 + 2 + 1 + 1 + 2);
    assert!(size_of::<Tag>() == 8);
    assert!(size_of::<Record>() == 5 * 8 + 4 * 4 + 16 + 2 + 6);
    assert!(size_of::<Flow>() == 8 + 16 + 2 + 2 + 4);
    assert!(size_of::<Counters>() == 8 * OUTCOME_SLOTS);
    assert!(size_of::<Proc>() == 8 + 2 * 4);
    assert!(Outcome::ALL.len() <= OUTCOME_SLOTS);
    assert!(Site::ALL.len() <= SITE_SLOTS);
};

#[cfg(feature = "user")]
mod pod {
    // Safety: plain integers without padding, as asserted above; any bytes make a valid value.
    unsafe impl aya::Pod for super::Ports {}
    unsafe impl aya::Pod for super::Exempt {}
    unsafe impl aya::Pod for super::Tag {}
    unsafe impl aya::Pod for super::Record {}
    unsafe impl aya::Pod for super::Flow {}
    unsafe impl aya::Pod for super::Counters {}
    unsafe impl aya::Pod for super::Proc {}
}
