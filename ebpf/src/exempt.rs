//! Exemptions: named rules with an owner and an end, by which something passes that nothing inspects.
//!
//! The end is enforced here: an agent that is down cannot take a rule away.

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;
use portcullis_abi::{Exempt, MAX_EXEMPT};

use crate::{maps, tagged::Tagged};

/// One direction of a flow, from the workload's side.
pub struct Flow {
    pub protocol: u32,
    pub addr: [u32; 4],
    /// The other side's port, host order.
    pub port: u16,
    /// The workload's own port, host order; 0 where it is not known yet.
    pub own: u16,
}

/// What a rule is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// A connect or a send.
    Asking,
    /// A packet of a flow that either side may have begun.
    Packet,
    /// A bind: the flow's own port is all that is known.
    Binding,
}

/// Whether a rule lets it pass; the rule is counted then.
#[inline(always)]
pub fn passes(tagged: Tagged, flow: &Flow, what: For) -> bool {
    let Some(own) = maps::EXEMPT_OF.get_ptr(tagged.0) else {
        return false;
    };
    let own = unsafe { *own };
    if own == 0 {
        return false;
    }
    let now = unsafe { bpf_ktime_get_boot_ns() };
    for i in 0..MAX_EXEMPT as u32 {
        if own >> i & 1 == 0 {
            continue;
        }
        let Some(rule) = maps::EXEMPT.get(i) else {
            break;
        };
        if now < rule.until_ns && u32::from(rule.protocol) == flow.protocol && matches(rule, flow, what) {
            if let Some(used) = maps::EXEMPT_USED.get_ptr_mut(i) {
                unsafe { maps::increment(used) };
            }
            return true;
        }
    }
    false
}

#[inline(always)]
fn matches(rule: &Exempt, flow: &Flow, what: For) -> bool {
    let listen = rule.listen != 0;
    match what {
        For::Asking if listen => return false,
        For::Binding => return listen && within(rule, flow.own),
        For::Asking | For::Packet => {}
    }
    within(rule, if listen { flow.own } else { flow.port })
        && flow.addr[0] & rule.mask[0] == rule.addr[0]
        && flow.addr[1] & rule.mask[1] == rule.addr[1]
        && flow.addr[2] & rule.mask[2] == rule.addr[2]
        && flow.addr[3] & rule.mask[3] == rule.addr[3]
}

#[inline(always)]
fn within(rule: &Exempt, port: u16) -> bool {
    rule.first <= port && port <= rule.last
}
