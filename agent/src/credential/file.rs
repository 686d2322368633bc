//! Files with secrets: regular, bounded, and for their owner alone.

use std::{
    fs::OpenOptions,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use zeroize::Zeroizing;

/// The most that is read of one.
const LIMIT: u64 = 64 * 1024;

/// Who may be able to read a file that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Its owner alone.
    Owner,
    /// Its owner and its group.
    Group,
    /// Whoever wants: it holds nothing secret.
    Anyone,
}

/// Reads a file, once it is opened and found to be what it should be.
pub(super) fn read(path: &Path, readers: Readers) -> Result<Zeroizing<Vec<u8>>, String> {
    // Opening a pipe would wait for a writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => "it is not there".into(),
            kind => kind.to_string(),
        })?;
    let meta = file.metadata().map_err(|e| e.kind().to_string())?;
    if !meta.is_file() {
        return Err("it is not a regular file".into());
    }
    let forbidden = match readers {
        Readers::Owner => 0o077,
        Readers::Group => 0o027,
        Readers::Anyone => 0,
    };
    if meta.mode() & forbidden != 0 {
        return Err(format!(
            "its mode is {:04o}: others may read it; chmod 0600 it",
            meta.mode() & 0o7777
        ));
    }
    let me = nix::unistd::geteuid().as_raw();
    if readers != Readers::Anyone && meta.uid() != me && meta.uid() != 0 {
        return Err(format!(
            "it belongs to user {}, who could change it: chown it to root",
            meta.uid()
        ));
    }
    // At its full size from the start: growing would leave copies behind.
    let size = usize::try_from(meta.len().min(LIMIT)).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.kind().to_string())?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!("it is longer than {LIMIT} bytes"));
    }
    Ok(bytes)
}
