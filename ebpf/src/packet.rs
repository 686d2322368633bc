//! What a packet says of itself, in its plainest form only: no IP options and no extension headers, by which a packet
//! can be routed on from where it is sent to.
//!
//! A packet's network header is first; on its way out it is whole (fragmentation comes after).

use core::ptr::read_volatile;

use aya_ebpf::programs::SkBuffContext;

use crate::connect::{IPPROTO_TCP, IPPROTO_UDP, MAPPED};

/// IPv4, and a header of five words.
const WITHOUT_OPTIONS: u8 = 0x45;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// The loopback device's index in every network namespace (LOOPBACK_IFINDEX).
const LOOPBACK: u32 = 1;
/// More fragments, and the offset: everything of the field but "don't fragment" and the reserved bit.
const FRAGMENT: u16 = 0x3fff;

/// Protocol, addresses and ports of a packet.
pub struct Packet {
    pub protocol: u32,
    /// Words in network order, IPv4 as v4-mapped.
    pub from: [u32; 4],
    /// As `from`.
    pub to: [u32; 4],
    /// Host order; both 0 where the protocol has none, or the packet is a fragment.
    pub from_port: u16,
    /// As `from_port`.
    pub to_port: u16,
}

/// Whether a packet comes from or goes to the loopback device.
#[inline(always)]
pub fn is_on_loopback(ctx: &SkBuffContext) -> bool {
    unsafe { read_volatile(&raw const (*ctx.skb.skb).ifindex) == LOOPBACK }
}

/// Reads a packet; `None` for one in another form.
#[inline(always)]
pub fn read(ctx: &SkBuffContext) -> Result<Option<Packet>, i64> {
    let ethertype = u16::from_be(unsafe { read_volatile(&raw const (*ctx.skb.skb).protocol) } as u16);
    match ethertype {
        ETH_P_IP => ipv4(ctx),
        ETH_P_IPV6 => ipv6(ctx),
        _ => Ok(None),
    }
}

/// RFC 791: version and length at 0, flags and fragment at 6, protocol at 9, source at 12, destination at 16.
#[inline(always)]
fn ipv4(ctx: &SkBuffContext) -> Result<Option<Packet>, i64> {
    let header: [u8; 12] = ctx.load(0)?;
    if header[0] != WITHOUT_OPTIONS {
        return Ok(None);
    }
    let addresses: [u32; 2] = ctx.load(12)?;
    let protocol = u32::from(header[9]);
    let whole = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT == 0;
    let (from_port, to_port) = ports(ctx, protocol, whole, 20)?;
    Ok(Some(Packet {
        protocol,
        from: [0, 0, MAPPED, addresses[0]],
        to: [0, 0, MAPPED, addresses[1]],
        from_port,
        to_port,
    }))
}

/// RFC 8200: next header at 6, source at 8, destination at 24, payload at 40.
#[inline(always)]
fn ipv6(ctx: &SkBuffContext) -> Result<Option<Packet>, i64> {
    let protocol = u32::from(ctx.load::<u8>(6)?);
    let from: [u32; 4] = ctx.load(8)?;
    let to: [u32; 4] = ctx.load(24)?;
    let (from_port, to_port) = ports(ctx, protocol, true, 40)?;
    Ok(Some(Packet {
        protocol,
        from,
        to,
        from_port,
        to_port,
    }))
}

/// RFC 768 and RFC 9293: the source port, then the destination port.
#[inline(always)]
fn ports(ctx: &SkBuffContext, protocol: u32, whole: bool, at: usize) -> Result<(u16, u16), i64> {
    if !whole || protocol != IPPROTO_TCP && protocol != IPPROTO_UDP {
        return Ok((0, 0));
    }
    let words: [u16; 2] = ctx.load(at)?;
    Ok((u16::from_be(words[0]), u16::from_be(words[1])))
}
