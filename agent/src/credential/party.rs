//! Whose token it is: what was had for one subject is not for the next.

use std::sync::{Arc, Weak};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::material::WorkloadToken;

/// The subject of a token. Does not keep the token.
pub(super) struct Party {
    token: Weak<Zeroizing<String>>,
    digest: [u8; 32],
}

#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    iss: Option<&'a RawValue>,
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
    #[serde(borrow)]
    act: Option<&'a RawValue>,
}

impl Party {
    /// That of a token, which was verified by who gave it.
    pub(super) fn of(token: &WorkloadToken) -> Self {
        Self {
            token: Arc::downgrade(token),
            digest: digest(token),
        }
    }

    /// Whether it was made from just this token. The allocation is ours as long as we point to it, so that no other
    /// token can be in its place.
    pub(super) fn is_of(&self, token: &WorkloadToken) -> bool {
        std::ptr::eq(self.token.as_ptr(), Arc::as_ptr(token))
    }

    /// Whether it is the same subject.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

fn digest(token: &str) -> [u8; 32] {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let payload = token
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .map(Zeroizing::new);
    let claims = payload
        .as_ref()
        .and_then(|bytes| serde_json::from_slice::<Claims<'_>>(bytes).ok());
    match claims {
        Some(claims) => {
            for claim in [claims.iss, claims.sub, claims.act] {
                context.update(claim.map_or("", RawValue::get).as_bytes());
                context.update(&[0]);
            }
        }
        // Not a JWT: another token is another party.
        None => context.update(token.as_bytes()),
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> WorkloadToken {
        let payload = URL_SAFE_NO_PAD.encode(claims);
        Arc::new(Zeroizing::new(format!("e30.{payload}.sig")))
    }

    #[test]
    fn by_subject() {
        let first = token(r#"{"iss":"i","sub":"a","exp":1}"#);
        let party = Party::of(&first);
        assert!(party.is_of(&first));
        for (claims, same) in [
            (r#"{"iss":"i","sub":"a","exp":2}"#, true),
            (r#"{"iss":"i","sub":"b","exp":1}"#, false),
            (r#"{"iss":"j","sub":"a","exp":1}"#, false),
            (r#"{"iss":"i","sub":"a","act":{"sub":"x"}}"#, false),
        ] {
            let other = token(claims);
            assert!(!party.is_of(&other));
            assert_eq!(party.is_same(&Party::of(&other)), same, "{claims}");
        }
        let opaque = |text: &str| Party::of(&Arc::new(Zeroizing::new(text.to_owned())));
        assert!(!opaque("a").is_same(&opaque("b")) && opaque("a").is_same(&opaque("a")));
    }
}
