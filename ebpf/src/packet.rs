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

/// Protocol, addresses and ports of a packet. Not in an `Option`: what the compiler leaves unset of an empty one, the
/// verifier refuses to see copied.
pub struct Packet {
    /// Not 0 where the rest is known.
    pub plain: u32,
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

/// Reads a packet; one in another form is not plain.
#[inline(always)]
pub fn read(ctx: &SkBuffContext) -> Result<Packet, i64> {
    let mut packet = Packet {
        plain: 0,
        protocol: 0,
        from: [0; 4],
        to: [0; 4],
        from_port: 0,
        to_port: 0,
    };
    let ethertype = u16::from_be(unsafe { read_volatile(&raw const (*ctx.skb.skb).protocol) } as u16);
    match ethertype {
        ETH_P_IP => ipv4(ctx, &mut packet)?,
        ETH_P_IPV6 => ipv6(ctx, &mut packet)?,
        _ => {}
    }
    Ok(packet)
}

/// RFC 791: version and length at 0, flags and fragment at 6, protocol at 9, source at 12, destination at 16.
#[inline(always)]
fn ipv4(ctx: &SkBuffContext, packet: &mut Packet) -> Result<(), i64> {
    let header: [u8; 12] = ctx.load(0)?;
    if header[0] != WITHOUT_OPTIONS {
        return Ok(());
    }
    let addresses: [u32; 2] = ctx.load(12)?;
    packet.protocol = u32::from(header[9]);
    packet.from = [0, 0, MAPPED, addresses[0]];
    packet.to = [0, 0, MAPPED, addresses[1]];
    if u16::from_be_bytes([header[6], header[7]]) & FRAGMENT == 0 {
        ports(ctx, packet, 20)?;
    }
    packet.plain = 1;
    Ok(())
}

/// RFC 8200: next header at 6, source at 8, destination at 24, payload at 40.
#[inline(always)]
fn ipv6(ctx: &SkBuffContext, packet: &mut Packet) -> Result<(), i64> {
    packet.protocol = u32::from(ctx.load::<u8>(6)?);
    packet.from = ctx.load(8)?;
    packet.to = ctx.load(24)?;
    ports(ctx, packet, 40)?;
    packet.plain = 1;
    Ok(())
}

/// RFC 768 and RFC 9293: the source port, then the destination port.
#[inline(always)]
fn ports(ctx: &SkBuffContext, packet: &mut Packet, at: usize) -> Result<(), i64> {
    if packet.protocol == IPPROTO_TCP || packet.protocol == IPPROTO_UDP {
        let words: [u16; 2] = ctx.load(at)?;
        packet.from_port = u16::from_be(words[0]);
        packet.to_port = u16::from_be(words[1]);
    }
    Ok(())
}
