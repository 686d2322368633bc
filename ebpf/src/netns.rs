//! Network namespaces: where the agent listens, and telling it where it should.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use portcullis_abi::{Ports, Strange};

use crate::maps;

/// The agent's ports in a namespace. Where it does not listen it is told; until it does, what wanted to know is denied.
#[inline(always)]
pub fn ports(netns: u64) -> Option<Ports> {
    let ports = maps::ports(netns);
    if ports.is_none() {
        let event = Strange {
            netns,
            tid: bpf_get_current_pid_tgid() as u32,
            reserved: 0,
        };
        // A full buffer has others of this kind: the next socket, or the agent's own look around, tells it.
        let _told_later = maps::STRANGE.output(event, 0);
    }
    ports
}
