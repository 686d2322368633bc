//! Connects go to the agent; what was asked for is kept with the socket.
//!
//! Fields of the context are read and written volatile, four bytes each: the verifier refuses the wider and the partial
//! accesses that the compiler would otherwise make of them.

use core::ptr::{read_volatile, write_volatile};

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{bpf_get_current_cgroup_id, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_setsockopt},
    },
    programs::SockAddrContext,
};
use portcullis_abi::{Outcome, Record, Site};

use crate::{
    errors::failed,
    exempt::{self, Flow, For},
    kernel, maps, netns,
    tagged::{self, Tagged},
    udp,
};

/// The verdicts of every program: 0 is EPERM to the caller.
pub const DENY: i32 = 0;
/// Let it pass.
pub const ALLOW: i32 = 1;

/// `SOCK_STREAM`
pub const SOCK_STREAM: u32 = 1;
/// `SOCK_DGRAM`
pub const SOCK_DGRAM: u32 = 2;
/// `IPPROTO_TCP`
pub const IPPROTO_TCP: u32 = 6;
/// `IPPROTO_UDP`
pub const IPPROTO_UDP: u32 = 17;

const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;

/// `::ffff:0:0/96`, the third word.
pub const MAPPED: u32 = 0xffff_u32.to_be();
/// 127.0.0.1
pub const LOOPBACK4: u32 = 0x7f00_0001_u32.to_be();
/// `::1`
pub const LOOPBACK6: [u32; 4] = [0, 0, 0, 1_u32.to_be()];

/// Decides a connect of an AF_INET socket.
#[inline(always)]
pub fn connect4(ctx: &SockAddrContext) -> i32 {
    let addr = unsafe { user_ip4(ctx.sock_addr) };
    match decide(ctx, addr) {
        Verdict::Deny => DENY,
        Verdict::Pass => ALLOW,
        Verdict::Redirect(port) => unsafe { redirect4(ctx.sock_addr, port) },
    }
}

/// Decides a connect of an AF_INET6 socket. `connect4` does not run for a v4-mapped destination: it is sent to the
/// listener on 127.0.0.1 from here, which works where IPv6 has no loopback, too.
#[inline(always)]
pub fn connect6(ctx: &SockAddrContext) -> i32 {
    let addr = unsafe { user_ip6(ctx.sock_addr) };
    match decide(ctx, addr) {
        Verdict::Deny => DENY,
        Verdict::Pass => ALLOW,
        Verdict::Redirect(port) => unsafe { redirect6(ctx.sock_addr, addr, port) },
    }
}

/// Shows the workload the peer that it asked for.
#[inline(always)]
pub fn getpeername4(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    unsafe {
        let sk = read_volatile(&raw const (*sa).__bindgen_anon_1.sk);
        if let Some(record) = maps::record(&maps::ORIGINAL_DST, sk, false) {
            write_volatile(&raw mut (*sa).user_ip4, record.addr[3]);
            write_volatile(&raw mut (*sa).user_port, u32::from(record.port.to_be()));
        }
    }
    ALLOW
}

/// The same for an AF_INET6 socket.
#[inline(always)]
pub fn getpeername6(ctx: &SockAddrContext) -> i32 {
    let sa = ctx.sock_addr;
    unsafe {
        let sk = read_volatile(&raw const (*sa).__bindgen_anon_1.sk);
        if let Some(record) = maps::record(&maps::ORIGINAL_DST, sk, false) {
            set_user_ip6(sa, record.addr);
            write_volatile(&raw mut (*sa).user_port, u32::from(record.port.to_be()));
        }
    }
    ALLOW
}

/// What becomes of a connect or a send; it has been counted.
pub enum Verdict {
    /// EPERM.
    Deny,
    /// As it was asked for.
    Pass,
    /// To this port of the agent, on loopback.
    Redirect(u16),
}

#[inline(always)]
fn decide(ctx: &SockAddrContext, addr: [u32; 4]) -> Verdict {
    let sa = ctx.sock_addr;
    let Some(tagged) = tagged::of_current() else {
        failed(ctx, Site::ConnectUntagged);
        return Verdict::Deny;
    };
    let (kind, protocol) = unsafe {
        (
            read_volatile(&raw const (*sa).type_),
            read_volatile(&raw const (*sa).protocol),
        )
    };
    let (outcome, verdict) = if kind == SOCK_STREAM && protocol == IPPROTO_TCP {
        tcp(ctx, tagged, addr)
    } else if kind == SOCK_DGRAM && protocol == IPPROTO_UDP {
        udp::connect(ctx, tagged, addr)
    } else {
        (Outcome::TypeDenied, Verdict::Deny)
    };
    tagged::count(ctx, tagged, outcome);
    verdict
}

#[inline(always)]
fn tcp(ctx: &SockAddrContext, tagged: Tagged, addr: [u32; 4]) -> (Outcome, Verdict) {
    if exempt::passes(tagged, &flow(ctx, IPPROTO_TCP, addr), For::Asking) {
        return (Outcome::Exempt, Verdict::Pass);
    }
    let netns = unsafe { bpf_get_netns_cookie(ctx.sock_addr.cast()) };
    let Some(ports) = netns::needed(netns) else {
        return (Outcome::NetnsUnknown, Verdict::Deny);
    };
    match keep(ctx, tagged, netns, addr) {
        Ok(()) => (Outcome::TcpRedirected, Verdict::Redirect(ports.tcp)),
        Err(site) => {
            failed(ctx, site);
            (Outcome::Failed, Verdict::Deny)
        }
    }
}

/// What is asked for, as exemptions name it.
#[inline(always)]
pub fn flow(ctx: &SockAddrContext, protocol: u32, addr: [u32; 4]) -> Flow {
    Flow {
        protocol,
        addr,
        port: unsafe { user_port(ctx.sock_addr) },
        own: 0,
    }
}

/// Keeps who connects where with the socket.
#[inline(always)]
pub fn keep(ctx: &SockAddrContext, tagged: Tagged, netns: u64, addr: [u32; 4]) -> Result<(), Site> {
    let sa = ctx.sock_addr;
    let sk = unsafe { read_volatile(&raw const (*sa).__bindgen_anon_1.sk) };
    unsafe { unbind(sa, sk) }?;
    let record = record(ctx, tagged, netns, addr)?;
    let kept = unsafe { maps::record(&maps::ORIGINAL_DST, sk, true) }.ok_or(Site::ConnectStorage)?;
    *kept = record;
    Ok(())
}

/// Who asks, and for what.
#[inline(always)]
pub fn record(ctx: &SockAddrContext, tagged: Tagged, netns: u64, addr: [u32; 4]) -> Result<Record, Site> {
    let sa = ctx.sock_addr;
    let start_ns = kernel::start(kernel::current()).ok_or(Site::ConnectStart)?;
    let (pid_tid, gid_uid) = (bpf_get_current_pid_tgid(), bpf_get_current_uid_gid());
    Ok(Record {
        tagged: tagged.0,
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        start_ns,
        netns,
        socket: unsafe { bpf_get_socket_cookie(sa.cast()) },
        pid: (pid_tid >> 32) as u32,
        tid: pid_tid as u32,
        uid: gid_uid as u32,
        gid: (gid_uid >> 32) as u32,
        addr,
        port: unsafe { user_port(sa) },
        reserved: [0; 3],
    })
}

/// Clears SO_BINDTODEVICE: 127.0.0.1 would be sent to that device.
#[inline(always)]
unsafe fn unbind(sa: *mut bpf_sock_addr, sk: *mut bpf_sock) -> Result<(), Site> {
    if unsafe { read_volatile(&raw const (*sk).bound_dev_if) } == 0 {
        return Ok(());
    }
    let mut none = 0_u32;
    let set = unsafe { bpf_setsockopt(sa.cast(), SOL_SOCKET, SO_BINDTODEVICE, (&raw mut none).cast(), 4) };
    if set == 0 {
        Ok(())
    } else {
        Err(Site::ConnectDevice)
    }
}

/// The destination's port, host order.
#[inline(always)]
pub unsafe fn user_port(sa: *mut bpf_sock_addr) -> u16 {
    u16::from_be(unsafe { read_volatile(&raw const (*sa).user_port) } as u16)
}

/// The destination of an AF_INET socket, v4-mapped.
#[inline(always)]
pub unsafe fn user_ip4(sa: *mut bpf_sock_addr) -> [u32; 4] {
    [0, 0, MAPPED, unsafe { read_volatile(&raw const (*sa).user_ip4) }]
}

/// Sends an AF_INET socket to the agent.
#[inline(always)]
pub unsafe fn redirect4(sa: *mut bpf_sock_addr, port: u16) -> i32 {
    unsafe {
        write_volatile(&raw mut (*sa).user_ip4, LOOPBACK4);
        write_volatile(&raw mut (*sa).user_port, u32::from(port.to_be()));
    }
    ALLOW
}

/// Sends an AF_INET6 socket to the agent.
#[inline(always)]
pub unsafe fn redirect6(sa: *mut bpf_sock_addr, addr: [u32; 4], port: u16) -> i32 {
    let to = if is_mapped(addr) {
        [0, 0, MAPPED, LOOPBACK4]
    } else {
        LOOPBACK6
    };
    unsafe {
        set_user_ip6(sa, to);
        write_volatile(&raw mut (*sa).user_port, u32::from(port.to_be()));
    }
    ALLOW
}

/// Whether this is an IPv4 address.
#[inline(always)]
pub fn is_mapped(addr: [u32; 4]) -> bool {
    addr[0] == 0 && addr[1] == 0 && addr[2] == MAPPED
}

#[inline(always)]
pub unsafe fn user_ip6(sa: *mut bpf_sock_addr) -> [u32; 4] {
    unsafe {
        [
            read_volatile(&raw const (*sa).user_ip6[0]),
            read_volatile(&raw const (*sa).user_ip6[1]),
            read_volatile(&raw const (*sa).user_ip6[2]),
            read_volatile(&raw const (*sa).user_ip6[3]),
        ]
    }
}

#[inline(always)]
pub unsafe fn set_user_ip6(sa: *mut bpf_sock_addr, addr: [u32; 4]) {
    unsafe {
        write_volatile(&raw mut (*sa).user_ip6[0], addr[0]);
        write_volatile(&raw mut (*sa).user_ip6[1], addr[1]);
        write_volatile(&raw mut (*sa).user_ip6[2], addr[2]);
        write_volatile(&raw mut (*sa).user_ip6[3], addr[3]);
    }
}
