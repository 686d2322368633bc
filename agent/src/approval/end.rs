//! How requests and grants end without an answer: time, policy, identity, the agent itself.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Approvals, Inner,
    ask::Ask,
    book::Word,
    entries,
    grant::Grant,
    notice::{Notice, NoticeKind},
    rules::{self, AnswerError},
    view::State,
};
use crate::model::{Approver, Identity, Reason, WorkloadName};

/// How often the task looks.
const LOOK: Duration = Duration::from_secs(1);

impl Approvals {
    /// Ends what is over, for as long as somebody holds the approvals.
    pub fn run(&self) -> tokio::task::AbortHandle {
        let weak = Arc::downgrade(&self.0);
        let task = tokio::spawn(async move {
            while let Some(inner) = weak.upgrade() {
                inner.sweep();
                drop(inner);
                tokio::time::sleep(LOOK).await;
            }
        });
        task.abort_handle()
    }

    /// Ends what is over by time or by a change of policy. The task does it every second; a reload at once.
    pub fn sweep(&self) {
        self.0.sweep();
    }

    /// A workload's identity was revoked, or the workload removed: all that was asked or granted for it ends.
    pub fn end_workload(&self, workload: &WorkloadName, why: &'static str) {
        self.end_of(workload, why, |_| true);
        self.0.pending().retain(|_, p| !p.is_for(workload));
    }

    /// A workload is bound to an identity: what was asked or granted for another one of it ends.
    pub fn rebind(&self, workload: &WorkloadName, identity: &Identity) {
        self.end_of(workload, "identity_replaced", |former| {
            former.issuer != identity.issuer || former.subject != identity.subject
        });
    }

    fn end_of(&self, workload: &WorkloadName, why: &'static str, whose: impl Fn(&Identity) -> bool) {
        let inner = &self.0;
        let hit = |w: &WorkloadName, identity: &Identity| w == workload && whose(identity);
        inner.lapse(
            |ask| hit(&ask.workload, &ask.identity),
            why,
            Reason::ApprovalLapsed,
        );
        let grants: Vec<Grant> = {
            let mut book = inner.book();
            let ended = book.grants.extract_if(.., |_, g| match &g.identity {
                Some(identity) => hit(&g.workload, identity),
                None => g.workload == *workload && why != "identity_replaced",
            });
            ended.map(|(_, g)| g).collect()
        };
        grants.iter().for_each(|g| inner.grant_ended(g, why, None));
    }

    /// The agent stops: everything lapses, and what waits is told so.
    pub fn stop(&self) {
        self.0.lapse(|_| true, "agent_stopped", Reason::Draining);
    }

    /// A human ends a grant before its time.
    ///
    /// # Errors
    /// When there is none, the human is in none of the groups that it was given for, or it cannot be recorded.
    pub async fn end_grant(&self, id: Uuid, by: &Approver, reason: &str) -> Result<(), AnswerError> {
        let inner = &self.0;
        let _one = inner.answering.lock().await;
        let reason = inner.masked(&rules::reason(reason)?);
        let Some(grant) = inner.book().grants.get(&id).cloned() else {
            return Err(AnswerError::NotFound);
        };
        if !grant.approval.groups.iter().any(|g| by.groups.contains(g)) {
            let groups = grant.approval.groups.iter().map(ToString::to_string).collect();
            return Err(self.refused(id, by, AnswerError::NotInGroup { groups }).await);
        }
        // Less is never to wait for the disk, but it is to be on record.
        let ended = inner.book().grants.remove(&id).unwrap_or(grant);
        let entry = entries::grant_ended(
            &ended,
            "ended_by_approver",
            Some((by, &reason)),
            inner.now(),
            &inner.host,
        );
        inner.tell(Notice::text(
            NoticeKind::GrantEnded,
            format!("{} ended a grant for {}: {}", by.name, ended.workload, ended.text),
        ));
        inner.ledger.append(entry).await?;
        Ok(())
    }
}

impl Inner {
    pub(super) fn sweep(&self) {
        let now = self.now();
        let policy = Arc::clone(self.policy.current().hash());
        let (expired, outdated, grants) = {
            let mut book = self.book();
            let requests = || book.requests.values();
            let expired: Vec<Uuid> = requests()
                .filter(|r| r.until.is_over(now))
                .map(|r| r.id)
                .collect();
            let outdated = requests().any(|r| r.ask.decision.policy_set != policy);
            let over = |g: &Grant| g.until.is_over(now) || g.uses_left == Some(0) || g.policy_set != policy;
            let grants: Vec<Grant> = book
                .grants
                .extract_if(.., |_, g| over(g))
                .map(|(_, g)| g)
                .collect();
            (expired, outdated, grants)
        };
        for id in expired {
            self.end(id, State::Expired, "unanswered", Reason::ApprovalTimeout);
        }
        if outdated {
            let stale: Vec<Uuid> = {
                let book = self.book();
                let stale = book
                    .requests
                    .values()
                    .filter(|r| r.ask.decision.policy_set != policy);
                stale.map(|r| r.id).collect()
            };
            for id in stale {
                self.end(id, State::Lapsed, "policy_changed", Reason::ApprovalLapsed);
            }
        }
        for grant in &grants {
            let why = if grant.policy_set == policy {
                if grant.uses_left == Some(0) {
                    "used"
                } else {
                    "expired"
                }
            } else {
                "policy_changed"
            };
            self.grant_ended(grant, why, None);
        }
        self.pending().retain(|_, p| !p.is_over(now));
    }

    fn lapse(&self, whose: impl Fn(&Ask) -> bool, why: &'static str, reason: Reason) {
        let ids: Vec<Uuid> = {
            let book = self.book();
            let hit = book.requests.values().filter(|r| whose(&r.ask));
            hit.map(|r| r.id).collect()
        };
        for id in ids {
            self.end(id, State::Lapsed, why, reason);
        }
    }

    fn end(&self, id: Uuid, state: State, why: &'static str, reason: Reason) {
        let now = self.now();
        let Some(view) = self.book().end(id, state, &Word::Over(reason), now) else {
            return;
        };
        // Nothing waits for it; what the ledger cannot take it counts as a gap.
        self.ledger
            .enqueue_now(entries::ended(id, &view.workload, state, why, now, &self.host));
        self.tell(Notice::of(NoticeKind::Ended, view));
    }

    fn grant_ended(&self, grant: &Grant, why: &'static str, by: Option<(&Approver, &str)>) {
        let entry = entries::grant_ended(grant, why, by, self.now(), &self.host);
        self.ledger.enqueue_now(entry);
        let text = format!("a grant for {} ended ({why}): {}", grant.workload, grant.text);
        self.tell(Notice::text(NoticeKind::GrantEnded, text));
    }
}
