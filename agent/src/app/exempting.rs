//! Exemptions: put into the kernel, on record, and shown.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::agent::Agent;
use crate::{
    config::Exempt,
    model::{CgroupId, EntryKind, Rfc3339, WorkloadName},
};

/// Ends are looked for so often.
const LOOK: Duration = Duration::from_secs(1);

/// An exemption, in `status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExemptStatus {
    /// Its name.
    pub name: String,
    /// Who answers for it.
    pub owner: String,
    /// When it ends, RFC 3339.
    pub expires_at: String,
    /// The workload that it is for; every one where there is none.
    pub workload: Option<String>,
    /// What passes, in words.
    pub what: String,
    /// Connects, sends and packets that passed since it was put in force.
    pub used: u64,
    /// Whether it has ended.
    pub expired: bool,
}

/// Nanoseconds since boot at which `at` (nanoseconds since 1970) comes; 0 where that has been.
fn boot_time(at: i64, now: i64) -> anyhow::Result<u64> {
    let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).context("CLOCK_BOOTTIME")?;
    let boot = boot
        .tv_sec()
        .saturating_mul(1_000_000_000)
        .saturating_add(boot.tv_nsec());
    let left = at.saturating_sub(now);
    if left <= 0 {
        return Ok(0);
    }
    Ok(u64::try_from(boot.saturating_add(left)).unwrap_or(0))
}

/// A bit for each rule that is a workload's.
fn bits(rules: &[Exempt], workload: &WorkloadName) -> u64 {
    let own = |rule: &Exempt| rule.workload.as_ref().is_none_or(|name| name == workload);
    (0_u32..)
        .zip(rules)
        .filter(|(_, rule)| own(rule))
        .fold(0, |bits, (i, _)| bits | 1_u64.checked_shl(i).unwrap_or(0))
}

/// The names of those that have ended.
fn ended(rules: &[Exempt], now: i64) -> Vec<&str> {
    let ended = rules
        .iter()
        .filter(|rule| rule.ends_at().is_ok_and(|at| at <= now));
    ended.map(|rule| rule.name.as_str()).collect()
}

impl Agent {
    /// Puts the configuration's rules in force as the agent starts, which is on record with them: what was in force until
    /// then is in the entry of the run before.
    pub(super) async fn exempt_at_start(self: &Arc<Self>) -> anyhow::Result<()> {
        let rules = self.rules();
        if !rules.is_empty() {
            let ended = ended(&rules, self.front.shared.clock.now_ns());
            let detail = json!({ "at": "start", "expired": ended });
            self.record_exempt(json!({ "after": rules, "detail": detail }))
                .await?;
        }
        self.put_in_force(rules)?;
        tokio::spawn(Arc::clone(self).end_exemptions());
        Ok(())
    }

    /// Puts new rules in force, if they are: on record first, with how often those before were used.
    pub(super) async fn exempt(&self, rules: &[Exempt]) -> anyhow::Result<()> {
        let before = self.rules();
        if before == rules {
            return Ok(());
        }
        let used = self.control.exemptions_used(before.len()).unwrap_or_default();
        let used: BTreeMap<_, _> = before.iter().map(|rule| &rule.name).zip(used).collect();
        let detail = json!({ "used": used });
        self.record_exempt(json!({ "before": before, "after": rules, "detail": detail }))
            .await?;
        self.put_in_force(rules.to_vec())
    }

    async fn record_exempt(&self, mut entry: Value) -> anyhow::Result<()> {
        entry["subject"] = "exempt".into();
        self.record(EntryKind::Change, entry).await
    }

    fn rules(&self) -> Vec<Exempt> {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        config.exempt.clone()
    }

    /// Under the lock from end to end: a tag that comes meanwhile must not be given bits that mean other rules.
    fn put_in_force(&self, rules: Vec<Exempt>) -> anyhow::Result<()> {
        let now = self.front.shared.clock.now_ns();
        let mut in_kernel = Vec::with_capacity(rules.len());
        for rule in &rules {
            let until_ns = boot_time(rule.ends_at().map_err(anyhow::Error::msg)?, now)?;
            let rule = rule.rule().map_err(anyhow::Error::msg)?;
            in_kernel.push(portcullis_abi::Exempt { until_ns, ..rule });
        }
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        self.control.set_exemptions(&in_kernel)?;
        config.exempt = rules;
        for (id, tag) in self.front.workloads.all() {
            self.control.exempt(id, bits(&config.exempt, &tag.workload))?;
        }
        Ok(())
    }

    /// Tells the kernel which rules are a tagged cgroup's.
    pub(super) fn exempt_tag(&self, id: CgroupId, workload: &WorkloadName) {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        // Without them nothing is exempt.
        if let Err(error) = self.control.exempt(id, bits(&config.exempt, workload)) {
            tracing::error!(cgroup_id = id.0, "nothing is exempt: {error}");
        }
    }

    /// Has each end on record as it comes. It is the kernel that ends them; but by the clock that counts from boot, and so
    /// those that the calendar has ended meanwhile, for it was set, are taken away here.
    async fn end_exemptions(self: Arc<Self>) {
        let drain = self.front.shared.drain.clone();
        let mut known = self.rules();
        let mut before = self.front.shared.clock.now_ns();
        loop {
            tokio::select! {
                () = drain.stopping() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let (rules, now) = (self.rules(), self.front.shared.clock.now_ns());
            let past = if rules == known {
                ended(&rules, before)
            } else {
                Vec::new()
            };
            let new: Vec<_> = ended(&rules, now)
                .into_iter()
                .filter(|name| !past.contains(name))
                .collect();
            if !new.is_empty() {
                self.take_away(&rules, &new);
                let entry = json!({ "detail": { "expired": new } });
                if let Err(error) = self.record_exempt(entry).await {
                    tracing::error!("an end is not on record: {error:#}");
                }
            }
            (known, before) = (rules, now);
        }
    }

    fn take_away(&self, rules: &[Exempt], names: &[&str]) {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        // Other rules have taken their places, each with its own end.
        if config.exempt != rules {
            return;
        }
        for (i, rule) in rules
            .iter()
            .enumerate()
            .filter(|(_, rule)| names.contains(&rule.name.as_str()))
        {
            if let Err(error) = self.control.end_exemption(i) {
                tracing::error!(exempt = rule.name, "it may not have ended: {error}");
            }
        }
    }

    pub(super) fn exemptions(&self) -> Vec<ExemptStatus> {
        let rules = self.rules();
        let used = self.control.exemptions_used(rules.len()).unwrap_or_default();
        let now = self.front.shared.clock.now_ns();
        let status = |(i, rule): (usize, &Exempt)| {
            let ends = rule.ends_at().unwrap_or(0);
            let protocol = match rule.protocol {
                crate::config::ExemptProtocol::Tcp => "tcp",
                crate::config::ExemptProtocol::Udp => "udp",
            };
            let way = if rule.listen { "from" } else { "to" };
            ExemptStatus {
                name: rule.name.clone(),
                owner: rule.owner.clone(),
                expires_at: Rfc3339(ends).to_string(),
                workload: rule.workload.as_ref().map(ToString::to_string),
                what: format!("{protocol} {way} {}, ports {}", rule.destination, rule.ports),
                used: used.get(i).copied().unwrap_or_default(),
                expired: ends <= now,
            }
        };
        rules.iter().enumerate().map(status).collect()
    }
}

/// What has ended is to be taken out, or given a new end by its owner.
pub(super) fn problems(rules: &[ExemptStatus]) -> Vec<String> {
    rules
        .iter()
        .filter(|rule| rule.expired)
        .map(|rule| {
            format!(
                "exemption '{}' has ended: take it out of [[exempt]], or have {} extend it",
                rule.name, rule.owner
            )
        })
        .collect()
}
