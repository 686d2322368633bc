//! What this host can enforce and what it cannot, found by trying, and what to change.
//!
//! Invariant: what a kernel can do is found by asking it to do it, never by its version. Nothing is attached or changed,
//! and no daemon needs to run.

mod facts;
mod judge;

pub use facts::{Cgroups, Facts};
pub use judge::{Finding, State, judge};

use crate::redirect::doors;

/// What was found.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Report {
    /// `uname -r`
    pub kernel: String,
    /// `uname -m`
    pub architecture: String,
    /// Whether everything is there without which nothing is enforced.
    pub enforceable: bool,
    /// What was looked at.
    pub findings: Vec<Finding>,
    /// Every way out, and what would close it on this host.
    pub doors: Vec<doors::Judged>,
}

/// Judges what was found.
#[must_use]
pub fn report(facts: &Facts) -> Report {
    let findings = judge(facts);
    let loaded = facts.programs.iter().flatten();
    let loaded = loaded.filter(|trial| trial.refused.is_none() && !trial.unsteady);
    let doors = facts
        .doors
        .clone()
        .with_programs(loaded.map(|trial| trial.program.as_str()));
    Report {
        kernel: facts.release.clone(),
        architecture: facts.machine.clone(),
        enforceable: findings.iter().all(|f| f.state != State::Missing),
        findings,
        doors: doors::judge(&doors),
    }
}
