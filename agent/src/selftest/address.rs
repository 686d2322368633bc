//! Addresses as the kernel reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

fn family(family: i32) -> [u8; 2] {
    u16::try_from(family).unwrap_or(0).to_ne_bytes()
}

/// `struct sockaddr_in`, or `struct sockaddr_in6`.
pub(super) fn inet(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.extend(family(libc::AF_INET));
            bytes.extend(address.port().to_be_bytes());
            bytes.extend(ip.octets());
            bytes.extend([0; 8]);
        }
        IpAddr::V6(ip) => {
            bytes.extend(family(libc::AF_INET6));
            bytes.extend(address.port().to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(ip.octets());
            bytes.extend([0; 4]);
        }
    }
    bytes
}

/// An IPv4 address as an IPv6 one.
pub(super) fn mapped(ip: Ipv4Addr, port: u16) -> SocketAddr {
    (ip.to_ipv6_mapped(), port).into()
}

/// Any address of the same family.
pub(super) fn any(like: IpAddr, port: u16) -> SocketAddr {
    match like {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

/// AF_UNSPEC: no address.
pub(super) fn none() -> Vec<u8> {
    vec![0; 16]
}

/// `struct sockaddr_un`: a path, or an abstract name with a leading NUL.
pub(super) fn unix(name: &[u8]) -> Vec<u8> {
    let mut bytes = family(libc::AF_UNIX).to_vec();
    bytes.extend(name);
    if name.first() != Some(&0) {
        bytes.push(0);
    }
    bytes
}

/// `struct sockaddr_ll`: everything that goes out by a device.
pub(super) fn link(index: u32) -> Vec<u8> {
    let mut bytes = family(libc::AF_PACKET).to_vec();
    bytes.extend(0x0003_u16.to_be_bytes());
    bytes.extend(i32::try_from(index).unwrap_or(0).to_ne_bytes());
    bytes.extend([0, 0, 0, 6]);
    bytes.extend([2, 0, 0, 0, 0, 1, 0, 0]);
    bytes
}
