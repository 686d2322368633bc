//! The guard under every other hook: a workload's packets stay on loopback, so that a hook that is missed is a refusal
//! and not a leak.
//!
//! Here a packet is whole (fragmentation comes after), its network header first. What may pass is read from the packet
//! and not from the socket, and only in its plainest form: no IP options and no extension headers, by which a packet can
//! be routed on from where it is sent to; for DNS, no fragment either.

use core::ptr::read_volatile;

use aya_ebpf::programs::SkBuffContext;
use portcullis_abi::{Outcome, Site};

use crate::{
    connect::{ALLOW, DENY, IPPROTO_TCP, IPPROTO_UDP},
    errors::failed,
    tagged, udp,
};

const IPPROTO_ICMPV6: u32 = 58;
/// IPv4, and a header of five words.
const WITHOUT_OPTIONS: u8 = 0x45;
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
        Packet::Dns => (Outcome::EgressExempt, ALLOW),
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
    let header: [u8; 20] = ctx.load(0)?;
    if header[0] != WITHOUT_OPTIONS {
        return Ok(Packet::Other);
    }
    if header[16] == 127 {
        return Ok(Packet::Loopback);
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT != 0;
    if fragment || u32::from(header[9]) != IPPROTO_UDP {
        return Ok(Packet::Other);
    }
    to_dns(ctx, 20)
}

/// RFC 8200: next header at 6, destination at 24, payload at 40.
#[inline(always)]
fn ipv6(ctx: &SkBuffContext) -> Result<Packet, i64> {
    let next = u32::from(ctx.load::<u8>(6)?);
    let to: [u32; 4] = ctx.load(24)?;
    if to == [0, 0, 0, 1_u32.to_be()] && matches!(next, IPPROTO_TCP | IPPROTO_UDP | IPPROTO_ICMPV6) {
        return Ok(Packet::Loopback);
    }
    if next != IPPROTO_UDP {
        return Ok(Packet::Other);
    }
    to_dns(ctx, 40)
}

/// RFC 768: the destination port is the second word.
#[inline(always)]
fn to_dns(ctx: &SkBuffContext, udp: usize) -> Result<Packet, i64> {
    let port = u16::from_be(ctx.load(udp + 2)?);
    Ok(if port == udp::DNS {
        Packet::Dns
    } else {
        Packet::Other
    })
}
