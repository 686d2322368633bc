//! A purge on its way: written before its entry, taken away after its effect.
//!
//! A pass that ends between the two is finished by the next one: what has its entry is done, what has none is forgotten.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    super::{Ledger, LedgerError, Tail},
    files,
};
use crate::model::Seq;

/// What will be done once its entry is durable. The texts are those of the tombstones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    /// Id of the entry that announces it.
    pub entry: Uuid,
    /// Entries before it, at least.
    pub since: u64,
    /// Segment and tombstone text, in the order in which they are done.
    pub segments: Vec<(u64, String)>,
}

fn path(dir: &Path) -> PathBuf {
    dir.join("retention.intent")
}

impl Intent {
    pub(super) fn put(&self, dir: &Path) -> Result<(), LedgerError> {
        let path = path(dir);
        let text = serde_json::to_vec(self).map_err(|e| LedgerError::File {
            path: path.clone(),
            why: e.to_string().into(),
        })?;
        files::put(&path, &text)
    }

    /// The one that a former pass left.
    pub(super) fn get(dir: &Path) -> Result<Option<Self>, LedgerError> {
        let path = path(dir);
        let Some(text) = files::get(&path)? else {
            return Ok(None);
        };
        let read = serde_json::from_str(&text);
        read.map(Some).map_err(|e| LedgerError::File {
            path,
            why: format!("it is no purge on its way ({e}); see whether the last purge in the ledger was done, and remove it")
                .into(),
        })
    }

    pub(super) fn remove(dir: &Path) -> Result<(), LedgerError> {
        files::remove(&path(dir))
    }

    /// Whether its entry is in the ledger. Blocks.
    pub(super) fn is_announced(&self, dir: &Path, ledger: &Ledger) -> Result<bool, LedgerError> {
        let id = self.entry.to_string();
        let mut tail = Tail::new(dir, Seq(self.since));
        loop {
            let read = match tail.read(ledger.size(), 4096, 8 << 20) {
                // The first of its own segments, for one.
                Err(LedgerError::Purged { to, .. }) => {
                    tail = Tail::new(dir, Seq(to));
                    continue;
                }
                other => other?,
            };
            if read.is_empty() {
                return Ok(false);
            }
            // A text inside another entry may look the same.
            let is_it = |body: &str| {
                body.contains(&id)
                    && serde_json::from_str::<serde_json::Value>(body).is_ok_and(|v| v["id"] == *id)
            };
            if read.iter().any(|entry| is_it(&entry.body)) {
                return Ok(true);
            }
        }
    }
}
