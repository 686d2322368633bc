//! The doors that no hook of a cgroup's sockets sees: who leaves the workload, system calls, UNIX sockets.
//!
//! Invariants:
//! - Most programs here are the host's, not a cgroup's: each asks first whether the caller is in a tagged cgroup. They
//!   are pinned as the others are, and go on without the agent.
//! - A new agent's programs are attached before an old one's are let go: for a moment both answer, never none.
//! - What a host does not load is said, by name and with the kernel's words ([`Unavailable`]), and never passed over.

mod attach;
mod events;
mod hooks;
mod listen;
mod load;
mod members;
mod offsets;
mod tracepoints;
mod unix;

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, RingBuf},
};
use portcullis_abi::guard as abi;

pub use self::{
    events::{GuardEvents, outcome},
    listen::{UnixListeners, UnixRedirect, UnixRedirector},
    tracepoints::TRACEPOINTS,
    unix::UnixAddress,
};
pub(super) use self::{load::Loaded, offsets::offsets, tracepoints::attach};
use super::{RedirectError, btf::Btf};

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

/// The optional programs, as far as the host takes them.
pub(super) struct Optional {
    loaded: Vec<Loaded>,
    unavailable: Vec<Unavailable>,
}

/// Whether it is the guard that loads this program, and not aya.
pub(super) fn loads(program: &str) -> bool {
    hooks::HOOKS.iter().any(|hook| hook.program == program)
}

/// Loads the optional programs. To be called before maps are taken out of the object.
pub(super) fn load(ebpf: &Ebpf, object: &[u8]) -> Result<Optional, RedirectError> {
    let (loaded, unavailable) = load::load(ebpf, object, &Btf::of_kernel()?);
    for Unavailable { program, why } in &unavailable {
        tracing::info!(program, "not loaded on this host: {why}");
    }
    Ok(Optional { loaded, unavailable })
}

impl Optional {
    /// Names and kinds of what was loaded.
    pub(super) fn loaded(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.loaded.iter().map(|one| (one.name(), one.kind()))
    }

    /// What the host does not load.
    pub(super) fn unavailable(&self) -> &[Unavailable] {
        &self.unavailable
    }
}

/// What the guard keeps of the kernel's side.
pub(super) struct Guard {
    members: HashMap<MapData, u32, u64>,
    doors: Array<MapData, u64>,
    rules: HashMap<MapData, abi::UnixKey, abi::UnixRule>,
    events: Option<RingBuf<MapData>>,
    optional: Optional,
}

impl Guard {
    /// Takes the guard's maps out of the loaded object.
    pub(super) fn new(ebpf: &mut Ebpf, optional: Optional) -> Result<Self, RedirectError> {
        Ok(Self {
            members: super::bpf::take(ebpf, "MEMBERS")?,
            doors: super::bpf::take(ebpf, "GUARD")?,
            rules: super::bpf::take(ebpf, "UNIX_RULES")?,
            events: Some(super::bpf::take(ebpf, "GUARD_EVENTS")?),
            optional,
        })
    }

    /// What the programs tell of, to the first who asks.
    pub(super) fn events(&mut self) -> Result<Option<GuardEvents>, RedirectError> {
        self.events.take().map(GuardEvents::new).transpose()
    }

    /// What the host does not load.
    pub(super) fn unavailable(&self) -> Vec<Unavailable> {
        self.optional.unavailable.clone()
    }
}
