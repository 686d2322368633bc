//! Verification of a single disclosed entry.

use super::{
    super::{
        canonical,
        checkpoint::Checkpoint,
        disclose::{Disclosure, FORMAT},
        note::{NoteError, VerifierKey, split},
        succession::Succession,
        tree::{Hash, leaf_hash, verify_inclusion},
    },
    Checks,
    timestamps::{Stamp, check_token},
};
use crate::model::Rfc3339;

/// The most bytes that a disclosure has: an entry of the largest size, written as JSON.
pub const DISCLOSURE_MAX: u64 = 16 << 20;

/// Why a disclosure proves nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DisclosureFlaw {
    /// It is not of the documented form.
    #[error("it is no disclosure: {why}")]
    Form {
        /// What is wrong with it.
        why: String,
    },
    /// The entry is not canonical JSON, as every entry is.
    #[error("the entry's body is not canonical: {0}")]
    Canonical(canonical::Flaw),
    /// A key or a statement of succession.
    #[error("its key '{key}': {what}")]
    Key {
        /// The key.
        key: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The checkpoint.
    #[error("its checkpoint: {0}")]
    Checkpoint(NoteError),
    /// The proof.
    #[error(
        "the entry is not at this place of the tree that the checkpoint signs: entry, salt, place or proof was changed"
    )]
    Proof,
    /// A cosignature.
    #[error("the cosignature of witness {0} is wrong")]
    Witness(String),
    /// A witness that was asked for.
    #[error("there is no cosignature by the witness {0}")]
    Unwitnessed(String),
    /// A timestamp.
    #[error("a timestamp: {0}")]
    Timestamp(#[from] super::super::timestamp::TokenFlaw),
    /// A timestamp that was asked for.
    #[error("there is no timestamp")]
    Untimed,
}

/// What a disclosure proves.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Disclosed {
    /// The entry's place.
    pub seq: u64,
    /// The entry.
    pub entry: serde_json::Value,
    /// Whose ledger it is.
    pub origin: String,
    /// The size of the tree that proves it.
    pub size: u64,
    /// The key that signed that.
    pub signed_by: String,
    /// Whether the key was given from outside.
    pub key_given: bool,
    /// The given key took over from the one that signed: whoever got hold of that one since could have signed, too.
    pub replaced: bool,
    /// Witnesses that were asked for and cosigned: key, and when.
    pub witnesses: Vec<(String, String)>,
    /// Cosignatures that nobody asked for, and that were not checked.
    pub other_cosignatures: u64,
    /// Timestamps.
    pub timestamps: Vec<Stamp>,
}

/// Verifies a disclosure. `checks.against` is of no use here.
///
/// # Errors
/// Why it proves nothing.
pub fn verify_disclosure(text: &str, checks: &Checks) -> Result<Disclosed, DisclosureFlaw> {
    let form = |why: String| DisclosureFlaw::Form { why };
    let told: Disclosure = serde_json::from_str(text).map_err(|e| form(e.to_string()))?;
    if told.format != FORMAT {
        return Err(form(format!("its format is not {FORMAT}")));
    }
    canonical::check(&told.entry.body).map_err(DisclosureFlaw::Canonical)?;
    let (key, checkpoint, replaced) = signed(&told, checks)?;
    let salt: [u8; 16] = hex::decode(&told.entry.salt)
        .ok()
        .and_then(|salt| salt.try_into().ok())
        .ok_or_else(|| form("its salt is not 16 bytes in hex".into()))?;
    let proof: Option<Vec<Hash>> = told
        .proof
        .iter()
        .map(|hash| hex::decode(hash).ok()?.try_into().ok())
        .collect();
    let proof = proof.ok_or_else(|| form("its proof is not hashes in hex".into()))?;
    let leaf = leaf_hash(&salt, told.entry.body.as_bytes());
    let (size, root) = (checkpoint.size, &checkpoint.root);
    if !verify_inclusion(&leaf, told.entry.seq, size, &proof, root) {
        return Err(DisclosureFlaw::Proof);
    }
    let text = Checkpoint::text(&checkpoint.origin, size, root);
    let mut witnesses = Vec::new();
    for witness in &checks.witnesses {
        let ours = told.cosignatures.iter().filter(|line| witness.claims(line));
        let mut found = false;
        for line in ours {
            let time = witness
                .open(&text, line)
                .map_err(|_| DisclosureFlaw::Witness(witness.to_string()))?;
            let ns = i64::try_from(time)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000_000_000);
            witnesses.push((witness.to_string(), Rfc3339(ns).to_string()));
            found = true;
        }
        if !found {
            return Err(DisclosureFlaw::Unwitnessed(witness.to_string()));
        }
    }
    let mut timestamps = Vec::new();
    for token in &told.timestamps {
        timestamps.push(check_token(&told.checkpoint, size, token, checks.tsa.as_ref())?);
    }
    if checks.tsa.is_some() && timestamps.is_empty() {
        return Err(DisclosureFlaw::Untimed);
    }
    Ok(Disclosed {
        seq: told.entry.seq,
        entry: serde_json::from_str(&told.entry.body).map_err(|e| form(e.to_string()))?,
        origin: checkpoint.origin,
        size,
        signed_by: key.to_string(),
        key_given: checks.key.is_some(),
        replaced,
        other_cosignatures: (told.cosignatures.len() - witnesses.len().min(told.cosignatures.len())) as u64,
        witnesses,
        timestamps,
    })
}

/// The key that signed the checkpoint, and whether the key given only took over from it.
fn signed(told: &Disclosure, checks: &Checks) -> Result<(VerifierKey, Checkpoint, bool), DisclosureFlaw> {
    let wrong = |key: &str, what| DisclosureFlaw::Key {
        key: key.into(),
        what,
    };
    // So many no host has had.
    if told.keys.len() > 4096 || told.successions.len() > 4096 {
        return Err(wrong("", "there are more than a host can have had"));
    }
    let mut keys = Vec::new();
    for text in &told.keys {
        let key =
            VerifierKey::parse(text).map_err(|_| wrong(text, "it is no key in the signed-note form"))?;
        keys.push(key);
    }
    let mut line = Vec::new();
    for note in &told.successions {
        let succession = Succession::open(note).map_err(|_| {
            let text = split(note).map_or("", |(text, _)| text);
            wrong(text, "its statement of succession is wrong")
        })?;
        line.push(succession);
    }
    let mut opened = Err(NoteError::NoSignature);
    for key in &keys {
        match Checkpoint::open(key, &told.checkpoint) {
            Err(NoteError::NoSignature) => {}
            other => {
                opened = other.map(|checkpoint| (key.clone(), checkpoint));
                break;
            }
        }
    }
    let (signer, checkpoint) = opened.map_err(DisclosureFlaw::Checkpoint)?;
    let Some(given) = &checks.key else {
        return Ok((signer, checkpoint, false));
    };
    // From the one given to the signer, or from the signer to the one given.
    if reaches(&line, given, &signer) {
        Ok((signer, checkpoint, false))
    } else if reaches(&line, &signer, given) {
        Ok((signer, checkpoint, true))
    } else {
        Err(wrong(
            &given.to_string(),
            "it did not sign this, and no statement says that it came before or after the key that did",
        ))
    }
}

/// Whether one key gave way to another, perhaps over some in between.
fn reaches(line: &[Succession], from: &VerifierKey, to: &VerifierKey) -> bool {
    let mut at = from;
    for _ in 0..=line.len() {
        if at == to {
            return true;
        }
        match line.iter().find(|s| s.old == *at) {
            Some(next) => at = &next.new,
            None => return false,
        }
    }
    false
}
