//! What can be wrong with a policy set, and where.

use std::{fmt, path::PathBuf};

use crate::model::Reason;

/// Why a policy set cannot be used. The set in force stays in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A directory or file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Policies that cannot be used, all of them.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// The schema in this program cannot be used.
    #[error("schema.cedarschema: {0}")]
    Schema(String),
}

impl PolicyError {
    /// The reason of a denial that follows from it.
    #[must_use]
    pub fn reason(&self) -> Reason {
        Reason::PolicyError
    }

    /// What is wrong with policies, if that is what it is.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Problems(problems) => problems,
            Self::Read { .. } | Self::Schema(_) => &[],
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// One thing that is wrong, or worth a warning, at one place.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file, as found below the policy directory given.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n    {help}"),
            None => Ok(()),
        }
    }
}
