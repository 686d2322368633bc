//! What a collector's answer means (OTLP 1.x: "Failures" and "Partial success" of both transports).
//!
//! Where OTLP calls an answer not retryable and means the sender's or the collector's set-up (a wrong token, a path that
//! is not there, a fault inside the collector), nothing of what is sent is at fault: it is kept and tried again, for
//! this is a record and not telemetry. What the collector finds wrong with the data is put away.

use std::time::Duration;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::Message as _;

use super::{
    super::{Accepted, Class, Event, Receipt, Rejected, ShipError, web::Answer},
    proto::{Response, RetryInfo, Status},
};

/// Binary metadata comes with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn temporary(class: Class, why: String, after: Option<Duration>) -> ShipError {
    ShipError::Temporary { class, why, after }
}

/// An answer over HTTP.
pub(super) fn http(answer: &Answer, batch: &[Event], place: &str) -> Result<Accepted, ShipError> {
    let said = || {
        let status = Status::decode(&*answer.body)
            .ok()
            .filter(|s| !s.message.is_empty());
        match status {
            Some(status) => format!("{place}: {} {}", answer.status, line(&status.message)),
            None => format!("{place}: {}", answer.shown()),
        }
    };
    match answer.status {
        200..=299 => match Response::decode(&*answer.body) {
            Ok(response) => Ok(accepted(&response, batch, place, answer)),
            // Something that is no collector says yes to everything.
            Err(_) => {
                let why = format!("{place}: the answer is not OTLP's: {}", answer.shown());
                Err(temporary(Class::Broken, why, None))
            }
        },
        400 | 415 | 422 => Err(ShipError::permanent(Class::Invalid, said())),
        401 | 403 | 407 => Err(temporary(Class::Denied, said(), None)),
        413 => Err(ShipError::TooLarge { why: said() }),
        404 | 405 => Err(temporary(Class::Missing, said(), None)),
        429 | 502..=504 => Err(temporary(Class::Busy, said(), answer.retry_after())),
        _ => Err(temporary(Class::Broken, said(), answer.retry_after())),
    }
}

/// An answer over gRPC: the status is in the trailers, or, without a body, among the headers.
pub(super) fn grpc(answer: &Answer, batch: &[Event], place: &str) -> Result<Accepted, ShipError> {
    let field = |name: &str| {
        let value = answer.trailers.get(name).or_else(|| answer.headers.get(name))?;
        value.to_str().ok()
    };
    let Some(code) = field("grpc-status").and_then(|c| c.parse::<u32>().ok()) else {
        // A proxy, or something else: by its HTTP status (grpc: "HTTP to gRPC Status Code Mapping").
        let (class, after) = match answer.status {
            401 | 403 => (Class::Denied, None),
            404 => (Class::Missing, None),
            429 | 502..=504 => (Class::Busy, answer.retry_after()),
            _ => (Class::Broken, None),
        };
        let why = format!("{place}: no gRPC status: {}", answer.shown());
        return Err(temporary(class, why, after));
    };
    let message = line(&percent_decoded(field("grpc-message").unwrap_or_default()));
    let why = format!("{place}: gRPC status {code} {message}")
        .trim_end()
        .to_owned();
    let after = field("grpc-status-details-bin").and_then(retry_delay);
    let too_large = || {
        let text = message.to_ascii_lowercase();
        text.contains("larger than max") || text.contains("too large") || text.contains("exceeds")
    };
    match code {
        0 => match unframed(&answer.body).and_then(|m| Response::decode(m).ok()) {
            Some(response) => Ok(accepted(&response, batch, place, answer)),
            None => Err(temporary(
                Class::Broken,
                format!("{place}: the answer is not OTLP's"),
                None,
            )),
        },
        // RESOURCE_EXHAUSTED and OUT_OF_RANGE: of the message, or of the collector.
        8 | 11 if too_large() => Err(ShipError::TooLarge { why }),
        3 => Err(ShipError::permanent(Class::Invalid, why)),
        7 | 16 => Err(temporary(Class::Denied, why, after)),
        5 | 12 => Err(temporary(Class::Missing, why, after)),
        1 | 4 | 8 | 10 | 11 | 14 | 15 => Err(temporary(Class::Busy, why, after)),
        _ => Err(temporary(Class::Broken, why, after)),
    }
}

/// All of it, less what the collector rejects. It says how many, not which: then each of the batch is put away as well,
/// so that none is lost; sending any of it again is not allowed.
fn accepted(response: &Response, batch: &[Event], place: &str, answer: &Answer) -> Accepted {
    let mut receipt = Receipt {
        place: place.into(),
        detail: serde_json::Map::new(),
    };
    receipt.detail.insert("status".into(), answer.status.into());
    receipt.detail.insert("peer".into(), answer.peer.as_str().into());
    let mut accepted = Accepted::all(batch, receipt);
    let Some(partial) = &response.partial_success else {
        return accepted;
    };
    let message = line(&partial.error_message);
    if partial.rejected_log_records > 0 {
        let all = batch.len();
        let count = usize::try_from(partial.rejected_log_records)
            .unwrap_or(all)
            .min(all);
        let why = if count == all {
            format!("the collector rejects it: {message}")
        } else {
            format!(
                "the collector rejects {count} of the {all} records it came with, and not which: {message}"
            )
        };
        accepted.rejected = batch
            .iter()
            .map(|event| Rejected {
                seq: event.seq,
                class: Class::Invalid,
                why: why.clone(),
            })
            .collect();
    } else if !message.is_empty() {
        accepted.receipt.detail.insert("warning".into(), message.into());
    }
    accepted
}

/// The one message of a unary answer: not compressed, and nothing behind it.
fn unframed(body: &[u8]) -> Option<&[u8]> {
    let (head, message) = body.split_at_checked(5)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    (head[0] == 0 && message.len() == usize::try_from(length).ok()?).then_some(message)
}

fn retry_delay(details: &str) -> Option<Duration> {
    let status = Status::decode(&*BASE64.decode(details).ok()?).ok()?;
    let info = status
        .details
        .iter()
        .find(|d| d.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    Some(Duration::new(
        seconds,
        u32::try_from(delay.nanos).unwrap_or_default().min(999_999_999),
    ))
}

/// `%41` is `A`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        let hex = more.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &more[2..];
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One short line.
fn line(text: &str) -> String {
    text.chars()
        .take(200)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::{
        super::{
            super::samples::samples,
            proto::{self, Any, PartialSuccess},
        },
        *,
    };

    fn batch() -> Vec<Event> {
        samples().into_iter().take(3).map(Event::new).collect()
    }

    fn answer(status: u16, body: &[u8], fields: &[(&'static str, &str)]) -> Answer {
        let mut trailers = HeaderMap::new();
        for (name, value) in fields {
            trailers.insert(*name, value.parse().unwrap());
        }
        Answer {
            status,
            headers: trailers.clone(),
            body: body.to_vec().into(),
            trailers,
            peer: "127.0.0.1:1".into(),
        }
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut framed = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
        framed.extend_from_slice(message);
        framed
    }

    #[test]
    fn partial_success_puts_away_what_may_be_lost() {
        let response = |rejected: i64, text: &str| {
            let partial = PartialSuccess {
                rejected_log_records: rejected,
                error_message: text.into(),
            };
            let response = Response {
                partial_success: Some(partial),
            };
            response.encode_to_vec()
        };
        let batch = batch();
        let all = http(&answer(200, &[], &[]), &batch, "p").unwrap();
        assert_eq!((all.done, all.rejected.len()), (3, 0));
        let some = http(&answer(200, &response(2, "bad\n"), &[]), &batch, "p").unwrap();
        assert_eq!((some.done, some.rejected.len()), (3, 3));
        assert!(some.rejected[0].why.contains("2 of the 3"));
        let warned = http(&answer(200, &response(0, "slow down"), &[]), &batch, "p").unwrap();
        assert_eq!(warned.receipt.detail["warning"], "slow down");
        let body = framed(&response(9, "no"));
        let none = grpc(&answer(200, &body, &[("grpc-status", "0")]), &batch, "p").unwrap();
        assert!(none.rejected.len() == 3 && none.rejected[0].why.ends_with("rejects it: no"));
    }

    #[test]
    fn what_is_tried_again_and_what_is_not() {
        let batch = batch();
        let class = |status: u16, fields: &[(&'static str, &str)]| {
            http(&answer(status, b"x", fields), &batch, "p").unwrap_err()
        };
        assert_eq!(class(200, &[]).class(), Class::Broken);
        assert!(matches!(class(400, &[]), ShipError::Permanent { .. }));
        assert!(matches!(class(413, &[]), ShipError::TooLarge { .. }));
        assert_eq!(class(401, &[]).class(), Class::Denied);
        assert_eq!(class(404, &[]).class(), Class::Missing);
        let busy = class(429, &[("retry-after", "7")]);
        assert!(
            matches!(busy, ShipError::Temporary { class: Class::Busy, after: Some(after), .. }
            if after == Duration::from_secs(7))
        );
        assert!(matches!(class(500, &[]), ShipError::Temporary { .. }));
    }

    #[test]
    fn statuses_of_grpc() {
        let batch = batch();
        let failed =
            |fields: &[(&'static str, &str)]| grpc(&answer(200, b"", fields), &batch, "p").unwrap_err();
        let info = RetryInfo {
            retry_delay: Some(proto::Duration { seconds: 3, nanos: 5 }),
        };
        let status = Status {
            code: 14,
            message: "later".into(),
            details: vec![Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
                value: info.encode_to_vec(),
            }],
        };
        let details = base64::engine::general_purpose::STANDARD_NO_PAD.encode(status.encode_to_vec());
        let later = failed(&[("grpc-status", "14"), ("grpc-status-details-bin", &details)]);
        assert!(
            matches!(later, ShipError::Temporary { after: Some(after), .. } if after == Duration::new(3, 5))
        );
        assert!(matches!(
            failed(&[("grpc-status", "3")]),
            ShipError::Permanent { .. }
        ));
        let large = [
            ("grpc-status", "8"),
            ("grpc-message", "received message larger than max %285%29"),
        ];
        assert!(matches!(failed(&large), ShipError::TooLarge { why } if why.ends_with("max (5)")));
        assert_eq!(failed(&[("grpc-status", "16")]).class(), Class::Denied);
        assert_eq!(failed(&[]).class(), Class::Broken);
        assert_eq!(failed(&[("grpc-status", "0")]).class(), Class::Broken);
    }
}
