//! `[ledger]`: what is recorded, how durably, and when it is sealed into segments.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::load;

/// `[ledger]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ledger {
    /// What "durable before effect" survives.
    pub durability: Durability,
    /// The live ledger is sealed into a segment when it has so many bytes (1 MiB to 64 GiB).
    #[serde(deserialize_with = "load::bytes")]
    pub segment_bytes: u64,
    /// And when its oldest entry is so old (a minute or more).
    #[serde(deserialize_with = "load::duration")]
    pub segment_age: Duration,
    /// `[[ledger.witness]]`: who cosigns checkpoints.
    pub witness: Vec<Witness>,
    /// `[ledger.timestamp]`: who states when a checkpoint was there.
    pub timestamp: Option<Timestamp>,
}

/// `[ledger.timestamp]`: an RFC 3161 time-stamping authority.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    /// Where it is asked: http or https; what it answers is signed.
    pub url: String,
    /// The time between two requests at least (1m to 30d).
    #[serde(default = "default_stamp_interval", deserialize_with = "load::duration")]
    pub interval: Duration,
    /// The time for an answer.
    #[serde(default = "default_timeout", deserialize_with = "load::duration")]
    pub timeout: Duration,
    /// PEM roots to which its certificate has to chain; without, a token is only held against itself.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn default_stamp_interval() -> Duration {
    Duration::from_secs(3600)
}

impl Timestamp {
    fn check(&self) -> Result<(), String> {
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            return Err("[ledger.timestamp]: url begins with http:// or https://".into());
        }
        if !(Duration::from_secs(60)..=Duration::from_secs(30 * 86_400)).contains(&self.interval) {
            return Err("[ledger.timestamp]: interval is from 1m to 30d".into());
        }
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(300) {
            return Err("[ledger.timestamp]: timeout is from 1ms to 5m".into());
        }
        Ok(())
    }
}

/// `[[ledger.witness]]`: a witness (c2sp.org/tlog-witness) that sees each checkpoint and cosigns it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Witness {
    /// Its submission prefix: https, or http on loopback.
    pub url: String,
    /// Its public key, as a C2SP verifier key for Ed25519 cosignatures: `NAME+ID+BASE64`.
    pub key: String,
    /// The time between two requests at least (1s to 1d).
    #[serde(default = "default_interval", deserialize_with = "load::duration")]
    pub interval: Duration,
    /// The time for an answer.
    #[serde(default = "default_timeout", deserialize_with = "load::duration")]
    pub timeout: Duration,
    /// PEM roots for its TLS, beside the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn default_interval() -> Duration {
    Duration::from_secs(60)
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

impl Witness {
    fn check(&self) -> Result<(), String> {
        let named = |what: &str| format!("[[ledger.witness]] {}: {what}", self.url);
        crate::io::fetch::safe_url(&self.url).map_err(|e| named(&format!("url {e}")))?;
        if self.key.splitn(3, '+').count() != 3 {
            return Err(named("key is the witness's verifier key, NAME+ID+BASE64"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&self.interval) {
            return Err(named("interval is from 1s to 1d"));
        }
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(300) {
            return Err(named("timeout is from 1ms to 5m"));
        }
        Ok(())
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            segment_bytes: 256 << 20,
            segment_age: Duration::from_secs(24 * 3600),
            witness: Vec::new(),
            timestamp: None,
        }
    }
}

impl Ledger {
    /// Whether the values are in their ranges.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1 << 20..=64 << 30).contains(&self.segment_bytes) {
            return Err("[ledger]: segment_bytes is from 1 MiB to 64 GiB".into());
        }
        if let Some(timestamp) = &self.timestamp {
            timestamp.check()?;
        }
        for witness in &self.witness {
            witness.check()?;
        }
        if self.segment_age < Duration::from_secs(60) {
            return Err("[ledger]: segment_age is at least 1m".into());
        }
        Ok(())
    }
}

/// What a durable entry survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Loss of power: fdatasync before effect, group-committed.
    #[default]
    Power,
    /// The end of the process (kill -9), not of the host.
    Process,
}

impl Durability {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Power => "power",
            Self::Process => "process",
        }
    }
}
