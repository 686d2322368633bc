//! How the workload signed, if it did: with what it has, which is worth nothing, or with keys of its own.

use super::{Ambiguity, params::Params};
use crate::protocol::http::request::Request;

/// Where a signature is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Nowhere.
    #[default]
    None,
    /// In `Authorization`.
    Header,
    /// In the query.
    Query,
}

/// What a workload's own signature says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// Where it is.
    pub place: Place,
    /// Whether it is asymmetric (SigV4A).
    pub asymmetric: bool,
    /// What it is for, in its credential scope.
    pub service: Option<String>,
    /// Where, in its credential scope; of SigV4A the set of regions.
    pub region: Option<String>,
    /// `X-Amz-Date` of a presigned request.
    pub date: Option<String>,
    /// `X-Amz-Expires` of a presigned request, seconds.
    pub expires: Option<u32>,
    /// `Expires` of a request presigned by Signature Version 2, seconds since 1970.
    pub until: Option<i64>,
}

/// The longest that a presigned request lasts, seconds.
const LONGEST: u32 = 7 * 24 * 3600;

/// Query parameters and header fields that only sign, in lower case; those of Signature Version 2 where it is used.
const TRACES: [&str; 12] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-region-set",
    "x-amz-s3session-token",
    "x-amz-content-sha256",
    "awsaccesskeyid",
    "x-amz-sso_bearer_token",
];

/// Query parameters of Signature Version 2; they are nothing else only beside an AWSAccessKeyId.
const VERSION_2: [&str; 6] = [
    "signature",
    "signatureversion",
    "signaturemethod",
    "expires",
    "timestamp",
    "securitytoken",
];

/// Whether a parameter or header field is there for the signature alone, whatever its case.
#[must_use]
pub fn is_trace(name: &str) -> bool {
    TRACES.iter().any(|t| t.eq_ignore_ascii_case(name))
}

/// Whether a parameter is to be left out before a request is signed. `old` says whether there is an AWSAccessKeyId.
#[must_use]
pub fn is_dropped(name: &str, old: bool) -> bool {
    is_trace(name) || (old && VERSION_2.iter().any(|t| t.eq_ignore_ascii_case(name)))
}

/// Whether a query was signed by Signature Version 2.
#[must_use]
pub fn is_old(query: &Params<'_>) -> bool {
    query
        .iter()
        .any(|(n, _)| n.eq_ignore_ascii_case("AWSAccessKeyId"))
}

/// Reads what the workload's signature says.
///
/// # Errors
/// When there are two, or one cannot be read.
pub fn of(request: &Request, query: &Params<'_>) -> Result<Auth, Ambiguity> {
    let mut auth = Auth::default();
    let mut headers = 0;
    for header in request.head().headers() {
        if header.name.eq_ignore_ascii_case("authorization") {
            headers += 1;
            let value = std::str::from_utf8(header.value).map_err(|_| Ambiguity::Signature)?;
            auth.place = Place::Header;
            read_header(value, &mut auth);
        } else if header.name.eq_ignore_ascii_case("x-amz-region-set") {
            let value = std::str::from_utf8(header.value).map_err(|_| Ambiguity::Signature)?;
            auth.region = Some(value.to_owned());
        }
    }
    if headers > 1 {
        return Err(Ambiguity::Signature);
    }
    let presigned = query.only("X-Amz-Credential")?;
    if let Some(credential) = presigned {
        if auth.place == Place::Header {
            return Err(Ambiguity::Signature);
        }
        auth.place = Place::Query;
        auth.asymmetric = query
            .only("X-Amz-Algorithm")?
            .is_some_and(|a| a.starts_with("AWS4-ECDSA"));
        scope(credential, &mut auth);
        auth.date = query.only("X-Amz-Date")?.map(str::to_owned);
        if let Some(set) = query.only("X-Amz-Region-Set")? {
            auth.region = Some(set.to_owned());
        }
        if let Some(expires) = query.only("X-Amz-Expires")? {
            let seconds = expires.parse().ok().filter(|s| (1..=LONGEST).contains(s));
            auth.expires = Some(seconds.ok_or(Ambiguity::Signature)?);
        }
    } else if query.only("AWSAccessKeyId")?.is_some() {
        if auth.place == Place::Header {
            return Err(Ambiguity::Signature);
        }
        // With a Timestamp it is a call of the query protocol, which does not outlast it.
        if let Some(until) = query.only("Expires")? {
            auth.place = Place::Query;
            auth.until = Some(until.parse().map_err(|_| Ambiguity::Signature)?);
        }
    } else if query
        .iter()
        .any(|(n, _)| n.eq_ignore_ascii_case("X-Amz-Signature"))
    {
        return Err(Ambiguity::Signature);
    }
    Ok(auth)
}

fn read_header(value: &str, auth: &mut Auth) {
    let Some((algorithm, rest)) = value.split_once(' ') else {
        return;
    };
    if !algorithm.starts_with("AWS4-") {
        return;
    }
    auth.asymmetric = algorithm.starts_with("AWS4-ECDSA");
    let credential = rest
        .split(',')
        .find_map(|part| part.trim().strip_prefix("Credential="));
    if let Some(credential) = credential {
        scope(credential, auth);
    }
}

/// `AKID/date/region/service/aws4_request`; SigV4A has no region in it. The key's id may hold slashes.
fn scope(credential: &str, auth: &mut Auth) {
    let mut parts = credential.rsplit('/');
    if parts.next() != Some("aws4_request") {
        return;
    }
    let word = |text: &&str| {
        (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    auth.service = parts.next().filter(word).map(str::to_owned);
    if !auth.asymmetric {
        auth.region = parts.next().filter(word).map(str::to_owned);
    }
}
