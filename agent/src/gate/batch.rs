//! Operations that come in one message: all of them may go, or none.

use std::sync::{Arc, atomic::Ordering};

use super::{Denied, Gate, Held, Permit, Verdicts, hide};
use crate::model::{Effect, Operation, Reason};

impl Gate {
    /// As [`Gate::ask`], for operations that come in one message. Where one is denied none may go, and the others are
    /// recorded as [`Reason::BatchDenied`].
    pub async fn ask_all(&self, mut operations: Vec<Operation>) -> Verdicts {
        for operation in &mut operations {
            hide::hide(self.secrets(), operation);
        }
        let set = self.inner.shared.policy.current();
        if let Ok(known) = self.who() {
            let decisions: Vec<_> = operations
                .iter()
                .map(|o| self.decide(&set, &known, o, None))
                .collect();
            let any = |effect| decisions.iter().any(|d| d.effect == effect);
            if any(Effect::Hold) && !any(Effect::Deny) {
                self.operations
                    .fetch_add(operations.len() as u64, Ordering::Relaxed);
                let operations = operations.into_iter().zip(decisions).collect();
                return Verdicts::Held(Held { known, operations });
            }
        }
        match self.authorize_all(operations).await {
            Ok(permits) => Verdicts::Permits(permits),
            Err(denied) => Verdicts::Denied(denied),
        }
    }

    /// Decides operations of which none is held, in their order, and records all decisions: permits for all of them, or
    /// the first denial.
    async fn authorize_all(&self, operations: Vec<Operation>) -> Result<Vec<Permit>, Denied> {
        let set = self.inner.shared.policy.current();
        let refusing = match self.who() {
            Ok(known) => operations
                .iter()
                .position(|o| self.decide(&set, &known, o, None).effect != Effect::Allow),
            Err(_) => Some(0),
        };
        let Some(refusing) = refusing else {
            let all = operations.into_iter().map(|o| self.authorize(o));
            // Together they wait for one commit. What was decided above is decided again, from the cache, so that a
            // revocation in between counts.
            let mut permits = Vec::new();
            let mut denied = None;
            for answer in futures_util::future::join_all(all).await {
                match answer {
                    Ok(permit) => permits.push(permit),
                    Err(denial) => denied = denied.or(Some(denial)),
                }
            }
            let Some(denied) = denied else { return Ok(permits) };
            for permit in permits {
                // A ledger that cannot take the outcome counts the loss.
                let _ = permit.finish(Reason::BatchDenied, "").await;
            }
            return Err(denied);
        };
        let mut denied = None;
        for (at, operation) in operations.into_iter().enumerate() {
            if at == refusing {
                denied = match self.authorize(operation).await {
                    Err(denial) => Some(denial),
                    // Policy changed between two looks; what is denied with it stays denied.
                    Ok(permit) => {
                        let denial = Self::denied_by(&permit);
                        let _ = permit.finish(Reason::BatchDenied, "").await;
                        Some(denial)
                    }
                };
            } else {
                self.refuse(operation, Reason::BatchDenied).await;
            }
        }
        // `refusing` is the place of one of them.
        denied.map_or_else(|| Ok(Vec::new()), Err)
    }

    fn denied_by(permit: &Permit) -> Denied {
        Denied {
            reason: Reason::BatchDenied,
            entry: permit.id(),
            policies: Arc::from([]),
            message: None,
            approval: Arc::from([]),
            request: None,
        }
    }
}
