//! `[[exempt]]`: what passes without being inspected, by whose word, and until when.

use std::net::{IpAddr, Ipv6Addr};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;

use crate::model::WorkloadName;

/// Rules at once: the kernel has a bit for each.
const MAX: usize = portcullis_abi::MAX_EXEMPT;

/// `[[exempt]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct Exempt {
    /// What it is called, in `status` and entries.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
    /// The last day on which it holds (UTC), `2026-12-31`, or the time at which it ends, `2026-12-31T18:00:00Z`.
    pub expires: String,
    /// The workload that it is for; every one where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadName>,
    /// `tcp` or `udp`.
    pub protocol: ExemptProtocol,
    /// The other side: a network, `192.0.2.0/24`, or an address.
    pub destination: String,
    /// Ports, `5000` or `5000-5010`: the other side's, or with `listen` the workload's own.
    pub ports: String,
    /// For connections that the other side begins.
    #[serde(default)]
    pub listen: bool,
}

/// What an exemption is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExemptProtocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl Exempt {
    /// When it ends, nanoseconds since 1970: with its last day, where it names one.
    ///
    /// # Errors
    /// When that is no day.
    pub fn ends_at(&self) -> Result<i64, String> {
        let wrong = |_| {
            format!(
                "[[exempt]] '{}': expires is a day, as 2026-12-31, or a time, as 2026-12-31T18:00:00Z",
                self.name
            )
        };
        let end = if self.expires.contains('T') {
            self.expires.parse::<Timestamp>().map_err(wrong)?
        } else {
            let day: Date = self.expires.parse().map_err(wrong)?;
            let next = day.tomorrow().and_then(|day| day.to_zoned(TimeZone::UTC));
            next.map_err(wrong)?.timestamp()
        };
        i64::try_from(end.as_nanosecond())
            .map_err(|_| format!("[[exempt]] '{}': expires is too far away", self.name))
    }

    /// As the kernel has it, but for its end.
    ///
    /// # Errors
    /// What is wrong with it, and what to write instead.
    pub fn rule(&self) -> Result<portcullis_abi::Exempt, String> {
        let (addr, mask) = network(&self.destination).ok_or_else(|| {
            format!(
                "[[exempt]] '{}': destination is a network, as 192.0.2.0/24, without bits outside of it",
                self.name
            )
        })?;
        let (first, last) = self.ports.split_once('-').unwrap_or((&self.ports, &self.ports));
        let ports = first.trim().parse().ok().zip(last.trim().parse().ok());
        let (first, last) = ports
            .filter(|(first, last)| 0 < *first && first <= last)
            .ok_or_else(|| format!("[[exempt]] '{}': ports are 5000 or 5000-5010", self.name))?;
        Ok(portcullis_abi::Exempt {
            until_ns: 0,
            addr,
            mask,
            first,
            last,
            protocol: match self.protocol {
                ExemptProtocol::Tcp => 6,
                ExemptProtocol::Udp => 17,
            },
            listen: self.listen.into(),
            reserved: 0,
        })
    }
}

/// Address and mask, words in network order, IPv4 as v4-mapped.
fn network(text: &str) -> Option<([u32; 4], [u32; 4])> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
    let address: IpAddr = address.parse().ok()?;
    let (v6, width) = match address {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 32),
        IpAddr::V6(v6) => (v6, 128),
    };
    let bits = bits.map_or(Some(width), |bits| {
        bits.parse().ok().filter(|bits| *bits <= width)
    })?;
    let mask = u128::MAX.checked_shl(width - bits).unwrap_or(0);
    // The mapped prefix is part of an IPv4 network, whatever its length.
    let mask = if width == 32 { mask | u128::MAX << 32 } else { mask };
    let bits = u128::from(v6);
    (bits & !mask == 0).then(|| (words(v6), words(Ipv6Addr::from(mask))))
}

fn words(address: Ipv6Addr) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = address.octets();
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_ne_bytes)
}

/// Checks all of them together.
pub(super) fn check(
    rules: &[Exempt],
    workloads: &std::collections::BTreeSet<&WorkloadName>,
) -> Result<(), String> {
    if rules.len() > MAX {
        return Err(format!("[[exempt]]: at most {MAX}"));
    }
    let mut names = std::collections::BTreeSet::new();
    for rule in rules {
        if !names.insert(&rule.name) {
            return Err(format!("[[exempt]] '{}' is there twice", rule.name));
        }
        if rule.owner.trim().is_empty() {
            return Err(format!(
                "[[exempt]] '{}' needs an owner: who answers for it",
                rule.name
            ));
        }
        if let Some(workload) = rule.workload.as_ref().filter(|name| !workloads.contains(name)) {
            return Err(format!(
                "[[exempt]] '{}' names workload '{workload}', and there is no [[workload]] of that name",
                rule.name
            ));
        }
        // Its answers would be sends to where nothing lets it send.
        if rule.listen && rule.protocol == ExemptProtocol::Udp {
            return Err(format!("[[exempt]] '{}': listen is for tcp", rule.name));
        }
        rule.ends_at()?;
        rule.rule()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(destination: &str, ports: &str, expires: &str) -> Exempt {
        Exempt {
            name: "ntp".into(),
            owner: "ops".into(),
            expires: expires.into(),
            workload: None,
            protocol: ExemptProtocol::Udp,
            destination: destination.into(),
            ports: ports.into(),
            listen: false,
        }
    }

    #[test]
    fn networks_ports_and_days_are_read() {
        let found = rule("192.0.2.0/24", "123", "2026-12-31").rule().unwrap();
        assert_eq!(found.addr[3].to_ne_bytes(), [192, 0, 2, 0]);
        assert_eq!(
            found.mask.map(u32::from_be),
            [u32::MAX, u32::MAX, u32::MAX, 0xffff_ff00]
        );
        assert_eq!((found.first, found.last, found.protocol), (123, 123, 17));
        let found = rule("2001:db8::/32", "5000-5010", "2026-12-31").rule().unwrap();
        assert_eq!(found.mask.map(u32::from_be), [u32::MAX, 0, 0, 0]);
        assert_eq!((found.first, found.last), (5000, 5010));
        let everywhere = rule("0.0.0.0/0", "1", "2026-12-31").rule().unwrap();
        assert_eq!(
            everywhere.mask.map(u32::from_be),
            [u32::MAX, u32::MAX, u32::MAX, 0]
        );
        assert_eq!(rule("::/0", "1", "2026-12-31").rule().unwrap().mask, [0; 4]);
        let ends = rule("::/0", "1", "2026-12-31").ends_at().unwrap();
        assert_eq!(
            crate::model::Rfc3339(ends).to_string(),
            "2027-01-01T00:00:00.000000000Z"
        );
        let ends = rule("::/0", "1", "2026-12-31T18:00:00+02:00").ends_at().unwrap();
        assert_eq!(
            crate::model::Rfc3339(ends).to_string(),
            "2026-12-31T16:00:00.000000000Z"
        );
    }

    #[test]
    fn what_means_something_else_is_refused() {
        for (destination, ports, expires) in [
            ("192.0.2.1/24", "1", "2026-12-31"),
            ("192.0.2.0/33", "1", "2026-12-31"),
            ("example.com", "1", "2026-12-31"),
            ("192.0.2.0/24", "0", "2026-12-31"),
            ("192.0.2.0/24", "9-5", "2026-12-31"),
            ("192.0.2.0/24", "1", "2026-02-30"),
            ("192.0.2.0/24", "1", "never"),
            ("192.0.2.0/24", "1", "2026-12-31T18:00:00"),
        ] {
            let rule = rule(destination, ports, expires);
            assert!(
                check(std::slice::from_ref(&rule), &std::collections::BTreeSet::new()).is_err(),
                "{rule:?}"
            );
        }
    }
}
