//! What lets operations pass without asking again.

use std::sync::Arc;

use uuid::Uuid;

use super::{ask::Ask, deadline::Deadline, rules::is_own, shape::Shape, view::GrantView};
use crate::{
    model::{Approver, Identity, Rfc3339, WorkloadName},
    policy::{Approval, ApprovalScope},
};

/// What a grant covers.
#[derive(Clone, Debug)]
pub enum Covers {
    /// Exactly one operation.
    Digest([u8; 32]),
    /// A kind of operations.
    Shape(Box<Shape>),
    /// Whatever would be held.
    Everything,
}

/// A grant in force.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Its id: the request's, or its own for break-glass.
    pub id: Uuid,
    /// For whom.
    pub workload: WorkloadName,
    /// As whom; any identity of the workload for break-glass.
    pub identity: Option<Arc<Identity>>,
    /// The policy set that it was given under.
    pub policy_set: Arc<str>,
    /// What for.
    pub covers: Covers,
    /// Spelled out.
    pub text: String,
    /// How long.
    pub until: Deadline,
    /// How often; any number of times without.
    pub uses_left: Option<usize>,
    /// How often it was used.
    pub used: u64,
    /// What policy sees of it.
    pub approval: Arc<Approval>,
    /// Who gave it, and why.
    pub given: Vec<(Approver, String)>,
}

impl Grant {
    /// Whether it serves this now.
    #[must_use]
    pub fn serves(&self, ask: &Ask, digest: &[u8; 32], now_ns: i64) -> bool {
        let same = |identity: &Arc<Identity>| {
            identity.issuer == ask.identity.issuer
                && identity.subject == ask.identity.subject
                && identity.on_behalf_of == ask.identity.on_behalf_of
        };
        self.workload == ask.workload
            && self.policy_set == ask.decision.policy_set
            && self.uses_left != Some(0)
            && !self.until.is_over(now_ns)
            && self.identity.as_ref().is_none_or(same)
            && !self.given.iter().any(|(by, _)| is_own(by, &ask.identity))
            && match &self.covers {
                Covers::Digest(covered) => covered == digest,
                // It may be held by other policies than what the grant came of: their approvers count, not those.
                Covers::Shape(shape) => shape.covers(&ask.operation) && self.suffices(ask),
                Covers::Everything => true,
            }
    }

    /// Whether those who gave it are whom this operation's policies ask for.
    fn suffices(&self, ask: &Ask) -> bool {
        let Some(terms) = &ask.decision.hold else {
            return false;
        };
        terms.requirements.iter().all(|requirement| {
            let asked = |by: &Approver| by.groups.iter().any(|g| requirement.groups.contains(g));
            let approvers = self.given.iter().filter(|(by, _)| asked(by)).count();
            approvers >= usize::from(requirement.quorum.max(1))
        })
    }

    /// How much it covers, for choosing among several.
    #[must_use]
    pub fn breadth(&self) -> u8 {
        match self.covers {
            Covers::Digest(_) => 0,
            Covers::Shape(_) => 1,
            Covers::Everything => 2,
        }
    }

    /// Uses it.
    pub fn take(&mut self) -> Arc<Approval> {
        self.used += 1;
        if let Some(left) = &mut self.uses_left {
            *left = left.saturating_sub(1);
        }
        Arc::clone(&self.approval)
    }

    /// How far it reaches.
    #[must_use]
    pub fn scope(&self) -> ApprovalScope {
        self.approval.scope
    }

    /// As approvers see it.
    #[must_use]
    pub fn view(&self) -> GrantView {
        GrantView {
            id: self.id,
            scope: self.scope().as_str().into(),
            workload: self.workload.to_string(),
            covers: self.text.clone(),
            approvers: self.given.iter().map(|(by, _)| by.name.to_string()).collect(),
            reasons: self.given.iter().map(|(_, why)| why.clone()).collect(),
            expires_at: Rfc3339(self.until.at_ns()).to_string(),
            uses_left: self.uses_left,
            used: self.used,
        }
    }
}
