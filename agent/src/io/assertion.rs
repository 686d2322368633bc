//! `private_key_jwt`: a client shows who it is by signing (RFC 7523 section 2.2).

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use zeroize::Zeroizing;

/// Seconds that an assertion lives: used once, at once.
const LIFE: i64 = 60;

/// What says that a `client_assertion` is such a one.
pub const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
    jti: String,
}

/// A text is no private key that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a private key of type RSA, P-256, P-384 or Ed25519 in PKCS#8 PEM")]
pub struct NoKey;

/// Signs an assertion with a private key in PKCS#8 PEM, the algorithm by the key's type: RSA, P-256, P-384, Ed25519.
///
/// # Errors
/// When the key cannot be read or does not sign.
pub fn sign(
    pem: &str,
    key_id: Option<&str>,
    client: &str,
    audience: &str,
    accepted: Option<&[String]>,
    now: i64,
) -> Result<Zeroizing<String>, NoKey> {
    let claims = Claims {
        iss: client,
        sub: client,
        aud: audience,
        iat: now,
        exp: now + LIFE,
        jti: uuid::Uuid::now_v7().to_string(),
    };
    for (algorithm, key) in candidates(pem, accepted) {
        let mut header = Header::new(algorithm);
        header.kid = key_id.map(str::to_owned);
        // A P-384 key does not sign ES256: the curve shows in which one works.
        if let Ok(signed) = jsonwebtoken::encode(&header, &claims, &key) {
            return Ok(Zeroizing::new(signed));
        }
    }
    Err(NoKey)
}

fn candidates(pem: &str, accepted: Option<&[String]>) -> Vec<(Algorithm, EncodingKey)> {
    let pem = pem.as_bytes();
    let accepts = |word: &str| accepted.is_none_or(|all| all.iter().any(|one| one == word));
    if let Ok(key) = EncodingKey::from_rsa_pem(pem) {
        let algorithm = if !accepts("RS256") && accepts("PS256") {
            Algorithm::PS256
        } else {
            Algorithm::RS256
        };
        return vec![(algorithm, key)];
    }
    if let Ok(key) = EncodingKey::from_ec_pem(pem) {
        return vec![(Algorithm::ES256, key.clone()), (Algorithm::ES384, key)];
    }
    EncodingKey::from_ed_pem(pem)
        .map(|key| vec![(Algorithm::EdDSA, key)])
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_key_type() {
        for (kind, expected) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Algorithm::ES384),
            (&rcgen::PKCS_ED25519, Algorithm::EdDSA),
            (&rcgen::PKCS_RSA_SHA256, Algorithm::RS256),
        ] {
            let pem = rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem();
            let signed = sign(&pem, Some("k1"), "c", "a", None, 1000).unwrap();
            let header = jsonwebtoken::decode_header(signed.as_bytes()).unwrap();
            assert_eq!((header.alg, header.kid.as_deref()), (expected, Some("k1")));
        }
        let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)
            .unwrap()
            .serialize_pem();
        let signed = sign(&rsa, None, "c", "a", Some(&["PS256".into()]), 1000).unwrap();
        assert_eq!(
            jsonwebtoken::decode_header(signed.as_bytes()).unwrap().alg,
            Algorithm::PS256
        );
        assert!(sign("nonsense", None, "c", "a", None, 0).is_err());
    }
}
