//! `[ledger]`: what is recorded, how durably, and when it is sealed into segments.

use std::time::Duration;

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
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            segment_bytes: 256 << 20,
            segment_age: Duration::from_secs(24 * 3600),
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
