//! A human's answer: checked, recorded, and only then in effect.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use uuid::Uuid;

use super::{
    Approvals,
    book::{Book, Request, Word},
    deadline::Deadline,
    entries::{self, Said},
    grant::{Covers, Grant},
    notice::{Notice, NoticeKind},
    rules::{self, AnswerError, Given},
    view::{Answer, Scope, State, View},
};
use crate::{
    config,
    model::{Approver, Entry},
    policy::{Approval, ApprovalScope},
};

/// An answer that counts, and what it comes to.
struct Counted {
    given: Given,
    complete: bool,
    entry: Entry,
}

impl Approvals {
    /// Takes a human's answer to an open request. The request as it stands then.
    ///
    /// # Errors
    /// When the human may not answer it, it cannot be answered, or it cannot be recorded; nothing is changed then.
    pub async fn answer(
        &self,
        id: Uuid,
        by: &Approver,
        mut answer: Answer,
    ) -> Result<Arc<View>, AnswerError> {
        let inner = &self.0;
        let _one = inner.answering.lock().await;
        answer.reason = inner.masked(&rules::reason(&answer.reason)?);
        let counted = match self.count(id, by, answer) {
            Ok(counted) => counted,
            Err(why) => return Err(self.refused(id, by, why).await),
        };
        let Counted {
            given,
            complete,
            entry,
        } = counted;
        inner.ledger.append(entry).await?;
        let (now, config) = (inner.now(), inner.config.load_full());
        let (view, ended) = {
            let mut book = inner.book();
            // While the disk took it, time or an admin may have ended the request.
            let Some(request) = book.requests.get_mut(&id) else {
                return Err(AnswerError::NotOpen("over"));
            };
            let (approve, reason) = (given.answer.approve, given.answer.reason.clone());
            request.given.push(given);
            if !approve {
                let digest = request.digest;
                let why: Arc<str> = format!("{}: {reason}", by.name).into();
                book.deny(
                    digest,
                    Deadline::after(config.retry_time, now),
                    Arc::clone(&why),
                    now,
                );
                (book.end(id, State::Denied, &Word::Denied(why), now), Vec::new())
            } else if complete {
                complete_with(&mut book, id, &config, now)
            } else {
                (
                    Some(Arc::new(request.view(State::Open, None).brief())),
                    Vec::new(),
                )
            }
        };
        for view in ended {
            inner.tell(Notice::of(NoticeKind::Answered, view));
        }
        let Some(view) = view else {
            return Err(AnswerError::NotFound);
        };
        inner.tell(Notice::of(NoticeKind::Answered, Arc::clone(&view)));
        Ok(view)
    }

    /// Whether an answer counts, without changing anything.
    fn count(&self, id: Uuid, by: &Approver, answer: Answer) -> Result<Counted, AnswerError> {
        let inner = &self.0;
        let now = inner.now();
        let book = inner.book();
        let Some(request) = book.requests.get(&id).filter(|r| r.recorded) else {
            return Err(match book.ended.iter().find(|v| v.id == id) {
                Some(ended) => AnswerError::NotOpen(ended.state.as_str()),
                None => AnswerError::NotFound,
            });
        };
        if request.until.is_over(now) {
            return Err(AnswerError::NotOpen(State::Expired.as_str()));
        }
        if request.ask.decision.policy_set != *inner.policy.current().hash() {
            return Err(AnswerError::PolicyChanged);
        }
        let terms = request.ask.decision.hold.as_deref().cloned().unwrap_or_default();
        let groups = rules::may_answer(by, &request.ask.identity, &terms, &request.given)?;
        check_scope(&answer, request, &inner.config.load())?;
        let given = Given {
            by: by.clone(),
            groups,
            answer,
            at_ns: now,
        };
        let mut all = request.given.clone();
        all.push(given.clone());
        let complete = given.answer.approve && rules::is_enough(&terms, &all);
        let covers = complete.then(|| covers(request, &rules::reach(&all))).flatten();
        let said = Said {
            by,
            approve: given.answer.approve,
            reason: &given.answer.reason,
            scope: json!(given.answer.scope),
            groups: &given.groups,
            complete,
            covers: covers.as_deref(),
        };
        let entry = entries::answered(request, &said, now, &inner.host);
        Ok(Counted {
            given,
            complete,
            entry,
        })
    }

    /// Puts an attempt that does not count on record, and gives the reason back.
    pub(super) async fn refused(&self, id: Uuid, by: &Approver, why: AnswerError) -> AnswerError {
        let inner = &self.0;
        let workload = inner.book().requests.get(&id).map(|r| r.ask.workload.clone());
        let entry = entries::refused(id, workload.as_ref(), by, why.as_str(), inner.now(), &inner.host);
        // It has no effect, so that it need not be durable before it is answered.
        inner.ledger.enqueue_now(entry);
        why
    }
}

fn check_scope(answer: &Answer, request: &Request, config: &config::Approvals) -> Result<(), AnswerError> {
    let Scope::Grant { shape, minutes } = &answer.scope else {
        return Ok(());
    };
    if *shape >= request.shapes.len() {
        return Err(AnswerError::Shape(*shape));
    }
    let most = config.grant_time.as_secs() / 60;
    if *minutes == 0 || u64::from(*minutes) > most {
        let key = "grant_time";
        return Err(AnswerError::GrantTooLong { most, key });
    }
    Ok(())
}

/// What a complete approval covers beyond the operation itself.
fn covers(request: &Request, reach: &Scope) -> Option<String> {
    match reach {
        Scope::Once => None,
        Scope::Waiting { count } => Some(format!("this operation, {count} times")),
        Scope::Grant { shape, minutes } => {
            let shape = request.shapes.get(*shape)?;
            Some(format!("{}, for {minutes} minutes", shape.text))
        }
    }
}

/// Lets pass what was approved: those in line, and a grant for who comes later. The request's view, and those of other
/// requests that this ends.
fn complete_with(
    book: &mut Book,
    id: Uuid,
    config: &config::Approvals,
    now: i64,
) -> (Option<Arc<View>>, Vec<Arc<View>>) {
    let Some(request) = book.requests.get(&id) else {
        return (None, Vec::new());
    };
    let reach = rules::reach(&request.given);
    let approval = Arc::new(approval(request, &reach, now));
    let grant = |covers, text, lasts, uses_left| Grant {
        id,
        workload: request.ask.workload.clone(),
        identity: Some(Arc::clone(&request.ask.identity)),
        policy_set: Arc::clone(&request.ask.decision.policy_set),
        covers,
        text,
        until: Deadline::after(lasts, now),
        uses_left,
        used: 0,
        approval: Arc::clone(&approval),
        given: request
            .given
            .iter()
            .map(|g| (g.by.clone(), g.answer.reason.clone()))
            .collect(),
    };
    if let Scope::Grant { shape, minutes } = reach
        && let Some(shape) = request.shapes.get(shape).cloned()
    {
        let text = shape.text.clone();
        let lasts = Duration::from_secs(u64::from(minutes) * 60);
        let grant = grant(Covers::Shape(Box::new(shape)), text, lasts, None);
        return grant_kind(book, id, grant, now);
    }
    let uses = match reach {
        Scope::Waiting { count } => count.max(1),
        _ => 1,
    };
    let text = format!("exactly this: {}", super::show::summary(&request.ask.operation));
    let mut grant = grant(
        Covers::Digest(request.digest),
        text,
        config.retry_time,
        Some(uses),
    );
    while grant.uses_left != Some(0)
        && let Some(waiter) = book.next(id)
    {
        // Whoever left in this moment does not use it up.
        if waiter.told.send(Word::Approved(Arc::clone(&approval))).is_ok() {
            grant.take();
        }
    }
    if grant.uses_left != Some(0) {
        book.grants.insert(id, grant);
    }
    (book.end(id, State::Approved, &Word::Again, now), Vec::new())
}

/// A grant for a kind of operations serves everything of that kind that waits.
fn grant_kind(book: &mut Book, id: Uuid, grant: Grant, now: i64) -> (Option<Arc<View>>, Vec<Arc<View>>) {
    let covered: Vec<Uuid> = book
        .requests
        .iter()
        .filter(|(other, r)| **other != id && grant.serves(&r.ask, &r.digest, now))
        .map(|(other, _)| *other)
        .collect();
    book.grants.insert(id, grant);
    let others = covered
        .into_iter()
        .filter_map(|other| book.end(other, State::Approved, &Word::Again, now))
        .collect();
    (book.end(id, State::Approved, &Word::Again, now), others)
}

/// What policy sees of a complete approval.
fn approval(request: &Request, reach: &Scope, now: i64) -> Approval {
    let said_yes = || request.given.iter().filter(|g| g.answer.approve);
    let last = said_yes().next_back();
    let mut groups: Vec<Arc<str>> = said_yes().flat_map(|g| g.groups.iter().cloned()).collect();
    groups.sort_unstable();
    groups.dedup();
    Approval {
        id: request.id.to_string().into(),
        approver: last.map_or_else(|| "".into(), |g| Arc::clone(&g.by.subject)),
        group: last
            .and_then(|g| g.groups.first().cloned())
            .unwrap_or_else(|| "".into()),
        at_ns: now,
        approvers: said_yes().map(|g| Arc::clone(&g.by.subject)).collect(),
        groups: groups.into(),
        scope: match reach {
            Scope::Grant { .. } => ApprovalScope::Grant,
            Scope::Once | Scope::Waiting { .. } => ApprovalScope::Once,
        },
    }
}
