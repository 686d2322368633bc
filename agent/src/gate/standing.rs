//! Which addresses a name may stand for.
//!
//! Whoever owns a domain decides what its names resolve to, and may say 127.0.0.1, or the address of a metadata
//! service, or of somebody's database (DNS rebinding). Such an answer is passed on, but it proves nothing: a grant by
//! name does not reach what means "this host" or "this link" everywhere, unless the host's own admin says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_resolver::{
    Hosts,
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
};

use crate::config::Dns;

/// Whether `name` (lower case, no dot at the end) may stand for an address that a resolver gave for it.
pub(super) fn may_stand(settings: &Dns, name: &str, address: IpAddr) -> bool {
    let address = address.to_canonical();
    if is_special(address) {
        return is_own_word(name, address);
    }
    match &settings.private {
        Some(domains) if is_private(address) => {
            domains.iter().any(|d| is_below(name, d)) || in_hosts_file(name, address)
        }
        _ => true,
    }
}

/// Whether a name is a domain, or below it.
pub(super) fn is_below(name: &str, domain: &str) -> bool {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let Some(at) = name.len().checked_sub(domain.len()) else {
        return false;
    };
    let end = name.as_bytes().get(at..).unwrap_or_default();
    end.eq_ignore_ascii_case(domain.as_bytes()) && (at == 0 || name.as_bytes().get(at - 1) == Some(&b'.'))
}

/// RFC 6761 section 6.3.
fn is_localhost(name: &str) -> bool {
    is_below(name, "localhost")
}

/// What means the host itself, its link or everybody, on every host (RFC 6890).
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            v4.octets()[0] == 0
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            v6.is_unspecified()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6.is_multicast()
                || embedded(v6).is_some_and(|v4| is_special(v4.into()))
        }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_unique_local() || embedded(v6).is_some_and(|v4| is_private(v4.into())),
    }
}

/// The IPv4 address that a translator would make of it: NAT64 (RFC 6052), 6to4 (RFC 3056), and IPv4-compatible ones.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let of = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] if high != 0 => of(high, low),
        [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

/// Whether a name is an address without anybody being asked: of `localhost`, and where the hosts file says so.
pub(super) fn is_own_word(name: &str, address: IpAddr) -> bool {
    (is_localhost(name) && address.is_loopback()) || in_hosts_file(name, address)
}

/// Whether the host's admin wrote this name and address into the hosts file.
fn in_hosts_file(name: &str, address: IpAddr) -> bool {
    let (Ok(hosts), Ok(mut name)) = (Hosts::from_system(), Name::from_ascii(name)) else {
        return false;
    };
    name.set_fqdn(true);
    let kind = match address {
        IpAddr::V4(_) => RecordType::A,
        IpAddr::V6(_) => RecordType::AAAA,
    };
    hosts
        .lookup_static_host(&Query::query(name, kind))
        .is_some_and(|found| found.answers().iter().any(|r| r.data.ip_addr() == Some(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(settings: &Dns, name: &str, address: &str) -> bool {
        may_stand(settings, name, address.parse().unwrap())
    }

    #[test]
    fn a_name_does_not_stand_for_this_host_or_its_link() {
        let settings = Dns::default();
        for address in [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.251",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::fb",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::",
            "::7f00:1",
        ] {
            assert!(!may(&settings, "rebound.example", address), "{address}");
        }
        for address in [
            "192.0.2.7",
            "10.0.0.5",
            "100.64.0.1",
            "2001:db8::1",
            "fd00::1",
            "64:ff9b::c000:207",
        ] {
            assert!(may(&settings, "api.example", address), "{address}");
        }
        assert!(may(&settings, "localhost", "127.0.0.1") && may(&settings, "a.localhost", "::1"));
        assert!(!may(&settings, "localhost.example", "127.0.0.1"));
        assert!(!may(&settings, "localhost", "169.254.169.254"));
    }

    #[test]
    fn private_addresses_are_for_the_domains_that_are_named() {
        let settings = Dns {
            private: Some(vec!["corp.example".into()]),
            ..Dns::default()
        };
        for address in [
            "10.0.0.5",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd00::1",
            "64:ff9b::a00:5",
        ] {
            assert!(may(&settings, "db.corp.example", address), "{address}");
            assert!(may(&settings, "corp.example", address), "{address}");
            assert!(!may(&settings, "evilcorp.example", address), "{address}");
            assert!(!may(&settings, "example", address), "{address}");
        }
        assert!(may(&settings, "www.example", "192.0.2.7"));
        assert!(!may(&settings, "db.corp.example", "127.0.0.1"));
    }
}
