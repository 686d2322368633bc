//! `ledger.state`: who holds the ledger (by its lock), whether it was closed, and what was lost and not yet recorded.
//!
//! A file of fixed size, overwritten in place: that works on a full disk, where the database cannot say anything.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Read as _,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{LedgerError, record::Losses};

const SIZE: usize = 1024;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    closed: bool,
    losses: Losses,
    /// So many entries were durable. A ledger that has fewer is an older copy.
    #[serde(default)]
    size: u64,
}

/// The locked file. The lock ends with the process, however it ends.
pub(super) struct StateFile {
    file: File,
}

/// What the last run left.
pub(super) struct Before {
    /// It closed the ledger.
    pub clean: bool,
    /// There was one at all, as far as this file knows.
    pub ran: bool,
    pub losses: Losses,
    pub size: u64,
}

impl StateFile {
    pub(super) fn open(path: &Path) -> Result<(Self, Before), LedgerError> {
        let error = |e: &std::io::Error| LedgerError::file(path, e);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(path).map_err(|e| error(&e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LedgerError::InUse { path: path.into() }),
            Err(TryLockError::Error(e)) => return Err(error(&e)),
        }
        let mut text = String::new();
        // What cannot be read counts as an unclean end.
        let content: Option<Content> = match file.read_to_string(&mut text) {
            Ok(_) => serde_json::from_str(text.trim_end()).ok(),
            Err(_) => None,
        };
        let before = content.map_or_else(
            || Before {
                clean: false,
                ran: !text.is_empty(),
                losses: Losses::default(),
                size: 0,
            },
            |c| Before {
                clean: c.closed,
                ran: true,
                losses: c.losses,
                size: c.size,
            },
        );
        let state = Self { file };
        state
            .write(false, &before.losses, before.size)
            .map_err(|e| error(&e))?;
        Ok((state, before))
    }

    /// Overwrites the content, durably.
    pub(super) fn write(&self, closed: bool, losses: &Losses, size: u64) -> std::io::Result<()> {
        let content = Content {
            closed,
            losses: losses.clone(),
            size,
        };
        let mut text = serde_json::to_vec(&content)?;
        text.resize(SIZE - 1, b' ');
        text.push(b'\n');
        self.file.write_all_at(&text, 0)?;
        self.file.sync_data()
    }

    /// Lets the next process have the ledger while handles on this one are still about.
    pub(super) fn release(&self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "ledger.state cannot be unlocked");
        }
    }
}
