//! `[retention]`: how long what is recorded is kept, and how much room it may take.

use std::time::Duration;

use serde::Deserialize;

use super::load;
use crate::model::WorkloadName;

/// The least `disk_budget`, in bytes.
const LEAST_BUDGET: u64 = 64 << 20;

/// `[retention]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How long payload is kept where no rule speaks of it; for ever unless set.
    pub payloads: Keep,
    /// From what age on segments may be purged of their entries, which takes two people; never unless set.
    pub entries: Keep,
    /// Payload ages by workload, protocol and data class.
    pub rule: Vec<RetentionRule>,
    /// The groups, at the approvers' issuer, whose members may, two together, have entries purged; nobody without it.
    pub purge_groups: Vec<String>,
    /// The most bytes that the ledger may take in `data_dir`; no limit unless set.
    #[serde(deserialize_with = "budget")]
    pub disk_budget: Option<u64>,
    /// The part of the budget from which on there is a warning.
    #[serde(deserialize_with = "percent")]
    pub warn_at: u8,
    /// A warning comes as well when the budget would be used up within so many days, as the ledger grows now.
    pub warn_days: u32,
    /// What is done when the budget is used up.
    pub at_limit: AtLimit,
    /// So many bytes are left free on the file system: with less, it is as if the budget were used up. 0 switches it off.
    #[serde(deserialize_with = "load::bytes")]
    pub free_space: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            payloads: Keep::Forever,
            entries: Keep::Forever,
            rule: Vec::new(),
            purge_groups: Vec::new(),
            disk_budget: None,
            warn_at: 80,
            warn_days: 14,
            at_limit: AtLimit::Stop,
            free_space: 64 << 20,
        }
    }
}

/// `[[retention.rule]]`: the payload age of operations that all of the given members fit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    /// Of this workload.
    #[serde(default)]
    pub workload: Option<WorkloadName>,
    /// Spoken in this protocol (`http`, `postgres`).
    #[serde(default)]
    pub protocol: Option<String>,
    /// In whose payload values of this data class were masked.
    #[serde(default)]
    pub data_class: Option<String>,
    /// How long their payload is kept.
    pub payloads: Keep,
}

/// How long something is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// So long, once its segment is sealed.
    For(Duration),
    /// `forever`
    #[default]
    Forever,
}

impl Keep {
    /// The age, if it is not for ever.
    #[must_use]
    pub fn age(self) -> Option<Duration> {
        match self {
            Self::For(age) => Some(age),
            Self::Forever => None,
        }
    }
}

impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::For(age) => humantime::format_duration(*age).fmt(f),
            Self::Forever => f.write_str("forever"),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let age = humantime::parse_duration(&text);
        age.map(Self::For).map_err(|e| {
            serde::de::Error::custom(format!("'{text}' is no age; write e.g. 90d, 3y or forever: {e}"))
        })
    }
}

/// What is done when the disk budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AtLimit {
    /// Operations are denied until there is room.
    #[default]
    Stop,
    /// The oldest payload that no legal hold covers is purged before its time.
    PurgePayloads,
    /// Operations go on, and their payload is not recorded.
    NoPayloads,
}

impl AtLimit {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::PurgePayloads => "purge_payloads",
            Self::NoPayloads => "no_payloads",
        }
    }
}

impl Retention {
    /// Whether the values are in their ranges and go together.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub(super) fn check(&self, approvers: bool) -> Result<(), String> {
        for (n, rule) in self.rule.iter().enumerate() {
            let n = n + 1;
            if rule.workload.is_none() && rule.protocol.is_none() && rule.data_class.is_none() {
                return Err(format!(
                    "[[retention.rule]] {n} needs workload, protocol or data_class; for all payload there is [retention] payloads"
                ));
            }
            let blank = |text: &Option<String>| text.as_deref().is_some_and(|t| t.trim().is_empty());
            if blank(&rule.protocol) || blank(&rule.data_class) {
                return Err(format!("[[retention.rule]] {n}: an empty name fits nothing"));
            }
        }
        if self.disk_budget.is_some_and(|bytes| bytes < LEAST_BUDGET) {
            return Err("[retention]: disk_budget is at least 64 MiB".into());
        }
        if self.purge_groups.iter().any(|group| group.trim().is_empty()) {
            return Err("[retention]: purge_groups has an empty name".into());
        }
        if !self.purge_groups.is_empty() && !approvers {
            return Err(
                "[retention]: purge_groups are groups of the approvers' issuer: set [approvals] issuer and client_id".into(),
            );
        }
        Ok(())
    }
}

fn budget<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
    load::bytes(d).map(Some)
}

/// `80 %`, `80%` or `80`: 1 to 99.
fn percent<'de, D: serde::Deserializer<'de>>(d: D) -> Result<u8, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u8),
        Text(String),
    }
    let number = match Either::deserialize(d)? {
        Either::Number(n) => Some(n),
        Either::Text(text) => text.trim().trim_end_matches('%').trim_end().parse().ok(),
    };
    number
        .filter(|n| (1..100).contains(n))
        .ok_or_else(|| serde::de::Error::custom("warn_at is a part of the budget from 1 % to 99 %"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Retention, String> {
        let config = super::super::parse("portcullis.toml".as_ref(), text).map_err(|e| e.to_string())?;
        Ok(config.retention)
    }

    #[test]
    fn nothing_said_keeps_everything() {
        let none = parse("").unwrap();
        assert_eq!(none, Retention::default());
        assert_eq!((none.payloads, none.entries), (Keep::Forever, Keep::Forever));
        assert_eq!((none.disk_budget, none.at_limit), (None, AtLimit::Stop));
    }

    #[test]
    fn everything_said() {
        let text = "[[issuer]]\nname = \"people\"\nurl = \"https://i\"\naudience = \"x\"\n\
            [approvals]\nissuer = \"people\"\nclient_id = \"c\"\n\
            [retention]\npayloads = \"90d\"\nentries = \"3y\"\npurge_groups = [\"records\"]\n\
            disk_budget = \"50 GiB\"\nwarn_at = \"75 %\"\nwarn_days = 7\nat_limit = \"purge_payloads\"\nfree_space = \"1 GiB\"\n\
            [[retention.rule]]\nworkload = \"bot\"\nprotocol = \"http\"\npayloads = \"forever\"\n\
            [[retention.rule]]\ndata_class = \"credit_card\"\npayloads = \"30d\"\n";
        let said = parse(text).unwrap();
        assert_eq!(said.payloads, Keep::For(Duration::from_secs(90 * 86_400)));
        assert_eq!((said.disk_budget, said.warn_at), (Some(50 << 30), 75));
        assert_eq!(
            (said.rule.len(), said.rule[0].payloads, said.at_limit),
            (2, Keep::Forever, AtLimit::PurgePayloads)
        );
        assert!(Keep::Forever > said.payloads);
    }

    #[test]
    fn what_is_refused() {
        for (text, word) in [
            ("payload = \"1d\"", "nearest valid key is `payloads`"),
            ("payloads = \"soon\"", "forever"),
            ("disk_budget = \"1 MiB\"", "at least 64 MiB"),
            ("warn_at = \"0 %\"", "from 1 %"),
            ("at_limit = \"panic\"", "purge_payloads"),
            ("purge_groups = [\"records\"]", "[approvals]"),
            ("purge_groups = [\" \"]", "empty name"),
            ("[[retention.rule]]\npayloads = \"1d\"", "needs workload"),
            ("[[retention.rule]]\nprotocol = \"http\"", "payloads"),
            (
                "[[retention.rule]]\ndataclass = \"x\"\npayloads = \"1d\"",
                "nearest valid key is `data_class`",
            ),
            (
                "[[retention.rule]]\nprotocol = \"\"\npayloads = \"1d\"",
                "empty name",
            ),
        ] {
            let error = parse(&format!("[retention]\n{text}\n")).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
