//! UDP: denied, but for DNS, which is a named and counted exemption until the agent resolves itself.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::bpf_sock_addr, helpers::generated::bpf_get_netns_cookie, programs::SockAddrContext,
};
use portcullis_abi::{Config, Outcome, Site};

use crate::{
    connect::{ALLOW, DENY},
    errors::failed,
    maps,
    tagged::{self, Tagged},
};

/// The exempt port.
pub const DNS: u16 = 53;

/// Decides a send with an address.
#[inline(always)]
pub fn sendmsg(ctx: &SockAddrContext) -> i32 {
    let Some(tagged) = tagged::of_current() else {
        failed(ctx, Site::SendUntagged);
        return DENY;
    };
    let Some(config) = maps::config() else {
        failed(ctx, Site::Config);
        tagged::count(ctx, tagged, Outcome::Failed);
        return DENY;
    };
    decide(ctx, tagged, config)
}

/// Decides a connect or a send of a UDP socket.
#[inline(always)]
pub fn decide(ctx: &SockAddrContext, tagged: Tagged, config: &Config) -> i32 {
    let sa: *mut bpf_sock_addr = ctx.sock_addr;
    let (outcome, verdict) = if unsafe { bpf_get_netns_cookie(sa.cast()) } != config.netns {
        (Outcome::NetnsUnknown, DENY)
    } else if u16::from_be(unsafe { read_volatile(&raw const (*sa).user_port) } as u16) == DNS {
        (Outcome::DnsRedirected, ALLOW)
    } else {
        (Outcome::UdpDenied, DENY)
    };
    tagged::count(ctx, tagged, outcome);
    verdict
}
