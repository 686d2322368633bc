//! The running agent, as its control socket and its signals see it.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{
    DoorStatus, LedgerStatus, PolicyStatus, ProgramStatus, Status, TagStatus, Truth, WorkloadStatus,
    approving::Approving,
    control::Caller,
    events,
    older::Older,
    selftesting::{self, Last},
    shipping,
};
use crate::{
    config::Config,
    connection::{Front, Tag},
    identity::Actor,
    ledger::retention::Retention,
    model::{CgroupId, Entry, EntryKind, Rfc3339, WorkloadName},
    reconcile::Reconciler,
    redirect::{
        Control, Counters, Outcome, Source, Tag as TaggedCgroup, TagEvent, bpf, cgroup, doors,
        guard::UnixListeners, tags,
    },
    ship::{self, Shipping},
};

/// The running agent.
pub(super) struct Agent {
    pub(super) front: Arc<Front>,
    pub(super) config_path: PathBuf,
    pub(super) config: Mutex<Config>,
    pub(super) control: Control,
    pub(super) unix: Mutex<UnixListeners>,
    pub(super) mount: PathBuf,
    pub(super) approving: Approving,
    pub(super) retention: Retention,
    pub(super) truth: Truth,
    pub(super) shipping: Shipping,
    pub(super) reconciler: Reconciler,
    pub(super) selftest: Last,
    pub(super) older: Older,
    /// One tag after the other: whoever asks for one that is on its way waits for it.
    enforcing: tokio::sync::Mutex<()>,
    started_at: i64,
    /// The task that follows the cgroup tree; a reload replaces it.
    following: Mutex<Option<AbortHandle>>,
}

/// What it does beside serving connections.
pub(super) struct Sides {
    pub(super) approving: Approving,
    pub(super) retention: Retention,
    pub(super) shipping: Shipping,
    pub(super) truth: Truth,
    pub(super) reconciler: Reconciler,
}

impl Agent {
    pub(super) fn new(
        path: PathBuf,
        config: Config,
        front: Arc<Front>,
        sides: Sides,
        (control, unix): (Control, UnixListeners),
        mount: PathBuf,
    ) -> Self {
        let started_at = front.shared.clock.now_ns();
        let Sides {
            approving,
            retention,
            shipping,
            truth,
            reconciler,
        } = sides;
        let selftest = Last::read(&config.host.data_dir);
        Self {
            front,
            selftest,
            older: Older::default(),
            enforcing: tokio::sync::Mutex::default(),
            config_path: path,
            config: Mutex::new(config),
            control,
            unix: Mutex::new(unix),
            mount,
            approving,
            retention,
            truth,
            shipping,
            reconciler,
            started_at,
            following: Mutex::new(None),
        }
    }

    /// Appends an entry and waits until it is durable; an admin's act is not done before it is on record.
    pub(super) async fn record(&self, kind: EntryKind, members: Value) -> anyhow::Result<()> {
        let Value::Object(members) = members else {
            bail!("an entry is an object")
        };
        let entry = Entry::of(kind, self.front.shared.clock.now_ns(), members);
        self.front
            .shared
            .ledger
            .append(entry)
            .await
            .context("the ledger cannot record it; nothing was changed")?;
        Ok(())
    }
}

/// Acts of admins, through the control socket.
impl Agent {
    /// Tags a cgroup: on record first, then enforced, then kept in the cgroup's own xattr.
    pub(super) async fn tag(
        &self,
        cgroup: &str,
        workload: &WorkloadName,
        by: Caller,
    ) -> anyhow::Result<CgroupId> {
        if self.front.identities.handle(workload).is_none() {
            bail!("there is no [[workload]] '{workload}' in the configuration; add it and send SIGHUP");
        }
        let dir = self.mount.join(cgroup.trim_start_matches('/'));
        self.record(
            EntryKind::Change,
            json!({ "subject": "tag", "actor": Actor::from(by), "after": workload, "detail": { "cgroup": cgroup } }),
        )
        .await?;
        tags::set(&dir, workload).with_context(|| format!("{} cannot be tagged", dir.display()))?;
        let id = cgroup::id(&dir)?;
        self.enforce(TaggedCgroup {
            path: dir,
            id,
            workload: workload.clone(),
            source: Source::Attribute,
        })
        .await
    }

    /// Takes a tag off.
    pub(super) async fn untag(&self, cgroup: &str, by: Caller) -> anyhow::Result<()> {
        let dir = self.mount.join(cgroup.trim_start_matches('/'));
        let found = self
            .front
            .workloads
            .all()
            .into_iter()
            .find(|(_, tag)| tag.cgroup == cgroup);
        let Some((id, tag)) = found else {
            bail!("{cgroup} is not tagged")
        };
        if tag.source == "config" {
            bail!(
                "{cgroup} is tagged by the configuration: take it out of [[workload]] '{}' there",
                tag.workload
            );
        }
        self.record(
            EntryKind::Change,
            json!({ "subject": "tag", "actor": Actor::from(by), "before": tag.workload, "detail": { "cgroup": cgroup } }),
        )
        .await?;
        tags::remove(&dir).with_context(|| format!("{} cannot be untagged", dir.display()))?;
        self.release(id).await;
        Ok(())
    }

    /// Ends a workload's identity.
    pub(super) async fn revoke(&self, workload: &WorkloadName, by: Caller) -> anyhow::Result<()> {
        self.known(workload)?;
        let detail = json!({ "workload": workload, "act": "revoke" });
        self.record(
            EntryKind::Change,
            json!({ "subject": "revocation", "actor": Actor::from(by), "detail": detail }),
        )
        .await?;
        self.front.identities.revoke(workload, by.into())?;
        Ok(())
    }

    /// Gives it back.
    pub(super) async fn restore(&self, workload: &WorkloadName, by: Caller) -> anyhow::Result<()> {
        self.known(workload)?;
        let detail = json!({ "workload": workload, "act": "restore" });
        self.record(
            EntryKind::Change,
            json!({ "subject": "revocation", "actor": Actor::from(by), "detail": detail }),
        )
        .await?;
        self.front.identities.restore(workload, by.into())?;
        Ok(())
    }

    fn known(&self, workload: &WorkloadName) -> anyhow::Result<()> {
        if self.front.identities.handle(workload).is_some() {
            return Ok(());
        }
        let config = self
            .config
            .lock()
            .map_err(|_| anyhow::anyhow!("the configuration is locked"))?;
        let names: Vec<_> = config.workload.iter().map(|w| w.name.as_str()).collect();
        bail!(
            "there is no workload '{workload}'; there is: {}",
            names.join(", ")
        )
    }
}

/// Enforcement following the tags.
impl Agent {
    /// Enforces a tag. The workload is known before its first connection can arrive.
    pub(super) async fn enforce(&self, tagged: TaggedCgroup) -> anyhow::Result<CgroupId> {
        let _one = self.enforcing.lock().await;
        let cgroup = self.below_mount(&tagged.path);
        let source = source(tagged.source);
        let tag = Tag {
            workload: tagged.workload.clone(),
            cgroup: cgroup.clone(),
            source,
        };
        let before = self.front.workloads.add(tagged.id, tag.clone());
        if before.as_ref() == Some(&tag) {
            return Ok(tagged.id);
        }
        let control = self.control.clone();
        let dir = tagged.path;
        let switches = self.switches(&tagged.workload);
        control.prepare(&dir).await;
        self.exempt_tag(tagged.id, &tagged.workload);
        let addresses = self.unix_addresses(&tagged.workload);
        // Loading links is a handful of system calls, but not for an async thread.
        let done = tokio::task::spawn_blocking(move || {
            let id = control.tag_as(&dir, switches)?;
            control.set_unix(id, &addresses)
        })
        .await
        .context("the attaching thread ended")?;
        if let Err(e) = done {
            self.front.workloads.remove(tagged.id);
            return Err(e).with_context(|| format!("{cgroup} cannot be enforced"));
        }
        let detail = json!({ "cgroup": cgroup, "cgroup_id": tagged.id.0, "source": source });
        self.lifecycle(&tagged.workload, "tagged", detail).await;
        self.settle_older(tagged.id, &tagged.workload).await;
        Ok(tagged.id)
    }

    /// What the programs are told of a workload beside that it is one.
    pub(super) fn switches(&self, workload: &WorkloadName) -> portcullis_abi::Tag {
        let exec = self.exec_switches(workload);
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let found = config.workload.iter().find(|w| w.name == *workload);
        let guard = found.map(|w| w.guard).unwrap_or_default();
        portcullis_abi::Tag {
            flags: guard.flags() | exec,
        }
    }

    /// Stops enforcing a tag that is gone. An untag and the cgroup's removal may both say so: the second finds nothing.
    pub(super) async fn release(&self, id: CgroupId) {
        let Some(tag) = self.front.workloads.remove(id) else {
            return;
        };
        let control = self.control.clone();
        let (reconciler, workload) = (self.reconciler.clone(), tag.workload.clone());
        let done = tokio::task::spawn_blocking(move || {
            // Its counters go with it.
            reconciler.closing(id, &workload);
            control.untag(id)
        })
        .await;
        if let Ok(Err(e)) = done {
            tracing::warn!(cgroup_id = id.0, "programs could not be detached: {e}");
        }
        let detail = json!({ "cgroup": tag.cgroup, "cgroup_id": id.0, "source": tag.source });
        self.older.forget(id);
        self.lifecycle(&tag.workload, "removed", detail).await;
    }

    /// A cgroup's path below the mount, as people write it.
    fn below_mount(&self, dir: &std::path::Path) -> String {
        format!("/{}", dir.strip_prefix(&self.mount).unwrap_or(dir).display())
    }

    /// Follows the cgroup tree from now on by these events, and not by former ones.
    pub(super) fn follow(self: &Arc<Self>, events: mpsc::Receiver<TagEvent>) {
        let task = tokio::spawn(events::follow_tags(Arc::clone(self), events)).abort_handle();
        let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(former) = following.replace(task) {
            former.abort();
        }
    }

    /// Enforces exactly these tags: what was tagged and is not among them is released.
    pub(super) async fn enforce_all(&self, tags: Vec<TaggedCgroup>) {
        let wanted: Vec<CgroupId> = tags.iter().map(|t| t.id).collect();
        for tag in tags {
            let path = tag.path.clone();
            if let Err(e) = self.enforce(tag).await {
                tracing::error!(cgroup = %path.display(), "{e:#}");
            }
        }
        for (id, _) in self.front.workloads.all() {
            if !wanted.contains(&id) {
                self.release(id).await;
            }
        }
        // Links that an earlier daemon left on cgroups that are tagged no more.
        let control = self.control.clone();
        let swept = tokio::task::spawn_blocking(move || control.keep_only(&wanted)).await;
        if let Ok(Err(e)) = swept {
            tracing::warn!("links of an earlier daemon could not be removed: {e}");
        }
    }

    pub(super) async fn lifecycle(&self, workload: &WorkloadName, event: &str, detail: Value) {
        let entry = json!({ "workload": workload, "event": event, "detail": detail });
        if let Err(e) = self.record(EntryKind::Workload, entry).await {
            tracing::error!(workload = %workload, event, "not recorded: {e:#}");
        }
    }

    pub(super) async fn record_started(&self) -> anyhow::Result<()> {
        let shared = &self.front.shared;
        let policy = shared.policy.current();
        shared
            .ledger
            .policy_set(policy.hash(), policy.text())
            .await
            .context("the policy set cannot be stored")?;
        let detail = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "boot_id": boot_id(),
            "clock": "system",
            "config_sha256": self.config_hash(),
            "durability": self.config.lock().map(|c| c.ledger.durability).unwrap_or_default(),
            "policy_set": policy.hash(),
        });
        self.record(EntryKind::Agent, json!({ "event": "started", "detail": detail }))
            .await
    }

    /// Records in the background what an earlier run left open for approvers.
    pub(super) fn lapse_orphans(&self) {
        let approvals = self.front.shared.approvals.clone();
        let Ok(path) = self.config.lock().map(|c| c.host.data_dir.clone()) else {
            return;
        };
        tokio::task::spawn_blocking(move || match approvals.lapse_orphans(&path) {
            Ok(0) => {}
            Ok(lapsed) => tracing::info!(lapsed, "approvals of an earlier run have lapsed"),
            Err(e) => tracing::error!("approvals of an earlier run are not recorded as lapsed: {e}"),
        });
    }

    pub(super) async fn record_stopped(&self, cut: usize) {
        let detail = json!({ "connections_cut": cut });
        if let Err(e) = self
            .record(EntryKind::Agent, json!({ "event": "stopped", "detail": detail }))
            .await
        {
            tracing::error!("the end is not on record: {e:#}");
        }
    }

    /// SHA-256 of the configuration file as it is now, hex.
    pub(super) fn config_hash(&self) -> String {
        let text = std::fs::read(&self.config_path).unwrap_or_default();
        hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text))
    }
}

/// Looking at itself.
impl Agent {
    pub(super) fn metrics_text(&self) -> String {
        let mut text = self.front.shared.metrics.text();
        let end = text.rfind("# EOF").unwrap_or(text.len());
        text.truncate(end);
        text.push_str("# TYPE portcullis_kernel_sockets counter\n# HELP portcullis_kernel_sockets Sockets, sends and packets of workloads, as the kernel counted them.\n");
        for tag in self.tags() {
            for (outcome, n) in &tag.counters {
                let line = format!(
                    "portcullis_kernel_sockets_total{{workload=\"{}\",cgroup_id=\"{}\",outcome=\"{outcome}\"}} {n}\n",
                    tag.workload, tag.id
                );
                text.push_str(&line);
            }
        }
        text.push_str(&ship::metrics(&self.shipping.status()));
        text.push_str(&super::retention::metrics(&self.retention));
        text.push_str("# EOF\n");
        text
    }

    fn tags(&self) -> Vec<TagStatus> {
        let mut counters: BTreeMap<CgroupId, Counters> =
            self.control.counters().unwrap_or_default().into_iter().collect();
        let all = self.front.workloads.all().into_iter();
        all.map(|(id, tag)| TagStatus {
            cgroup: tag.cgroup,
            id: id.0,
            workload: tag.workload.to_string(),
            source: tag.source.into(),
            counters: counters.remove(&id).map(by_name).unwrap_or_default(),
            older: self.older.of(id),
        })
        .collect()
    }

    pub(super) fn status(&self) -> Status {
        let shared = &self.front.shared;
        let policy = shared.policy.current();
        let ledger = shared.ledger.status();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            host: shared.host.to_string(),
            pid: std::process::id(),
            started_at: Rfc3339(self.started_at).to_string(),
            workloads: self.workloads(),
            tags: self.tags(),
            programs: self
                .control
                .attached()
                .unwrap_or_default()
                .into_iter()
                .map(|p| ProgramStatus {
                    name: p.program.into(),
                    cgroup: p.cgroup.0,
                    attached: p.ok,
                    unsteady: p.unsteady,
                })
                .collect(),
            errors: self
                .control
                .errors()
                .unwrap_or_default()
                .into_iter()
                .map(|(site, n)| (site.as_str().into(), n))
                .collect(),
            resolver: self.control.unanswered(),
            policy: PolicyStatus {
                hash: policy.hash().to_string(),
                generation: policy.generation(),
                policies: policy.rules().len(),
                error: shared.policy.status().error.map(|e| e.to_string()),
            },
            ledger: LedgerStatus {
                size: ledger.size,
                root: ledger.root,
                bytes: ledger.disk_bytes,
                durability: ledger.durability.as_str().into(),
                error: ledger.failure,
                unsigned: ledger.unsigned,
                unsealed: ledger.unsealed,
                key: ledger.key,
                witnesses: self.truth.witnesses(),
                timestamps: self.truth.timestamps(),
            },
            approvals: self.approving.status(),
            ship: self.shipping.status(),
            connections: self.front.shared.drain.live(),
            doors: self.doors(),
            reconcile: self.reconciler.status(),
            selftest: self.selftest.get(),
            exempt: self.exemptions(),
            problems: Vec::new(),
        };
        status.problems = problems(&status);
        status
            .problems
            .extend(super::retention::problems(&self.retention));
        status.problems.extend(super::exempting::problems(&status.exempt));
        status.problems.extend(self.reconciler.problems());
        status.problems.extend(selftesting::problems(&self.selftest));
        status.problems.extend(self.older.problems());
        status.problems.extend(self.crowded());
        status.problems.extend(self.missed());
        status
    }

    /// Every way out, as things stand.
    fn doors(&self) -> Vec<DoorStatus> {
        let attached = self.control.attached().unwrap_or_default();
        let facts = doors::Facts::of_kernel().with_attached(&attached, bpf::programs());
        doors::judge(&facts).into_iter().map(Into::into).collect()
    }

    fn workloads(&self) -> Vec<WorkloadStatus> {
        let all = self.front.identities.status().into_iter();
        all.map(|w| WorkloadStatus {
            opened: doors::opened(self.switches(&w.workload).flags)
                .into_iter()
                .chain(self.lets_older(&w.workload).then_some("older-sockets"))
                .map(Into::into)
                .collect(),
            name: w.workload.to_string(),
            state: w.reason.map_or_else(|| "valid".to_owned(), |r| r.to_string()),
            issuer: w.issuer,
            subject: w.subject,
            expires_at: w.expires_at.map(|at| at.to_string()),
            error: w.last_error,
        })
        .collect()
    }
}

fn problems(s: &Status) -> Vec<String> {
    let mut problems = Vec::new();
    for p in s.programs.iter().filter(|p| !p.attached) {
        problems.push(format!(
            "{} is not attached to cgroup {}: restart the daemon",
            p.name, p.cgroup
        ));
    }
    // Revoked is an admin's wish, not a problem.
    for w in s
        .workloads
        .iter()
        .filter(|w| w.state != "valid" && w.state != "identity_revoked")
    {
        let why = w.error.as_deref().unwrap_or("no token yet");
        problems.push(format!(
            "workload {} has no valid identity ({}): {why}",
            w.name, w.state
        ));
    }
    if s.policy.policies == 0 {
        problems.push("no policy is loaded, so every operation is denied: set [policy] dirs".into());
    }
    if let Some(e) = &s.policy.error {
        problems.push(format!(
            "the last policy reload was not taken, the one before is in force: {e}"
        ));
    }
    if let Some(e) = &s.ledger.error {
        problems.push(format!(
            "the ledger cannot record, so every operation is denied: {e}"
        ));
    }
    for w in &s.ledger.witnesses {
        if let Some(e) = &w.error {
            problems.push(format!("witness {} has not cosigned what is new: {e}", w.name));
        }
    }
    if let Some(e) = s.ledger.timestamps.as_ref().and_then(|t| t.error.as_ref()) {
        problems.push(format!("there is no timestamp over what is new: {e}"));
    }
    if let Some(e) = &s.ledger.unsealed {
        problems.push(e.clone());
    }
    if let Some(e) = &s.ledger.unsigned {
        problems.push(e.clone());
    }
    problems.extend(shipping::problems(&s.ship));
    for (site, n) in s.errors.iter().filter(|(_, n)| **n > 0) {
        problems.push(format!(
            "eBPF helpers failed {n} times at {site}; the sockets concerned were refused"
        ));
    }
    problems
}

fn by_name(counters: Counters) -> BTreeMap<String, u64> {
    Outcome::ALL
        .iter()
        .map(|o| (o.as_str().into(), counters.get(*o)))
        .collect()
}

fn source(source: Source) -> &'static str {
    match source {
        Source::Config => "config",
        Source::Attribute => "xattr",
    }
}

pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .into()
}
