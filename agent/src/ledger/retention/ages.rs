//! How long an operation's payload is kept.
//!
//! Bias: to keep. Of several rules that fit, the longest age counts. What is not known of an operation (its outcome is
//! not there, or its own entry lies in another segment that is gone) fits every rule, and none.

use std::collections::BTreeSet;

use crate::{
    config::{Keep, Retention, RetentionRule},
    model::WorkloadName,
};

/// What a segment says of an operation. `None` is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The workload.
    pub workload: Option<String>,
    /// The protocol.
    pub protocol: Option<String>,
    /// Id of the connection.
    pub session: Option<String>,
    /// When it was decided, RFC 3339.
    pub at: Option<String>,
    /// When it ended, RFC 3339.
    pub ended: Option<String>,
    /// Data classes of which values were masked.
    pub classes: Option<BTreeSet<String>>,
}

/// Whether one member of a rule fits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    Perhaps,
}

fn same(wanted: Option<&str>, found: Option<&str>) -> Fit {
    match (wanted, found) {
        (None, _) => Fit::Yes,
        (Some(_), None) => Fit::Perhaps,
        (Some(wanted), Some(found)) if wanted == found => Fit::Yes,
        _ => Fit::No,
    }
}

fn fits(rule: &RetentionRule, facts: &Facts) -> Fit {
    let class = match (&rule.data_class, &facts.classes) {
        (None, _) => Fit::Yes,
        (Some(_), None) => Fit::Perhaps,
        (Some(class), Some(met)) if met.contains(class) => Fit::Yes,
        _ => Fit::No,
    };
    let workload = rule.workload.as_ref().map(WorkloadName::as_str);
    let parts = [
        same(workload, facts.workload.as_deref()),
        same(rule.protocol.as_deref(), facts.protocol.as_deref()),
        class,
    ];
    if parts.contains(&Fit::No) {
        Fit::No
    } else if parts.contains(&Fit::Perhaps) {
        Fit::Perhaps
    } else {
        Fit::Yes
    }
}

/// How long the operation's payload is kept, and what says so: 0 for `[retention] payloads`, else the rule's number
/// from 1.
#[must_use]
pub fn keep(config: &Retention, facts: &Facts) -> (Keep, usize) {
    let found: Vec<_> = (1..)
        .zip(&config.rule)
        .map(|(n, rule)| (fits(rule, facts), rule.payloads, n))
        .collect();
    let surely = found.iter().any(|(fit, _, _)| *fit == Fit::Yes);
    let rules = found.iter().filter(|(fit, _, _)| *fit != Fit::No);
    let rules = rules.map(|(_, age, n)| (*age, *n));
    // Where a rule fits, the general age does not count.
    let general = (!surely).then_some((config.payloads, 0));
    // Of equal ages, the first that says it.
    general
        .into_iter()
        .chain(rules)
        .reduce(|a, b| if b.0 > a.0 { b } else { a })
        .unwrap_or((Keep::Forever, 0))
}

/// The shortest age that anything can have: before it, a segment need not be looked into.
#[must_use]
pub fn shortest(config: &Retention) -> Keep {
    let ages = config.rule.iter().map(|rule| rule.payloads);
    ages.chain([config.payloads]).min().unwrap_or_default()
}

/// What a cause is in words, for entries and tombstones.
#[must_use]
pub fn describe(config: &Retention, causes: &BTreeSet<usize>) -> String {
    let words = causes
        .iter()
        .map(|n| match n.checked_sub(1).and_then(|i| config.rule.get(i)) {
            None => format!("[retention] payloads = {}", config.payloads),
            Some(rule) => {
                let part = |name: &str, value: Option<&str>| value.map(|v| format!("{name} {v}"));
                let parts: Vec<_> = [
                    part("workload", rule.workload.as_ref().map(WorkloadName::as_str)),
                    part("protocol", rule.protocol.as_deref()),
                    part("data class", rule.data_class.as_deref()),
                ]
                .into_iter()
                .flatten()
                .collect();
                format!(
                    "[[retention.rule]] {n} ({}) payloads = {}",
                    parts.join(", "),
                    rule.payloads
                )
            }
        });
    words.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: u64 = 86_400;

    fn days(n: u64) -> Keep {
        Keep::For(Duration::from_secs(n * DAY))
    }

    fn config() -> Retention {
        let rule =
            |workload: Option<&str>, protocol: Option<&str>, class: Option<&str>, payloads| RetentionRule {
                workload: workload.map(|w| WorkloadName::new(w).unwrap()),
                protocol: protocol.map(Into::into),
                data_class: class.map(Into::into),
                payloads,
            };
        Retention {
            payloads: days(90),
            rule: vec![
                rule(None, None, Some("credit_card"), days(30)),
                rule(Some("bot"), Some("http"), None, days(40)),
                rule(None, Some("postgres"), None, Keep::Forever),
            ],
            ..Retention::default()
        }
    }

    fn facts(workload: &str, protocol: &str, classes: &[&str]) -> Facts {
        Facts {
            workload: Some(workload.into()),
            protocol: Some(protocol.into()),
            classes: Some(classes.iter().map(|c| (*c).into()).collect()),
            ..Facts::default()
        }
    }

    #[test]
    fn of_the_rules_that_fit_the_longest_counts() {
        let config = config();
        for (facts, expected) in [
            (facts("other", "http", &[]), (days(90), 0)),
            (facts("other", "http", &["credit_card"]), (days(30), 1)),
            (facts("bot", "http", &["email"]), (days(40), 2)),
            (facts("bot", "http", &["credit_card"]), (days(40), 2)),
            (facts("bot", "postgres", &["credit_card"]), (Keep::Forever, 3)),
        ] {
            assert_eq!(keep(&config, &facts), expected, "{facts:?}");
        }
        assert_eq!(shortest(&config), days(30));
        let words = describe(&config, &BTreeSet::from([0, 2]));
        assert_eq!(
            words,
            "[retention] payloads = 3months; [[retention.rule]] 2 (workload bot, protocol http) payloads = 1month 9days 13h 26m 24s".replace(
                "3months", &days(90).to_string()).replace("1month 9days 13h 26m 24s", &days(40).to_string())
        );
    }

    #[test]
    fn what_is_not_known_is_kept_as_long_as_anything_asks() {
        let config = config();
        let mut unknown = facts("bot", "http", &[]);
        unknown.classes = None;
        // A rule fits for sure, so the general age is out of it, and the shorter class rule loses.
        assert_eq!(keep(&config, &unknown), (days(40), 2));
        unknown.workload = None;
        assert_eq!(keep(&config, &unknown), (days(90), 0));
        assert_eq!(keep(&config, &Facts::default()).0, Keep::Forever);
    }
}
