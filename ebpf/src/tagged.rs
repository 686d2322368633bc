//! Which workload this is: the nearest tagged ancestor, and its counters.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{
        bpf_get_current_ancestor_cgroup_id, bpf_get_current_cgroup_id, bpf_skb_ancestor_cgroup_id,
        bpf_skb_cgroup_id,
    },
    programs::SkBuffContext,
};
use portcullis_abi::{MAX_DEPTH, OUTCOME_SLOTS, Outcome, Site};

use crate::{errors::failed, maps};

/// A tagged cgroup's id.
#[derive(Clone, Copy)]
pub struct Tagged(pub u64);

/// The nearest tagged ancestor of the calling task's cgroup, itself included.
///
/// The hook was chosen by the *socket's* cgroup. A task outside that uses the socket has none: `None`, which denies.
#[inline(always)]
pub fn of_current() -> Option<Tagged> {
    nearest(unsafe { bpf_get_current_cgroup_id() }, |level| unsafe {
        bpf_get_current_ancestor_cgroup_id(level)
    })
}

/// The nearest tagged ancestor of the cgroup of the packet's socket, itself included.
#[inline(always)]
pub fn of_packet(ctx: &SkBuffContext) -> Option<Tagged> {
    nearest(unsafe { bpf_skb_cgroup_id(ctx.skb.skb) }, |level| unsafe {
        bpf_skb_ancestor_cgroup_id(ctx.skb.skb, level)
    })
}

#[inline(always)]
fn nearest(own: u64, ancestor: impl Fn(i32) -> u64) -> Option<Tagged> {
    // Most are in the tagged cgroup itself, wherever that is.
    if maps::TAGGED.get_ptr(own).is_some() {
        return Some(Tagged(own));
    }
    let mut found = 0;
    // Level 0 is the root, which cannot be tagged.
    for level in 1..MAX_DEPTH {
        let id = ancestor(level as i32);
        if id == 0 {
            break;
        }
        if maps::TAGGED.get_ptr(id).is_some() {
            found = id;
        }
    }
    if found == 0 { None } else { Some(Tagged(found)) }
}

/// Counts an outcome of `tagged`.
#[inline(always)]
pub fn count<C: EbpfContext>(ctx: &C, tagged: Tagged, outcome: Outcome) {
    match maps::COUNTERS.get_ptr_mut(tagged.0) {
        Some(counters) => unsafe {
            let first = (&raw mut (*counters).by_outcome).cast::<u64>();
            maps::increment(first.add(slot(outcome)));
        },
        None => failed(ctx, Site::CountersMissing),
    }
}

/// Counts what became of a connection of `tagged`, a cgroup's id from a record. Its tag may be gone by now, and its
/// counters with it, which is no failure.
#[inline(always)]
pub fn settled(tagged: u64, outcome: Outcome) {
    if let Some(counters) = maps::COUNTERS.get_ptr_mut(tagged) {
        unsafe {
            maps::increment(
                (&raw mut (*counters).by_outcome)
                    .cast::<u64>()
                    .add(outcome as usize),
            );
        }
    }
}

/// Where an outcome is counted. The compiler packs an outcome into a word with other things and knows its bounds, which a
/// verifier (that of Linux 6.1) does not see through the shifts: they are said once more, in a way that stays.
#[inline(always)]
fn slot(outcome: Outcome) -> usize {
    const { assert!(OUTCOME_SLOTS == 64) };
    let mut slot = outcome as u64;
    unsafe { core::arch::asm!("{0} &= 63", inout(reg) slot, options(pure, nomem, nostack)) };
    slot as usize
}
