//! Where a workload may bind: to loopback, or to no address in particular, which the ingress guard keeps as good as
//! loopback. An address of its own choice would be one to listen on, and one to send from that an answer could be led
//! astray by.

use core::ptr::read_volatile;

use aya_ebpf::programs::SockAddrContext;
use portcullis_abi::{
    Outcome, Site,
    guard::{NOBODY4, NOBODY6},
};

use crate::{
    connect::{self, ALLOW, DENY, LOOPBACK6},
    errors::failed,
    exempt::{self, Flow, For},
    tagged,
};

/// Decides a bind of an AF_INET socket.
#[inline(always)]
pub fn bind4(ctx: &SockAddrContext) -> i32 {
    decide(ctx, unsafe { connect::user_ip4(ctx.sock_addr) })
}

/// Decides a bind of an AF_INET6 socket.
#[inline(always)]
pub fn bind6(ctx: &SockAddrContext) -> i32 {
    decide(ctx, unsafe { connect::user_ip6(ctx.sock_addr) })
}

#[inline(always)]
fn decide(ctx: &SockAddrContext, addr: [u32; 4]) -> i32 {
    let sa = ctx.sock_addr;
    let v4 = u32::from_be(addr[3]);
    if addr == [0; 4] || addr == LOOPBACK6 || connect::is_mapped(addr) && (v4 == 0 || v4 >> 24 == 127) {
        return ALLOW;
    }
    let Some(tagged) = tagged::of_current() else {
        // The agent asks whether a socket meets this hook.
        if addr != NOBODY4 && addr != NOBODY6 {
            failed(ctx, Site::BindUntagged);
        }
        return DENY;
    };
    let flow = Flow {
        protocol: unsafe { read_volatile(&raw const (*sa).protocol) },
        addr,
        port: 0,
        own: unsafe { connect::user_port(sa) },
    };
    if exempt::passes(tagged, &flow, For::Binding) {
        tagged::count(ctx, tagged, Outcome::Exempt);
        return ALLOW;
    }
    tagged::count(ctx, tagged, Outcome::BindDenied);
    DENY
}
