//! Small files that are there whole or not at all.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::super::LedgerError;

/// Writes a file durably in one step, mode 0600.
pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<(), LedgerError> {
    let write = || -> std::io::Result<()> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        sync_dir(path)
    };
    write().map_err(|e| LedgerError::file(path, &e))
}

/// Reads a file of text; `None` when there is none.
pub(super) fn get(path: &Path) -> Result<Option<String>, LedgerError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        // What is no text is no file of ours; its reader says so.
        Err(e) if e.kind() == ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(e) => Err(LedgerError::file(path, &e)),
    }
}

/// Takes a file away, durably.
pub(super) fn remove(path: &Path) -> Result<(), LedgerError> {
    let take = || match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => sync_dir(path),
    };
    take().map_err(|e| LedgerError::file(path, &e))
}

fn sync_dir(path: &Path) -> std::io::Result<()> {
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
