//! Held operations: what the gate gives a protocol instead of a permit, until humans have answered.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Denied, Gate, Known, Permit, Room};
use crate::{
    approval::{Ask, Payload, Ticket, Told},
    model::{Decision, Effect, Operation, Reason},
    policy::Approval,
};

/// What the gate says of one operation.
#[allow(clippy::large_enum_variant)] // mostly a permit, and a box would be an allocation for each
pub enum Verdict {
    /// It may go.
    Permit(Permit),
    /// Humans must be asked: [`Gate::request`].
    Held(Held),
    /// It may not.
    Denied(Denied),
}

/// What the gate says of operations that come in one message.
pub enum Verdicts {
    /// All may go.
    Permits(Vec<Permit>),
    /// Humans must be asked about some: [`Gate::request`].
    Held(Held),
    /// None may.
    Denied(Denied),
}

/// Operations of one message of which at least one is held, and none denied. None of them is on record yet.
pub struct Held {
    pub(super) known: Known,
    pub(super) operations: Vec<(Operation, Arc<Decision>)>,
}

impl Held {
    /// The operations.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().map(|(operation, _)| operation)
    }
}

/// Operations whose approvers have been asked. Dropped, they stop waiting; the requests stay open, for a retry.
pub struct Waiting {
    items: Vec<Item>,
    /// For the metrics.
    _held: Vec<crate::telemetry::Held>,
}

struct Item {
    operation: Arc<Operation>,
    /// Where it is held.
    asked: Option<(Ask, Ticket)>,
}

/// The request that an operation was held under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its id, for `portcullis approvals show`.
    pub id: Uuid,
    /// Where approvers answer it, where there is a page.
    pub page: Option<Arc<str>>,
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.page {
            Some(page) => write!(f, "{} at {page}", self.id),
            None => write!(f, "{}", self.id),
        }
    }
}

/// Why one of them may not go after all.
struct Ended {
    at: usize,
    reason: Reason,
    message: Option<Arc<str>>,
    request: Option<Uuid>,
}

impl Gate {
    /// Asks the approvers about what is held; `payload` is the whole message's.
    ///
    /// # Errors
    /// When nobody can be asked; that is a denial, and on record.
    pub async fn request(&self, held: Held, payload: Payload) -> Result<Waiting, Denied> {
        let mut items = Vec::with_capacity(held.operations.len());
        let mut decisions = Vec::with_capacity(held.operations.len());
        let mut failed = None;
        for (at, (operation, decision)) in held.operations.into_iter().enumerate() {
            let operation = Arc::new(operation);
            let mut asked = None;
            if decision.effect == Effect::Hold && failed.is_none() {
                let ask = Ask {
                    workload: self.connection.workload.clone(),
                    identity: Arc::clone(&held.known.identity),
                    session: self.connection.session,
                    process: self.connection.process.clone(),
                    operation: Arc::clone(&operation),
                    decision: Arc::clone(&decision),
                    payload: payload.clone(),
                };
                match self.inner.shared.approvals.request(ask.clone()).await {
                    Ok(ticket) => asked = Some((ask, ticket)),
                    Err(error) => failed = Some(Ended::of(at, &error)),
                }
            }
            items.push(Item { operation, asked });
            decisions.push(decision);
        }
        let asked = items.iter().filter(|i| i.asked.is_some());
        let _held = asked.map(|_| self.inner.shared.metrics.held()).collect();
        let waiting = Waiting { items, _held };
        match failed {
            None => Ok(waiting),
            Some(ended) => Err(waiting.deny(self, &ended).await),
        }
    }

    /// Records that what is held cannot even be asked about: too large, malformed, a leak.
    pub async fn refuse_held(&self, held: Held, reason: Reason) -> Denied {
        let items = held.operations.into_iter().map(|(operation, _)| Item {
            operation: Arc::new(operation),
            asked: None,
        });
        let waiting = Waiting {
            items: items.collect(),
            _held: Vec::new(),
        };
        let ended = Ended {
            at: 0,
            reason,
            message: None,
            request: None,
        };
        waiting.deny(self, &ended).await
    }

    /// Memory for what has to be at hand as a whole; none is taken yet.
    #[must_use]
    pub fn room(&self) -> Room {
        let shared = &self.inner.shared;
        Room::new(shared.rooms.of(self.workload()), shared.approvals.held_bytes())
    }

    /// The most bytes of a payload that is held.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.inner.shared.approvals.payload_bytes()
    }

    /// A request, and where it is answered.
    pub(super) fn asked(&self, id: Uuid) -> Asked {
        let page = self.inner.shared.approvals.page(id);
        Asked { id, page }
    }

    /// Decides an operation again, with what humans said.
    async fn admit_approved(&self, operation: &Operation, approval: &Approval) -> Result<Permit, Denied> {
        let set = self.inner.shared.policy.current();
        let known = self.identified(&set, operation).await?;
        let decision = self.decide(&set, &known, operation, Some(approval));
        match decision.effect {
            Effect::Allow => {
                let decision = Decision {
                    reason: Reason::ApprovalGranted,
                    ..(*decision).clone()
                };
                self.admit(operation, &known, Arc::new(decision), Some(approval))
                    .await
            }
            Effect::Deny => Err(self.deny(operation, Some(&known), decision, Some(approval)).await),
            // The author of the policy left out what makes an approval count.
            Effect::Hold => {
                let decision = Decision {
                    effect: Effect::Deny,
                    reason: Reason::PolicyForbid,
                    message: Some(
                        "approved, but its policy does not say `unless { context has approval }`".into(),
                    ),
                    ..(*decision).clone()
                };
                Err(self
                    .deny(operation, Some(&known), Arc::new(decision), Some(approval))
                    .await)
            }
        }
    }
}

impl Waiting {
    /// The requests that can be answered, in the order of their operations.
    pub fn ids(&self) -> impl Iterator<Item = Uuid> {
        self.items
            .iter()
            .filter_map(|i| i.asked.as_ref().and_then(|(_, ticket)| ticket.id()))
    }

    /// The first of them; none where everything is approved already.
    #[must_use]
    pub fn id(&self) -> Option<Uuid> {
        self.ids().next()
    }

    /// Until when they wait at most.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        let tickets = self.items.iter().filter_map(|i| i.asked.as_ref());
        tickets.map(|(_, ticket)| ticket.until()).max()
    }

    /// One line for whoever waits: who must approve which request, and for how long.
    #[must_use]
    pub fn notice(&self, gate: &Gate) -> String {
        let mut groups: Vec<&str> = Vec::new();
        for (ask, _) in self.items.iter().filter_map(|i| i.asked.as_ref()) {
            let new = ask.decision.approval.iter().map(|g| &**g);
            groups.extend(new.filter(|g| !groups.contains(g)).collect::<Vec<_>>());
        }
        let ids: Vec<String> = self.ids().map(|id| gate.asked(id).to_string()).collect();
        let seconds = self
            .until()
            .map_or(0, |u| u.duration_since(Instant::now()).as_secs());
        format!(
            "held for approval by {} (request {}); it waits for up to {}",
            groups.join(", "),
            ids.join(", "),
            humantime::format_duration(std::time::Duration::from_secs(seconds))
        )
    }

    /// Waits for the answer to the one operation that this is about.
    ///
    /// # Errors
    /// When it may not go; that is on record.
    pub async fn permit(self, gate: &Gate) -> Result<Permit, Denied> {
        let nothing = self.items.first().map(|i| Arc::clone(&i.operation));
        let mut permits = self.permits(gate).await?;
        match (permits.pop(), nothing) {
            (Some(permit), _) => Ok(permit),
            // There always is one: it was made of one.
            (None, operation) => Err(Denied::nothing(operation.as_deref())),
        }
    }

    /// Waits for all answers: permits for all operations, or the first denial.
    ///
    /// # Errors
    /// When one of them may not go; none goes then, and that is on record.
    pub async fn permits(mut self, gate: &Gate) -> Result<Vec<Permit>, Denied> {
        let settling = self
            .items
            .iter_mut()
            .enumerate()
            .map(|(at, item)| settle(gate, at, item));
        let approvals = match try_join_all(settling).await {
            Ok(approvals) => approvals,
            Err(ended) => return Err(self.deny(gate, &ended).await),
        };
        let admitting = self.items.iter().zip(&approvals).map(|(item, approval)| async {
            match approval {
                Some(approval) => gate.admit_approved(&item.operation, approval).await,
                None => gate.admit_again(&item.operation).await,
            }
        });
        let (mut permits, mut first) = (Vec::new(), None);
        for answer in join_all(admitting).await {
            match answer {
                Ok(permit) => permits.push(permit),
                Err(denial) => first = first.or(Some(denial)),
            }
        }
        let Some(denial) = first else { return Ok(permits) };
        for permit in permits {
            // A ledger that cannot take the outcome counts the loss.
            let _ = permit.finish(Reason::BatchDenied, "").await;
        }
        Err(denial)
    }

    /// Records why none of them goes.
    async fn deny(self, gate: &Gate, ended: &Ended) -> Denied {
        let set = gate.inner.shared.policy.current();
        let known = gate.who().ok();
        let mut said = None;
        for (at, item) in self.items.iter().enumerate() {
            let mine = at == ended.at;
            let reason = if mine { ended.reason } else { Reason::BatchDenied };
            let held = item.asked.as_ref().map(|(ask, _)| &ask.decision);
            let decision = Decision {
                effect: Effect::Deny,
                reason,
                message: ended.message.clone().filter(|_| mine),
                ..held.map_or_else(|| (*gate.denial(&set, reason)).clone(), |d| (**d).clone())
            };
            let request = ended.request.filter(|_| mine);
            let denied = gate
                .deny_held(&item.operation, known.as_ref(), Arc::new(decision), request)
                .await;
            if mine {
                said = Some(denied);
            }
        }
        said.unwrap_or_else(|| Denied::nothing(None))
    }
}

impl Ended {
    fn of(at: usize, error: &crate::approval::RequestError) -> Self {
        Self {
            at,
            reason: error.reason(),
            message: Some(error.to_string().into()),
            request: None,
        }
    }
}

/// Waits until one operation is approved. One that is not held needs nothing.
async fn settle(gate: &Gate, at: usize, item: &mut Item) -> Result<Option<Arc<Approval>>, Ended> {
    let Some((ask, ticket)) = &mut item.asked else {
        return Ok(None);
    };
    loop {
        let request = ticket.id();
        let ended = |reason, message| Ended {
            at,
            reason,
            message,
            request,
        };
        match ticket.told().await {
            Told::Approved(approval) => return Ok(Some(approval)),
            Told::Denied(why) => return Err(ended(Reason::ApprovalDenied, Some(why))),
            Told::TimedOut => return Err(ended(Reason::ApprovalTimeout, None)),
            Told::Over(reason) => return Err(ended(reason, None)),
            Told::Again => {
                let until = ticket.until();
                let again = gate.inner.shared.approvals.request(ask.clone()).await;
                *ticket = again.map_err(|e| Ended::of(at, &e))?.no_longer_than(until);
            }
        }
    }
}

impl Denied {
    /// What is said where there is nothing to say it of; nothing passes.
    fn nothing(operation: Option<&Operation>) -> Self {
        Self {
            reason: Reason::Interrupted,
            entry: operation.map_or_else(crate::model::OperationId::new, |o| o.id),
            policies: Arc::from([]),
            message: None,
            approval: Arc::from([]),
            request: None,
        }
    }
}
