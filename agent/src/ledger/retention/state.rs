//! What retention remembers between runs, so that a start need not read every segment: nothing of it is evidence.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt as _, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    super::{LedgerError, Part},
    Inner, Pass, RetentionError, files,
    survey::{Extent, Survey},
};
use crate::ledger::queue::lock;

pub(super) const FILE: &str = "retention.state";

/// A file as it was when it was looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed_ns: i64,
}

impl Stamp {
    fn of(path: &Path) -> Result<Self, LedgerError> {
        let found = std::fs::metadata(path).map_err(|e| LedgerError::file(path, &e))?;
        Ok(Self {
            inode: found.ino(),
            bytes: found.len(),
            changed_ns: found
                .ctime()
                .saturating_mul(1_000_000_000)
                .saturating_add(found.ctime_nsec()),
        })
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// The last pass that was not a dry one.
    pub last: Option<Pass>,
    segments: BTreeMap<u64, (Stamp, Extent)>,
}

impl State {
    /// What is there and can be read.
    pub(super) fn read(dir: &Path) -> Self {
        let text = files::get(&dir.join(FILE)).ok().flatten();
        text.and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default()
    }
}

impl Inner {
    /// What a sealed part is; read once. Blocks.
    pub(super) fn extent(&self, part: &Part) -> Result<Extent, RetentionError> {
        let stamp = Stamp::of(&part.path)?;
        if let Some((known, extent)) = lock(&self.state).segments.get(&part.number)
            && *known == stamp
        {
            return Ok(extent.clone());
        }
        let extent = Survey::open(&part.path)?.extent()?;
        let mut state = lock(&self.state);
        state.segments.insert(part.number, (stamp, extent.clone()));
        Ok(extent)
    }

    /// Keeps it in its file.
    pub(super) fn keep_state(&self) {
        let text = serde_json::to_vec(&*lock(&self.state)).unwrap_or_default();
        if let Err(error) = files::put(&self.dir.join(FILE), &text) {
            tracing::warn!("{FILE} is not kept: {error}");
        }
    }
}
