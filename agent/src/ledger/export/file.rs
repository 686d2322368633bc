//! The file of an export while it is made.

use std::{
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::super::LedgerError;

/// A file that goes away unless it is kept.
pub(super) struct Partial {
    pub path: PathBuf,
}

impl Partial {
    pub(super) fn new(out: &Path) -> Result<Self, LedgerError> {
        let mut name = out.as_os_str().to_owned();
        name.push(format!(".partial-{}", std::process::id()));
        let path = PathBuf::from(name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&path).map_err(|e| LedgerError::file(&path, &e))?;
        Ok(Self { path })
    }

    pub(super) fn keep(self, out: &Path) -> Result<(), LedgerError> {
        let keep = || -> std::io::Result<()> {
            std::fs::File::open(&self.path)?.sync_all()?;
            // Unlike a rename, a link never replaces what someone else put there meanwhile.
            std::fs::hard_link(&self.path, out)?;
            let parent = out.parent().filter(|p| !p.as_os_str().is_empty());
            std::fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
        };
        keep().map_err(|e| LedgerError::file(out, &e))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Its link under the final name, if it was kept, stays.
        let _ = std::fs::remove_file(&self.path);
    }
}
