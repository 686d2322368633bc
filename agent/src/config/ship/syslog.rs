//! `[[ship]] kind = "syslog"`

use std::path::PathBuf;

use serde::Deserialize;

use super::{Config, Gives, credential};

/// Events as RFC 5424.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    /// The receiver: a name or an address.
    pub host: String,
    /// Its port; 6514 for TLS.
    #[serde(default = "default_port")]
    pub port: u16,
    /// TLS, or plain TCP.
    #[serde(default)]
    pub transport: SyslogTransport,
    /// The name in its certificate; `host` unless set.
    #[serde(default)]
    pub server_name: Option<String>,
    /// The `[[credential]]` with a client certificate.
    #[serde(default)]
    pub certificate: Option<String>,
    /// PEM roots for its TLS, beside the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The facility, 0 to 23; 13 is "log audit".
    #[serde(default = "default_facility")]
    pub facility: u8,
    /// The longest message (2 kB to 16 MiB); a longer body is cut, and the message says so. Receivers should take 8192
    /// bytes (RFC 5425); set theirs and this higher, for an event of OCSF can be longer.
    #[serde(default = "default_max_message", deserialize_with = "super::load::bytes")]
    pub max_message: u64,
}

/// How messages are carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyslogTransport {
    /// RFC 5425: TLS, with octet counting.
    #[default]
    Tls,
    /// RFC 6587: plain TCP, with octet counting. Anyone on the way reads and changes it.
    Tcp,
}

fn default_port() -> u16 {
    6514
}

fn default_facility() -> u8 {
    13
}

fn default_max_message() -> u64 {
    8192
}

impl Syslog {
    pub(super) fn check(&self, config: &Config) -> Result<(), String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".-_:".contains(&b);
        if self.host.is_empty() || !self.host.bytes().all(plain) {
            return Err(format!("host '{}' is a name or an address", self.host));
        }
        if self.port == 0 || self.facility > 23 {
            return Err("port is from 1 to 65535 and facility from 0 to 23".into());
        }
        if !(2_000..=16 << 20).contains(&self.max_message) {
            return Err("max_message is from 2 kB to 16 MiB".into());
        }
        let tls = self.server_name.is_some() || self.certificate.is_some() || self.ca_file.is_some();
        if tls && self.transport == SyslogTransport::Tcp {
            return Err("server_name, certificate and ca_file are for transport = \"tls\"".into());
        }
        match &self.certificate {
            Some(name) => credential(config, "certificate", name, Gives::Certificate),
            None => Ok(()),
        }
    }
}
