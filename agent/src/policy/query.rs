//! What policy is asked.

use std::sync::Arc;

use crate::model::{ClassTable, Operation, Process, WorkloadName};

/// Who asks: a workload with its verified identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// `Workload::"..."`.
    pub workload: WorkloadName,
    /// `Group::"..."`s that it is in, as the token has them.
    pub groups: Arc<[Arc<str>]>,
    /// `principal.issuer`.
    pub issuer: Arc<str>,
    /// `principal.subject`.
    pub subject: Arc<str>,
}

/// A human's answer, when a held operation is decided again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The approval's own id.
    pub id: Arc<str>,
    /// The subject of who completed it.
    pub approver: Arc<str>,
    /// The approver group that this was given for.
    pub group: Arc<str>,
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// The subjects of everyone who gave it.
    pub approvers: Arc<[Arc<str>]>,
    /// The groups that they gave it for.
    pub groups: Arc<[Arc<str>]>,
    /// How far it reaches.
    pub scope: ApprovalScope,
}

/// How far an approval reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalScope {
    /// This operation, once.
    Once,
    /// Operations of a shape, for a time.
    Grant,
    /// Whatever of this workload would be held, for a time: two people said so.
    BreakGlass,
}

impl ApprovalScope {
    /// The word in policy and entries.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Grant => "grant",
            Self::BreakGlass => "break_glass",
        }
    }
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// For what.
    pub operation: &'a Operation,
    /// From which process.
    pub process: &'a Process,
    /// When, nanoseconds since 1970 UTC. Policy sees whole seconds.
    pub now_ns: i64,
    /// The data classes that `obligations.mask` speaks of.
    pub classes: &'a ClassTable,
    /// The answer of a human, if there is one.
    pub approval: Option<&'a Approval>,
}
