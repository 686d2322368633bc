//! The answer to a request that may not pass: RFC 9457, written so that a program can act on it.

use bytes::BytesMut;
use serde::Serialize;

use super::aws::Style;
use crate::{gate::Denied, mask::Secrets, model::Reason};

#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    reason: Reason,
    policies: &'a [std::sync::Arc<str>],
    entry: String,
    guidance: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<Approval<'a>>,
}

/// What approvers have to do with it.
#[derive(Serialize)]
struct Approval<'a> {
    /// Any of these groups may answer.
    groups: &'a [std::sync::Arc<str>],
    /// What they are asked about, for `portcullis approvals show`.
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    /// Where they answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'a str>,
    /// When to send it again.
    retry: &'static str,
}

/// How to come back after a denial that approvers could have prevented.
fn retry(reason: Reason) -> &'static str {
    match reason {
        Reason::ApprovalTimeout => {
            "Send exactly the same request again, headers and body, later: the question stays open, and a yes lets it pass."
        }
        Reason::ApprovalDenied => "Do not retry: a human said no.",
        Reason::ApprovalOverloaded => "Retry when fewer requests of this workload wait.",
        Reason::ApprovalLapsed => "Send it again to ask anew.",
        _ => "Nobody could be asked. Tell the host's administrator.",
    }
}

/// What an answer says beside the denial.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// What happened, for a human.
    pub detail: &'a str,
    /// Whether the connection closes after it.
    pub close: bool,
    /// Whether the request was HEAD, whose answer has no body.
    pub head: bool,
    /// HTTP/1.0 or 1.1 of the request.
    pub minor: u8,
    /// In whose words it is written.
    pub style: Style,
}

/// The status that a reason answers to.
#[must_use]
pub fn status_of(reason: Reason) -> u16 {
    match reason {
        Reason::ProtocolAmbiguous | Reason::ProtocolError => 400,
        Reason::TooLarge => 413,
        Reason::ApprovalOverloaded => 429,
        Reason::NameMismatch => 421,
        Reason::LedgerUnavailable | Reason::Overloaded | Reason::Draining | Reason::Interrupted => 503,
        Reason::Timeout => 504,
        Reason::UpstreamUnreachable
        | Reason::UpstreamUntrusted
        | Reason::UpstreamProtocolError
        | Reason::UpstreamIsAgent
        | Reason::CredentialUnavailable
        | Reason::EncodingUnreadable
        | Reason::PeerClosed => 502,
        _ => 403,
    }
}

/// The phrase beside a status.
fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        408 => "Request Timeout",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

/// What happened, in one sentence, where nothing more specific is known.
#[must_use]
pub fn detail_of(denied: &Denied) -> &str {
    if let Some(message) = &denied.message {
        return message;
    }
    match denied.reason {
        Reason::PolicyForbid => "A policy of this host forbids this request.",
        Reason::PolicyDefaultDeny => "No policy of this host permits this request.",
        Reason::PolicyError => "A policy of this host could not be evaluated.",
        Reason::ApprovalRequired => "A human must approve this request first.",
        Reason::NameMismatch => "The Host header names another host than the TLS server name.",
        Reason::LedgerUnavailable => "The request could not be recorded, so it was not sent.",
        Reason::UpstreamUnreachable => "The destination could not be reached.",
        Reason::UpstreamUntrusted => "The destination's certificate could not be verified.",
        Reason::UpstreamProtocolError => "The destination's answer could not be understood.",
        Reason::UpstreamIsAgent => "The destination is the agent itself.",
        Reason::EncodingUnreadable => "The content's encoding cannot be read.",
        Reason::ApprovalTimeout => "Nobody answered while the request was held.",
        Reason::ApprovalDenied => "A human said no to this request.",
        Reason::ApprovalLapsed => "What this request was held for ended before anybody answered.",
        Reason::ApprovalOverloaded => "Too much of this workload waits for approval already.",
        Reason::SecretLeak => "The request holds a credential that belongs to another destination.",
        Reason::CredentialUnavailable => "The credential for this destination could not be had.",
        Reason::Timeout => "The other side took too long.",
        Reason::PeerClosed => "The destination closed the connection without an answer.",
        _ => "The workload has no valid identity.",
    }
}

/// Writes the whole answer.
pub fn write(denied: &Denied, answer: Answer<'_>, secrets: &Secrets, out: &mut BytesMut) {
    let problem = Problem {
        r#type: format!("urn:portcullis:reason:{}", denied.reason),
        title: title(answer.status),
        status: answer.status,
        detail: answer.detail,
        reason: denied.reason,
        policies: &denied.policies,
        entry: denied.entry.to_string(),
        guidance: denied.reason.guidance(),
        approval: (!denied.approval.is_empty() || denied.request.is_some()).then(|| Approval {
            groups: &denied.approval,
            request: denied.request.as_ref().map(|asked| asked.id.to_string()),
            page: denied.request.as_ref().and_then(|asked| asked.page.as_deref()),
            retry: retry(denied.reason),
        }),
    };
    // Strings and numbers always serialise; an empty body would still carry the status.
    let own = answer.style.body(denied, answer.status, answer.detail);
    let mut body = own.unwrap_or_else(|| serde_json::to_vec(&problem).unwrap_or_default());
    secrets.mask(&mut body);
    let connection = match (answer.close, answer.minor) {
        (true, _) => "connection: close\r\n",
        (false, 0) => "connection: keep-alive\r\n",
        (false, _) => "",
    };
    let error = match answer.style {
        Style::Json => format!("x-amzn-errortype: {}\r\n", answer.style.code(answer.status)),
        _ => String::new(),
    };
    let head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\n{error}{connection}\r\n",
        answer.status,
        title(answer.status),
        answer.style.content_type(),
        body.len(),
    );
    out.extend_from_slice(head.as_bytes());
    if !answer.head {
        out.extend_from_slice(&body);
    }
}
