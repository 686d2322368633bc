//! What the gate does with a decision: it is made by the policy in force, counted, and recorded.

use std::{sync::Arc, time::Instant};

use super::{Denied, Gate, Known, body};
use crate::{
    ledger::LedgerError,
    model::{Decision, Effect, Identity, Obligations, Operation, Reason, Seq},
    policy::{Approval, PolicySet, Principal, Query},
};

impl Gate {
    /// What policy says.
    pub(super) fn decide(
        &self,
        set: &Arc<PolicySet>,
        known: &Known,
        operation: &Operation,
        approval: Option<&Approval>,
    ) -> Arc<Decision> {
        let query = Query {
            principal: &known.principal,
            operation,
            process: &self.connection.process,
            now_ns: self.inner.shared.clock.now_ns(),
            classes: self.connection.mask.classes(),
            approval,
        };
        self.lock().cache.decide(set, &query)
    }

    /// Records a denial.
    pub(super) async fn deny(
        &self,
        operation: &Operation,
        known: Option<&Known>,
        decision: Arc<Decision>,
        approval: Option<&Approval>,
    ) -> Denied {
        self.count(operation, Effect::Deny, decision.reason);
        // Where the ledger cannot take the denial either, it counts the loss and records it as a gap later.
        let _ = self
            .write(operation, known, &decision, approval.map(Into::into))
            .await;
        Denied::of(operation, &decision, decision.reason)
    }

    /// As `deny`, of what was held and is not approved.
    pub(super) async fn deny_held(
        &self,
        operation: &Operation,
        known: Option<&Known>,
        decision: Arc<Decision>,
        request: Option<uuid::Uuid>,
    ) -> Denied {
        self.count(operation, Effect::Deny, decision.reason);
        let approval = request.map(body::ApprovalBody::request);
        let _ = self.write(operation, known, &decision, approval).await;
        Denied {
            request: request.map(|id| self.asked(id)),
            ..Denied::of(operation, &decision, decision.reason)
        }
    }

    /// Records a decision; the entry is durable when this returns.
    pub(super) async fn write(
        &self,
        operation: &Operation,
        known: Option<&Known>,
        decision: &Decision,
        approval: Option<body::ApprovalBody<'_>>,
    ) -> Result<Seq, LedgerError> {
        let classes = self.connection.mask.classes();
        let entry = body::operation(body::OperationParts {
            at: self.inner.shared.clock.now_ns(),
            host: &self.inner.shared.host,
            session: self.connection.session,
            workload: &self.connection.workload,
            process: &self.process,
            identity: known.map(|k| &*k.body),
            operation,
            decision,
            approval,
            mask: decision
                .obligations
                .mask
                .iter()
                .filter_map(|c| classes.name(c))
                .map(|n| &**n)
                .collect(),
        });
        let begun = Instant::now();
        let seq = self.inner.shared.ledger.append(entry).await?;
        self.inner.shared.metrics.durable(begun.elapsed());
        Ok(seq)
    }

    /// Counts a decision.
    pub(super) fn count(&self, operation: &Operation, effect: Effect, reason: Reason) {
        self.inner
            .shared
            .metrics
            .operation(operation.protocol, effect, reason);
    }

    /// A denial that no policy determined.
    pub(super) fn denial(&self, set: &PolicySet, reason: Reason) -> Arc<Decision> {
        Arc::new(Decision {
            effect: Effect::Deny,
            reason,
            message: None,
            policies: Arc::from([]),
            controls: Arc::from([]),
            approval: Arc::from([]),
            hold: None,
            policy_set: Arc::clone(set.hash()),
            obligations: Obligations::default(),
        })
    }

    /// Who asks, as of now.
    pub(super) fn who(&self) -> Result<Known, Reason> {
        let identity = self.connection.identity.check()?;
        Ok(self.known(identity))
    }

    /// Who asks, or the denial for want of an identity, on record.
    pub(super) async fn identified(&self, set: &PolicySet, operation: &Operation) -> Result<Known, Denied> {
        match self.who() {
            Ok(known) => Ok(known),
            Err(reason) => Err(self.deny(operation, None, self.denial(set, reason), None).await),
        }
    }

    /// In the forms that policy and ledger want.
    fn known(&self, identity: Arc<Identity>) -> Known {
        let mut memory = self.lock();
        if let Some(known) = &memory.known
            && Arc::ptr_eq(&known.identity, &identity)
        {
            return known.clone();
        }
        let principal = Principal {
            workload: self.connection.workload.clone(),
            groups: Arc::clone(&identity.groups),
            issuer: Arc::clone(&identity.issuer),
            subject: Arc::clone(&identity.subject),
        };
        let body = body::identity(&identity);
        let known = Known {
            identity,
            principal: Arc::new(principal),
            body,
        };
        memory.known = Some(known.clone());
        known
    }
}

impl Denied {
    /// What the workload is told, for `reason`.
    pub(super) fn of(operation: &Operation, decision: &Decision, reason: Reason) -> Self {
        Self {
            reason,
            entry: operation.id,
            policies: Arc::clone(&decision.policies),
            message: decision.message.clone(),
            approval: Arc::clone(&decision.approval),
            request: None,
        }
    }
}
