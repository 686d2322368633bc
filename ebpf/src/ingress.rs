//! The guard of what a workload listens on: a packet from another host reaches none of its sockets but by exemption.

use aya_ebpf::programs::SkBuffContext;
use portcullis_abi::{Outcome, Site};

use crate::{
    connect::{ALLOW, DENY},
    errors::failed,
    exempt::{self, Flow, For},
    packet, tagged,
};

/// Decides a packet that has arrived for a socket.
#[inline(always)]
pub fn ingress(ctx: &SkBuffContext) -> i32 {
    if packet::is_on_loopback(ctx) {
        return ALLOW;
    }
    let packet = packet::read(ctx).unwrap_or_else(|_| {
        failed(ctx, Site::IngressHeader);
        None
    });
    let Some(tagged) = tagged::of_packet(ctx) else {
        failed(ctx, Site::IngressUntagged);
        return DENY;
    };
    if let Some(packet) = packet {
        let flow = Flow {
            protocol: packet.protocol,
            addr: packet.from,
            port: packet.from_port,
            own: packet.to_port,
        };
        if exempt::passes(tagged, &flow, For::Packet) {
            return ALLOW;
        }
    }
    tagged::count(ctx, tagged, Outcome::IngressDropped);
    DENY
}
