//! Which sockets a workload may make: TCP and UDP.
//!
//! Raw, ping, SCTP, UDP-Lite and DCCP sockets have no connect that could be redirected. MPTCP could, but getpeername
//! could not be restored; its users fall back to TCP. Families other than AF_INET and AF_INET6 do not come here.

use core::ptr::read_volatile;

use aya_ebpf::{helpers::generated::bpf_get_netns_cookie, programs::SockContext};
use portcullis_abi::{Outcome, Site};

use crate::{
    connect::{ALLOW, DENY, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM},
    errors::failed,
    netns, tagged,
};

/// Decides a socket(2).
#[inline(always)]
pub fn create(ctx: &SockContext) -> i32 {
    let (kind, protocol) = unsafe {
        (
            read_volatile(&raw const (*ctx.sock).type_),
            read_volatile(&raw const (*ctx.sock).protocol),
        )
    };
    if kind == SOCK_STREAM && protocol == IPPROTO_TCP || kind == SOCK_DGRAM && protocol == IPPROTO_UDP {
        // The agent is told of a namespace that it does not listen in: before the connect, if it is quick.
        let _not_decided_here = netns::ports(unsafe { bpf_get_netns_cookie(ctx.sock.cast()) });
        return ALLOW;
    }
    match tagged::of_current() {
        Some(tagged) => tagged::count(ctx, tagged, Outcome::SocketDenied),
        None => failed(ctx, Site::SocketUntagged),
    }
    DENY
}
