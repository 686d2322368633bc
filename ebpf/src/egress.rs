//! The guard under every other hook: a workload's packets stay on loopback, so that a hook that is missed is a refusal
//! and not a leak.
//!
//! What may pass is read from the packet and not from the socket.

use aya_ebpf::programs::SkBuffContext;
use portcullis_abi::{Outcome, Site};

use crate::{
    connect::{self, ALLOW, DENY, IPPROTO_TCP, IPPROTO_UDP, LOOPBACK6},
    errors::failed,
    exempt::{self, Flow, For},
    packet::{self, Packet},
    tagged, udp,
};

const IPPROTO_ICMPV6: u32 = 58;

/// Decides a packet.
#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    let verdict = match packet::read(ctx) {
        Ok(packet) if packet.plain != 0 => plain(ctx, &packet),
        Ok(_) => DENY,
        Err(_) => {
            failed(ctx, Site::EgressHeader);
            DENY
        }
    };
    if verdict == DENY {
        match tagged::of_packet(ctx) {
            Some(tagged) => tagged::count(ctx, tagged, Outcome::EgressDropped),
            None => failed(ctx, Site::EgressUntagged),
        }
    }
    verdict
}

#[inline(always)]
fn plain(ctx: &SkBuffContext, packet: &Packet) -> i32 {
    // A socket bound to a device after its connect would send 127.0.0.1 to that device.
    if is_to_loopback(packet) && packet::is_on_loopback(ctx) {
        if packet.protocol != IPPROTO_UDP {
            return ALLOW;
        }
        return match udp::mark(ctx, packet.to_port) {
            Ok(()) => ALLOW,
            Err(site) => {
                failed(ctx, site);
                DENY
            }
        };
    }
    match tagged::of_packet(ctx) {
        Some(tagged) if exempt::passes(tagged, &flow(packet), For::Packet) => {
            tagged::count(ctx, tagged, Outcome::EgressExempt);
            ALLOW
        }
        _ => DENY,
    }
}

#[inline(always)]
fn is_to_loopback(packet: &Packet) -> bool {
    if connect::is_mapped(packet.to) {
        return u32::from_be(packet.to[3]) >> 24 == 127;
    }
    packet.to == LOOPBACK6 && matches!(packet.protocol, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_ICMPV6)
}

#[inline(always)]
fn flow(packet: &Packet) -> Flow {
    Flow {
        protocol: packet.protocol,
        addr: packet.to,
        port: packet.to_port,
        own: packet.from_port,
    }
}
