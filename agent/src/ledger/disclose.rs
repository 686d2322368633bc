//! One entry for somebody else's eyes, with everything that shows where it stood, and nothing else of the ledger.
//!
//! The form is JSON with these members, all always there:
//!
//! - `format`: `portcullis-disclosure/v1`
//! - `entry`: `seq` (its place), `body` (the entry, to the byte), `salt` (hex)
//! - `proof`: the inclusion proof (RFC 6962 section 2.1.1) of the leaf `SHA-256(0x00 || salt || body)` at `seq`: hashes in
//!   hex, nearest sibling first
//! - `checkpoint`: the signed note that names tree size and root
//! - `keys`: the host's public keys (C2SP); `successions`: the notes by which they followed each other
//! - `cosignatures`: signature lines of witnesses over the checkpoint's text
//! - `timestamps`: RFC 3161 tokens (base64 of DER) over the checkpoint note's SHA-256

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    LedgerError,
    leaves::{from_entry, frontier, leaves},
    parts::{Part, parts},
    store::{int, uint},
    succession::succession_notes,
    tree::Prover,
};

/// `format`
pub const FORMAT: &str = "portcullis-disclosure/v1";

/// A disclosed entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disclosure {
    /// [`FORMAT`].
    pub format: String,
    /// The entry.
    pub entry: DisclosedEntry,
    /// The inclusion proof, hex.
    pub proof: Vec<String>,
    /// The signed note.
    pub checkpoint: String,
    /// The host's public keys.
    pub keys: Vec<String>,
    /// The statements by which they followed each other.
    pub successions: Vec<String>,
    /// Signature lines of witnesses.
    pub cosignatures: Vec<String>,
    /// RFC 3161 tokens, base64.
    pub timestamps: Vec<String>,
}

/// The entry itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DisclosedEntry {
    /// Its place.
    pub seq: u64,
    /// The entry, to the byte.
    pub body: String,
    /// 16 bytes, hex.
    pub salt: String,
}

/// Discloses an entry (by its place or its id) of the ledger in a data directory, or of a segment or export.
///
/// # Errors
/// When there is no such entry, its body is not there, or no checkpoint covers it yet
/// ([`LedgerError::Uncovered`]).
pub fn disclose(path: &Path, entry: &str) -> Result<Disclosure, LedgerError> {
    let not_found = || LedgerError::NotFound {
        what: "entry",
        id: entry.into(),
    };
    let seq = match (entry.parse::<u64>(), Uuid::try_parse(entry)) {
        (Ok(seq), _) => seq,
        (_, Ok(id)) => find(path, id)?.ok_or_else(not_found)?,
        _ => return Err(not_found()),
    };
    if !path.is_dir() {
        return of(Part::alone(path).open()?, seq)?.ok_or_else(not_found);
    }
    let mut files = from_entry(path, seq)?;
    let last = files.split_off(1).pop();
    let conn = files.pop().ok_or_else(not_found)?;
    let mut made = of(conn, seq)?.ok_or_else(not_found)?;
    // The last part knows the keys that took over since.
    if let Some(last) = last {
        (made.keys, made.successions) = (vkeys(&last)?, succession_notes(&last)?);
    }
    Ok(made)
}

/// The host's keys in a file.
fn vkeys(conn: &Connection) -> Result<Vec<String>, LedgerError> {
    let mut statement = conn.prepare("SELECT vkey FROM key ORDER BY vkey")?;
    let rows = statement.query_map([], |r| r.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The place of an entry by its id.
fn find(path: &Path, id: Uuid) -> Result<Option<u64>, LedgerError> {
    let files = if path.is_dir() {
        parts(path)?
    } else {
        vec![Part::alone(path)]
    };
    let id = id.hyphenated().to_string();
    for part in files.iter().rev() {
        let conn = part.open()?;
        // The first look is at the text, which is cheaper by far than reading it as JSON.
        let sql = "SELECT seq FROM entry WHERE instr(body, ?1) AND json_extract(body, '$.id') = ?1 LIMIT 1";
        let row: Option<i64> = conn.query_row(sql, [&id], |r| r.get(0)).optional()?;
        if row.is_some() {
            return Ok(row.map(uint));
        }
    }
    Ok(None)
}

/// The entry at a place of a file.
fn of(conn: Connection, seq: u64) -> Result<Option<Disclosure>, LedgerError> {
    let row = conn
        .query_row("SELECT body, salt FROM entry WHERE seq = ?1", [int(seq)], |r| {
            Ok((r.get::<_, Option<String>>(0)?, r.get::<_, Option<Vec<u8>>>(1)?))
        })
        .optional()?;
    let Some((body, salt)) = row else { return Ok(None) };
    let (Some(body), Some(salt)) = (body, salt) else {
        return Err(LedgerError::Database {
            why: format!("the body of entry {seq} is not in this file: it was not selected, or was purged")
                .into(),
        });
    };
    // Of the checkpoints that cover it, the last that somebody else vouches for, or else the last.
    let sql = "SELECT size, note FROM checkpoint WHERE size > ?1 ORDER BY
               EXISTS (SELECT 1 FROM witness w WHERE w.size = checkpoint.size)
               + EXISTS (SELECT 1 FROM timestamp t WHERE t.size = checkpoint.size) DESC, size DESC LIMIT 1";
    let checkpoint: Option<(i64, String)> = conn
        .query_row(sql, [int(seq)], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    let (size, note) = checkpoint.ok_or(LedgerError::Uncovered { seq })?;
    let damaged = || LedgerError::Database {
        why: "no proof can be made of it; run verify".into(),
    };
    let begin = frontier(&conn)?;
    let mut prover = Prover::inclusion(&begin, seq, uint(size)).ok_or_else(damaged)?;
    let conns = [conn];
    leaves(&conns, begin.size(), uint(size), |leaf| prover.leaf(leaf))?;
    let proof = prover.finish().ok_or_else(damaged)?;
    let [conn] = conns;
    let texts = |sql: &str| -> Result<Vec<String>, LedgerError> {
        let mut statement = conn.prepare(sql)?;
        let rows = statement.query_map([size], |r| r.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    let mut statement = conn.prepare("SELECT token FROM timestamp WHERE size = ?1 ORDER BY token")?;
    let tokens = statement.query_map([size], |r| r.get::<_, Vec<u8>>(0))?;
    let timestamps = tokens
        .map(|token| token.map(|bytes| STANDARD.encode(bytes)))
        .collect::<Result<_, _>>()?;
    Ok(Some(Disclosure {
        format: FORMAT.into(),
        entry: DisclosedEntry {
            seq,
            body,
            salt: hex::encode(salt),
        },
        proof: proof.iter().map(hex::encode).collect(),
        checkpoint: note,
        keys: vkeys(&conn)?,
        successions: succession_notes(&conn)?,
        cosignatures: texts("SELECT signature FROM witness WHERE size = ?1 ORDER BY signature")?,
        timestamps,
    }))
}
