//! Why a credential cannot be had. Errors name the reference and the place, never what is there.

use crate::model::{Reason, WorkloadName};

/// Why a credential cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// There is none of that name.
    #[error("there is no credential '{0}'")]
    Unknown(Box<str>),
    /// It is of another kind than what it is needed for.
    #[error("credential '{name}' is {is}, and {wants} is needed")]
    Kind {
        /// Its reference.
        name: Box<str>,
        /// What it is.
        is: &'static str,
        /// What it would have to be.
        wants: &'static str,
    },
    /// It cannot be had, or must not be used as it is.
    #[error("credential '{name}': {place}: {message}")]
    Unavailable {
        /// Its reference.
        name: Box<str>,
        /// The file or the endpoint.
        place: Box<str>,
        /// What is wrong, and what to do.
        message: Box<str>,
    },
    /// It is had with the workload's own token, and there is none that is valid.
    #[error("credential '{name}': workload '{workload}' has no valid token to have it with")]
    NoToken {
        /// Its reference.
        name: Box<str>,
        /// The workload.
        workload: WorkloadName,
    },
    /// The configuration took it away, or the agent stops, while it was being had.
    #[error("credential '{0}' is not in use any more")]
    Ended(Box<str>),
}

impl CredentialError {
    /// For entries and denials.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unknown(_)
            | Self::Kind { .. }
            | Self::Unavailable { .. }
            | Self::NoToken { .. }
            | Self::Ended(_) => Reason::CredentialUnavailable,
        }
    }
}

/// What a source says when it has nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The file or the endpoint.
    pub place: Box<str>,
    /// What is wrong, and what to do.
    pub message: Box<str>,
    /// Whether what was had before is gone by it, too: it was taken away, and not just out of reach.
    pub gone: bool,
}

impl Failure {
    /// The source could not be asked, or did not give anything.
    pub(super) fn new(place: impl Into<Box<str>>, message: impl Into<Box<str>>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
            gone: false,
        }
    }

    /// The source says that it is not there, or not for us.
    pub(super) fn gone(place: impl Into<Box<str>>, message: impl Into<Box<str>>) -> Self {
        Self {
            gone: true,
            ..Self::new(place, message)
        }
    }

    pub(super) fn of(self, name: &str) -> CredentialError {
        CredentialError::Unavailable {
            name: name.into(),
            place: self.place,
            message: self.message,
        }
    }
}
