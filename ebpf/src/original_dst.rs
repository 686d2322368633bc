//! How what the workload asked for reaches the socket that the agent accepts.
//!
//! The workload's socket hands its record to `INFLIGHT` before its SYN leaves, and the agent's accepted socket takes it
//! from there when the handshake completes, which is before accept(2) can return it. Looking it up by peer address
//! after accept instead was measured to be wrong for nearly half of 40,000 connections under port reuse: the port had
//! been used again while the old connection was still in the accept queue.
//!
//! Each connection that is sent is counted, and then once more, as accepted or as abandoned: whichever of the two takes
//! its record out of `INFLIGHT`. So sent = accepted + abandoned + what is in `INFLIGHT`, by tagged cgroup, at all times.

use core::ptr::read_volatile;

use aya_ebpf::{bindings::bpf_sock_ops, helpers::generated::bpf_get_netns_cookie, programs::SockOpsContext};
use portcullis_abi::{Flow, Outcome, Site};

use crate::{connect::MAPPED, errors::failed, maps, tagged};

/// `BPF_SOCK_OPS_TCP_CONNECT_CB`
const TCP_CONNECT: u32 = 3;
/// `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB`
const PASSIVE_ESTABLISHED: u32 = 5;
/// `BPF_SOCK_OPS_STATE_CB`
const STATE: u32 = 10;
/// `BPF_SOCK_OPS_STATE_CB_FLAG`
const STATE_FLAG: i32 = 4;
/// `BPF_TCP_CLOSE`
const TCP_CLOSE: u32 = 7;
const AF_INET6: u32 = 10;
/// What sock_ops programs return; it has no effect for these events.
const DONE: u32 = 1;

/// Events of a workload's sockets. Called for every event of every one of them: most return at once.
#[inline(always)]
pub fn workload_ops(ctx: &SockOpsContext) -> u32 {
    match ctx.op() {
        TCP_CONNECT => unsafe { syn(ctx) },
        STATE => unsafe { closed(ctx) },
        _ => {}
    }
    DONE
}

/// Events of the agent's sockets.
#[inline(always)]
pub fn agent_ops(ctx: &SockOpsContext) -> u32 {
    if ctx.op() == PASSIVE_ESTABLISHED {
        unsafe { established(ctx) };
    }
    DONE
}

/// A socket without a record was not redirected; the agent will refuse it for the same reason.
#[inline(always)]
unsafe fn syn(ctx: &SockOpsContext) {
    let sk = unsafe { read_volatile(&raw const (*ctx.ops).__bindgen_anon_2.sk) };
    if sk.is_null() {
        return failed(ctx, Site::SynSocket);
    }
    let Some(record) = (unsafe { maps::record(&maps::ORIGINAL_DST, sk, false) }) else {
        return;
    };
    if ctx.set_cb_flags(STATE_FLAG).is_err() {
        failed(ctx, Site::SynFlags);
    }
    let flow = unsafe { workload_flow(ctx.ops) };
    let tagged = record.tagged;
    match maps::INFLIGHT.insert(&flow, &*record, 0) {
        Ok(()) => tagged::settled(tagged, Outcome::TcpSent),
        Err(_) => failed(ctx, Site::SynInflight),
    }
}

/// A connect that failed must not leave its record to the next one with the same port.
#[inline(always)]
unsafe fn closed(ctx: &SockOpsContext) {
    unsafe {
        if read_volatile(&raw const (*ctx.ops).__bindgen_anon_1.args[1]) != TCP_CLOSE {
            return;
        }
        let sk = read_volatile(&raw const (*ctx.ops).__bindgen_anon_2.sk);
        if sk.is_null() {
            return;
        }
        let Some(own) = maps::record(&maps::ORIGINAL_DST, sk, false) else {
            return;
        };
        let flow = workload_flow(ctx.ops);
        if maps::INFLIGHT
            .get_ptr(&flow)
            .is_some_and(|found| (*found).socket == own.socket)
        {
            // Gone already: it was accepted, and is counted as that.
            if maps::INFLIGHT.remove(&flow).is_ok() {
                tagged::settled(own.tagged, Outcome::TcpAbandoned);
            }
        }
    }
}

/// No record in flight: the peer is no redirected socket. The agent finds none with the accepted one, and closes it.
#[inline(always)]
unsafe fn established(ctx: &SockOpsContext) {
    let ops = ctx.ops;
    let flow = unsafe {
        Flow {
            netns: bpf_get_netns_cookie(ops.cast()),
            addr: remote_addr(ops),
            port: u32::from_be(read_volatile(&raw const (*ops).remote_port)) as u16,
            agent_port: read_volatile(&raw const (*ops).local_port) as u16,
            reserved: 0,
        }
    };
    let Some(found) = maps::INFLIGHT.get_ptr(&flow) else {
        return;
    };
    let copy = unsafe { *found };
    // An entry that the map evicts is reused at once: only if it is still there now, the copy was of it.
    if maps::INFLIGHT.remove(&flow).is_err() {
        return failed(ctx, Site::AcceptEvicted);
    }
    let sk = unsafe { read_volatile(&raw const (*ops).__bindgen_anon_2.sk) };
    if sk.is_null() {
        return failed(ctx, Site::AcceptSocket);
    }
    match unsafe { maps::record(&maps::ACCEPTED, sk, true) } {
        Some(record) => {
            *record = copy;
            tagged::settled(copy.tagged, Outcome::TcpAccepted);
        }
        None => failed(ctx, Site::AcceptStorage),
    }
}

/// The flow, from the workload's side. The local port is in host order here, the remote one is not.
#[inline(always)]
unsafe fn workload_flow(ops: *mut bpf_sock_ops) -> Flow {
    unsafe {
        Flow {
            netns: bpf_get_netns_cookie(ops.cast()),
            addr: local_addr(ops),
            port: read_volatile(&raw const (*ops).local_port) as u16,
            agent_port: u32::from_be(read_volatile(&raw const (*ops).remote_port)) as u16,
            reserved: 0,
        }
    }
}

/// `v4` is read before the branch: were it read within, the compiler would join it with the last word of the other arm
/// into one load at a computed place, which the verifier refuses.
#[inline(always)]
unsafe fn local_addr(ops: *mut bpf_sock_ops) -> [u32; 4] {
    unsafe {
        let v4 = read_volatile(&raw const (*ops).local_ip4);
        if read_volatile(&raw const (*ops).family) == AF_INET6 {
            [
                read_volatile(&raw const (*ops).local_ip6[0]),
                read_volatile(&raw const (*ops).local_ip6[1]),
                read_volatile(&raw const (*ops).local_ip6[2]),
                read_volatile(&raw const (*ops).local_ip6[3]),
            ]
        } else {
            [0, 0, MAPPED, v4]
        }
    }
}

/// As `local_addr`.
#[inline(always)]
unsafe fn remote_addr(ops: *mut bpf_sock_ops) -> [u32; 4] {
    unsafe {
        let v4 = read_volatile(&raw const (*ops).remote_ip4);
        if read_volatile(&raw const (*ops).family) == AF_INET6 {
            [
                read_volatile(&raw const (*ops).remote_ip6[0]),
                read_volatile(&raw const (*ops).remote_ip6[1]),
                read_volatile(&raw const (*ops).remote_ip6[2]),
                read_volatile(&raw const (*ops).remote_ip6[3]),
            ]
        } else {
            [0, 0, MAPPED, v4]
        }
    }
}
