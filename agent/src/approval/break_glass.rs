//! Break-glass: two people let everything of a workload pass that would be held, for a short time, loudly.
//!
//! It lifts holds, never denials.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    Approvals,
    book::Word,
    deadline::Deadline,
    entries::{self, Glass},
    grant::{Covers, Grant},
    notice::{Notice, NoticeKind},
    rules::{self, AnswerError, same_person},
    view::{BreakGlassView, GrantView, State},
};
use crate::{
    model::{Approver, Rfc3339, WorkloadName},
    policy::{Approval, ApprovalScope},
};

/// How long the first person's word waits for the second's.
const SECOND: Duration = Duration::from_secs(900);
/// How many may wait for their second person.
const PENDING: usize = 16;

/// Waits for its second person.
pub(super) struct Pending {
    id: Uuid,
    workload: WorkloadName,
    minutes: u32,
    reason: String,
    first: Approver,
    until: Deadline,
}

impl Pending {
    pub(super) fn view(&self) -> BreakGlassView {
        BreakGlassView {
            id: self.id,
            workload: self.workload.to_string(),
            minutes: self.minutes,
            reason: self.reason.clone(),
            first: self.first.name.to_string(),
            expires_at: Rfc3339(self.until.at_ns()).to_string(),
        }
    }

    pub(super) fn is_for(&self, workload: &WorkloadName) -> bool {
        self.workload == *workload
    }

    pub(super) fn is_over(&self, now_ns: i64) -> bool {
        self.until.is_over(now_ns)
    }
}

impl Approvals {
    /// The first person asks for it. It is not in force before a second one confirms it.
    ///
    /// # Errors
    /// When the human may not, or it cannot be recorded.
    pub async fn break_glass(
        &self,
        by: &Approver,
        workload: &WorkloadName,
        minutes: u32,
        reason: &str,
    ) -> Result<BreakGlassView, AnswerError> {
        let inner = &self.0;
        let _one = inner.answering.lock().await;
        let id = Uuid::now_v7();
        let reason = inner.masked(&rules::reason(reason)?);
        if let Err(why) = self.may_break(by) {
            return Err(self.refused(id, by, why).await);
        }
        let most = inner.config.load().break_glass_time.as_secs() / 60;
        if minutes == 0 || u64::from(minutes) > most {
            let key = "break_glass_time";
            return Err(AnswerError::GrantTooLong { most, key });
        }
        let now = inner.now();
        inner.pending().retain(|_, p| !p.is_over(now));
        if inner.pending().len() >= PENDING {
            return Err(AnswerError::TooMany);
        }
        let glass = Glass {
            id,
            workload,
            minutes,
            reason: &reason,
            by,
            given: false,
        };
        let entry = entries::break_glass(&glass, now, &inner.host);
        inner.ledger.append(entry).await?;
        let pending = Pending {
            id,
            workload: workload.clone(),
            minutes,
            reason,
            first: by.clone(),
            until: Deadline::after(SECOND, now),
        };
        let view = pending.view();
        inner.pending().insert(id, pending);
        tracing::warn!(%workload, minutes, by = %by.subject, "break-glass asked for; it needs a second person");
        let text = format!(
            "{} asks to break the glass for {workload}, {minutes} minutes: {}",
            by.name, view.reason
        );
        inner.tell(Notice::text(NoticeKind::BreakGlassAsked, text));
        Ok(view)
    }

    /// The second person confirms it.
    ///
    /// # Errors
    /// When the human may not, is the first one, or it cannot be recorded.
    pub async fn confirm_break_glass(
        &self,
        id: Uuid,
        by: &Approver,
        reason: &str,
    ) -> Result<GrantView, AnswerError> {
        let inner = &self.0;
        let _one = inner.answering.lock().await;
        let reason = inner.masked(&rules::reason(reason)?);
        let now = inner.now();
        let checked = {
            let pending = inner.pending();
            match pending.get(&id).filter(|p| !p.is_over(now)) {
                None => Err(AnswerError::NotFound),
                Some(pending) if same_person(&pending.first, by) => Err(AnswerError::SamePerson),
                Some(pending) => self
                    .may_break(by)
                    .map(|()| (pending.workload.clone(), pending.minutes)),
            }
        };
        let (workload, minutes) = match checked {
            Ok(checked) => checked,
            Err(why) => return Err(self.refused(id, by, why).await),
        };
        let glass = Glass {
            id,
            workload: &workload,
            minutes,
            reason: &reason,
            by,
            given: true,
        };
        let entry = entries::break_glass(&glass, now, &inner.host);
        inner.ledger.append(entry).await?;
        let Some(pending) = inner.pending().remove(&id) else {
            return Err(AnswerError::NotFound);
        };
        let grant = self.broken(pending, by, reason);
        let view = grant.view();
        let waiting: Vec<_> = {
            let mut book = inner.book();
            book.grants.insert(id, grant);
            let held = book.requests.iter().filter(|(_, r)| r.ask.workload == workload);
            let held: Vec<Uuid> = held.map(|(id, _)| *id).collect();
            held.into_iter()
                .filter_map(|id| book.end(id, State::Approved, &Word::Again, now))
                .collect()
        };
        tracing::warn!(%workload, minutes, by = ?view.approvers, "the glass is broken: holds are lifted");
        for view in waiting {
            inner.tell(Notice::of(NoticeKind::Answered, view));
        }
        let text = format!(
            "the glass is broken for {workload}, {minutes} minutes, by {}",
            view.approvers.join(" and ")
        );
        inner.tell(Notice::text(NoticeKind::BreakGlassGiven, text));
        Ok(view)
    }

    fn may_break(&self, by: &Approver) -> Result<(), AnswerError> {
        let Some(group) = self.0.config.load().break_glass_group.clone() else {
            return Err(AnswerError::BreakGlassOff);
        };
        if by.groups.iter().any(|g| **g == *group) {
            Ok(())
        } else {
            Err(AnswerError::NotInGroup { groups: vec![group] })
        }
    }

    fn broken(&self, pending: Pending, by: &Approver, reason: String) -> Grant {
        let inner = &self.0;
        let now = inner.now();
        let group: Arc<str> = inner
            .config
            .load()
            .break_glass_group
            .clone()
            .unwrap_or_default()
            .into();
        Grant {
            id: pending.id,
            workload: pending.workload,
            identity: None,
            policy_set: Arc::clone(inner.policy.current().hash()),
            covers: Covers::Everything,
            text: "everything that would be held".into(),
            until: Deadline::after(Duration::from_secs(u64::from(pending.minutes) * 60), now),
            uses_left: None,
            used: 0,
            approval: Arc::new(Approval {
                id: pending.id.to_string().into(),
                approver: Arc::clone(&by.subject),
                group: Arc::clone(&group),
                at_ns: now,
                approvers: [Arc::clone(&pending.first.subject), Arc::clone(&by.subject)].into(),
                groups: [group].into(),
                scope: ApprovalScope::BreakGlass,
            }),
            given: vec![(pending.first, pending.reason), (by.clone(), reason)],
        }
    }
}
