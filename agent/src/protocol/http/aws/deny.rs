//! A denial in the words of the service that was asked, so that its libraries raise it as what it is.

use super::{Plane, call, claim::Claim};
use crate::{gate::Denied, protocol::http::request::Request};

/// How a service writes errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Not AWS: a problem document.
    #[default]
    Problem,
    /// JSON, of 1.0, 1.1 and REST.
    Json,
    /// S3's XML.
    S3,
    /// XML of the query protocol, and of services whose REST is in XML.
    Query,
    /// EC2's XML.
    Ec2,
}

/// The style of the service that a request goes to.
#[must_use]
pub fn style(claim: &Claim, request: &Request) -> Style {
    match claim.plane {
        Plane::S3 | Plane::S3Express => Style::S3,
        Plane::Search | Plane::UserApi => Style::Problem,
        Plane::Api | Plane::Unknown => match claim.service.as_str() {
            "ec2" => Style::Ec2,
            "route53" | "cloudfront" | "s3" => Style::Query,
            _ if !call::is_json(claim, request) => Style::Query,
            _ => Style::Json,
        },
    }
}

impl Style {
    /// The media type of such an error.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Problem => "application/problem+json",
            Self::Json => "application/x-amz-json-1.1",
            Self::S3 | Self::Query | Self::Ec2 => "application/xml",
        }
    }

    /// What the service would call it.
    #[must_use]
    pub fn code(self, status: u16) -> &'static str {
        match (status, self) {
            (403, Self::Ec2) => "UnauthorizedOperation",
            (403, Self::Json) => "AccessDeniedException",
            (403, _) => "AccessDenied",
            (400, Self::Json) => "ValidationException",
            (400, _) => "InvalidRequest",
            (408 | 504, _) => "RequestTimeout",
            (413, _) => "EntityTooLarge",
            (429, _) => "Throttling",
            _ => "ServiceUnavailable",
        }
    }

    /// The body; none where it is a problem document.
    #[must_use]
    pub fn body(self, denied: &Denied, status: u16, detail: &str) -> Option<Vec<u8>> {
        let code = self.code(status);
        let request = denied
            .request
            .as_ref()
            .map_or_else(String::new, |asked| format!(", approval request {asked}"));
        let said = format!(
            "{detail} {} (Portcullis: {}, entry {}{request})",
            denied.reason.guidance(),
            denied.reason,
            denied.entry,
        );
        let (message, entry) = (escaped(&said), denied.entry);
        let text = match self {
            Self::Problem => return None,
            Self::Json => {
                let body = serde_json::json!({
                    "__type": code, "message": said, "reason": denied.reason, "entry": entry.to_string(),
                });
                return serde_json::to_vec(&body).ok();
            }
            Self::S3 => format!(
                "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{entry}</RequestId></Error>"
            ),
            Self::Query => format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>\
                 <RequestId>{entry}</RequestId></ErrorResponse>"
            ),
            Self::Ec2 => format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
                 <RequestID>{entry}</RequestID></Response>"
            ),
        };
        Some(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}").into_bytes())
    }
}

/// Text for XML: what it cannot hold is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' | '\n' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{super::tests::request, *};
    use crate::{
        model::{OperationId, Reason},
        protocol::http::aws::claim,
    };

    #[test]
    fn each_service_has_its_own_words() {
        let denied = Denied {
            reason: Reason::PolicyForbid,
            entry: OperationId::new(),
            policies: [].into(),
            message: None,
            approval: [].into(),
            request: None,
        };
        for (head, style, begin) in [
            (
                "GET /b HTTP/1.1\nHost: s3.amazonaws.com",
                Style::S3,
                "<Error><Code>AccessDenied</Code><Message>a &lt;b&gt; Do not",
            ),
            (
                "POST / HTTP/1.1\nHost: ec2.us-east-1.amazonaws.com",
                Style::Ec2,
                "<Response><Errors><Error><Code>UnauthorizedOperation<",
            ),
            (
                "POST / HTTP/1.1\nHost: sts.amazonaws.com",
                Style::Query,
                "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied<",
            ),
            (
                "GET /2013-04-01/hostedzone HTTP/1.1\nHost: route53.amazonaws.com",
                Style::Query,
                "<ErrorResponse>",
            ),
            (
                "GET /2015-03-31/functions/ HTTP/1.1\nHost: lambda.us-east-1.amazonaws.com",
                Style::Json,
                "{\"__type\":\"AccessDeniedException\"",
            ),
            (
                "POST / HTTP/1.1\nHost: dynamodb.us-east-1.amazonaws.com\nX-Amz-Target: a.B",
                Style::Json,
                "{\"__type\":\"AccessDeniedException\"",
            ),
            (
                "GET / HTTP/1.1\nHost: a.execute-api.us-east-1.amazonaws.com",
                Style::Problem,
                "",
            ),
        ] {
            let request = request(head);
            let claim = claim(&request, None).unwrap().unwrap();
            assert_eq!(super::style(&claim, &request), style, "{head}");
            let body = style.body(&denied, 403, "a <b>").unwrap_or_default();
            let text = String::from_utf8(body).unwrap();
            let text = text.split_once("?>\n").map_or(text.as_str(), |(_, rest)| rest);
            let sorted = if text.starts_with('{') {
                let json: serde_json::Value = serde_json::from_str(text).unwrap();
                format!("{{\"__type\":{}", json["__type"])
            } else {
                text.to_owned()
            };
            assert!(sorted.starts_with(begin), "{head}: {sorted}");
        }
    }
}
