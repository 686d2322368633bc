//! The log that `powerloss.c` keeps.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};

const MAGIC: u32 = 0x504c_4f53;
/// Bytes of a record before its name, other and data.
const HEAD: usize = 48;

/// What the process did. Names are below the directory that was watched.
#[derive(Clone, Debug)]
pub enum Act {
    Create { name: String, inode: u64 },
    MakeDir { name: String },
    Link { name: String, target: String },
    Unlink { name: String },
    Rename { from: String, to: String },
    Write { inode: u64, at: u64, bytes: Arc<[u8]> },
    Truncate { inode: u64, size: u64 },
    Sync { inode: u64 },
    SyncDir { name: String },
    Said { bytes: Arc<[u8]> },
}

/// Reads a log to the last record that is whole: the process was killed.
pub fn read(path: &Path) -> Result<Vec<Act>> {
    let all = std::fs::read(path).with_context(|| path.display().to_string())?;
    let mut acts = Vec::new();
    let mut rest = all.as_slice();
    while let Some((act, more)) = one(rest)? {
        acts.push(act);
        rest = more;
    }
    Ok(acts)
}

fn one(bytes: &[u8]) -> Result<Option<(Act, &[u8])>> {
    let word = |i: usize| {
        bytes
            .get(i..i + 4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_ne_bytes)
    };
    let long = |i: usize| {
        bytes
            .get(i..i + 8)
            .and_then(|b| b.try_into().ok())
            .map(u64::from_ne_bytes)
    };
    let (Some(magic), Some(kind), Some(inode), Some(at)) = (word(0), word(4), long(8), long(16)) else {
        return Ok(None);
    };
    ensure!(magic == MAGIC, "the log is damaged");
    let (Some(name), Some(other), Some(data)) = (long(24), long(32), long(40)) else {
        return Ok(None);
    };
    let [name, other, data] = [name, other, data].map(|n| usize::try_from(n).unwrap_or(usize::MAX / 8));
    let (Some(name), Some(other), Some(data)) = (
        bytes.get(HEAD..HEAD + name),
        bytes.get(HEAD + name..HEAD + name + other),
        bytes.get(HEAD + name + other..HEAD + name + other + data),
    ) else {
        return Ok(None);
    };
    let rest = &bytes[HEAD + name.len() + other.len() + data.len()..];
    let text = |bytes: &[u8]| String::from_utf8(bytes.into()).context("a name is not UTF-8");
    let (name, bytes) = (text(name)?, Arc::from(data));
    let act = match kind {
        1 => Act::Create { name, inode },
        2 => Act::MakeDir { name },
        3 => Act::Link {
            name,
            target: text(other)?,
        },
        4 => Act::Unlink { name },
        5 => Act::Rename {
            from: name,
            to: text(other)?,
        },
        6 => Act::Write { inode, at, bytes },
        7 => Act::Truncate { inode, size: at },
        8 => Act::Sync { inode },
        9 => Act::SyncDir { name },
        10 => Act::Said { bytes },
        other => anyhow::bail!("the log has a record of kind {other}"),
    };
    Ok(Some((act, rest)))
}
