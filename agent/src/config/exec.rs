//! `exec` and `exec_loss` of `[[workload]]`.

use serde::Deserialize;

/// What is done with the programs that a workload runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecMode {
    /// Nothing is recorded.
    Off,
    /// Each is recorded, with what policy would say; all run.
    #[default]
    Audit,
    /// Each runs only when policy allows it, and after an answer where it must be approved.
    Enforce,
}

/// What becomes of a process of which the agent could not be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecLoss {
    /// It is counted, and recorded that there was one.
    #[default]
    Count,
    /// It is ended, too.
    Kill,
}
