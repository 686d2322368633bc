//! Cosignatures of witnesses (c2sp.org/tlog-cosignature), version 1: Ed25519 with a time.
//!
//! A signature line's value is the key's id, the time in seconds since 1970 UTC (64 bits, big endian) and the signature
//! over `cosignature/v1`, `time T` and the checkpoint's text. What it states: at that time, this was the largest
//! consistent tree that the witness had seen of the log.

use crate::ledger::note::{NoteError, parse_line, parse_vkey, show_vkey, verify};

/// The algorithm byte of such a key.
const COSIGNATURE: u8 = 4;
const ID: usize = 4;
const TIME: usize = 8;
const SIGNATURE: usize = 64;

/// A witness's public key with its name: `NAME+ID+BASE64(0x04 || public key)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    id: [u8; ID],
    public: [u8; 32],
}

impl WitnessKey {
    /// Reads the signed-note form.
    ///
    /// # Errors
    /// When the form, the algorithm or the id is another.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, public) = parse_vkey(text, COSIGNATURE)?;
        Ok(Self {
            name: name.into(),
            id,
            public,
        })
    }

    /// The witness's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a signature line (with or without its newline) says that it is by this key.
    #[must_use]
    pub fn claims(&self, line: &str) -> bool {
        parse_line(line.trim_end_matches('\n'))
            .is_ok_and(|(name, value)| name == self.name && value.starts_with(&self.id))
    }

    /// The time that a line by this key states; the signature is not checked.
    #[must_use]
    pub fn time(&self, line: &str) -> Option<u64> {
        let (name, value) = parse_line(line.trim_end_matches('\n')).ok()?;
        (name == self.name && value.starts_with(&self.id))
            .then(|| time_of(&value))
            .flatten()
    }

    /// The time (seconds since 1970 UTC) of this key's cosignature over a checkpoint's text.
    ///
    /// # Errors
    /// When the line is by another key, or wrong.
    pub fn open(&self, text: &str, line: &str) -> Result<u64, NoteError> {
        if !self.claims(line) {
            return Err(NoteError::NoSignature);
        }
        let (_, value) = parse_line(line.trim_end_matches('\n'))?;
        let time = time_of(&value).ok_or(NoteError::Signature)?;
        let message = format!("cosignature/v1\ntime {time}\n{text}");
        if verify(&self.public, message.as_bytes(), &value[ID + TIME..]) {
            Ok(time)
        } else {
            Err(NoteError::Signature)
        }
    }
}

/// The time in a value of the right length; zero is none.
fn time_of(value: &[u8]) -> Option<u64> {
    if value.len() != ID + TIME + SIGNATURE {
        return None;
    }
    let time = u64::from_be_bytes(value[ID..ID + TIME].try_into().ok()?);
    (1..=i64::MAX as u64).contains(&time).then_some(time)
}

impl std::fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&show_vkey(&self.name, COSIGNATURE, self.id, &self.public))
    }
}

/// A witness's key with its secret, for tests.
#[cfg(test)]
pub(crate) mod testing {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;
    use crate::ledger::note::{key_id, signature_line};

    pub(crate) struct Signer {
        pair: Ed25519KeyPair,
        pub(crate) key: WitnessKey,
    }

    impl Signer {
        pub(crate) fn new(name: &str, seed: u8) -> Self {
            let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
            let public: [u8; 32] = pair.public_key().as_ref().try_into().unwrap();
            let id = key_id(name, COSIGNATURE, &public);
            let name = name.into();
            Self {
                pair,
                key: WitnessKey { name, id, public },
            }
        }

        pub(crate) fn sign(&self, text: &str, time: u64) -> String {
            let message = format!("cosignature/v1\ntime {time}\n{text}");
            let mut value = self.key.id.to_vec();
            value.extend_from_slice(&time.to_be_bytes());
            value.extend_from_slice(self.pair.sign(message.as_bytes()).as_ref());
            signature_line(&self.key.name, &value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::Signer, *};

    const TEXT: &str = "portcullis/h\n7\nBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=\n";

    #[test]
    fn what_it_signs() {
        let witness = Signer::new("witness.example/w", 7);
        let key = WitnessKey::parse(&witness.key.to_string()).unwrap();
        assert_eq!(key, witness.key);
        let line = witness.sign(TEXT, 1_679_315_147);
        assert!(key.claims(&line));
        assert_eq!(key.open(TEXT, &line), Ok(1_679_315_147));
        assert_eq!(key.open(TEXT, line.trim_end()), Ok(1_679_315_147));
        assert_eq!(
            key.open(&TEXT.replace('7', "8"), &line),
            Err(NoteError::Signature)
        );
        assert_eq!(key.open(TEXT, &witness.sign(TEXT, 0)), Err(NoteError::Signature));
        let other = Signer::new("witness.example/w", 8);
        assert_eq!(other.key.open(TEXT, &line), Err(NoteError::NoSignature));
        for i in 0..line.len() {
            let mut bytes = line.as_bytes().to_vec();
            bytes[i] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(key.open(TEXT, &changed).is_err(), "byte {i}");
            }
        }
    }

    #[test]
    fn a_host_key_is_none() {
        let host = crate::ledger::note::HostKey::from_seed("h", zeroize::Zeroizing::new([1; 32])).unwrap();
        assert!(WitnessKey::parse(&host.verifier().to_string()).is_err());
    }

    /// The example of the specification; its key is not published, but its form is right.
    #[test]
    fn the_form_of_the_specification() {
        let line = "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==";
        let (name, value) = parse_line(line).unwrap();
        assert_eq!(
            (name, time_of(&value)),
            ("witness.example.com/w1", Some(1_679_315_147))
        );
    }
}
