//! C2SP signed notes (c2sp.org/signed-note) with Ed25519, and the host key that signs them.
//!
//! A note is text that ends in a newline, an empty line, and signature lines `— NAME BASE64(id || signature)`. A
//! verifier key is `NAME+ID+BASE64(0x01 || public key)`, where ID is the first four bytes of
//! `SHA-256(NAME || 0x0A || 0x01 || public key)` in hex.

use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::tree::sha256;

const ED25519: u8 = 1;
/// What a signature line begins with.
const DASH: &str = "— ";
const PRIVATE: &str = "PRIVATE+KEY+";

/// Why a note or key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text is not a signed note.
    #[error("it is not a signed note")]
    Form,
    /// The text is not a key in the signed-note form.
    #[error("it is not a signed-note key")]
    KeyForm,
    /// The key's id is not that of its name and bytes.
    #[error("the key's id does not match the key")]
    KeyId,
    /// No signature line is by this key.
    #[error("there is no signature by this key")]
    NoSignature,
    /// A signature by this key is wrong.
    #[error("the signature is wrong")]
    Signature,
}

/// A public key with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: [u8; 32],
}

/// The id of a key: `SHA-256(NAME || 0x0A || algorithm || public key)[..4]`.
pub(super) fn key_id(name: &str, algorithm: u8, public: &[u8]) -> [u8; 4] {
    let hash = sha256(&[name.as_bytes(), &[b'\n', algorithm], public]);
    [hash[0], hash[1], hash[2], hash[3]]
}

/// Name, id and public key of the `NAME+ID+BASE64(algorithm || public key)` form, for a key of 32 bytes.
pub(super) fn parse_vkey(text: &str, algorithm: u8) -> Result<(&str, [u8; 4], [u8; 32]), NoteError> {
    let (name, rest) = text
        .trim_end_matches('\n')
        .split_once('+')
        .ok_or(NoteError::KeyForm)?;
    let (id, key) = rest.split_once('+').ok_or(NoteError::KeyForm)?;
    let key = STANDARD.decode(key).map_err(|_| NoteError::KeyForm)?;
    let public: [u8; 32] = match key.as_slice() {
        [first, public @ ..] if *first == algorithm => public.try_into().map_err(|_| NoteError::KeyForm)?,
        _ => return Err(NoteError::KeyForm),
    };
    if !valid_name(name) {
        return Err(NoteError::KeyForm);
    }
    let expected = key_id(name, algorithm, &public);
    if id == hex::encode(expected) {
        Ok((name, expected, public))
    } else {
        Err(NoteError::KeyId)
    }
}

/// The `NAME+ID+BASE64(algorithm || public key)` form.
pub(super) fn show_vkey(name: &str, algorithm: u8, id: [u8; 4], public: &[u8]) -> String {
    let key = [&[algorithm], public].concat();
    format!("{name}+{}+{}", hex::encode(id), STANDARD.encode(key))
}

/// A signature line, with its newline: the value is `id || signature`.
pub(super) fn signature_line(name: &str, value: &[u8]) -> String {
    format!("{DASH}{name} {}\n", STANDARD.encode(value))
}

/// The name and the value (`id || signature`) of a signature line without its newline.
pub(super) fn parse_line(line: &str) -> Result<(&str, Vec<u8>), NoteError> {
    let (name, value) = line
        .strip_prefix(DASH)
        .and_then(|l| l.split_once(' '))
        .ok_or(NoteError::Form)?;
    let value = STANDARD.decode(value).map_err(|_| NoteError::Form)?;
    if valid_name(name) && value.len() > 4 {
        Ok((name, value))
    } else {
        Err(NoteError::Form)
    }
}

/// Whether an Ed25519 signature is right.
pub(super) fn verify(public: &[u8; 32], message: &[u8], value: &[u8]) -> bool {
    UnparsedPublicKey::new(&signature::ED25519, public)
        .verify(message, value)
        .is_ok()
}

fn valid_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

impl VerifierKey {
    /// Reads the `NAME+ID+BASE64` form.
    ///
    /// # Errors
    /// When the form or the id is wrong.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, id, public) = parse_vkey(text, ED25519)?;
        Ok(Self {
            name: name.into(),
            id,
            public,
        })
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note, if it carries a right signature by this key. Other signatures (of witnesses) are passed
    /// over.
    ///
    /// # Errors
    /// When it is no note, or has no signature by this key, or a wrong one.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = split(note)?;
        let mut found = false;
        for line in signatures.lines() {
            let (name, value) = parse_line(line)?;
            if name != self.name || !value.starts_with(&self.id) {
                continue;
            }
            if !verify(&self.public, text.as_bytes(), &value[4..]) {
                return Err(NoteError::Signature);
            }
            found = true;
        }
        if found {
            Ok(text)
        } else {
            Err(NoteError::NoSignature)
        }
    }
}

impl std::fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&show_vkey(&self.name, ED25519, self.id, &self.public))
    }
}

/// A note's text (with its newline) and its signature lines.
pub(super) fn split(note: &str) -> Result<(&str, &str), NoteError> {
    let at = note.rfind("\n\n").ok_or(NoteError::Form)?;
    let (text, signatures) = (&note[..=at], &note[at + 2..]);
    let control = |c: char| c.is_control() && c != '\n';
    if signatures.is_empty() || !signatures.ends_with('\n') || note.contains(control) {
        return Err(NoteError::Form);
    }
    Ok((text, signatures))
}

/// The host's signing key.
pub struct HostKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
    seed: Zeroizing<[u8; 32]>,
}

impl HostKey {
    /// A key from its seed; `None` for a name that the note form cannot carry.
    #[must_use]
    pub fn from_seed(name: &str, seed: Zeroizing<[u8; 32]>) -> Option<Self> {
        if !valid_name(name) {
            return None;
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed).ok()?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().ok()?;
        let verifier = VerifierKey {
            name: name.into(),
            id: key_id(name, ED25519, &public),
            public,
        };
        Some(Self { pair, verifier, seed })
    }

    /// Reads the `PRIVATE+KEY+NAME+ID+BASE64(0x01 || seed)` form.
    ///
    /// # Errors
    /// When the form or the id is wrong.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let rest = text.trim_end().strip_prefix(PRIVATE).ok_or(NoteError::KeyForm)?;
        let (name, rest) = rest.split_once('+').ok_or(NoteError::KeyForm)?;
        let (id, key) = rest.split_once('+').ok_or(NoteError::KeyForm)?;
        let key = Zeroizing::new(STANDARD.decode(key).map_err(|_| NoteError::KeyForm)?);
        let [ED25519, seed @ ..] = key.as_slice() else {
            return Err(NoteError::KeyForm);
        };
        let seed = Zeroizing::new(<[u8; 32]>::try_from(seed).map_err(|_| NoteError::KeyForm)?);
        let key = Self::from_seed(name, seed).ok_or(NoteError::KeyForm)?;
        if hex::encode(key.verifier.id) == id {
            Ok(key)
        } else {
            Err(NoteError::KeyId)
        }
    }

    /// The form that [`Self::parse`] reads: a secret.
    #[must_use]
    pub fn to_secret(&self) -> Zeroizing<String> {
        let mut key = Zeroizing::new(vec![ED25519]);
        key.extend_from_slice(&*self.seed);
        let encoded = Zeroizing::new(STANDARD.encode(&*key));
        Zeroizing::new(format!(
            "{PRIVATE}{}+{}+{}\n",
            self.verifier.name,
            hex::encode(self.verifier.id),
            &*encoded
        ))
    }

    /// Its public half.
    #[must_use]
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs a text that ends in a newline, giving the whole note.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        format!("{text}\n{}", self.line(text))
    }

    /// The signature line for such a text, for a note by several keys.
    pub(super) fn line(&self, text: &str) -> String {
        let mut value = self.verifier.id.to_vec();
        value.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        signature_line(&self.verifier.name, &value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and note of the reference implementation's documentation (golang.org/x/mod/sumdb/note).
    const PUBLIC: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const SECRET: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const TEXT: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn reference_vector() {
        let key = HostKey::parse(SECRET).unwrap();
        assert_eq!(key.verifier().to_string(), PUBLIC);
        assert_eq!(key.sign(TEXT), NOTE);
        assert_eq!(&**key.to_secret(), &format!("{SECRET}\n"));
        assert_eq!(VerifierKey::parse(PUBLIC).unwrap().open(NOTE), Ok(TEXT));
    }

    #[test]
    fn every_changed_byte_is_refused() {
        let key = VerifierKey::parse(PUBLIC).unwrap();
        for i in 0..NOTE.len() {
            for flip in [1u8, 0x20, 0x80] {
                let mut bytes = NOTE.as_bytes().to_vec();
                bytes[i] ^= flip;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(key.open(&changed).is_err(), "byte {i}");
                }
            }
        }
        for i in 0..PUBLIC.len() {
            let mut bytes = PUBLIC.as_bytes().to_vec();
            bytes[i] ^= 1;
            assert!(
                VerifierKey::parse(&String::from_utf8(bytes).unwrap()).is_err(),
                "byte {i}"
            );
        }
    }

    #[test]
    fn witnesses_are_passed_over() {
        let key = VerifierKey::parse(PUBLIC).unwrap();
        let more = format!("{NOTE}— witness.example/w {}\n", STANDARD.encode([7; 76]));
        assert_eq!(key.open(&more), Ok(TEXT));
        let seed = Zeroizing::new([3; 32]);
        let other = HostKey::from_seed("PeterNeumann", seed).unwrap();
        assert_eq!(key.open(&other.sign(TEXT)), Err(NoteError::NoSignature));
        assert!(HostKey::from_seed("a b", Zeroizing::new([3; 32])).is_none());
        assert_eq!(key.open("x\n"), Err(NoteError::Form));
    }
}
