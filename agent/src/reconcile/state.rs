//! What is remembered from one run to the next. Nothing of it is evidence, and without it a run begins anew and says so.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Difference, account::Account};

/// The file's name in the data directory.
const FILE: &str = "reconcile.state";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    /// Cgroups have other ids after the next boot.
    pub boot: String,
    /// Entries before this one have been read.
    pub next: u64,
    /// By cgroup id.
    pub accounts: BTreeMap<u64, Account>,
    /// What nobody has acknowledged yet.
    pub open: Vec<Difference>,
}

impl State {
    /// What is there and can be read.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let text = std::fs::read(file(dir)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Replaces the file in one step.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let mut new = tempfile::NamedTempFile::new_in(dir)?;
        new.write_all(&serde_json::to_vec(self)?)?;
        new.as_file().sync_data()?;
        new.persist(file(dir))?;
        Ok(())
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}
