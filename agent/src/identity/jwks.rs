//! An issuer's public keys (RFC 7517), and which of them may verify which algorithm.
//!
//! A key that cannot be used here is left out rather than failing the set: issuers publish encryption keys, old
//! curves and keys of types to come beside the one that signed. Symmetric keys (`oct`) never get in, so that no
//! token can be verified with something the issuer meant to be public.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// More keys than this are not an issuer's.
const MAX_KEYS: usize = 64;

/// The keys of one issuer, as fetched at one time.
#[derive(Debug, Default)]
pub struct Keys(Vec<Key>);

/// One key that may verify signatures.
#[derive(Debug)]
pub struct Key {
    /// `kid`; empty where the issuer gave none.
    pub id: String,
    kind: Kind,
    /// `alg`, where the issuer pins the key to one.
    pinned: Option<Algorithm>,
    /// The key itself.
    pub decoding: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

/// Why no key was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Missing {
    /// No key has the token's `kid`, or it has none and more than one key would do.
    Unknown,
    /// The key with that `kid` is not for the token's algorithm.
    OtherAlgorithm,
}

impl Keys {
    /// Reads a JWK set.
    ///
    /// # Errors
    /// When it is not one, or has more than 64 keys.
    pub fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let set: Set = serde_json::from_slice(bytes).map_err(|_| "the key set is not a JWK set")?;
        if set.keys.len() > MAX_KEYS {
            return Err("the key set has more than 64 keys");
        }
        Ok(Self(set.keys.into_iter().filter_map(usable).collect()))
    }

    /// Whether there is any key that can be used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key for a token with this header.
    ///
    /// # Errors
    /// When there is none, or it is not for that algorithm.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<&Key, Missing> {
        let Some(kid) = kid else {
            let mut fitting = self.0.iter().filter(|key| key.verifies(algorithm));
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Ok(key),
                _ => Err(Missing::Unknown),
            };
        };
        let mut named = self.0.iter().filter(|key| key.id == kid).peekable();
        if named.peek().is_none() {
            return Err(Missing::Unknown);
        }
        named
            .find(|key| key.verifies(algorithm))
            .ok_or(Missing::OtherAlgorithm)
    }
}

impl Key {
    /// Whether the key's type, and the algorithm it is pinned to, fit.
    fn verifies(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        let fits = match self.kind {
            Kind::Rsa => matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512),
            Kind::P256 => algorithm == ES256,
            Kind::P384 => algorithm == ES384,
            Kind::Ed25519 => algorithm == EdDSA,
        };
        fits && self.pinned.is_none_or(|pinned| pinned == algorithm)
    }
}

fn usable(value: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
        return None;
    }
    if jwk
        .key_ops
        .is_some_and(|ops| !ops.iter().any(|op| op == "verify"))
    {
        return None;
    }
    // `Ed25519` is the name that RFC 9864 gives to EdDSA over that curve.
    let pinned = match jwk.alg.as_deref() {
        None => None,
        Some("Ed25519") => Some(Algorithm::EdDSA),
        Some(name) => Some(name.parse().ok()?),
    };
    let (kind, decoding) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => (Kind::Rsa, DecodingKey::from_rsa_components(&jwk.n?, &jwk.e?)),
        ("EC", Some("P-256")) => (Kind::P256, DecodingKey::from_ec_components(&jwk.x?, &jwk.y?)),
        ("EC", Some("P-384")) => (Kind::P384, DecodingKey::from_ec_components(&jwk.x?, &jwk.y?)),
        ("OKP", Some("Ed25519")) => (Kind::Ed25519, DecodingKey::from_ed_components(&jwk.x?)),
        _ => return None,
    };
    Some(Key {
        id: jwk.kid,
        kind,
        pinned,
        decoding: decoding.ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EC: &str = r#"{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

    fn find(set: &str, kid: Option<&str>, algorithm: Algorithm) -> Result<String, Missing> {
        let keys = Keys::parse(set.as_bytes()).unwrap();
        keys.find(kid, algorithm).map(|key| key.id.clone())
    }

    #[test]
    fn by_kid_and_type() {
        let set = format!("{{\"keys\":[{EC}]}}");
        assert_eq!(find(&set, Some("a"), Algorithm::ES256), Ok("a".into()));
        assert_eq!(find(&set, None, Algorithm::ES256), Ok("a".into()));
        assert_eq!(find(&set, Some("b"), Algorithm::ES256), Err(Missing::Unknown));
        assert_eq!(
            find(&set, Some("a"), Algorithm::RS256),
            Err(Missing::OtherAlgorithm)
        );
        assert_eq!(
            find(&set, Some("a"), Algorithm::HS256),
            Err(Missing::OtherAlgorithm)
        );
    }

    #[test]
    fn unusable_keys_are_left_out() {
        for bad in [
            r#"{"kty":"oct","kid":"a","k":"c2VjcmV0"}"#.to_owned(),
            EC.replace("\"kid\"", "\"use\":\"enc\",\"kid\""),
            EC.replace("\"kid\"", "\"key_ops\":[\"sign\"],\"kid\""),
            EC.replace("\"kid\"", "\"alg\":\"ECDH-ES\",\"kid\""),
            EC.replace("P-256", "secp256k1"),
            r#"{"kty":7}"#.into(),
            "3".into(),
        ] {
            assert!(
                Keys::parse(format!("{{\"keys\":[{bad}]}}").as_bytes())
                    .unwrap()
                    .is_empty(),
                "{bad}"
            );
        }
        let pinned = EC.replace("\"kid\"", "\"alg\":\"ES384\",\"kid\"");
        assert_eq!(
            find(&format!("{{\"keys\":[{pinned}]}}"), Some("a"), Algorithm::ES256),
            Err(Missing::OtherAlgorithm)
        );
    }

    #[test]
    fn two_keys_without_kid_are_ambiguous() {
        let set = format!("{{\"keys\":[{EC},{}]}}", EC.replace("\"a\"", "\"b\""));
        assert_eq!(find(&set, None, Algorithm::ES256), Err(Missing::Unknown));
        assert_eq!(find(&set, Some("b"), Algorithm::ES256), Ok("b".into()));
    }

    #[test]
    fn too_many_keys() {
        let set = format!("{{\"keys\":[{}]}}", vec![EC; 65].join(","));
        assert!(Keys::parse(set.as_bytes()).is_err());
    }
}
