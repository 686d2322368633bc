//! Secret text in answers.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A JSON string that is wiped when dropped. Without escapes it is copied once, straight from the answer.
pub(super) struct Text(pub Zeroizing<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);
        Ok(Self(Zeroizing::new(Borrowed::deserialize(d)?.0.into_owned())))
    }
}

/// What tells one secret from the next, and says nothing of either: 32 bits of a hash.
pub(super) fn fingerprint(secret: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret);
    hex::encode(digest.as_ref().get(..4).unwrap_or_default())
}
