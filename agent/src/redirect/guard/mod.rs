//! The doors that no hook of a cgroup's sockets sees: who leaves the workload, system calls, UNIX sockets.
//!
//! Invariants:
//! - The programs here are the host's, not a cgroup's: each asks first whether the caller is in a tagged cgroup. They are
//!   pinned as the others are, and go on without the agent.
//! - A new agent's programs are attached before an old one's are let go: for a moment both answer, never none.
//! - What a host does not load is said, by name and with the kernel's words ([`Unavailable`]), and never passed over.

mod events;
mod members;
mod offsets;
mod tracepoints;

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, RingBuf},
};

pub use self::{events::GuardEvents, tracepoints::TRACEPOINTS};
pub(super) use self::{offsets::offsets, tracepoints::attach};
use super::RedirectError;

/// Maps that outlive the agent.
pub(super) const PINNED: [&str; 5] = ["GUARD", "MEMBERS", "CONDEMNED", "GUARD_EVENTS", "UNIX_RULES"];

/// A program that this host does not load, where the door has another answer or is reported open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Its name.
    pub program: &'static str,
    /// Why, in the kernel's words.
    pub why: String,
}

/// What the guard keeps of the kernel's side.
pub(super) struct Guard {
    members: HashMap<MapData, u32, u64>,
    #[expect(dead_code, reason = "kept for the doors that LSM programs answer")]
    doors: Array<MapData, u64>,
    events: Option<RingBuf<MapData>>,
}

impl Guard {
    /// Takes the guard's maps out of the loaded object.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, RedirectError> {
        Ok(Self {
            members: super::bpf::take(ebpf, "MEMBERS")?,
            doors: super::bpf::take(ebpf, "GUARD")?,
            events: Some(super::bpf::take(ebpf, "GUARD_EVENTS")?),
        })
    }

    /// What the programs tell of, to the first who asks.
    pub(super) fn events(&mut self) -> Result<Option<GuardEvents>, RedirectError> {
        self.events.take().map(GuardEvents::new).transpose()
    }
}
