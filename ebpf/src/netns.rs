//! Network namespaces: where the agent listens, and telling it where it should.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, generated::bpf_set_retval};
use portcullis_abi::{Ports, Strange};

use crate::maps;

const ECONNREFUSED: i32 = 111;

/// The agent's ports in a namespace. Where it does not listen it is told; until it does, what wanted to know is denied.
#[inline(always)]
pub fn ports(netns: u64) -> Option<Ports> {
    let ports = maps::ports(netns);
    if ports.is_none() {
        tell(netns, bpf_get_current_pid_tgid() as u32);
    }
    ports
}

/// The same for a connect or a send, which cannot go on without. It fails as where no agent runs, and not as what a
/// policy forbids: clients that try again find the agent there.
#[inline(always)]
pub fn needed(netns: u64) -> Option<Ports> {
    let ports = ports(netns);
    if ports.is_none() {
        // Without it the hook's denial is EPERM.
        let _as_before = unsafe { bpf_set_retval(-ECONNREFUSED) };
    }
    ports
}

/// Whether the agent listens in a namespace.
#[inline(always)]
pub fn is_known(netns: u64) -> bool {
    maps::NETNS.get_ptr(netns).is_some()
}

/// Tells the agent of a namespace, and of a thread by which it can be found.
#[inline(always)]
pub fn tell(netns: u64, tid: u32) {
    let event = Strange {
        netns,
        tid,
        reserved: 0,
    };
    // A full buffer has others of this kind: the next socket, or the agent's own look around, tells it.
    let _told_later = maps::STRANGE.output(event, 0);
}
