//! Who may answer, and when it is enough.

use std::{collections::BTreeSet, sync::Arc};

use super::view::{Answer, Scope};
use crate::model::{Approver, HoldTerms, Identity};

/// The longest reason, in characters.
const REASON: usize = 1_000;

/// Why an answer does not count.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// There is none of that id.
    #[error(
        "there is no request, grant or break-glass of that id; `portcullis approvals list` shows what there is"
    )]
    NotFound,
    /// It has been answered, or is over.
    #[error("it is {0} already: there is nothing to answer")]
    NotOpen(&'static str),
    /// The human is in none of the groups that may answer.
    #[error("you are in none of the groups that may answer this: {}", .groups.join(", "))]
    NotInGroup {
        /// Those groups.
        groups: Vec<String>,
    },
    /// The human is who asks, or for whom it is asked.
    #[error("nobody approves what they themselves asked for, or what is done on their behalf")]
    SelfApproval,
    /// Each human counts once.
    #[error("you have answered this already; it needs somebody else")]
    AlreadyAnswered,
    /// No reason was given.
    #[error("a reason is required: say why, for whoever reads the record")]
    ReasonMissing,
    /// The reason is too long.
    #[error("the reason is longer than {REASON} characters")]
    ReasonTooLong,
    /// The grant's shape is not one of those shown.
    #[error("there is no shape {0} for this request; `portcullis approvals show` lists them")]
    Shape(usize),
    /// The grant would last too long.
    #[error("a grant lasts 1 to {most} minutes here ([approvals] {key})")]
    GrantTooLong {
        /// The longest.
        most: u64,
        /// The key that says so.
        key: &'static str,
    },
    /// Nobody may break the glass.
    #[error("break-glass is off: the configuration names no [approvals] break_glass_group")]
    BreakGlassOff,
    /// The second person is the first.
    #[error("the second person must be somebody else")]
    SamePerson,
    /// Too many wait for their second person.
    #[error("too many break-glass grants wait for their second person")]
    TooMany,
    /// What was approved is not what would be decided now.
    #[error("the policy has changed since this was asked: it will be asked again")]
    PolicyChanged,
    /// It could not be recorded, so it did not happen.
    #[error("the ledger cannot record it; nothing was changed: {0}")]
    Ledger(#[from] crate::ledger::LedgerError),
}

impl AnswerError {
    /// The word in entries.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NotOpen(_) => "not_open",
            Self::NotInGroup { .. } => "not_in_group",
            Self::SelfApproval => "self_approval",
            Self::AlreadyAnswered => "already_answered",
            Self::ReasonMissing => "reason_missing",
            Self::ReasonTooLong => "reason_too_long",
            Self::Shape(_) => "shape_unknown",
            Self::GrantTooLong { .. } => "grant_too_long",
            Self::BreakGlassOff => "break_glass_off",
            Self::SamePerson => "same_person",
            Self::TooMany => "too_many",
            Self::PolicyChanged => "policy_changed",
            Self::Ledger(_) => "ledger_unavailable",
        }
    }
}

/// What one human said.
#[derive(Clone, Debug)]
pub struct Given {
    /// Who.
    pub by: Approver,
    /// Groups of the request that the human is in.
    pub groups: Vec<Arc<str>>,
    /// What.
    pub answer: Answer,
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
}

/// A reason that says something.
///
/// # Errors
/// When it is empty or too long.
pub fn reason(text: &str) -> Result<String, AnswerError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(AnswerError::ReasonMissing);
    }
    if text.chars().count() > REASON {
        return Err(AnswerError::ReasonTooLong);
    }
    Ok(text.to_owned())
}

/// Whether a human may answer at all. The groups of the request that the human is in.
///
/// # Errors
/// When it is the human's own request, or nobody of the human's groups is asked.
pub fn may_answer(
    by: &Approver,
    identity: &Identity,
    terms: &HoldTerms,
    before: &[Given],
) -> Result<Vec<Arc<str>>, AnswerError> {
    if is_own(by, identity) {
        return Err(AnswerError::SelfApproval);
    }
    let asked: BTreeSet<&Arc<str>> = terms.requirements.iter().flat_map(|r| &*r.groups).collect();
    let groups: Vec<Arc<str>> = asked
        .iter()
        .filter(|g| by.groups.contains(g))
        .map(|g| (*g).clone())
        .collect();
    if groups.is_empty() {
        let groups = asked.iter().map(ToString::to_string).collect();
        return Err(AnswerError::NotInGroup { groups });
    }
    if before.iter().any(|g| same_person(&g.by, by)) {
        return Err(AnswerError::AlreadyAnswered);
    }
    Ok(groups)
}

/// Whether two answers are of one human.
#[must_use]
pub fn same_person(a: &Approver, b: &Approver) -> bool {
    a.issuer == b.issuer && a.subject == b.subject
}

/// Whether a human is the workload itself, or the one on whose behalf it acts. That one is known by subject alone, so
/// a subject of that name at any issuer counts.
#[must_use]
pub fn is_own(by: &Approver, identity: &Identity) -> bool {
    by.subject == identity.subject || identity.on_behalf_of.as_ref() == Some(&by.subject)
}

/// Whether every policy has as many different approvers as it asks for.
#[must_use]
pub fn is_enough(terms: &HoldTerms, given: &[Given]) -> bool {
    !terms.requirements.is_empty()
        && terms.requirements.iter().all(|requirement| {
            let approvers = given.iter().filter(|g| {
                g.answer.approve && g.groups.iter().any(|group| requirement.groups.contains(group))
            });
            approvers.count() >= usize::from(requirement.quorum.max(1))
        })
}

/// How far several answers reach together: no further than any of them.
#[must_use]
pub fn reach(given: &[Given]) -> Scope {
    let mut scopes = given.iter().filter(|g| g.answer.approve).map(|g| &g.answer.scope);
    let first = scopes.next().cloned().unwrap_or_default();
    scopes.fold(first, |reach, scope| match (reach, scope) {
        (Scope::Grant { shape: a, minutes: m }, Scope::Grant { shape: b, minutes: n }) if a == *b => {
            Scope::Grant {
                shape: a,
                minutes: m.min(*n),
            }
        }
        (Scope::Waiting { count: m }, Scope::Waiting { count: n }) => Scope::Waiting { count: m.min(*n) },
        _ => Scope::Once,
    })
}
