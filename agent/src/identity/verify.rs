//! Verifying one token (RFC 7519, RFC 8725, RFC 9068), without IO: issuer's rules, issuer's keys, time -> identity.
//!
//! The signature is checked with the crate, the claims here: the crate's own checks read the system clock only,
//! leave `nbf` out unless told, and accept an absent `aud` or `iss`.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::jwks::{Keys, Missing};
use crate::model::{Identity, Reason};

/// Bytes of a token. Real ones are one to four KiB.
pub const MAX_TOKEN: usize = 16 * 1024;

/// The end of the year 9999, seconds since 1970: later than that is no date.
const MAX_DATE: i64 = 253_402_300_799;

/// What an issuer's tokens must be like; from `[[issuer]]`.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The issuer's name in the configuration.
    pub name: Arc<str>,
    /// `iss`, to the byte.
    pub issuer: Arc<str>,
    /// What `aud` must be or hold.
    pub audience: String,
    /// Asymmetric algorithms only.
    pub algorithms: Vec<Algorithm>,
    /// Where groups are.
    pub groups_claim: String,
    /// Claims and their values.
    pub required_claims: BTreeMap<String, String>,
    /// Clock skew allowed, seconds.
    pub skew: i64,
}

/// Why a token is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For entries, errors, metrics.
    pub reason: Reason,
    /// For a human. Holds nothing of the token but names of claims.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

pub(super) fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Reason::IdentityInvalid, message)
}

/// The header's members that decide anything. Repeated members are an error of the parser's.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// What a token says, once it is known who says it, to whom, and when.
pub struct Verified {
    /// The payload.
    pub claims: Map<String, Value>,
    /// The header's `typ`, in lower case without `application/`; empty where it has none.
    pub typ: String,
    /// The key that signed it.
    pub key_id: String,
    /// `iat`.
    pub issued_at: Option<i64>,
    /// `exp`.
    pub expires_at: i64,
}

/// Verifies `token` at `now` (seconds since 1970 UTC).
///
/// # Errors
/// The first thing that is wrong, each with its own reason.
pub fn verify(token: &str, rules: &Rules, keys: &Keys, now: i64) -> Result<Identity, Failure> {
    let verified = check(token, rules, keys, now)?;
    let (subject, on_behalf_of) = parties(&verified.claims, rules)?;
    Ok(Identity {
        issuer: Arc::clone(&rules.issuer),
        issuer_name: Arc::clone(&rules.name),
        subject,
        groups: groups(&verified.claims, &rules.groups_claim)?,
        token_id: token_id(&verified.claims, token),
        key_id: verified.key_id.into(),
        issued_at: verified.issued_at,
        expires_at: verified.expires_at,
        on_behalf_of,
    })
}

/// Signature, issuer, audience, times and required claims: all but what it says of its subject.
///
/// # Errors
/// As [`verify`].
pub fn check(token: &str, rules: &Rules, keys: &Keys, now: i64) -> Result<Verified, Failure> {
    if token.len() > MAX_TOKEN {
        return Err(invalid("the token is longer than 16 KiB"));
    }
    let (message, signature) = token.rsplit_once('.').ok_or_else(|| invalid("not a JWT"))?;
    let (header, payload) = message.split_once('.').ok_or_else(|| invalid("not a JWT"))?;
    let header: Header = part(header, "header")?;
    let claims: Map<String, Value> = part(payload, "payload")?;
    let algorithm = check_header(&header, rules)?;
    // Read before it is verified, and only to refuse: a token of another issuer shall be called that, and not make
    // the keys be fetched again.
    check_issuer(&claims, rules)?;
    let key = keys
        .find(header.kid.as_deref(), algorithm)
        .map_err(|missing| match missing {
            Missing::Unknown => Failure::new(
                Reason::IdentityUnknownKey,
                "the token's key is not among the issuer's",
            ),
            Missing::OtherAlgorithm => invalid("the token's key is not for its algorithm"),
        })?;
    match jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.decoding, algorithm) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Err(invalid("the signature is wrong")),
    }
    check_audience(&claims, rules)?;
    let (issued_at, expires_at) = check_times(&claims, rules, now)?;
    check_required(&claims, rules)?;
    Ok(Verified {
        claims,
        typ: plain_type(header.typ.as_deref()),
        key_id: key.id.clone(),
        issued_at,
        expires_at,
    })
}

/// The media type's own part, in lower case.
fn plain_type(typ: Option<&str>) -> String {
    let typ = typ.unwrap_or_default().to_ascii_lowercase();
    typ.strip_prefix("application/").map(str::to_owned).unwrap_or(typ)
}

/// One part of a token, decoded. Strict base64url: without padding, without bits to spare.
fn part<T: serde::de::DeserializeOwned>(text: &str, name: &str) -> Result<T, Failure> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| invalid(format!("the {name} is not base64url")))?;
    serde_json::from_slice(&bytes).map_err(|_| invalid(format!("the {name} is not the JSON of a JWT")))
}

fn check_header(header: &Header, rules: &Rules) -> Result<Algorithm, Failure> {
    if header.crit.is_some() {
        return Err(invalid(
            "the header has critical extensions, and none is understood",
        ));
    }
    if let Some(typ) = &header.typ {
        // Others are made for other ends (logout tokens, DPoP proofs, client assertions): RFC 8725 section 3.11.
        if !matches!(plain_type(Some(typ)).as_str(), "jwt" | "at+jwt") {
            return Err(invalid("the header's typ is neither JWT nor at+jwt"));
        }
    }
    header
        .alg
        .parse::<Algorithm>()
        .ok()
        .filter(|algorithm| rules.algorithms.contains(algorithm))
        .ok_or_else(|| invalid("the algorithm is not allowed"))
}

fn check_issuer(claims: &Map<String, Value>, rules: &Rules) -> Result<(), Failure> {
    match claims.get("iss").and_then(Value::as_str) {
        Some(issuer) if issuer == &*rules.issuer => Ok(()),
        _ => Err(Failure::new(
            Reason::IdentityWrongIssuer,
            "iss is not the configured issuer",
        )),
    }
}

fn check_audience(claims: &Map<String, Value>, rules: &Rules) -> Result<(), Failure> {
    let fits = match claims.get("aud") {
        Some(Value::String(one)) => *one == rules.audience,
        Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(&rules.audience)),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Failure::new(
        Reason::IdentityWrongAudience,
        "aud is not, and does not hold, the configured audience",
    ))
}

/// A NumericDate, rounded down; text is not one, whatever it looks like.
pub(super) fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Failure> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    #[allow(clippy::cast_possible_truncation)] // Bounded just below.
    let seconds = value.as_i64().or_else(|| {
        value
            .as_f64()
            .filter(|f| f.abs() < 1e15)
            .map(|f| f.floor() as i64)
    });
    match seconds {
        Some(seconds) if (0..=MAX_DATE).contains(&seconds) => Ok(Some(seconds)),
        _ => Err(invalid(format!("{name} is not a date"))),
    }
}

fn check_times(claims: &Map<String, Value>, rules: &Rules, now: i64) -> Result<(Option<i64>, i64), Failure> {
    let expires_at = date(claims, "exp")?.ok_or_else(|| invalid("exp is missing"))?;
    let not_before = date(claims, "nbf")?;
    let issued_at = date(claims, "iat")?;
    if now >= expires_at + rules.skew {
        return Err(Failure::new(Reason::IdentityExpired, "the token has expired"));
    }
    for (name, at) in [("nbf", not_before), ("iat", issued_at)] {
        if at.is_some_and(|at| at > now + rules.skew) {
            return Err(Failure::new(
                Reason::IdentityNotYetValid,
                format!("{name} is in the future"),
            ));
        }
    }
    Ok((issued_at, expires_at))
}

/// A claim by its whole name, or else by a dotted path. The whole name first: claims named by a URL have dots.
fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    rest.split('.')
        .try_fold(claims.get(first)?, |value, key| value.as_object()?.get(key))
}

fn check_required(claims: &Map<String, Value>, rules: &Rules) -> Result<(), Failure> {
    for (name, expected) in &rules.required_claims {
        let fits = match claim(claims, name) {
            Some(Value::String(text)) => text == expected,
            Some(Value::Bool(value)) => expected.parse() == Ok(*value),
            Some(Value::Number(value)) => value.as_i64().is_some_and(|value| expected.parse() == Ok(value)),
            _ => false,
        };
        if !fits {
            return Err(invalid(format!("claim '{name}' has not the required value")));
        }
    }
    Ok(())
}

pub(super) fn text(claims: &Map<String, Value>, name: &str) -> Option<Arc<str>> {
    claims
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(Arc::from)
}

/// Who acts, and for whom. With `act` (RFC 8693 section 4.1) `sub` is whom the token is about, and `act.sub` the
/// workload that acts for them; the actors nested deeper are history.
fn parties(claims: &Map<String, Value>, rules: &Rules) -> Result<(Arc<str>, Option<Arc<str>>), Failure> {
    let subject = text(claims, "sub").ok_or_else(|| invalid("sub is missing"))?;
    let actor = match claims.get("act") {
        None => return Ok((subject, None)),
        Some(Value::Object(actor)) => actor,
        Some(_) => return Err(invalid("act is not an object")),
    };
    if actor
        .get("iss")
        .is_some_and(|iss| iss.as_str() != Some(&rules.issuer))
    {
        return Err(invalid("act.iss is not the configured issuer"));
    }
    let actor = text(actor, "sub").ok_or_else(|| invalid("act.sub is missing"))?;
    Ok((actor, Some(subject)))
}

/// Groups as an array of text, or as text with spaces between. Absent is none; any other form is refused, because a
/// `forbid` by group must not be lost.
pub(super) fn groups(claims: &Map<String, Value>, path: &str) -> Result<Arc<[Arc<str>]>, Failure> {
    let wrong = || invalid(format!("claim '{path}' is neither an array of text nor text"));
    let mut groups: Vec<Arc<str>> = match claim(claims, path) {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.split_ascii_whitespace().map(Arc::from).collect(),
        Some(Value::Array(many)) => many
            .iter()
            .map(|one| {
                one.as_str()
                    .filter(|one| !one.is_empty())
                    .map(Arc::from)
                    .ok_or_else(wrong)
            })
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong()),
    };
    groups.sort_unstable();
    groups.dedup();
    Ok(groups.into())
}

pub(super) fn token_id(claims: &Map<String, Value>, token: &str) -> Arc<str> {
    match text(claims, "jti") {
        Some(id) if id.len() <= 256 => id,
        _ => {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
            hex::encode(&digest.as_ref()[..16]).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header as JwtHeader, jwk::Jwk};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    struct Rig {
        rules: Rules,
        keys: Keys,
        key: EncodingKey,
    }

    impl Rig {
        fn new() -> Self {
            let pair = rcgen::KeyPair::generate().unwrap();
            let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
            let mut jwk =
                serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
            jwk["kid"] = json!("k");
            Self {
                rules: Rules {
                    name: "i".into(),
                    issuer: "https://i.example".into(),
                    audience: "a".into(),
                    algorithms: vec![Algorithm::ES256],
                    groups_claim: "https://i.example/groups".into(),
                    required_claims: BTreeMap::new(),
                    skew: 10,
                },
                keys: Keys::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap(),
                key,
            }
        }

        fn token(&self, extra: &Value) -> String {
            let mut claims = json!({ "iss": "https://i.example", "aud": "a", "sub": "s", "exp": NOW + 60 });
            for (name, value) in extra.as_object().unwrap() {
                claims[name] = value.clone();
            }
            let mut header = JwtHeader::new(Algorithm::ES256);
            header.kid = Some("k".into());
            jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
        }

        fn verify(&self, token: &str, now: i64) -> Result<Identity, Reason> {
            verify(token, &self.rules, &self.keys, now).map_err(|failure| failure.reason)
        }
    }

    #[test]
    fn the_last_second() {
        let rig = Rig::new();
        let token = rig.token(&json!({ "nbf": NOW, "iat": NOW }));
        for (now, expected) in [
            (NOW - 11, Err(Reason::IdentityNotYetValid)),
            (NOW - 10, Ok(NOW + 60)),
            (NOW + 69, Ok(NOW + 60)),
            (NOW + 70, Err(Reason::IdentityExpired)),
        ] {
            assert_eq!(
                rig.verify(&token, now).map(|identity| identity.expires_at),
                expected,
                "{now}"
            );
        }
    }

    #[test]
    fn claims_named_by_a_url() {
        let rig = Rig::new();
        let identity = rig
            .verify(&rig.token(&json!({ "https://i.example/groups": ["g"] })), NOW)
            .unwrap();
        assert_eq!(*identity.groups, [Arc::from("g")]);
    }

    #[test]
    fn required_values_of_each_type() {
        let mut rig = Rig::new();
        for (value, expected, fits) in [
            (json!("x"), "x", true),
            (json!("X"), "x", false),
            (json!(["x"]), "x", false),
            (json!(7), "7", true),
            (json!(7.5), "7", false),
            (json!("7"), "7", true),
            (json!(true), "true", true),
            (json!(true), "1", false),
            (json!(null), "null", false),
        ] {
            rig.rules.required_claims = BTreeMap::from([("c".into(), expected.into())]);
            let result = rig.verify(&rig.token(&json!({ "c": value })), NOW);
            assert_eq!(result.is_ok(), fits, "{value} for {expected}");
        }
    }

    #[test]
    fn the_same_header_member_twice() {
        let rig = Rig::new();
        let token = rig.token(&json!({}));
        let rest = token.split_once('.').unwrap().1;
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","alg":"ES256","kid":"k"}"#);
        assert_eq!(
            rig.verify(&format!("{header}.{rest}"), NOW),
            Err(Reason::IdentityInvalid)
        );
    }

    proptest! {
        #[test]
        fn no_panic_on_anything(text in "\\PC{0,200}") {
            let rig = Rig::new();
            prop_assert!(rig.verify(&text, NOW).is_err());
        }

        #[test]
        fn no_panic_on_any_json(header in "[{}\\[\\]\":,a-z0-9]{0,60}", payload in "[{}\\[\\]\":,a-z0-9]{0,60}") {
            let rig = Rig::new();
            let token = format!("{}.{}.AAAA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
            prop_assert!(rig.verify(&token, NOW).is_err());
        }

        #[test]
        fn no_changed_byte_passes(at in any::<prop::sample::Index>(), byte in "[A-Za-z0-9_.-]") {
            let rig = Rig::new();
            let token = rig.token(&json!({}));
            let at = at.index(token.len());
            let mut changed = token.clone();
            changed.replace_range(at..=at, &byte);
            prop_assert_eq!(rig.verify(&changed, NOW).is_ok(), changed == token);
        }
    }
}
