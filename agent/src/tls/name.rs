//! The name a peer is known by: what the workload sent as SNI, or the address it connected to.

use std::{fmt, net::IpAddr, sync::Arc};

use rustls_pki_types::{DnsName, ServerName};

/// A DNS name in lower case, checked, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerName {
    /// The SNI host name (RFC 6066 section 3): no wildcard, no trailing dot, not an address.
    Dns(Arc<str>),
    /// The address itself, when no SNI was sent; IPv4-mapped IPv6 is kept as IPv4.
    Ip(IpAddr),
}

/// Why a text is no name that a certificate is made for or verified against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Empty, above 253 bytes, or a label that is empty or above 63 bytes (RFC 1035 section 2.3.4).
    #[error("its length, or that of a label, is out of bounds")]
    Length,
    /// Something else than letters, digits, `-` and `_`; a wildcard; a label that starts or ends with `-`.
    #[error("it has characters that are not allowed in a host name")]
    Characters,
    /// It would read as an address: the last label is a number.
    #[error("it reads as an address")]
    Address,
}

impl PeerName {
    /// Checks a host name and puts it in lower case.
    ///
    /// `_` is allowed, because such names are resolved and served in practice.
    ///
    /// # Errors
    /// When the text is no host name; see [`InvalidName`].
    pub fn dns(text: &str) -> Result<Self, InvalidName> {
        if text.is_empty() || text.len() > 253 {
            return Err(InvalidName::Length);
        }
        for label in text.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(InvalidName::Length);
            }
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !label.bytes().all(allowed) || label.starts_with('-') || label.ends_with('-') {
                return Err(InvalidName::Characters);
            }
        }
        // WHATWG URL, "ends in a number": such a host is parsed as an IPv4 address by some and as a name by others.
        let last = text.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let hex = last
            .strip_prefix("0x")
            .is_some_and(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
        if hex || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidName::Address);
        }
        Ok(Self::Dns(text.to_ascii_lowercase().into()))
    }

    /// An address.
    #[must_use]
    pub fn ip(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }

    /// The form that rustls verifies against; a name becomes SNI, an address does not (RFC 6066 forbids it).
    pub(super) fn server_name(&self) -> Result<ServerName<'static>, InvalidName> {
        match self {
            Self::Dns(name) => DnsName::try_from(name.to_string())
                .map(ServerName::DnsName)
                .map_err(|_| InvalidName::Characters),
            Self::Ip(address) => Ok(ServerName::IpAddress((*address).into())),
        }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(
            PeerName::dns("API.Example.com"),
            Ok(PeerName::Dns("api.example.com".into()))
        );
        assert!(PeerName::dns("localhost").is_ok());
        assert!(PeerName::dns("_sip.example.com").is_ok());
        let long = format!("{}.com", "a".repeat(64));
        let whole = format!("{}com", "abcdefg.".repeat(32));
        for (bad, why) in [
            ("", InvalidName::Length),
            ("a..b", InvalidName::Length),
            ("example.com.", InvalidName::Length),
            (long.as_str(), InvalidName::Length),
            (whole.as_str(), InvalidName::Length),
            ("*.example.com", InvalidName::Characters),
            ("a b", InvalidName::Characters),
            ("a\0.com", InvalidName::Characters),
            ("a/b", InvalidName::Characters),
            ("-a.com", InvalidName::Characters),
            ("b\u{fc}cher.de", InvalidName::Characters),
            ("127.0.0.1", InvalidName::Address),
            ("2130706433", InvalidName::Address),
            ("127.0.0.0x1", InvalidName::Address),
        ] {
            assert_eq!(PeerName::dns(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(
            PeerName::ip("::ffff:10.0.0.1".parse().unwrap()).to_string(),
            "10.0.0.1"
        );
    }
}
