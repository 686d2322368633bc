//! What signs: HMAC keys derived from the secret key (SigV4), or an ECDSA key derived from it (SigV4A).

use aws_lc_rs::{
    agreement,
    digest::{SHA256, digest},
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use zeroize::Zeroizing;

use super::SignError;
use crate::credential::AwsKeys;

/// The number of keys that SigV4A may try; one in 2^32 is not in the curve's range.
const TRIES: u8 = 254;
/// The order of P-256 less two.
const ORDER_LESS_TWO: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
    0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x4f,
];

/// A key for one day, region and service (SigV4), or for all of them (SigV4A).
pub enum Key {
    /// HMAC-SHA256.
    Hmac(Box<hmac::Key>),
    /// ECDSA on P-256.
    Ecdsa(Box<EcdsaKeyPair>),
}

impl Key {
    /// The key of SigV4.
    pub fn symmetric(keys: &AwsKeys, day: &str, region: &str, service: &str) -> Self {
        let secret = keys.secret_access_key.expose();
        let mut start = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
        start.extend_from_slice(b"AWS4");
        start.extend_from_slice(secret);
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, &start);
        for part in [day, region, service, "aws4_request"] {
            let mut next = Zeroizing::new([0u8; 32]);
            next.copy_from_slice(hmac::sign(&key, part.as_bytes()).as_ref());
            key = hmac::Key::new(hmac::HMAC_SHA256, &*next);
        }
        Self::Hmac(Box::new(key))
    }

    /// The key of SigV4A: a number below the curve's order, drawn by HMAC (SP 800-108 in counter mode).
    pub fn asymmetric(keys: &AwsKeys) -> Result<Self, SignError> {
        let secret = keys.secret_access_key.expose();
        let mut start = Zeroizing::new(Vec::with_capacity(5 + secret.len()));
        start.extend_from_slice(b"AWS4A");
        start.extend_from_slice(secret);
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &start);
        for counter in 1..=TRIES {
            let mut input = Vec::new();
            input.extend_from_slice(&1u32.to_be_bytes());
            input.extend_from_slice(b"AWS4-ECDSA-P256-SHA256\0");
            input.extend_from_slice(keys.access_key_id.as_bytes());
            input.push(counter);
            input.extend_from_slice(&256u32.to_be_bytes());
            let mut number = Zeroizing::new([0u8; 32]);
            number.copy_from_slice(hmac::sign(&mac, &input).as_ref());
            if *number > ORDER_LESS_TWO {
                continue;
            }
            add_one(&mut number);
            return pair(&number).map(|pair| Self::Ecdsa(Box::new(pair)));
        }
        Err(SignError::Keys)
    }

    /// A signature in hexadecimal.
    pub fn sign(&self, text: &[u8]) -> Result<String, SignError> {
        match self {
            Self::Hmac(key) => Ok(hex::encode(hmac::sign(key, text))),
            Self::Ecdsa(pair) => {
                let signature = pair
                    .sign(&SystemRandom::new(), text)
                    .map_err(|_| SignError::Keys)?;
                Ok(hex::encode(signature))
            }
        }
    }
}

fn add_one(number: &mut [u8; 32]) {
    for byte in number.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            return;
        }
    }
}

/// The pair of a private number. Its public half is what key agreement computes of it.
fn pair(number: &[u8; 32]) -> Result<EcdsaKeyPair, SignError> {
    let private = agreement::PrivateKey::from_private_key(&agreement::ECDH_P256, number)
        .map_err(|_| SignError::Keys)?;
    let public = private.compute_public_key().map_err(|_| SignError::Keys)?;
    EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_ASN1_SIGNING, number, public.as_ref())
        .map_err(|_| SignError::Keys)
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}
