//! The guard under every other hook: a workload's packets stay on loopback, so that a hook that is missed is a refusal
//! and not a leak.
//!
//! Here a packet is whole (fragmentation comes after), its network header first. What may pass is read from the packet
//! and not from the socket, and only in its plainest form: no IP options and no extension headers, by which a packet can
//! be routed on from where it is sent to.

use core::ptr::read_volatile;

use aya_ebpf::programs::SkBuffContext;
use portcullis_abi::{Outcome, Site};

use crate::{
    connect::{ALLOW, DENY, IPPROTO_TCP, IPPROTO_UDP, LOOPBACK6},
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

enum Packet {
    /// To loopback.
    Loopback,
    /// A UDP datagram to this port of loopback.
    Datagram(u16),
    Other,
}

/// Decides a packet.
#[inline(always)]
pub fn egress(ctx: &SkBuffContext) -> i32 {
    let packet = classify(ctx).unwrap_or_else(|_| {
        failed(ctx, Site::EgressHeader);
        Packet::Other
    });
    // A socket bound to a device after its connect would send 127.0.0.1 to that device.
    let inside = unsafe { read_volatile(&raw const (*ctx.skb.skb).ifindex) } == LOOPBACK;
    match packet {
        Packet::Loopback if inside => return ALLOW,
        Packet::Datagram(port) if inside => match udp::mark(ctx, port) {
            Ok(()) => return ALLOW,
            Err(site) => failed(ctx, site),
        },
        _ => {}
    }
    match tagged::of_packet(ctx) {
        Some(tagged) => tagged::count(ctx, tagged, Outcome::EgressDropped),
        None => failed(ctx, Site::EgressUntagged),
    }
    DENY
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

/// RFC 791: version and length at 0, protocol at 9, destination at 16.
#[inline(always)]
fn ipv4(ctx: &SkBuffContext) -> Result<Packet, i64> {
    let header: [u8; 20] = ctx.load(0)?;
    if header[0] != WITHOUT_OPTIONS || header[16] != 127 {
        return Ok(Packet::Other);
    }
    if u32::from(header[9]) == IPPROTO_UDP {
        return datagram(ctx, 20);
    }
    Ok(Packet::Loopback)
}

/// RFC 8200: next header at 6, destination at 24, payload at 40.
#[inline(always)]
fn ipv6(ctx: &SkBuffContext) -> Result<Packet, i64> {
    let next = u32::from(ctx.load::<u8>(6)?);
    let to: [u32; 4] = ctx.load(24)?;
    if to != LOOPBACK6 {
        return Ok(Packet::Other);
    }
    match next {
        IPPROTO_UDP => datagram(ctx, 40),
        IPPROTO_TCP | IPPROTO_ICMPV6 => Ok(Packet::Loopback),
        _ => Ok(Packet::Other),
    }
}

/// RFC 768: the destination port is the second word.
#[inline(always)]
fn datagram(ctx: &SkBuffContext, udp: usize) -> Result<Packet, i64> {
    Ok(Packet::Datagram(u16::from_be(ctx.load(udp + 2)?)))
}
