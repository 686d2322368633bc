//! Signature Version 4 of a request on its way up, with keys that the workload never sees.
//!
//! Written here, with AWS-LC, and held against AWS's own signer in tests: that one brings a second set of cryptographic
//! crates, and signs what it would send, where this signs what the workload sends.

mod canonical;
mod chunked;
mod key;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use zeroize::Zeroizing;

pub use self::chunked::{ChunkSigner, Content};
use self::{
    canonical::Canonical,
    key::{Key, sha256},
};
use super::{
    auth::Place,
    claim::Claim,
    endpoint::Plane,
    params::{Params, encode},
};
use crate::{credential::AwsKeys, protocol::http::request::Request};

/// Why a request cannot be signed. It does not go up then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // each variant's text is its documentation
pub enum SignError {
    #[error("which service it is for is not known: set `service` in `inject`, or sign with any keys")]
    Service,
    #[error("which region it is for is not known: set `region` in `inject`, or sign with any keys")]
    Region,
    #[error("directory buckets have keys of their own for each session, which cannot be replaced")]
    Express,
    #[error("a form that is posted to S3 has its signature inside, which cannot be replaced")]
    Form,
    #[error("the body is needed for the signature, and was not read")]
    Body,
    #[error("this kind of signed stream cannot be signed anew")]
    Stream,
    #[error("it is presigned, and its date or expiry is missing or malformed")]
    Presigned,
    #[error("it is presigned, and has expired")]
    Expired,
    #[error("a header or parameter that is signed is malformed")]
    Malformed,
    #[error("the credential's keys cannot be used")]
    Keys,
}

/// Header fields of the workload's that do not go up, in lower case.
pub const DROPPED: [&str; 11] = [
    "authorization",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "x-amz-region-set",
    "x-amz-s3session-token",
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
];

/// What a signature changes in a request.
pub struct Signed {
    /// Header fields of the workload's that do not go up, in lower case.
    pub drop: Vec<Cow<'static, str>>,
    /// Header lines that go up in their stead.
    pub lines: Zeroizing<Vec<u8>>,
    /// The query that goes up, where it changes; empty is none.
    pub query: Option<Zeroizing<String>>,
    /// The same lines and query with nothing in them that signs.
    pub shown_lines: Vec<u8>,
    /// See `shown_lines`.
    pub shown_query: Option<String>,
    /// What signs the pieces of a signed stream.
    pub chunks: Option<ChunkSigner>,
}

/// Whether the whole body is needed before a request can be signed.
#[must_use]
pub fn needs_body(claim: &Claim, request: &Request) -> bool {
    request.has_body() && !streams(claim)
}

/// Whether bodies go up unread: S3 takes them unsigned, or signed piece by piece.
fn streams(claim: &Claim) -> bool {
    matches!(claim.plane, Plane::S3 | Plane::S3Express)
}

/// A query without what only signs, as it is on the wire.
#[must_use]
pub fn unsigned_query(query: &str) -> Option<String> {
    let params = Params::parse(query).ok()?;
    Some(canonical::without_signature(Some(query), &params).1)
}

/// What is signed for.
struct Scope {
    /// `20260101T000000Z`
    date: String,
    region: String,
    service: String,
    asymmetric: bool,
}

impl Scope {
    fn day(&self) -> &str {
        self.date.get(..8).unwrap_or_default()
    }

    fn text(&self) -> String {
        if self.asymmetric {
            format!("{}/{}/aws4_request", self.day(), self.service)
        } else {
            format!("{}/{}/{}/aws4_request", self.day(), self.region, self.service)
        }
    }

    fn algorithm(&self) -> &'static str {
        if self.asymmetric {
            "AWS4-ECDSA-P256-SHA256"
        } else {
            "AWS4-HMAC-SHA256"
        }
    }

    fn key(&self, keys: &AwsKeys) -> Result<Key, SignError> {
        if self.asymmetric {
            Key::asymmetric(keys)
        } else {
            Ok(Key::symmetric(keys, self.day(), &self.region, &self.service))
        }
    }
}

/// Signs a request. `body` is the SHA-256 of its body where that was read; `now_ns` is nanoseconds since 1970.
///
/// # Errors
/// When it cannot be signed so that AWS takes it for what the workload asked for.
pub fn sign(
    request: &Request,
    claim: &Claim,
    keys: &AwsKeys,
    body: Option<&[u8]>,
    now_ns: i64,
) -> Result<Signed, SignError> {
    check(request, claim, keys)?;
    let presigned = claim.auth.place == Place::Query;
    let scope = Scope {
        date: match claim.auth.until {
            None if presigned => date_of(claim)?,
            _ => stamp(now_ns)?,
        },
        region: region(request, claim)?,
        service: claim.service.clone(),
        asymmetric: claim.auth.asymmetric || request.host.contains(".accesspoint.s3-global."),
    };
    let payload = payload(request, claim, body, presigned)?;
    let params =
        Params::parse(request.target.query.as_deref().unwrap_or("")).map_err(|_| SignError::Malformed)?;
    let (query, wire) = canonical::without_signature(request.target.query.as_deref(), &params);
    let token = match &keys.session_token {
        Some(token) => Some(Zeroizing::new(text(token.expose())?)),
        None => None,
    };
    let parts = Parts {
        request,
        scope: &scope,
        keys,
        payload: &payload,
        token,
        twice: !streams(claim),
    };
    if presigned {
        let expires = match claim.auth.until {
            None => claim.auth.expires.ok_or(SignError::Presigned)?,
            Some(until) => left(until, now_ns)?,
        };
        return parts.presigned(expires, query, &wire);
    }
    parts.header(request, &query, &wire)
}

struct Parts<'a> {
    request: &'a Request,
    scope: &'a Scope,
    keys: &'a AwsKeys,
    payload: &'a str,
    token: Option<Zeroizing<String>>,
    twice: bool,
}

impl Parts<'_> {
    /// A signature in `Authorization`.
    fn header(&self, request: &Request, query: &[(String, String)], wire: &str) -> Result<Signed, SignError> {
        let mut headers = canonical::headers(request).ok_or(SignError::Malformed)?;
        let mut added: Vec<(&str, String)> = vec![("x-amz-date", self.scope.date.clone())];
        if self.tells_payload() {
            added.push(("x-amz-content-sha256", self.payload.to_owned()));
        }
        if self.scope.asymmetric {
            added.push(("x-amz-region-set", self.scope.region.clone()));
        }
        headers.extend(added.iter().map(|(n, v)| ((*n).to_owned(), v.clone())));
        if let Some(token) = &self.token {
            headers.push(("x-amz-security-token".to_owned(), token.to_string()));
        }
        let (signature, signed_headers, key) = self.signature(query, &mut headers)?;
        let mut lines = Zeroizing::new(Vec::with_capacity(1024));
        let mut shown = Vec::new();
        for (name, value) in &added {
            line(name, value, &mut lines);
            line(name, value, &mut shown);
        }
        if let Some(token) = &self.token {
            line("x-amz-security-token", token, &mut lines);
            line("x-amz-security-token", "[injected]", &mut shown);
        }
        let start = format!(
            "{} Credential={}/{}, SignedHeaders={signed_headers}, Signature=",
            self.scope.algorithm(),
            self.keys.access_key_id,
            self.scope.text(),
        );
        line("authorization", &format!("{start}{signature}"), &mut lines);
        line("authorization", &format!("{start}[injected]"), &mut shown);
        // The whole length at once, so that no copy is left behind.
        for (_, value) in &mut headers {
            zeroize::Zeroize::zeroize(value);
        }
        let changed = wire != request.target.query.as_deref().unwrap_or("");
        Ok(Signed {
            drop: dropped(),
            lines,
            query: changed.then(|| Zeroizing::new(wire.to_owned())),
            shown_lines: shown,
            shown_query: changed.then(|| wire.to_owned()),
            chunks: self.chunks(&signature, key)?,
        })
    }

    /// A signature in the query, which lasts as long as the workload's would have.
    fn presigned(
        &self,
        expires: u32,
        mut query: Vec<(String, String)>,
        wire: &str,
    ) -> Result<Signed, SignError> {
        let mut headers = canonical::headers(self.request).ok_or(SignError::Malformed)?;
        headers.retain(|(name, _)| name == "host" || name.starts_with("x-amz-"));
        headers.sort();
        let names: Vec<&str> = headers.iter().map(|(n, _)| n.as_str()).collect();
        let mut added = vec![
            ("X-Amz-Algorithm", self.scope.algorithm().to_owned()),
            (
                "X-Amz-Credential",
                format!("{}/{}", self.keys.access_key_id, self.scope.text()),
            ),
            ("X-Amz-Date", self.scope.date.clone()),
            ("X-Amz-Expires", expires.to_string()),
            ("X-Amz-SignedHeaders", names.join(";")),
        ];
        if self.scope.asymmetric {
            added.push(("X-Amz-Region-Set", self.scope.region.clone()));
        }
        let mut shown = wire.to_owned();
        let mut out = Zeroizing::new(String::with_capacity(wire.len() + 4096));
        out.push_str(wire);
        for (name, value) in &added {
            parameter(name, value, &mut out);
            parameter(name, value, &mut shown);
        }
        query.extend(added.iter().map(|(n, v)| ((*n).to_owned(), v.clone())));
        if let Some(token) = &self.token {
            parameter("X-Amz-Security-Token", token, &mut out);
            parameter("X-Amz-Security-Token", "[injected]", &mut shown);
            query.push(("X-Amz-Security-Token".to_owned(), token.to_string()));
        }
        let (signature, _, _) = self.signature(&query, &mut headers)?;
        for (_, value) in &mut query {
            zeroize::Zeroize::zeroize(value);
        }
        parameter("X-Amz-Signature", &signature, &mut out);
        parameter("X-Amz-Signature", "[injected]", &mut shown);
        Ok(Signed {
            drop: dropped(),
            lines: Zeroizing::default(),
            query: Some(out),
            shown_lines: Vec::new(),
            shown_query: Some(shown),
            chunks: None,
        })
    }

    /// The signature, the names of the headers that it covers, and the key.
    fn signature(
        &self,
        query: &[(String, String)],
        headers: &mut [(String, String)],
    ) -> Result<(String, String, Key), SignError> {
        headers.sort();
        if !headers.iter().any(|(name, _)| name == "host") {
            return Err(SignError::Malformed);
        }
        let canonical = Canonical {
            method: &self.request.method,
            path: self.request.target.wire(),
            twice: self.twice,
            query,
            headers,
            payload: self.payload,
        };
        let text = Zeroizing::new(canonical.text());
        let to_sign = format!(
            "{}\n{}\n{}\n{}",
            self.scope.algorithm(),
            self.scope.date,
            self.scope.text(),
            sha256(text.as_bytes())
        );
        let key = self.scope.key(self.keys)?;
        Ok((key.sign(to_sign.as_bytes())?, canonical.signed_headers(), key))
    }

    /// Whether the hash goes into a header, too: S3 wants it, and others where the workload told it.
    fn tells_payload(&self) -> bool {
        !self.twice || told(self.request).is_some()
    }

    fn chunks(&self, seed: &str, key: Key) -> Result<Option<ChunkSigner>, SignError> {
        if !self.payload.starts_with("STREAMING-AWS4-") {
            return Ok(None);
        }
        let Key::Hmac(key) = key else {
            return Err(SignError::Stream);
        };
        let trailer = self.payload.ends_with("-TRAILER");
        let scope = self.scope.text();
        Ok(Some(ChunkSigner::new(
            *key,
            &self.scope.date,
            &scope,
            seed,
            trailer,
        )))
    }
}

/// What can be known to fail before anything is computed.
fn check(request: &Request, claim: &Claim, keys: &AwsKeys) -> Result<(), SignError> {
    let word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    if !word(&claim.service)
        || (claim.plane == Plane::Unknown && super::endpoint::of(&request.host).is_some())
    {
        return Err(SignError::Service);
    }
    if claim.plane == Plane::S3Express {
        return Err(SignError::Express);
    }
    let id = &keys.access_key_id;
    if !id.bytes().all(|b| b.is_ascii_alphanumeric())
        || id.is_empty()
        || keys.secret_access_key.expose().is_empty()
    {
        return Err(SignError::Keys);
    }
    let form = request
        .content_type
        .as_deref()
        .is_some_and(|t| t.to_ascii_lowercase().starts_with("multipart/form-data"));
    if streams(claim) && form && request.method == "POST" {
        return Err(SignError::Form);
    }
    Ok(())
}

/// The region, or of SigV4A the set of regions; that of AWS's global endpoints where nothing says another.
fn region(request: &Request, claim: &Claim) -> Result<String, SignError> {
    let global = super::endpoint::of(&request.host).map(|_| {
        if request.host.ends_with(".cn") {
            "cn-north-1"
        } else {
            "us-east-1"
        }
    });
    let region = claim.region.as_deref().or(global).ok_or(SignError::Region)?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_*,".contains(&b);
    if region.is_empty() || !region.bytes().all(fits) {
        return Err(SignError::Region);
    }
    Ok(region.to_owned())
}

/// What stands for the body.
fn payload(
    request: &Request,
    claim: &Claim,
    body: Option<&[u8]>,
    presigned: bool,
) -> Result<String, SignError> {
    const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
    let hashed = |body: Option<&[u8]>| match body {
        Some(hash) if hash.len() == 32 => Ok(hex::encode(hash)),
        None if !request.has_body() => Ok(sha256(b"")),
        _ => Err(SignError::Body),
    };
    if !streams(claim) {
        return match told(request) {
            // Of a stream of events every one is signed.
            Some(told) if told.starts_with("STREAMING-") => Err(SignError::Stream),
            _ => hashed(body),
        };
    }
    if presigned {
        return Ok(UNSIGNED.to_owned());
    }
    match told(request) {
        Some(told) if is_hash(told) => Ok(told.to_owned()),
        Some(
            told @ (UNSIGNED
            | "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
            | "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
            | "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        ) => Ok(told.to_owned()),
        Some(told) if told.starts_with("STREAMING-") => Err(SignError::Stream),
        Some(_) => Err(SignError::Malformed),
        None if request.has_body() && body.is_none() => Ok(UNSIGNED.to_owned()),
        None => hashed(body),
    }
}

/// What the workload says of the body in `X-Amz-Content-Sha256`.
fn told(request: &Request) -> Option<&str> {
    let mut all = request
        .head()
        .headers()
        .filter(|h| h.name.eq_ignore_ascii_case("x-amz-content-sha256"));
    let first = all.next()?;
    // Given twice it fits nothing.
    if all.next().is_some() {
        return Some("");
    }
    Some(std::str::from_utf8(first.value).unwrap_or(""))
}

fn is_hash(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// `20260101T000000Z`
fn stamp(now_ns: i64) -> Result<String, SignError> {
    jiff::Timestamp::from_nanosecond(now_ns.into())
        .map(|t| t.strftime("%Y%m%dT%H%M%SZ").to_string())
        .map_err(|_| SignError::Malformed)
}

/// The date of a presigned request: AWS holds it and the expiry against its own clock.
fn date_of(claim: &Claim) -> Result<String, SignError> {
    let date = claim.auth.date.as_deref().ok_or(SignError::Presigned)?;
    let bytes = date.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|b| b.iter().all(u8::is_ascii_digit));
    let fits = bytes.len() == 16 && digits(0..8) && bytes[8] == b'T' && digits(9..15) && bytes[15] == b'Z';
    fits.then(|| date.to_owned()).ok_or(SignError::Presigned)
}

/// The seconds that are left of a request presigned by Signature Version 2, as far as SigV4 lets one last.
fn left(until: i64, now_ns: i64) -> Result<u32, SignError> {
    const LONGEST: i64 = 7 * 24 * 3600;
    let seconds = until.saturating_sub(now_ns.div_euclid(1_000_000_000));
    match u32::try_from(seconds.min(LONGEST)) {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(SignError::Expired),
    }
}

/// A token as text that a header and a query can hold.
fn text(bytes: &[u8]) -> Result<String, SignError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && bytes.iter().all(|b| (0x21..0x7f).contains(b)) => Ok(text.to_owned()),
        _ => Err(SignError::Keys),
    }
}

fn dropped() -> Vec<Cow<'static, str>> {
    DROPPED.into_iter().map(Cow::Borrowed).collect()
}

fn line(name: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn parameter(name: &str, value: &str, out: &mut String) {
    if !out.is_empty() {
        out.push('&');
    }
    out.push_str(name);
    out.push('=');
    encode(value.as_bytes(), false, out);
}
