//! `[dns]`: whom the agent asks for names on behalf of workloads, and what it makes of the answers.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;

use super::load;

/// `[dns]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// Resolvers to ask, as address or address:port; those of `resolv_conf` when empty.
    pub servers: Vec<String>,
    /// The host's resolver configuration (resolv.conf(5)), read again when it changes.
    pub resolv_conf: PathBuf,
    /// Time for an answer from upstream (100ms to 30s).
    #[serde(deserialize_with = "load::duration")]
    pub timeout: Duration,
    /// Time that a held query waits for approvers before it is answered with a failure (up to 30s); most programs ask
    /// again after five seconds.
    #[serde(deserialize_with = "load::duration")]
    pub patience: Duration,
    /// Time beyond its TTL that an answer still counts for a connection to its address (up to 1h): a program resolves
    /// first and connects later.
    #[serde(deserialize_with = "load::duration")]
    pub grace: Duration,
    /// Domains whose names may stand for private addresses (RFC 1918, RFC 4193, RFC 6598); without this key, those of
    /// any domain may.
    pub private: Option<Vec<String>>,
    /// Names and addresses of resolvers that speak DNS over HTTPS, beside those that are known.
    pub encrypted: Vec<String>,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            timeout: Duration::from_secs(4),
            patience: Duration::from_secs(4),
            grace: Duration::from_secs(60),
            private: None,
            encrypted: Vec::new(),
        }
    }
}

impl Dns {
    /// `servers`, with port 53 where they have none.
    ///
    /// # Errors
    /// A sentence that names the first one that is no address.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let one = |text: &String| {
            let plain = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
            plain.or_else(|_| text.parse::<SocketAddr>()).map_err(|_| {
                format!("[dns]: servers has '{text}', which is neither address nor address:port")
            })
        };
        self.servers.iter().map(one).collect()
    }

    /// Whether the values are in their ranges.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub(super) fn check(&self) -> Result<(), String> {
        self.addresses()?;
        let seconds = Duration::from_secs;
        if !(Duration::from_millis(100)..=seconds(30)).contains(&self.timeout) {
            return Err("[dns]: timeout is from 100ms to 30s".into());
        }
        if self.patience > seconds(30) {
            return Err("[dns]: patience is up to 30s".into());
        }
        if self.grace > seconds(3600) {
            return Err("[dns]: grace is up to 1h".into());
        }
        let domains = self.private.iter().flatten().chain(&self.encrypted);
        for domain in domains {
            if domain.is_empty() || domain.contains(['*', '/', ' ']) || domain.starts_with('.') {
                return Err(format!(
                    "[dns]: '{domain}' is no domain: write it as corp.example, which covers what is below it"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Dns, String> {
        let text = format!("[dns]\n{text}");
        crate::config::parse(std::path::Path::new("t"), &text)
            .map(|c| c.dns)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn servers_have_the_usual_port_where_none_is_given() {
        let dns = parsed("servers = [\"192.0.2.1\", \"[2001:db8::1]:5353\", \"2001:db8::2\"]").unwrap();
        let text: Vec<_> = dns.addresses().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(text, ["192.0.2.1:53", "[2001:db8::1]:5353", "[2001:db8::2]:53"]);
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        for (text, part) in [
            ("servers = [\"dns.example\"]", "dns.example"),
            ("timeout = \"0s\"", "timeout"),
            ("patience = \"5m\"", "patience"),
            ("grace = \"2h\"", "grace"),
            ("private = [\"*.corp.example\"]", "*.corp.example"),
            ("encrypted = [\"https://dns.example/\"]", "https://"),
            ("server = []", "servers"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(parsed("").unwrap(), Dns::default());
    }
}
