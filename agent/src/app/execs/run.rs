//! One exec, from when the agent hears of it to the end of the program.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    End, Execs,
    operation::{operation, process},
};
use crate::{
    approval::Payload,
    config::Limits,
    gate::{Connection, Gate, Permit, Upstreams, Verdict},
    model::{Operation, OriginalDst, Reason, Transport},
    redirect::{Executed, Found},
};

/// One exec.
pub(super) struct Run {
    execs: Arc<Execs>,
    executed: Box<Executed>,
}

impl Run {
    pub(super) fn new(execs: Arc<Execs>, executed: Box<Executed>) -> Self {
        Self { execs, executed }
    }

    /// Looks at it, has it decided, and records how it ends.
    pub(super) async fn serve(self, mut ends: oneshot::Receiver<End>, slot: OwnedSemaphorePermit) {
        let Some((found, slot)) = self.find(slot).await else {
            return self.end();
        };
        let Some(gate) = self.gate(&found) else {
            // Its tag or its workload has gone meanwhile: nobody can say what it may do.
            return self.end();
        };
        let operation = operation(&self.executed, &found);
        let permit = self.decide(&gate, operation, &found, (slot, &mut ends)).await;
        let Some(mut permit) = permit else { return };
        let Ok(end) = ends.await else {
            // The agent stops; it runs on.
            gate.ending(Reason::Draining);
            return;
        };
        let (at_ns, status) = match end {
            End::Exited(at_ns, status) => (at_ns, words(status)),
            End::Replaced(at_ns) => (at_ns, "replaced".to_owned()),
            End::Left(at_ns) => (at_ns, "left".to_owned()),
        };
        permit.took(Duration::from_nanos(at_ns.saturating_sub(self.executed.at_ns)));
        if let Err(e) = permit.finish(Reason::Completed, &status).await {
            tracing::error!("the end of a program is not on record: {e}");
        }
    }

    /// Reads what it is. Where that is not done in a moment, others do not wait for it: a workload may itself be who does
    /// not answer.
    async fn find(&self, slot: OwnedSemaphorePermit) -> Option<(Found, OwnedSemaphorePermit)> {
        let mut slot = Some(slot);
        let found = self
            .execs
            .processes
            .identify(&self.executed, || drop(slot.take()));
        let found = found.await;
        let slot = match slot {
            Some(slot) => slot,
            None => Arc::clone(&self.execs.slots).acquire_owned().await.ok()?,
        };
        Some((found, slot))
    }

    fn gate(&self, found: &Found) -> Option<Gate> {
        let front = &self.execs.agent.front;
        let workload = front.workloads.get(self.executed.tagged)?;
        let identity = front.identities.handle(&workload)?;
        let connection = Connection {
            session: self.execs.session(self.executed.tagged),
            workload,
            identity,
            process: process(&self.executed, found),
            original_dst: OriginalDst((std::net::Ipv6Addr::UNSPECIFIED, 0).into()),
            transport: Transport::default(),
            upstream: None,
            upstreams: Upstreams::clone(&front.upstreams.load()),
            tls: None,
            mask: front.mask.load_full(),
            limits: Limits::clone(&front.limits.load()),
        };
        Some(Gate::new(front.shared.clone(), connection))
    }

    /// The record of a program that runs; `None` where it does not.
    async fn decide(
        &self,
        gate: &Gate,
        operation: Operation,
        found: &Found,
        (slot, ends): (OwnedSemaphorePermit, &mut oneshot::Receiver<End>),
    ) -> Option<Permit> {
        let executed = &*self.executed;
        if found.unread {
            let (pid, workload) = (executed.process.0, gate.workload());
            tracing::error!(%workload, pid, "what is executed was not read in time, or too much of the workload waits for that");
        }
        if !executed.held && !executed.killed && !executed.remembered {
            return match gate.observe(operation).await {
                Ok(permit) => Some(permit),
                Err(e) => {
                    tracing::error!("a program is not on record: {e}");
                    None
                }
            };
        }
        if executed.killed && !executed.remembered {
            gate.refuse(operation, Reason::Overloaded).await;
            return None;
        }
        if found.unread {
            self.end();
            gate.refuse(operation, Reason::Overloaded).await;
            return None;
        }
        let shared = &self.execs.agent.front.shared;
        let identity = self.execs.agent.front.identities.handle(gate.workload())?;
        let asked = self.execs.verdicts.asked(&identity, &shared.policy);
        let file = (executed, &*found.program);
        let permit = match gate.ask(operation).await {
            Verdict::Permit(permit) => {
                if let Some(asked) = asked.filter(|_| executed.held) {
                    self.execs
                        .verdicts
                        .answered(asked, gate, file, true, shared.clock.now_ns());
                }
                permit
            }
            Verdict::Denied(denied) => {
                self.end();
                let by_policy = matches!(denied.reason, Reason::PolicyForbid | Reason::PolicyDefaultDeny);
                if let Some(asked) = asked.filter(|_| executed.held && by_policy) {
                    self.execs
                        .verdicts
                        .answered(asked, gate, file, false, shared.clock.now_ns());
                }
                return None;
            }
            // The verdict by which it runs already no longer holds.
            Verdict::Held(held) if !executed.held => {
                self.end();
                gate.refuse_held(held, Reason::ApprovalRequired).await;
                return None;
            }
            Verdict::Held(held) => {
                // Humans take their time; others do not wait for them.
                drop(slot);
                let Ok(waiting) = gate.request(held, Payload::default()).await else {
                    self.end();
                    return None;
                };
                let permit = tokio::select! {
                    permit = waiting.permit(gate) => permit,
                    // It has ended meanwhile; the request stays open for its next run.
                    _ = ends => return None,
                };
                let Ok(permit) = permit else {
                    self.end();
                    return None;
                };
                permit
            }
        };
        self.let_run(gate, permit).await
    }

    /// Wakes what is held; a program that the kernel has ended does not run, whatever policy says now.
    async fn let_run(&self, gate: &Gate, permit: Permit) -> Option<Permit> {
        if self.executed.killed {
            gate.ending(Reason::PolicyForbid);
            let _counted = permit.finish(Reason::PolicyForbid, "killed").await;
            return None;
        }
        if self.executed.held && !self.execs.processes.release(&self.executed) {
            let _counted = permit.finish(Reason::PeerClosed, "gone").await;
            return None;
        }
        Some(permit)
    }

    /// Ends a process that may not run, or of which nobody can tell.
    fn end(&self) {
        if self.executed.held || self.executed.remembered {
            self.execs.processes.kill(&self.executed);
        }
    }
}

/// How a process ended, as wait(2) has it.
fn words(status: u32) -> String {
    match status & 0x7f {
        0 => format!("exit {}", (status >> 8) & 0xff),
        signal => format!("signal {signal}"),
    }
}
