//! Whether Slack sent it: HMAC-SHA256 over version, time and body.

use std::collections::{BTreeMap, HashSet};

use aws_lc_rs::hmac;

/// Seconds that a request may be away from now.
const WINDOW: i64 = 300;
/// Signatures that are remembered; more of them in ten minutes are not humans clicking.
const MAX_SEEN: usize = 10_000;

/// Why it is not Slack's, or not now.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// Headers are missing or cannot be read.
    #[error("the signature's headers are missing")]
    Form,
    /// Too old, or from the future.
    #[error("the request is more than five minutes old, or ahead")]
    Time,
    /// Somebody else's, or another body's.
    #[error("the signature is wrong")]
    Signature,
    /// It was here before.
    #[error("the request was sent before")]
    Replay,
    /// Too many at once to tell a replay.
    #[error("too many requests")]
    Flood,
    /// The agent cannot read its own secret.
    #[error("the signing secret cannot be had")]
    NoSecret,
}

/// Checks a request's signature at `now`.
///
/// # Errors
/// When it is not Slack's, or not now.
pub fn verify(secret: &[u8], at: &str, signature: &str, body: &[u8], now: i64) -> Result<(), Wrong> {
    let given = signature.strip_prefix("v0=").ok_or(Wrong::Form)?;
    let given = hex::decode(given).map_err(|_| Wrong::Form)?;
    let seconds: i64 = at.parse().map_err(|_| Wrong::Form)?;
    if !at.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Wrong::Form);
    }
    if now.abs_diff(seconds) > WINDOW.unsigned_abs() {
        return Err(Wrong::Time);
    }
    let mut signed = Vec::with_capacity(body.len() + 32);
    signed.extend_from_slice(b"v0:");
    signed.extend_from_slice(at.as_bytes());
    signed.push(b':');
    signed.extend_from_slice(body);
    // An empty key would let everybody sign.
    if secret.is_empty() {
        return Err(Wrong::NoSecret);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    // In constant time.
    hmac::verify(&key, &signed, &given).map_err(|_| Wrong::Signature)
}

/// Signatures that were seen within the window, on both of its sides.
#[derive(Default)]
pub struct Replays {
    seen: HashSet<String>,
    by_time: BTreeMap<i64, Vec<String>>,
}

impl Replays {
    /// Whether a verified signature is here for the first time.
    ///
    /// # Errors
    /// When it was here before, or too many were to remember one more.
    pub fn first_time(&mut self, signature: &str, now: i64) -> Result<(), Wrong> {
        let young = self.by_time.split_off(&(now - 2 * WINDOW));
        for old in std::mem::replace(&mut self.by_time, young)
            .into_values()
            .flatten()
        {
            self.seen.remove(&old);
        }
        let signature = signature.to_ascii_lowercase();
        if self.seen.contains(&signature) {
            return Err(Wrong::Replay);
        }
        if self.seen.len() >= MAX_SEEN {
            return Err(Wrong::Flood);
        }
        self.seen.insert(signature.clone());
        self.by_time.entry(now).or_default().push(signature);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Slack's documentation.
    const SECRET: &[u8] = b"8f742231b10e8888abcd99yyyzzz85a5";
    const BODY: &[u8] = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    const SIGNED: &str = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503";
    const AT: i64 = 1_531_420_618;

    #[test]
    fn slacks_own_example() {
        let said = |at: &str, signed: &str, body: &[u8], now| verify(SECRET, at, signed, body, now);
        assert_eq!(said("1531420618", SIGNED, BODY, AT), Ok(()));
        assert_eq!(said("1531420618", SIGNED, BODY, AT + 300), Ok(()));
        assert_eq!(said("1531420618", SIGNED, BODY, AT + 301), Err(Wrong::Time));
        assert_eq!(said("1531420618", SIGNED, BODY, AT - 301), Err(Wrong::Time));
        assert_eq!(said("1531420619", SIGNED, BODY, AT), Err(Wrong::Signature));
        assert_eq!(said("+1531420618", SIGNED, BODY, AT), Err(Wrong::Form));
        assert_eq!(said("1531420618", SIGNED, b"x", AT), Err(Wrong::Signature));
        assert_eq!(said("1531420618", &SIGNED[3..], BODY, AT), Err(Wrong::Form));
        assert_eq!(said("1531420618", "v0=", BODY, AT), Err(Wrong::Signature));
        assert_eq!(verify(b"", "1531420618", SIGNED, BODY, AT), Err(Wrong::NoSecret));
    }

    #[test]
    fn once_only() {
        let mut seen = Replays::default();
        assert_eq!(seen.first_time("v0=a", 0), Ok(()));
        assert_eq!(seen.first_time("v0=A", 500), Err(Wrong::Replay));
        for n in 1..MAX_SEEN {
            seen.first_time(&format!("v0={n}"), 10).unwrap();
        }
        assert_eq!(seen.first_time("v0=b", 11), Err(Wrong::Flood));
        // Those of before have become too old to be accepted anyway.
        assert_eq!(seen.first_time("v0=b", 611), Ok(()));
        assert_eq!(seen.seen.len(), 1);
    }
}
