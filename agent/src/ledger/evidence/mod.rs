//! Evidence: what the records show of each control, computed from records that were verified first.
//!
//! The records of the range asked for are exported to a private directory, the export is verified, and the questions of
//! `controls/` are put to it. A report says what it was computed from: the signed tree head, the key, the range.

mod ask;
mod csv;
mod gather;
mod html;
mod oscal;
#[cfg(test)]
mod tests;

pub use self::{
    ask::ROWS_MAX,
    csv::csv,
    gather::{Options, Source, evidence},
    html::html,
    oscal::{OSCAL_VERSION, Plan, oscal},
};
use super::{
    controls::{Control, Query},
    verify::Report,
};

/// A report. Serialised, it is the JSON format; `controls/README.md` describes it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Evidence {
    /// `portcullis` and its version.
    pub tool: String,
    /// When it was made, RFC 3339.
    pub made_at: String,
    /// The time of the newest record in it, RFC 3339: the state that it speaks of.
    pub as_of: String,
    /// What was read: `ledger`, or the file's path.
    pub source: String,
    /// Which records were asked for.
    pub range: Range,
    /// Whether they are what was recorded.
    pub verdict: Verdict,
    /// The tree that they are in.
    pub head: Head,
    /// One for each control.
    pub controls: Vec<Assessed>,
}

/// Which records.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Range {
    /// From this time on, RFC 3339.
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
    /// Of this workload, and of the host.
    pub workload: Option<String>,
    /// The time of the oldest record.
    pub oldest: Option<String>,
    /// How many records there are.
    pub records: u64,
}

/// What verification said.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Whether everything read fits the signed tree heads.
    pub verified: bool,
    /// The first thing that does not.
    pub error: Option<String>,
    /// What was found in order.
    pub report: Option<Report>,
}

/// The head of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Head {
    /// Who keeps the ledger: `portcullis/HOST`.
    pub origin: String,
    /// How many records are in the tree.
    pub entries: u64,
    /// Its root, hex.
    pub root: String,
    /// How many the newest checkpoint covers.
    pub checkpoint_entries: u64,
    /// That checkpoint, a C2SP signed note.
    pub checkpoint: String,
    /// The key that verified it, in the C2SP form.
    pub key: String,
    /// Whether that key came from another place than the records.
    pub key_given: bool,
}

/// One control, assessed.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Assessed {
    /// The control's id.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// Its family.
    pub family: String,
    /// What is claimed.
    pub claim: String,
    /// What must be had elsewhere.
    pub not_shown: Vec<String>,
    /// The headline.
    pub status: Status,
    /// The answers to its questions.
    pub queries: Vec<Answer>,
}

/// The headline of a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// There are rows, and none that speaks against the claim.
    Supported,
    /// There are rows that speak against the claim or need an explanation.
    Exceptions,
    /// There is no row in the range.
    NoRows,
    /// A question could not be answered.
    Failed,
    /// The records did not verify, so nothing was asked.
    Unverified,
}

impl Status {
    /// The word in reports for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Exceptions => "exceptions",
            Self::NoRows => "no_rows",
            Self::Failed => "failed",
            Self::Unverified => "unverified",
        }
    }

    /// The headline for a person.
    #[must_use]
    pub fn headline(self) -> &'static str {
        match self {
            Self::Supported => "Supported by rows",
            Self::Exceptions => "Rows to explain",
            Self::NoRows => "No rows in the period",
            Self::Failed => "A query failed",
            Self::Unverified => "Records not verified",
        }
    }

    /// The same as a sentence.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Supported => {
                "The records of the period have rows that support the claim, and none that speaks against it."
            }
            Self::Exceptions => {
                "The records of the period have rows that speak against the claim, or that need an explanation."
            }
            Self::NoRows => {
                "Nothing of what the questions ask for is on record in the period. That shows neither that the control works nor that it fails."
            }
            Self::Failed => "At least one question could not be answered; its answer says why.",
            Self::Unverified => "The records are not what was recorded, so no question was put to them.",
        }
    }
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Answer {
    /// The question's name.
    pub name: String,
    /// The question.
    pub question: String,
    /// The view or table asked.
    pub view: String,
    /// How it was asked.
    pub sql: String,
    /// Whether rows speak against the claim.
    pub exception: bool,
    /// The names of the columns.
    pub columns: Vec<String>,
    /// How many rows there are.
    pub rows: u64,
    /// Whether there are more than that.
    pub more: bool,
    /// The first of them.
    pub samples: Vec<Vec<Cell>>,
    /// Why there is no answer.
    pub error: Option<String>,
}

/// A value, as far as it is shown: long texts are cut, and say so.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// SQL's NULL.
    Null,
    /// A whole number.
    Integer(i64),
    /// Another number.
    Real(f64),
    /// Text; also what stands for bytes.
    Text(String),
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Integer(n) => n.fmt(f),
            Self::Real(n) => n.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Answer {
    /// A question that is not answered yet.
    fn of(query: &Query) -> Self {
        Self {
            name: query.name.clone(),
            question: query.question.clone(),
            view: query.view.clone(),
            sql: query.sql.clone(),
            exception: query.exception,
            columns: Vec::new(),
            rows: 0,
            more: false,
            samples: Vec::new(),
            error: None,
        }
    }
}

impl Assessed {
    /// A control with the answers to its questions; `None` where nothing was asked.
    fn of(control: &Control, answers: Option<Vec<Answer>>) -> Self {
        let status = answers.as_deref().map_or(Status::Unverified, headline);
        let queries = answers.unwrap_or_else(|| control.queries.iter().map(Answer::of).collect());
        Self {
            id: control.id.clone(),
            title: control.title.clone(),
            family: control.family.clone(),
            claim: control.claim.clone(),
            not_shown: control.not_shown.clone(),
            status,
            queries,
        }
    }
}

fn headline(answers: &[Answer]) -> Status {
    let rows = |exception| answers.iter().any(|a| a.exception == exception && a.rows > 0);
    if answers.iter().any(|a| a.error.is_some()) {
        Status::Failed
    } else if rows(true) {
        Status::Exceptions
    } else if rows(false) {
        Status::Supported
    } else {
        Status::NoRows
    }
}
