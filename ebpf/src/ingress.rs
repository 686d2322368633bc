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
    let Some(tagged) = tagged::of_packet(ctx) else {
        failed(ctx, Site::IngressUntagged);
        return DENY;
    };
    match packet::read(ctx) {
        Ok(packet) if packet.plain != 0 => {
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
        Ok(_) => {}
        Err(_) => failed(ctx, Site::IngressHeader),
    }
    tagged::count(ctx, tagged, Outcome::IngressDropped);
    DENY
}
