//! Why an approver is told no, as a status and as words.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{approval::AnswerError, identity::SignInError};

/// A request of an approver that is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No token, no session.
    #[error("sign in first: `portcullis approvals login`")]
    NotSignedIn,
    /// A token that is not a sign-in that may be used.
    #[error("{0}")]
    SignIn(#[from] SignInError),
    /// Signed in, but in none of the groups that approve anything here.
    #[error(
        "{name} is signed in, but in none of the groups that approve anything on this host; theirs: {groups}"
    )]
    NoApprover {
        /// Who.
        name: String,
        /// Their groups.
        groups: String,
    },
    /// The answer was not taken.
    #[error("{0}")]
    Answer(#[from] AnswerError),
    /// There is no such thing.
    #[error("there is no {0} of this id here")]
    NotFound(&'static str),
    /// The request cannot be read.
    #[error("{0}")]
    Malformed(String),
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotSignedIn => StatusCode::UNAUTHORIZED,
            Self::SignIn(error) => match error {
                SignInError::NotConfigured => StatusCode::FORBIDDEN,
                SignInError::Issuer(_) | SignInError::NoEndpoint(_) => StatusCode::BAD_GATEWAY,
                SignInError::Token(_) | SignInError::Refused(_) | SignInError::Mismatch(_) => {
                    StatusCode::UNAUTHORIZED
                }
            },
            Self::NoApprover { .. } => StatusCode::FORBIDDEN,
            Self::Answer(error) => answer_status(error),
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
        }
    }
}

fn answer_status(error: &AnswerError) -> StatusCode {
    match error {
        AnswerError::NotFound => StatusCode::NOT_FOUND,
        AnswerError::NotInGroup { .. }
        | AnswerError::SelfApproval
        | AnswerError::SamePerson
        | AnswerError::BreakGlassOff => StatusCode::FORBIDDEN,
        AnswerError::NotOpen(_) | AnswerError::AlreadyAnswered | AnswerError::PolicyChanged => {
            StatusCode::CONFLICT
        }
        AnswerError::TooMany | AnswerError::Ledger(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// For programs: JSON.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(json!({ "error": self.to_string() }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
