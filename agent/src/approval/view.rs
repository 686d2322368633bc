//! What approvers see and say: the shapes of the API that the CLI and the page use. All of it is masked already.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It can be answered.
    Open,
    /// It was approved, and the operation may pass or has passed.
    Approved,
    /// A human said no.
    Denied,
    /// It ended without an answer: nobody gave one in time.
    Expired,
    /// What it asked for is over: the policy changed, the identity ended, or the agent stopped.
    Lapsed,
}

impl State {
    /// The word in entries and on pages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Lapsed => "lapsed",
        }
    }
}

/// One request for approval.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct View {
    /// Its id.
    pub id: Uuid,
    /// How it stands.
    pub state: State,
    /// RFC 3339, UTC.
    pub asked_at: String,
    /// Until when it can be answered, RFC 3339.
    pub expires_at: String,
    /// When it was answered or ended, RFC 3339.
    pub ended_at: Option<String>,
    /// The workload that asks.
    pub workload: String,
    /// Its token's issuer.
    pub issuer: String,
    /// Its token's subject.
    pub subject: String,
    /// The human it acts for, if any.
    pub on_behalf_of: Option<String>,
    /// The Cedar action: `sql:statement`.
    pub action: String,
    /// What it is asked of: `Database::"billing-db/app"`.
    pub resource: String,
    /// One line that says what it is: `delete on billing.invoices in billing-db/app`.
    pub summary: String,
    /// The author's words of the policies that hold it (`@reason`).
    pub message: Option<String>,
    /// What it takes.
    pub requirements: Vec<RequirementView>,
    /// The policy set that it was held under, and that an answer is bound to.
    pub policy_set: String,
    /// Keyed digest of the operation that an answer is bound to, hex.
    pub digest: String,
    /// The operation's id, and its session's.
    pub operation: Uuid,
    /// Its session.
    pub session: Uuid,
    /// How many identical operations wait in flight for this answer.
    pub waiting: usize,
    /// Until when the first of them waits, RFC 3339.
    pub waits_until: Option<String>,
    /// Where it would go: `billing-db.internal:5432 (10.0.0.7)`.
    pub destination: String,
    /// The process: `/usr/bin/psql, pid 71, uid 1000`.
    pub process: String,
    /// The protocol's facts, as policy saw them, masked.
    pub context: Json,
    /// What would be sent, masked, cut after [`View::payload_bytes`] where [`View::payload_truncated`].
    pub payload: String,
    /// Bytes of the whole payload, before masking.
    pub payload_bytes: u64,
    /// Whether `payload` is not all of it.
    pub payload_truncated: bool,
    /// What a time-boxed grant could cover, spelled out, narrowest first; an answer names one by its place.
    pub shapes: Vec<String>,
    /// Answers so far.
    pub answers: Vec<AnswerView>,
}

/// What one policy asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequirementView {
    /// The policy.
    pub policy: String,
    /// Approvers of any of these groups count.
    pub groups: Vec<String>,
    /// How many different ones it takes.
    pub quorum: u8,
    /// Who has approved already.
    pub approved_by: Vec<String>,
}

/// What one human said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AnswerView {
    /// The token's subject.
    pub approver: String,
    /// A name for people.
    pub name: String,
    /// The groups that the answer counted for.
    pub groups: Vec<String>,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub reason: String,
    /// `cli`, `web` or `slack`.
    pub via: String,
    /// RFC 3339.
    pub at: String,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Yes or no.
    pub approve: bool,
    /// Why; required, 1 to 1,000 characters.
    pub reason: String,
    /// How far a yes reaches.
    #[serde(default)]
    pub scope: Scope,
}

/// How far a yes reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Scope {
    /// This operation, once.
    #[default]
    Once,
    /// This operation, as many times as the approver saw waiting.
    Waiting {
        /// How many were shown.
        count: usize,
    },
    /// Every operation of a shape, for a time.
    Grant {
        /// Its place in [`View::shapes`].
        shape: usize,
        /// Minutes, at most what the configuration allows.
        minutes: u32,
    },
}

/// Something that lets operations pass without asking again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GrantView {
    /// Its id: the request's that it came from, or its own for break-glass.
    pub id: Uuid,
    /// `once`, `grant` or `break_glass`.
    pub scope: String,
    /// The workload.
    pub workload: String,
    /// What it covers, spelled out.
    pub covers: String,
    /// Who gave it.
    pub approvers: Vec<String>,
    /// Why.
    pub reasons: Vec<String>,
    /// RFC 3339.
    pub expires_at: String,
    /// Uses left; `None` where only time bounds it.
    pub uses_left: Option<usize>,
    /// Uses so far.
    pub used: u64,
}

/// A break-glass grant that is asked for, and waits for the second person.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BreakGlassView {
    /// Its id.
    pub id: Uuid,
    /// The workload.
    pub workload: String,
    /// Minutes that it would last.
    pub minutes: u32,
    /// The first person's reason.
    pub reason: String,
    /// The first person.
    pub first: String,
    /// Until when the second person can confirm it, RFC 3339.
    pub expires_at: String,
}

/// A workload whose requests were turned away because too many wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FloodView {
    /// The workload.
    pub workload: String,
    /// Operations turned away since it last had room.
    pub refused: u64,
}

/// Everything at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Overview {
    /// Open requests, oldest first.
    pub open: Vec<Arc<View>>,
    /// Ended ones of this run of the agent, newest first, bounded.
    pub ended: Vec<Arc<View>>,
    /// Grants in force.
    pub grants: Vec<GrantView>,
    /// Break-glass grants that wait for a second person.
    pub break_glass: Vec<BreakGlassView>,
    /// Workloads that ask faster than humans answer.
    pub floods: Vec<FloodView>,
}
