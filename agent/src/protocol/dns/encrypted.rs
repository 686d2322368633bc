//! Resolvers that are reached around DNS: DNS over HTTPS (RFC 8484), whose queries nobody else could decide on.
//!
//! DNS over TLS needs no list: what goes to its port is DNS here, and answered here. Over HTTPS a resolver is known by
//! its form (the media type of RFC 8484, or its path with a query in it), and those of the public, which also have forms
//! of their own, by name and address. The list is of those that are built into browsers and operating systems; it cannot be
//! whole, so that what is not granted by name stays denied all the same.

use crate::gate::Gate;

/// Domains of public resolvers; names below them are meant, too.
const DOMAINS: &[&str] = &[
    "adguard-dns.com",
    "cleanbrowsing.org",
    "cloudflare-dns.com",
    "controld.com",
    "dns.adguard.com",
    "dns.alidns.com",
    "dns.apple.com",
    "dns.comss.one",
    "dns.digitale-gesellschaft.ch",
    "dns.google",
    "dns.google.com",
    "dns.mullvad.net",
    "dns.nextdns.io",
    "dns.njal.la",
    "dns.quad9.net",
    "dns.sb",
    "dns0.eu",
    "doh.applied-privacy.net",
    "doh.dns.sb",
    "doh.opendns.com",
    "doh.pub",
    "doh.xfinity.com",
    "freedns.controld.com",
    "mozilla.cloudflare-dns.com",
    "one.one.one.one",
    "quad9.net",
    "wikimedia-dns.org",
];

/// Addresses of public resolvers, which are asked without a name.
const ADDRESSES: &[&str] = &[
    "1.0.0.1",
    "1.0.0.2",
    "1.0.0.3",
    "1.1.1.1",
    "1.1.1.2",
    "1.1.1.3",
    "8.8.4.4",
    "8.8.8.8",
    "9.9.9.10",
    "9.9.9.11",
    "9.9.9.9",
    "94.140.14.14",
    "94.140.15.15",
    "149.112.112.112",
    "185.222.222.222",
    "208.67.220.220",
    "208.67.222.222",
    "223.5.5.5",
    "223.6.6.6",
    "2606:4700:4700::1001",
    "2606:4700:4700::1111",
    "2001:4860:4860::8844",
    "2001:4860:4860::8888",
    "2620:fe::9",
    "2620:fe::fe",
];

/// Media types of DNS in HTTP (RFC 8484 section 6, RFC 8427), and the one before them.
const TYPES: &[&str] = &[
    "application/dns-message",
    "application/dns-json",
    "application/dns-udpwireformat",
];

/// Whether a request carries DNS, or goes to a resolver. `host` is in lower case, without port.
#[must_use]
pub fn is_dns(gate: &Gate, host: &str, path: &str, query: Option<&str>, content_type: Option<&str>) -> bool {
    if by_form(path, query, content_type) || is_resolver(host) {
        return true;
    }
    let settings = gate.dns();
    let to = gate.original_dst().0.ip().to_canonical().to_string();
    is_resolver(&to)
        || settings
            .encrypted
            .iter()
            .any(|own| below(host, own) || to == *own)
}

fn by_form(path: &str, query: Option<&str>, content_type: Option<&str>) -> bool {
    let kind = content_type
        .and_then(|t| t.split(';').next())
        .unwrap_or_default()
        .trim();
    if TYPES.iter().any(|t| kind.eq_ignore_ascii_case(t)) {
        return true;
    }
    let has = |name: &str| {
        let pairs = query.unwrap_or_default().split('&');
        pairs.filter_map(|p| p.split('=').next()).any(|key| key == name)
    };
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match last {
        "dns-query" => true,
        "resolve" => has("name") && has("type"),
        _ => has("dns"),
    }
}

fn is_resolver(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    ADDRESSES.contains(&bare) || DOMAINS.iter().any(|domain| below(host, domain))
}

fn below(host: &str, domain: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.strip_suffix(&domain.to_ascii_lowercase())
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_by_name_address_and_form() {
        for host in [
            "dns.google",
            "abc123.dns.nextdns.io",
            "cloudflare-dns.com.",
            "1.1.1.1",
            "[2620:fe::fe]",
        ] {
            assert!(is_resolver(host), "{host}");
        }
        for host in [
            "google.com",
            "notdns.google",
            "dns.google.example",
            "1.1.1.10",
            "api.example",
        ] {
            assert!(!is_resolver(host), "{host}");
        }
        for (path, query, kind) in [
            ("/dns-query", None, None),
            ("/profile/dns-query/", Some("x=1"), None),
            ("/", Some("a=b&dns=AAABAAAB"), None),
            ("/resolve", Some("name=a.example&type=TXT"), None),
            ("/any", None, Some("Application/DNS-Message; x=1")),
        ] {
            assert!(by_form(path, query, kind), "{path} {query:?} {kind:?}");
        }
        for (path, query, kind) in [
            ("/dns", None, None),
            ("/resolve", Some("name=a"), None),
            ("/customers", Some("dnsname=a"), Some("application/json")),
        ] {
            assert!(!by_form(path, query, kind), "{path} {query:?} {kind:?}");
        }
    }
}
