//! What the API, the page and Slack share: who may look and answer, and what there is to see.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use crate::{
    approval::Approvals,
    clock::Clock,
    config,
    credential::{Asker, Credentials},
    identity::Approvers,
    ledger::Ledger,
    model::{Approver, Entry, EntryKind, WorkloadName},
    policy::PolicyStore,
};

/// Sign-ins that are remembered, for those who answer without a token of their own (Slack).
const MAX_SIGN_INS: usize = 1_000;

/// The parts of the agent that the console uses.
#[derive(Clone)]
pub struct Parts {
    /// What is held, and how it is answered.
    pub approvals: Approvals,
    /// Who they are.
    pub approvers: Approvers,
    /// Whose groups count.
    pub policy: PolicyStore,
    /// Where it is recorded.
    pub ledger: Ledger,
    /// Its file, for what happened before this run of the agent.
    pub ledger_file: PathBuf,
    /// Secrets of notifications and of Slack.
    pub credentials: Credentials,
    /// Time.
    pub clock: Clock,
    /// This host's name.
    pub host: Arc<str>,
}

/// The desk; clones share it.
#[derive(Clone)]
pub struct Desk(Arc<Inner>);

struct Inner {
    parts: Parts,
    config: ArcSwap<config::Approvals>,
    /// The last sign-in of each subject that was seen here.
    sign_ins: Mutex<HashMap<Arc<str>, Arc<Approver>>>,
    /// Refusals of strangers: one entry a second, the others counted in the next.
    refused: Mutex<(i64, u64)>,
}

impl Desk {
    /// With the approvals' configuration.
    #[must_use]
    pub fn new(parts: Parts, config: &config::Approvals) -> Self {
        Self(Arc::new(Inner {
            parts,
            config: ArcSwap::from_pointee(config.clone()),
            sign_ins: Mutex::default(),
            refused: Mutex::new((i64::MIN, 0)),
        }))
    }

    /// Other bounds from now on.
    pub fn reload(&self, config: &config::Approvals) {
        self.0.config.store(Arc::new(config.clone()));
    }

    /// The agent's parts.
    #[must_use]
    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// The longest time-boxed grant, in minutes.
    #[must_use]
    pub fn grant_minutes(&self) -> u64 {
        self.0.config.load().grant_time.as_secs() / 60
    }

    /// The longest break-glass grant in minutes, where there is any.
    #[must_use]
    pub fn break_glass_minutes(&self) -> Option<u64> {
        let config = self.0.config.load();
        config.break_glass_group.as_ref()?;
        Some(config.break_glass_time.as_secs() / 60)
    }

    /// The groups whose members may look at the queue: those that some policy asks, and the break-glass group. Whether
    /// one may answer is for each request to say.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<String> {
        let parts = &self.0.parts;
        let policy = parts.policy.current();
        let mut groups: BTreeSet<String> = policy
            .rules()
            .iter()
            .flat_map(|rule| rule.approval.iter().map(ToString::to_string))
            .collect();
        groups.extend(self.0.config.load().break_glass_group.clone());
        groups
    }

    /// Whether somebody may look at the queue.
    #[must_use]
    pub fn admits(&self, approver: &Approver) -> bool {
        let groups = self.groups();
        approver.groups.iter().any(|group| groups.contains(&**group))
    }

    /// Remembers a sign-in that was verified.
    pub fn signed_in(&self, approver: &Arc<Approver>) {
        let mut all = self.0.sign_ins.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_SIGN_INS && !all.contains_key(&approver.subject) {
            let oldest = all.values().min_by_key(|one| one.authenticated_at);
            if let Some(oldest) = oldest.map(|one| Arc::clone(&one.subject)) {
                all.remove(&oldest);
            }
        }
        let newer = all
            .get(&approver.subject)
            .is_none_or(|former| former.authenticated_at <= approver.authenticated_at);
        if newer {
            all.insert(Arc::clone(&approver.subject), Arc::clone(approver));
        }
    }

    /// The last sign-in of a subject, if it may still be used.
    #[must_use]
    pub fn recent(&self, subject: &str) -> Option<Arc<Approver>> {
        let all = self.0.sign_ins.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(subject)
            .filter(|approver| self.is_fresh(approver))
            .cloned()
    }

    /// Whether a sign-in that was verified earlier may still be used.
    #[must_use]
    pub fn is_fresh(&self, approver: &Approver) -> bool {
        self.ends_at(approver) > self.0.parts.clock.now_seconds()
    }

    /// When a sign-in ends, seconds since 1970 UTC: its token's expiry, or the age that the configuration allows.
    #[must_use]
    pub fn ends_at(&self, approver: &Approver) -> i64 {
        let Some(terms) = self.0.parts.approvers.terms() else {
            return 0;
        };
        // Another issuer than the configured one: of before a reload.
        if *terms.issuer != *approver.issuer {
            return 0;
        }
        let age = i64::try_from(terms.max_age).unwrap_or(i64::MAX);
        approver
            .expires_at
            .min(approver.authenticated_at.saturating_add(age))
    }

    /// A secret text of the configuration.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn secret(&self, name: &str) -> Result<zeroize::Zeroizing<Vec<u8>>, String> {
        let workload = WorkloadName::new("portcullis").map_err(|e| e.to_string())?;
        // The configuration's check has let none through that takes a workload's token.
        let asker = Asker {
            workload,
            token: None,
        };
        let had = self.0.parts.credentials.password(name, &asker).await;
        let material = had.map_err(|error| error.to_string())?;
        let secret = material.secret().ok_or("it is not a secret text")?;
        Ok(zeroize::Zeroizing::new(secret.expose().to_vec()))
    }

    /// Records what is not an answer: a sign-in, a notification that could not be sent.
    pub fn note(&self, kind: EntryKind, members: Value) {
        let Value::Object(members) = members else { return };
        let parts = &self.0.parts;
        let entry = Entry::of(kind, parts.clock.now_ns(), members);
        parts.ledger.enqueue_now(entry);
    }

    /// Records that a stranger was refused, at most once a second, so that strangers cannot fill the ledger.
    pub fn refused(&self, via: &str, why: &str) {
        let now = self.0.parts.clock.now_seconds();
        let before = {
            let mut refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
            if now <= refused.0 {
                refused.1 += 1;
                return;
            }
            let before = refused.1;
            *refused = (now, 0);
            before
        };
        tracing::warn!(via, why, before, "an approver's request was refused");
        self.note(
            EntryKind::Approval,
            json!({ "event": "stranger", "approver": { "via": via }, "reason": why, "more": before }),
        );
    }
}
