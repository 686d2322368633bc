//! Requests as they are sent, and what is understood of them.

mod attacks;
mod calls;

use std::net::SocketAddr;

use super::{call::Call, *};
use crate::protocol::http::request::{Request, Setting};

/// A request from its head, with `\n` for line ends.
pub fn request(head: &str) -> Request {
    let mut request = Request::default();
    let text = format!("{}\r\n\r\n", head.trim_end().replace('\n', "\r\n"));
    let setting = Setting {
        tls: true,
        server_name: None,
        destination: SocketAddr::from(([192, 0, 2, 1], 443)),
    };
    request
        .parse(text.as_bytes(), setting)
        .unwrap_or_else(|e| panic!("{head}: {e}"));
    request
}

/// What a request with this body is, for a host of AWS's own.
pub fn understood(head: &str, body: &str) -> Result<Call, Ambiguity> {
    let request = request(head);
    let claim = claim(&request, None)?.unwrap_or_else(|| panic!("{head}: no claim"));
    let body = match body {
        "" => Body::None,
        body => Body::Bytes(body.as_bytes()),
    };
    read(&claim, &request, body)
}

/// `s3:GetObject r [bucket/key]`, and what is not understood.
pub fn shown(call: &Call) -> String {
    let mut text = format!("{} {}", call.action(), &call.class.access.as_str()[..1]);
    for (set, letter) in [
        (call.class.destructive, 'd'),
        (call.class.spend, '$'),
        (call.class.secret, 's'),
    ] {
        text.extend(set.then_some(letter));
    }
    for resource in &call.resources {
        text.push(' ');
        text.push_str(resource);
    }
    for why in &call.why {
        text.push_str(" ?");
        text.push_str(why.as_str());
    }
    text
}
