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
mod interrupted;
mod listen;
mod load;
mod members;
mod tracepoints;
mod unix;

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, RingBuf},
};
use portcullis_abi::{EXEC_ENFORCE, Proc, guard as abi};

#[cfg(feature = "testing")]
pub use self::interrupted::testing;
pub use self::{
    events::{GuardEvents, outcome},
    listen::{UnixListeners, UnixRedirect, UnixRedirector},
    tracepoints::{CALLS, TRACEPOINTS},
    unix::UnixAddress,
};
pub(super) use self::{
    load::Loaded,
    tracepoints::{HELD, attach, describe, in_object, is_for_others, loaded, missed, try_tracepoints},
};
use super::{RedirectError, bpf::map_failed, btf::Btf};
use crate::model::CgroupId;

/// Maps that outlive the agent.
pub(super) const PINNED: [&str; 5] = ["GUARD", "PROCESSES", "CONDEMNED", "GUARD_EVENTS", "UNIX_RULES"];

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
    /// What was loaded.
    pub(super) fn loaded(&self) -> impl Iterator<Item = &Loaded> {
        self.loaded.iter()
    }

    /// What the host does not load.
    pub(super) fn unavailable(&self) -> &[Unavailable] {
        &self.unavailable
    }
}

/// What the guard keeps of the kernel's side.
pub(super) struct Guard {
    members: HashMap<MapData, u32, Proc>,
    host: Array<MapData, u64>,
    rules: HashMap<MapData, abi::UnixKey, abi::UnixRule>,
    events: Option<RingBuf<MapData>>,
    optional: Optional,
}

impl Guard {
    /// Takes the guard's maps out of the loaded object.
    pub(super) fn new(ebpf: &mut Ebpf, optional: Optional) -> Result<Self, RedirectError> {
        Ok(Self {
            members: super::bpf::take(ebpf, "PROCESSES")?,
            host: super::bpf::take(ebpf, "GUARD")?,
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

    /// Forgets what there is of a cgroup that is tagged no more.
    pub(super) fn forget(&mut self, id: CgroupId) {
        self.remove_rules(id, |_| true);
        self.dismiss(id);
    }

    /// Says whether processes can be held: then a held one that runs is ended.
    pub(super) fn hold(&mut self, hold: bool) -> Result<(), RedirectError> {
        self.set_host(EXEC_ENFORCE, if hold { EXEC_ENFORCE } else { 0 })
    }

    /// Whether a process is condemned that has not ended yet. What cannot be read may be.
    pub(super) fn condemns_any(&self) -> bool {
        self.host
            .get(&abi::GUARD_CONDEMNED, 0)
            .map_or(true, |count| count != 0)
    }

    /// Changes these bits of what holds for the host.
    fn set_host(&mut self, bits: u64, to: u64) -> Result<(), RedirectError> {
        let failed = || map_failed("GUARD");
        let before = self.host.get(&abi::GUARD_HOST, 0).map_err(failed())?;
        let after = before & !bits | to;
        self.host.set(abi::GUARD_HOST, after, 0).map_err(failed())
    }
}
