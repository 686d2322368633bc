//! UDP: port 53 goes to the agent's resolver, port 443 is refused so that clients of QUIC fall back to TCP, and all else
//! is denied.
//!
//! A datagram of another thread on the same socket may be on its way at the same time, and the next process may have the
//! same port: so what is asked for goes with the datagram itself. The hook leaves it with the calling thread
//! (`SENDING`), in which the packet is then made; there the egress hook moves it to a token in the packet's mark, by
//! which the agent takes it (`SO_RCVMARK`).

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_sock, bpf_sock_addr},
    helpers::{
        bpf_get_prandom_u32,
        generated::{bpf_get_current_task, bpf_get_netns_cookie, bpf_get_socket_cookie},
    },
    programs::{SkBuffContext, SockAddrContext},
};
use portcullis_abi::{Outcome, Record, Site};

use crate::{
    connect::{self, ALLOW, DENY, IPPROTO_UDP, LOOPBACK4, LOOPBACK6, Verdict},
    errors::failed,
    exempt::{self, For},
    maps, netns,
    tagged::{self, Tagged},
};

/// The resolvers' port.
const DNS: u16 = 53;
/// The port of HTTP/3.
const QUIC: u16 = 443;
/// Tokens tried: one that is in use is another datagram's.
const TRIES: u32 = 4;

/// Decides a connect of a UDP socket.
#[inline(always)]
pub fn connect(ctx: &SockAddrContext, tagged: Tagged, addr: [u32; 4]) -> (Outcome, Verdict) {
    if exempt::passes(tagged, &connect::flow(ctx, IPPROTO_UDP, addr), For::Asking) {
        return (Outcome::Exempt, Verdict::Pass);
    }
    let (netns, port) = match question(ctx) {
        Ok(question) => question,
        Err(outcome) => return (outcome, Verdict::Deny),
    };
    match connect::keep(ctx, tagged, netns, addr) {
        Ok(()) => (Outcome::DnsRedirected, Verdict::Redirect(port)),
        Err(site) => {
            failed(ctx, site);
            (Outcome::Failed, Verdict::Deny)
        }
    }
}

/// Decides a send with an IPv4 address; one with a v4-mapped address comes here, too.
#[inline(always)]
pub fn sendmsg4(ctx: &SockAddrContext) -> i32 {
    let addr = unsafe { connect::user_ip4(ctx.sock_addr) };
    match send(ctx, addr) {
        Verdict::Deny => DENY,
        Verdict::Pass => ALLOW,
        Verdict::Redirect(port) => unsafe { connect::redirect4(ctx.sock_addr, port) },
    }
}

/// Decides a send with an IPv6 address.
#[inline(always)]
pub fn sendmsg6(ctx: &SockAddrContext) -> i32 {
    let addr = unsafe { connect::user_ip6(ctx.sock_addr) };
    match send(ctx, addr) {
        Verdict::Deny => DENY,
        Verdict::Pass => ALLOW,
        Verdict::Redirect(port) => unsafe { connect::redirect6(ctx.sock_addr, addr, port) },
    }
}

#[inline(always)]
fn send(ctx: &SockAddrContext, addr: [u32; 4]) -> Verdict {
    let Some(tagged) = tagged::of_current() else {
        failed(ctx, Site::SendUntagged);
        return Verdict::Deny;
    };
    if unsafe { is_connected_there(ctx.sock_addr, addr) } {
        return Verdict::Pass;
    }
    if exempt::passes(tagged, &connect::flow(ctx, IPPROTO_UDP, addr), For::Asking) {
        tagged::count(ctx, tagged, Outcome::Exempt);
        return Verdict::Pass;
    }
    let (outcome, verdict) = match question(ctx) {
        Ok((netns, port)) => match ask(ctx, tagged, netns, addr) {
            Ok(()) => (Outcome::DnsRedirected, Verdict::Redirect(port)),
            Err(outcome) => (outcome, Verdict::Deny),
        },
        Err(outcome) => (outcome, Verdict::Deny),
    };
    tagged::count(ctx, tagged, outcome);
    verdict
}

/// Whether this is a send without an address of a socket that the connect hook connected to the resolver: one that is
/// connected to a v4-mapped address comes here all the same, with what it was connected to as the address.
#[inline(always)]
unsafe fn is_connected_there(sa: *mut bpf_sock_addr, to: [u32; 4]) -> bool {
    if !connect::is_mapped(to) || to[3] != LOOPBACK4 {
        return false;
    }
    unsafe {
        let sk = read_volatile(&raw const (*sa).__bindgen_anon_1.sk);
        maps::record(&maps::ORIGINAL_DST, sk, false)
            .and_then(|record| maps::ports(record.netns))
            .is_some_and(|ports| ports.dns == connect::user_port(sa))
    }
}

/// Whether this is for a resolver: the namespace, and the agent's resolver there.
#[inline(always)]
fn question(ctx: &SockAddrContext) -> Result<(u64, u16), Outcome> {
    let sa: *mut bpf_sock_addr = ctx.sock_addr;
    match unsafe { connect::user_port(sa) } {
        DNS => {}
        QUIC => return Err(Outcome::QuicDenied),
        _ => return Err(Outcome::UdpDenied),
    }
    let netns = unsafe { bpf_get_netns_cookie(sa.cast()) };
    let ports = netns::needed(netns).ok_or(Outcome::NetnsUnknown)?;
    Ok((netns, ports.dns))
}

/// Keeps what a datagram asks for, for the packet that follows and for the answer.
#[inline(always)]
fn ask(ctx: &SockAddrContext, tagged: Tagged, netns: u64, addr: [u32; 4]) -> Result<(), Outcome> {
    let sa = ctx.sock_addr;
    let sk = unsafe { read_volatile(&raw const (*sa).__bindgen_anon_1.sk) };
    // 127.0.0.1 would be sent to that device. The binding cannot be cleared in this hook of every kernel.
    if unsafe { read_volatile(&raw const (*sk).bound_dev_if) } != 0 {
        return Err(Outcome::UdpDenied);
    }
    let kept = connect::record(ctx, tagged, netns, addr).and_then(|record| {
        let asked = unsafe { maps::record(&maps::ASKED, sk, true) }.ok_or(Site::SendStorage)?;
        *asked = record;
        let task = unsafe { bpf_get_current_task() };
        maps::SENDING
            .insert(task, record, 0)
            .map_err(|_| Site::SendSending)
    });
    kept.map_err(|site| {
        failed(ctx, site);
        Outcome::Failed
    })
}

/// Shows the workload the resolver that it asked, where the agent's answered.
#[inline(always)]
pub fn recvmsg4(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    unsafe {
        let addr = connect::user_ip4(sa);
        if let Some(record) = answered(sa, addr) {
            write_volatile(&raw mut (*sa).user_ip4, record.addr[3]);
            write_volatile(&raw mut (*sa).user_port, u32::from(record.port.to_be()));
        }
    }
    ALLOW
}

/// The same for an AF_INET6 socket, also where it asked a v4-mapped address.
#[inline(always)]
pub fn recvmsg6(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    unsafe {
        let addr = connect::user_ip6(sa);
        if let Some(record) = answered(sa, addr) {
            connect::set_user_ip6(sa, record.addr);
            write_volatile(&raw mut (*sa).user_port, u32::from(record.port.to_be()));
        }
    }
    ALLOW
}

/// What the socket asked for, if `from` is the agent's resolver.
#[inline(always)]
unsafe fn answered(sa: *mut bpf_sock_addr, from: [u32; 4]) -> Option<&'static Record> {
    if from != LOOPBACK6 && !(connect::is_mapped(from) && from[3] == LOOPBACK4) {
        return None;
    }
    unsafe {
        let sk = read_volatile(&raw const (*sa).__bindgen_anon_1.sk);
        let record = match maps::record(&maps::ASKED, sk, false) {
            Some(record) => record,
            None => maps::record(&maps::ORIGINAL_DST, sk, false)?,
        };
        let resolver = maps::ports(record.netns)?.dns;
        (connect::user_port(sa) == resolver).then_some(&*record)
    }
}

/// Marks a packet to loopback with the token of what it asks for; with 0, which is none, where it asks for nothing.
#[inline(always)]
pub fn mark(ctx: &SkBuffContext, port: u16) -> Result<(), Site> {
    let token = match asks(ctx) {
        Some(record) if maps::ports(record.netns).is_some_and(|ports| ports.dns == port) => {
            token(&record).ok_or(Site::EgressToken)?
        }
        _ => 0,
    };
    unsafe { write_volatile(&raw mut (*ctx.skb.skb).mark, token) };
    Ok(())
}

/// What this packet asks for. A connected socket's needs no hook, and so none has left anything with the thread; nor
/// has one where another thread ends what this one has corked.
#[inline(always)]
fn asks(ctx: &SkBuffContext) -> Option<Record> {
    let skb = ctx.skb.skb;
    let task = unsafe { bpf_get_current_task() };
    if let Some(found) = maps::SENDING.get_ptr(task) {
        let copy = unsafe { *found };
        // An entry that the map evicts is reused at once: only if it is still there now, the copy was of it.
        let removed = maps::SENDING.remove(task).is_ok();
        if removed && copy.socket == unsafe { bpf_get_socket_cookie(skb.cast()) } {
            return Some(copy);
        }
    }
    let sk: *mut bpf_sock = unsafe { read_volatile(&raw const (*skb).__bindgen_anon_2.sk) };
    if sk.is_null() {
        return None;
    }
    unsafe {
        let record = match maps::record(&maps::ORIGINAL_DST, sk, false) {
            Some(record) => record,
            None => maps::record(&maps::ASKED, sk, false)?,
        };
        Some(*record)
    }
}

#[inline(always)]
fn token(record: &Record) -> Option<u32> {
    for _ in 0..TRIES {
        let token = unsafe { bpf_get_prandom_u32() };
        if token != 0
            && maps::DATAGRAMS
                .insert(token, record, u64::from(BPF_NOEXIST))
                .is_ok()
        {
            return Some(token);
        }
    }
    None
}
