//! An ID token (OpenID Connect Core 1.0 section 3.1.3.7) as a human's sign-in.

use std::sync::Arc;

use aws_lc_rs::constant_time;
use serde_json::{Map, Value};

use crate::{
    identity::{
        jwks::Keys,
        verify::{self, Failure, Rules, invalid},
    },
    model::{Approver, Reason},
};

/// Characters of a subject (OpenID Connect Core 1.0 section 2) and of a name.
const MAX_NAME: usize = 255;

/// What a sign-in must be like, beyond being the issuer's and the client's.
pub struct Expected<'a> {
    /// How the human was reached.
    pub via: &'static str,
    /// What was sent along, where a browser was sent.
    pub nonce: Option<&'a str>,
    /// Seconds that it may be old.
    pub max_age: i64,
}

/// Verifies an ID token. `rules.audience` is the client.
///
/// # Errors
/// The first thing that is wrong.
pub fn approver(
    token: &str,
    rules: &Rules,
    keys: &Keys,
    now: i64,
    expected: &Expected<'_>,
) -> Result<Approver, Failure> {
    let verified = verify::check(token, rules, keys, now)?;
    let claims = &verified.claims;
    // An access token for this client would pass the audience; it says what may be done, not that a human is there.
    if verified.typ == "at+jwt" {
        return Err(invalid("the token is an access token, not an ID token"));
    }
    check_kind(claims)?;
    check_party(claims, &rules.audience)?;
    if let Some(nonce) = expected.nonce {
        let found = claims.get("nonce").and_then(Value::as_str).unwrap_or_default();
        if constant_time::verify_slices_are_equal(found.as_bytes(), nonce.as_bytes()).is_err() {
            return Err(invalid("nonce is not the one that was sent"));
        }
    }
    let issued_at = verified.issued_at.ok_or_else(|| invalid("iat is missing"))?;
    let authenticated_at = verify::date(claims, "auth_time")?.unwrap_or(issued_at);
    if authenticated_at > now + rules.skew {
        return Err(Failure::new(
            Reason::IdentityNotYetValid,
            "auth_time is in the future",
        ));
    }
    // No skew here: it is our own bound, and errs to the safe side.
    if now.saturating_sub(authenticated_at) > expected.max_age {
        return Err(Failure::new(
            Reason::IdentityExpired,
            "the sign-in is too old to answer with: sign in again",
        ));
    }
    let subject = verify::text(claims, "sub").ok_or_else(|| invalid("sub is missing"))?;
    if subject.chars().count() > MAX_NAME {
        return Err(invalid("sub is longer than 255 characters"));
    }
    Ok(Approver {
        issuer: Arc::clone(&rules.issuer),
        name: name(claims).unwrap_or_else(|| Arc::clone(&subject)),
        subject,
        groups: verify::groups(claims, &rules.groups_claim)?,
        token_id: verify::token_id(claims, token),
        via: expected.via,
        authenticated_at,
        expires_at: verified.expires_at,
    })
}

/// Refuses what issuers sign that is no sign-in, though it may look like one.
fn check_kind(claims: &Map<String, Value>) -> Result<(), Failure> {
    if claims.contains_key("act") {
        return Err(invalid(
            "the token was delegated (act): an approver speaks for themself",
        ));
    }
    if claims.contains_key("events") {
        return Err(invalid("the token is a security event, not an ID token"));
    }
    // Keycloak says in the payload what others say in the header.
    match claims.get("typ").and_then(Value::as_str) {
        Some("Bearer" | "DPoP" | "Refresh" | "Offline" | "Logout") => {
            Err(invalid("the token is not an ID token (claim typ)"))
        }
        _ => Ok(()),
    }
}

/// Several audiences need `azp`, and where it is it must be this client (rules 3, 4 and 5).
fn check_party(claims: &Map<String, Value>, client: &str) -> Result<(), Failure> {
    let several = claims
        .get("aud")
        .and_then(Value::as_array)
        .is_some_and(|all| all.len() > 1);
    match claims.get("azp") {
        None if several => Err(invalid("azp is missing, and the token has several audiences")),
        None => Ok(()),
        Some(azp) if azp.as_str() == Some(client) => Ok(()),
        Some(_) => Err(Failure::new(
            Reason::IdentityWrongAudience,
            "azp is not the configured client",
        )),
    }
}

fn name(claims: &Map<String, Value>) -> Option<Arc<str>> {
    let found = ["name", "preferred_username", "email"]
        .iter()
        .find_map(|claim| verify::text(claims, claim))?;
    Some(found.chars().take(MAX_NAME).collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
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
            let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
            let mut jwk = serde_json::to_value(jwk).unwrap();
            jwk["kid"] = json!("k");
            Self {
                rules: Rules {
                    name: "i".into(),
                    issuer: "https://i.example".into(),
                    audience: "console".into(),
                    algorithms: vec![Algorithm::ES256],
                    groups_claim: "groups".into(),
                    required_claims: BTreeMap::new(),
                    skew: 10,
                },
                keys: Keys::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap(),
                key,
            }
        }

        /// What comes of a token with these claims laid over the usual ones; `null` takes one away.
        fn said(&self, typ: &str, extra: &Value, nonce: Option<&str>) -> Result<Approver, Reason> {
            let mut claims = json!({
                "iss": "https://i.example", "aud": "console", "sub": "u1", "iat": NOW - 5, "exp": NOW + 60,
                "name": "Ada", "groups": ["dba"], "nonce": "n1",
            });
            for (name, value) in extra.as_object().unwrap() {
                claims[name] = value.clone();
                if value.is_null() {
                    claims.as_object_mut().unwrap().remove(name);
                }
            }
            let mut header = Header::new(Algorithm::ES256);
            header.kid = Some("k".into());
            header.typ = Some(typ.into());
            let token = jsonwebtoken::encode(&header, &claims, &self.key).unwrap();
            let expected = Expected {
                via: "cli",
                nonce,
                max_age: 600,
            };
            approver(&token, &self.rules, &self.keys, NOW, &expected).map_err(|f| f.reason)
        }
    }

    #[test]
    fn a_sign_in() {
        let said = Rig::new().said("JWT", &json!({}), Some("n1")).unwrap();
        assert_eq!((&*said.subject, &*said.name, said.via), ("u1", "Ada", "cli"));
        assert_eq!(*said.groups, [Arc::from("dba")]);
        assert_eq!(said.authenticated_at, NOW - 5);
    }

    #[test]
    fn what_is_none() {
        let rig = Rig::new();
        for (extra, reason) in [
            (json!({ "aud": "portcullis" }), Reason::IdentityWrongAudience),
            (json!({ "aud": ["console", "x"] }), Reason::IdentityInvalid),
            (
                json!({ "aud": ["console", "x"], "azp": "x" }),
                Reason::IdentityWrongAudience,
            ),
            (json!({ "azp": "x" }), Reason::IdentityWrongAudience),
            (json!({ "azp": 7 }), Reason::IdentityWrongAudience),
            (json!({ "act": { "sub": "bot" } }), Reason::IdentityInvalid),
            (json!({ "events": {} }), Reason::IdentityInvalid),
            (json!({ "typ": "Bearer" }), Reason::IdentityInvalid),
            (json!({ "iat": null }), Reason::IdentityInvalid),
            (json!({ "sub": null }), Reason::IdentityInvalid),
            (json!({ "sub": "x".repeat(300) }), Reason::IdentityInvalid),
            (json!({ "iat": NOW - 601 }), Reason::IdentityExpired),
            (json!({ "auth_time": NOW - 601 }), Reason::IdentityExpired),
            (json!({ "auth_time": "1" }), Reason::IdentityInvalid),
            (json!({ "auth_time": NOW + 60 }), Reason::IdentityNotYetValid),
            (json!({ "exp": NOW - 60 }), Reason::IdentityExpired),
            (json!({ "groups": { "a": 1 } }), Reason::IdentityInvalid),
        ] {
            assert_eq!(rig.said("JWT", &extra, None).unwrap_err(), reason, "{extra}");
        }
        assert_eq!(rig.said("at+jwt", &json!({}), None), Err(Reason::IdentityInvalid));
        assert_eq!(
            rig.said("JWT", &json!({}), Some("n2")),
            Err(Reason::IdentityInvalid)
        );
        let without = json!({ "nonce": null });
        assert_eq!(
            rig.said("JWT", &without, Some("n1")),
            Err(Reason::IdentityInvalid)
        );
        let both = json!({ "aud": ["console", "x"], "azp": "console", "auth_time": NOW - 600 });
        assert_eq!(rig.said("JWT", &both, None).unwrap().authenticated_at, NOW - 600);
    }
}
