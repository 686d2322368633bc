//! What is enforced on this host right now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    console::TargetStatus,
    ledger::{timestamp::TimestampStatus, witness::WitnessStatus},
    reconcile::ReconcileStatus,
    redirect::{Unanswered, doors},
    selftest,
    ship::SinkStatus,
};

/// The answer of `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// This program's version.
    pub version: String,
    /// This host's name.
    pub host: String,
    /// The daemon's process id.
    pub pid: u32,
    /// When it started, RFC 3339.
    pub started_at: String,
    /// The workloads of the configuration.
    pub workloads: Vec<WorkloadStatus>,
    /// The cgroups tagged.
    pub tags: Vec<TagStatus>,
    /// The eBPF programs that must be attached.
    pub programs: Vec<ProgramStatus>,
    /// Failures inside eBPF programs, by site.
    pub errors: BTreeMap<String, u64>,
    /// Questions to the agent's resolver that were not answered.
    #[serde(default)]
    pub resolver: Unanswered,
    /// The policy in force.
    pub policy: PolicyStatus,
    /// The ledger.
    pub ledger: LedgerStatus,
    /// What waits for humans.
    pub approvals: ApprovalStatus,
    /// Where the ledger is sent to.
    pub ship: Vec<SinkStatus>,
    /// Connections open now.
    pub connections: usize,
    /// Every way out, and what closes it on this host.
    #[serde(default)]
    pub doors: Vec<DoorStatus>,
    /// How the kernel's counters and the record compare.
    #[serde(default)]
    pub reconcile: ReconcileStatus,
    /// The last `portcullis selftest`.
    #[serde(default)]
    pub selftest: Option<selftest::Report>,
    /// What passes without being inspected.
    #[serde(default)]
    pub exempt: Vec<super::ExemptStatus>,
    /// What is not as it should be; empty when everything is enforced.
    pub problems: Vec<String>,
}

/// What waits for humans, and who is told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ApprovalStatus {
    /// Where approvers sign in; nobody can answer without.
    pub issuer: Option<String>,
    /// The page.
    pub page: Option<String>,
    /// Open requests.
    pub open: usize,
    /// When the oldest was asked, RFC 3339.
    pub oldest: Option<String>,
    /// Grants in force.
    pub grants: usize,
    /// Workloads that are turned away because they ask faster than humans answer.
    pub flooding: Vec<String>,
    /// How notifications fare.
    pub notify: Vec<TargetStatus>,
}

/// One workload's identity.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// Its name.
    pub name: String,
    /// `valid`, or the reason why it is not.
    pub state: String,
    /// The issuer's name in the configuration.
    pub issuer: String,
    /// The verified subject.
    pub subject: Option<String>,
    /// Its token's expiry, RFC 3339.
    pub expires_at: Option<String>,
    /// What went wrong last, if it still does.
    pub error: Option<String>,
    /// The doors that its `guard` opens for it.
    #[serde(default)]
    pub opened: Vec<String>,
}

/// One tagged cgroup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TagStatus {
    /// Its path below the cgroup2 mount.
    pub cgroup: String,
    /// Its id.
    pub id: u64,
    /// The workload.
    pub workload: String,
    /// `config` or `xattr`.
    pub source: String,
    /// What the kernel counted, by outcome.
    pub counters: BTreeMap<String, u64>,
    /// What became of sockets older than the tag, and of those that processes brought.
    #[serde(default)]
    pub older: super::OlderStatus,
}

/// One program on one cgroup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgramStatus {
    /// The program.
    pub name: String,
    /// The cgroup's id.
    pub cgroup: u64,
    /// Whether its link is in place.
    pub attached: bool,
    /// Whether the kernel may interrupt it, and skips its other runs meanwhile: it closes no door by itself.
    #[serde(default)]
    pub unsteady: bool,
}

/// The policy in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// SHA-256 of the set.
    pub hash: String,
    /// Counts loads.
    pub generation: u64,
    /// How many policies.
    pub policies: usize,
    /// Why the last reload was not taken, if it was not.
    pub error: Option<String>,
}

/// The ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerStatus {
    /// Entries.
    pub size: u64,
    /// Merkle tree root, hex.
    pub root: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// `power` or `process`.
    pub durability: String,
    /// Why it cannot record, if it cannot.
    pub error: Option<String>,
    /// Why no checkpoint is signed, if none is.
    #[serde(default)]
    pub unsigned: Option<String>,
    /// Why a part that has ended is not sealed into a segment; it is tried again.
    #[serde(default)]
    pub unsealed: Option<String>,
    /// The public key that signs, in the C2SP form.
    #[serde(default)]
    pub key: String,
    /// Witnesses, and how far they have cosigned.
    #[serde(default)]
    pub witnesses: Vec<WitnessStatus>,
    /// The time-stamping authority, where there is one.
    #[serde(default)]
    pub timestamps: Option<TimestampStatus>,
}

/// A way out of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorStatus {
    /// Its stable name.
    pub door: String,
    /// What a process would do.
    pub what: String,
    /// Whether only root gets through.
    pub root: bool,
    /// What closes it: `redirect`, `cgroup`, `guard`, `lsm`, `kill`, `destroy`, `sysctl` or `absent`; nothing when it is open.
    pub closed: Option<String>,
    /// What that is exactly, or why it is open and what to do.
    pub why: String,
}

impl From<doors::Judged> for DoorStatus {
    fn from(judged: doors::Judged) -> Self {
        Self {
            door: judged.door.into(),
            what: judged.what.into(),
            root: judged.root,
            closed: judged.closed.map(|mechanism| mechanism.as_str().into()),
            why: judged.why,
        }
    }
}
