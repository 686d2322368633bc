//! What goes into a signature: the service's region, what stands for the body, and when.

use super::{
    super::{claim::Claim, endpoint::Plane},
    SignError,
    key::sha256,
    streams,
};
use crate::{credential::AwsKeys, protocol::http::request::Request};

/// What can be known to fail before anything is computed.
pub fn check(request: &Request, claim: &Claim, keys: &AwsKeys) -> Result<(), SignError> {
    let word = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    if !word(&claim.service)
        || (claim.plane == Plane::Unknown && super::super::endpoint::of(&request.host).is_some())
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
pub fn region(request: &Request, claim: &Claim) -> Result<String, SignError> {
    let global = super::super::endpoint::of(&request.host).map(|_| {
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
pub fn payload(
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
pub fn told(request: &Request) -> Option<&str> {
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
pub fn stamp(now_ns: i64) -> Result<String, SignError> {
    jiff::Timestamp::from_nanosecond(now_ns.into())
        .map(|t| t.strftime("%Y%m%dT%H%M%SZ").to_string())
        .map_err(|_| SignError::Malformed)
}

/// The date of a presigned request: AWS holds it and the expiry against its own clock.
pub fn date_of(claim: &Claim) -> Result<String, SignError> {
    let date = claim.auth.date.as_deref().ok_or(SignError::Presigned)?;
    let bytes = date.as_bytes();
    let digits =
        |range: std::ops::Range<usize>| bytes.get(range).is_some_and(|b| b.iter().all(u8::is_ascii_digit));
    let fits = bytes.len() == 16 && digits(0..8) && bytes[8] == b'T' && digits(9..15) && bytes[15] == b'Z';
    fits.then(|| date.to_owned()).ok_or(SignError::Presigned)
}

/// The seconds that are left of a request presigned by Signature Version 2, as far as SigV4 lets one last.
pub fn left(until: i64, now_ns: i64) -> Result<u32, SignError> {
    const LONGEST: i64 = 7 * 24 * 3600;
    let seconds = until.saturating_sub(now_ns.div_euclid(1_000_000_000));
    match u32::try_from(seconds.min(LONGEST)) {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(SignError::Expired),
    }
}

/// A token as text that a header and a query can hold.
pub fn text(bytes: &[u8]) -> Result<String, SignError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && bytes.iter().all(|b| (0x21..0x7f).contains(b)) => Ok(text.to_owned()),
        _ => Err(SignError::Keys),
    }
}
