//! What each view answers, and the kinds of entries that it is made of: for `about`, and for exports of what a control's
//! evidence needs.

use std::collections::BTreeSet;

use crate::{ledger::controls::Control, model::EntryKind};

use EntryKind::{Agent, Approval, Change, Gap, Ledger, Operation, Outcome, Session, Workload};

const ALL: &[EntryKind] = &[
    Agent, Approval, Change, Gap, Ledger, Operation, Outcome, Session, Workload,
];
/// What tells an operation that was interrupted from one that still runs.
const OPERATIONS: &[EntryKind] = &[Agent, Operation, Outcome];

/// One view.
pub(super) struct Question {
    /// Its name.
    pub view: &'static str,
    /// What it answers.
    pub question: &'static str,
    /// The kinds of entries whose bodies it reads.
    pub kinds: &'static [EntryKind],
}

const fn of(view: &'static str, question: &'static str, kinds: &'static [EntryKind]) -> Question {
    Question {
        view,
        question,
        kinds,
    }
}

/// Every view, those that answer an assessor's questions first.
pub(super) const QUESTIONS: &[Question] = &[
    of(
        "who_may_do_what",
        "Who may do what, and which of it was used?",
        &[Operation, Outcome],
    ),
    of(
        "policies_in_force",
        "Which policies were in force, and when?",
        &[Agent, Change],
    ),
    of(
        "access_used",
        "What did each workload ask for, and how often was it allowed?",
        &[Operation, Outcome],
    ),
    of("what_was_done", "What was done, and how did it end?", OPERATIONS),
    of(
        "what_was_denied",
        "What was denied, and why?",
        &[Operation, Outcome],
    ),
    of(
        "who_approved_what",
        "Who approved or refused what?",
        &[Approval, Operation, Outcome],
    ),
    of(
        "sensitive_data",
        "Which sensitive data was met and masked?",
        &[Operation, Outcome],
    ),
    of(
        "identity_lifecycle",
        "What became of each workload and its identity?",
        &[Change, Workload],
    ),
    of(
        "configuration_changes",
        "How did configuration and policies change?",
        &[Agent, Change],
    ),
    of(
        "gaps_and_failures",
        "What is not on record, and what failed?",
        ALL,
    ),
    of(
        "tls_state",
        "Which connections were encrypted, and which were read?",
        &[Session],
    ),
    of("destinations", "Where did workloads connect to?", &[Session]),
    of(
        "credentials_used",
        "Which credentials were used for what?",
        &[Operation, Outcome],
    ),
    of("credential_events", "What became of each credential?", &[Change]),
    of("exports", "Who took which of these records?", &[Ledger]),
    of(
        "ledger_events",
        "What happened to the records themselves?",
        &[Ledger],
    ),
    of(
        "operations",
        "Every operation, with its decision and outcome.",
        OPERATIONS,
    ),
    of("sessions", "Every connection.", &[Session]),
    of(
        "approvals",
        "Every request for approval, with its answers.",
        &[Approval],
    ),
    of("approval_events", "Every step of every approval.", &[Approval]),
    of(
        "workload_events",
        "Every event in the life of a workload.",
        &[Workload],
    ),
    of(
        "changes",
        "Every change of configuration, policy, tags, credentials and keys.",
        &[Change],
    ),
    of(
        "agent_events",
        "Starts and stops of the host's agent, and gaps in the records.",
        &[Agent, Gap],
    ),
    of(
        "payloads",
        "What went over the wire, masked.",
        &[Operation, Outcome],
    ),
];

/// The lines of `about` on views.
pub(super) fn lines() -> String {
    let lines = QUESTIONS.iter().map(|q| format!("{}: {}", q.view, q.question));
    lines.collect::<Vec<_>>().join("\n")
}

/// The kinds of entries that the queries of these controls read. A query that reads `entry` itself reads all.
pub(super) fn kinds<'a>(controls: impl Iterator<Item = &'a Control>) -> BTreeSet<&'static str> {
    let mut kinds = BTreeSet::new();
    for query in controls.flat_map(|c| &c.queries) {
        let words = query.sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.chain([&*query.view]) {
            let read = match word {
                "entry" => ALL,
                _ => QUESTIONS
                    .iter()
                    .find(|q| q.view == word)
                    .map_or(&[][..], |q| q.kinds),
            };
            kinds.extend(read.iter().map(|k| k.as_str()));
        }
    }
    kinds
}
