//! The guard under every other hook: a workload's packets stay on loopback, so that a hook that is missed is a refusal
//! and not a leak.
//!
//! Here a packet is whole (fragmentation comes after), its network header first. The exemption is read from the packet
//! and not from the socket, and only in its plainest form: no IP options, no fragment, no extension header.

use core::ptr::read_volatile;

use aya_ebpf::programs::SkBuffContext;
use portcullis_abi::{Outcome, Site};

use crate::{
    connect::{ALLOW, DENY, IPPROTO_UDP},
    errors::failed,
    tagged, udp,
};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// The loopback device's index in every network namespace (LOOPBACK_IFINDEX).
const LOOPBACK: u32 = 1;
/// More fragments, and the offset: everything of the field but "don't fragment" and the reserved bit.
const FRAGMENT: u16 = 0x3fff;

enum Packet {
    Loopback,
    Dns,
    Other,
}

/// Decides a packet.
#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    let packet = match classify(ctx) {
        // A socket bound to a device after its connect would send 127.0.0.1 to that device.
        Ok(Packet::Loopback) if unsafe { read_volatile(&raw const (*ctx.skb.skb).ifindex) } == LOOPBACK => {
            return ALLOW;
        }
        Ok(packet) => packet,
        Err(_) => {
            failed(ctx, Site::EgressHeader);
            Packet::Other
        }
    };
    let Some(tagged) = tagged::of_packet(ctx) else {
        failed(ctx, Site::EgressUntagged);
        return DENY;
    };
    let (outcome, verdict) = match packet {
        Packet::Dns => (Outcome::EgressDnsExempt, ALLOW),
        Packet::Loopback | Packet::Other => (Outcome::EgressDropped, DENY),
    };
    tagged::count(ctx, tagged, outcome);
    verdict
}

#[inline(always)]
fn classify(ctx: &SkBuffContext) -> Result<Packet, i64> {
    let ethertype = u16::from_be(unsafe { read_volatile(&raw const (*ctx.skb.skb).protocol) } as u16);
    match ethertype {
        ETH_P_IP => ipv4(ctx),
        ETH_P_IPV6 => ipv6(ctx),
        _ => Ok(Packet::Other),
    }
}

/// RFC 791: version and length at 0, flags and fragment at 6, protocol at 9, destination at 16.
#[inline(always)]
fn ipv4(ctx: &SkBuffContext) -> Result<Packet, i64> {
    if ctx.load::<u8>(16)? == 127 {
        return Ok(Packet::Loopback);
    }
    let plain = ctx.load::<u8>(0)? == 0x45
        && u16::from_be(ctx.load(6)?) & FRAGMENT == 0
        && u32::from(ctx.load::<u8>(9)?) == IPPROTO_UDP
        && u16::from_be(ctx.load(22)?) == udp::DNS;
    Ok(if plain { Packet::Dns } else { Packet::Other })
}

/// RFC 8200: next header at 6, destination at 24, payload at 40.
#[inline(always)]
fn ipv6(ctx: &SkBuffContext) -> Result<Packet, i64> {
    if ctx.load::<[u32; 4]>(24)? == [0, 0, 0, 1_u32.to_be()] {
        return Ok(Packet::Loopback);
    }
    let plain = u32::from(ctx.load::<u8>(6)?) == IPPROTO_UDP && u16::from_be(ctx.load(42)?) == udp::DNS;
    Ok(if plain { Packet::Dns } else { Packet::Other })
}
