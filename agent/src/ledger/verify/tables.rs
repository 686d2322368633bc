//! The small tables of a file.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::{
    super::{
        store::uint,
        tree::{CompactRange, sha256},
    },
    VerifyError,
    purged::Purged,
};

/// Where the file begins.
pub(super) fn frontier(conn: &Connection, purged: &Purged) -> Result<CompactRange, VerifyError> {
    let wrong = |what| VerifyError::Frontier { what };
    let mut statement = conn.prepare("SELECT size, nodes FROM frontier ORDER BY size")?;
    let mut rows = statement.query([])?;
    let Some(row) = rows.next()? else {
        return Err(wrong("it does not say where the file begins"));
    };
    let (size, nodes): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
    let range = u64::try_from(size)
        .ok()
        .and_then(|size| CompactRange::from_bytes(size, &nodes))
        .ok_or(wrong("its hashes do not fit its size"))?;
    // Where its entries were purged, the other end is there, too.
    if purged.stub.is_none() && rows.next()?.is_some() {
        return Err(wrong("it says twice where the file begins"));
    }
    Ok(range)
}

/// The checkpoints, by size.
pub(super) fn checkpoints(conn: &Connection) -> Result<Vec<(u64, String)>, VerifyError> {
    let mut statement = conn.prepare("SELECT size, note FROM checkpoint ORDER BY size")?;
    // What is not text is no note, and is found as such.
    let rows = statement.query_map([], |r| Ok((uint(r.get(0)?), r.get(1).unwrap_or_default())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The hashes of the policy sets in the file, each checked against its text.
pub(super) fn policy_sets(conn: &Connection) -> Result<BTreeSet<String>, VerifyError> {
    let mut statement = conn.prepare("SELECT hash, text FROM policy_set ORDER BY hash")?;
    let mut rows = statement.query([])?;
    let mut hashes = BTreeSet::new();
    while let Some(row) = rows.next()? {
        let (hash, text): (String, Result<String, _>) = (row.get(0)?, row.get(1));
        if text.is_ok_and(|text| hex::encode(sha256(&[text.as_bytes()])) == hash) {
            hashes.insert(hash);
        } else {
            return Err(VerifyError::PolicySet { hash });
        }
    }
    Ok(hashes)
}
