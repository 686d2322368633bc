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
    let packet = packet::read(ctx).unwrap_or_else(|_| {
        failed(ctx, Site::EgressHeader);
        None
    });
    if let Some(packet) = &packet
        && is_to_loopback(packet)
        // A socket bound to a device after its connect would send 127.0.0.1 to that device.
        && packet::is_on_loopback(ctx)
    {
        if packet.protocol != IPPROTO_UDP {
            return ALLOW;
        }
        match udp::mark(ctx, packet.to_port) {
            Ok(()) => return ALLOW,
            Err(site) => failed(ctx, site),
        }
    }
    let Some(tagged) = tagged::of_packet(ctx) else {
        failed(ctx, Site::EgressUntagged);
        return DENY;
    };
    if let Some(packet) = &packet
        && exempt::passes(tagged, &flow(packet), For::Packet)
    {
        tagged::count(ctx, tagged, Outcome::EgressExempt);
        return ALLOW;
    }
    tagged::count(ctx, tagged, Outcome::EgressDropped);
    DENY
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
