//! The one form of a request that both sides sign (SigV4, "canonical request").

use super::super::params::{Params, encode};
use crate::protocol::http::request::Request;

/// A request's parts as they will go up.
pub struct Canonical<'a> {
    /// The method.
    pub method: &'a str,
    /// The path on the wire.
    pub path: &'a str,
    /// Whether what is encoded is encoded once more, which all services but S3 do.
    pub twice: bool,
    /// Parameters, decoded; without a signature.
    pub query: &'a [(String, String)],
    /// Names in lower case with their values, in order.
    pub headers: &'a [(String, String)],
    /// What stands for the body.
    pub payload: &'a str,
}

impl Canonical<'_> {
    /// The text, whose hash is signed.
    pub fn text(&self) -> String {
        let mut out = String::with_capacity(512);
        out.push_str(self.method);
        out.push('\n');
        if self.twice {
            encode(self.path.as_bytes(), true, &mut out);
        } else {
            out.push_str(&once(self.path));
        }
        out.push('\n');
        out.push_str(&encoded(self.query));
        out.push('\n');
        for (name, value) in self.headers {
            out.push_str(name);
            out.push(':');
            out.push_str(value);
            out.push('\n');
        }
        out.push('\n');
        out.push_str(&self.signed_headers());
        out.push('\n');
        out.push_str(self.payload);
        out
    }

    /// `host;x-amz-date`
    pub fn signed_headers(&self) -> String {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.join(";")
    }
}

/// A path with everything encoded that AWS encodes, once, however it was written.
fn once(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let bytes = path.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        // What is encoded stays so: the request was brought into one form already.
        if byte == b'%' && bytes.len() >= at + 3 {
            out.push_str(&path[at..at + 3]);
            at += 3;
        } else {
            encode(&[byte], true, &mut out);
            at += 1;
        }
    }
    out
}

/// Parameters encoded and sorted.
fn encoded(query: &[(String, String)]) -> String {
    let mut pairs: Vec<(String, String)> = query
        .iter()
        .map(|(name, value)| {
            let (mut n, mut v) = (String::new(), String::new());
            encode(name.as_bytes(), false, &mut n);
            encode(value.as_bytes(), false, &mut v);
            (n, v)
        })
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

/// The headers of the workload's that are signed: those that say what is asked for, without what only signs.
pub fn headers(request: &Request) -> Option<Vec<(String, String)>> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for header in request.head().headers() {
        let name = header.name.to_ascii_lowercase();
        let signed =
            matches!(name.as_str(), "host" | "content-type" | "content-md5") || name.starts_with("x-amz-");
        if !signed || super::super::auth::is_trace(&name) {
            continue;
        }
        let value = plain(std::str::from_utf8(header.value).ok()?);
        match headers.iter_mut().find(|(n, _)| *n == name) {
            Some((_, values)) => {
                values.push(',');
                values.push_str(&value);
            }
            None => headers.push((name, value)),
        }
    }
    Some(headers)
}

/// A value with single blanks.
fn plain(value: &str) -> String {
    value
        .split([' ', '\t'])
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// What a query has beside a signature: decoded for signing, and as it is on the wire.
pub fn without_signature(query: Option<&str>, params: &Params<'_>) -> (Vec<(String, String)>, String) {
    let old = super::super::auth::is_old(params);
    let kept = |name: &str| !super::super::auth::is_dropped(name, old);
    let decoded = params
        .iter()
        .filter(|(name, _)| kept(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let wire: Vec<&str> = query
        .unwrap_or("")
        .split('&')
        .filter(|p| !p.is_empty())
        .filter(|part| {
            let name = part.split_once('=').map_or(*part, |(n, _)| n);
            super::super::params::decode(name, true).is_ok_and(|n| kept(&n))
        })
        .collect();
    (decoded, wire.join("&"))
}
