//! Programs that run whatever policy says: recorded, with what it would say.

use std::sync::{Arc, atomic::Ordering};

use super::{Gate, Permit, hide};
use crate::{
    ledger::LedgerError,
    model::{Decision, Effect, Obligations, Operation, Reason, Value},
};

impl Gate {
    /// Records an operation that nobody decides on: it has begun already, and goes on. What policy would say of it is in
    /// its entry, as `policy` of the protocol's record. The permit stands for it until it ends.
    ///
    /// # Errors
    /// When the ledger cannot take it, which counts the loss.
    pub async fn observe(&self, mut operation: Operation) -> Result<Permit, LedgerError> {
        hide::hide(self.secrets(), &mut operation);
        self.operations.fetch_add(1, Ordering::Relaxed);
        let set = self.inner.shared.policy.current();
        let known = self.who();
        let would = match &known {
            Ok(known) => self.decide(&set, known, &operation, None),
            Err(reason) => self.denial(&set, *reason),
        };
        let seen = operation.recorded_context.take();
        if let Value::Record(mut record) = seen.unwrap_or_else(|| operation.context.1.clone()) {
            record.insert("policy", would.effect.as_str().into());
            record.insert("policy_reason", would.reason.as_str().into());
            operation.recorded_context = Some(Value::Record(record));
        }
        let decision = Arc::new(Decision {
            effect: Effect::Allow,
            reason: Reason::Observed,
            approval: Arc::from([]),
            hold: None,
            obligations: Obligations::default(),
            ..(*would).clone()
        });
        let seq = self
            .write(&operation, known.as_ref().ok(), &decision, None)
            .await?;
        self.count(&operation, Effect::Allow, Reason::Observed);
        Ok(Permit::new(Arc::clone(&self.inner), operation.id, seq, decision))
    }

    /// Whether what policy says of such an operation depends on nothing but these members of the protocol's record, the
    /// resource, and who asks.
    #[must_use]
    pub fn depends_only_on(&self, action: &str, protocol: &str, members: &[&str]) -> bool {
        self.inner
            .shared
            .policy
            .current()
            .depends_only_on(action, protocol, members)
    }
}
