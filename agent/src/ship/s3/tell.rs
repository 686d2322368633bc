//! What an answer of the storage means.

use object_store::client::HttpErrorKind;

use super::{
    super::{Class, ShipError},
    http::Said,
};

/// Why a step failed, by what was said last. Almost everything may pass or be mended by an admin; only what lies in the
/// segment itself is for good.
pub(super) fn error(step: &str, said: &Said, other: &object_store::Error) -> ShipError {
    let Some(status) = said.status else {
        return match &said.broken {
            Some((kind, why)) => {
                let class = match kind {
                    HttpErrorKind::Connect => Class::Unreachable,
                    HttpErrorKind::Timeout => Class::Timeout,
                    _ => Class::Broken,
                };
                ShipError::temporary(class, format!("{step}: {why}"))
            }
            // Nothing was asked: what is to be asked cannot be put together.
            None => ShipError::temporary(Class::Local, format!("{step}: {other}")),
        };
    };
    let code = said.error.as_ref().map_or("", |(code, _)| code.as_str());
    let why = match &said.error {
        Some((code, message)) => format!("{step}: {status} {code}: {message}"),
        None => format!("{step}: it answered {status}"),
    };
    let class = match (status, code) {
        (_, "EntityTooLarge") | (413, _) => return ShipError::permanent(Class::TooLarge, why),
        (_, "XMinioStorageFull" | "QuotaExceeded" | "InsufficientStorage") | (507, _) => Class::Full,
        (429 | 503, _) | (_, "SlowDown") | (409, "ConditionalRequestConflict" | "OperationAborted") => {
            Class::Busy
        }
        (401 | 403, _) => Class::Denied,
        (404, _) | (_, "NoSuchBucket") => Class::Missing,
        (408, _) | (_, "RequestTimeout") => Class::Timeout,
        (300..=499, _) => Class::Invalid,
        // It said that all is well, and then something else.
        _ => Class::Broken,
    };
    ShipError::Temporary {
        class,
        why,
        after: said.retry_after(),
    }
}

/// Whether the answer says that there is something of that name already.
pub(super) fn is_there(said: &Said) -> bool {
    matches!(said.status, Some(304 | 412))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, code: &str) -> (Class, bool) {
        let said = Said {
            status: Some(status),
            error: (!code.is_empty()).then(|| (code.into(), "m".into())),
            ..Said::default()
        };
        let error = error(
            "put",
            &said,
            &object_store::Error::NotImplemented {
                operation: "x".into(),
                implementer: "y".into(),
            },
        );
        (error.class(), matches!(error, ShipError::Permanent { .. }))
    }

    #[test]
    fn what_answers_mean() {
        for (status, code, expected) in [
            (403, "SignatureDoesNotMatch", (Class::Denied, false)),
            (404, "NoSuchBucket", (Class::Missing, false)),
            (503, "SlowDown", (Class::Busy, false)),
            (500, "InternalError", (Class::Broken, false)),
            (507, "XMinioStorageFull", (Class::Full, false)),
            (400, "EntityTooLarge", (Class::TooLarge, true)),
            (400, "InvalidRequest", (Class::Invalid, false)),
            (301, "PermanentRedirect", (Class::Invalid, false)),
            (200, "", (Class::Broken, false)),
        ] {
            assert_eq!(class(status, code), expected, "{status} {code}");
        }
    }
}
