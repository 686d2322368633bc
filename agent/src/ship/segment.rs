//! A sealed segment on its way to a sink of segments.

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest;
use bytes::Bytes;

use super::{Class, Pace, ShipError};
use crate::ledger;

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// A sealed segment. Its file is held open, so that what is read is what was hashed, even where retention puts another
/// in its place meanwhile.
#[derive(Debug)]
pub struct Segment {
    /// Its number among the ledger's parts.
    pub number: u64,
    /// The file.
    pub path: PathBuf,
    /// The places of its entries.
    pub entries: Range<u64>,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// What it is called wherever it is put, whoever ships it: `HOST/segment-N-FIRST-END-SHA256.db` with ten digits of
    /// N and sixteen of the hash. The same content has the same name, and other content another one.
    pub name: String,
    file: Arc<File>,
    pace: Pace,
}

impl Segment {
    /// Opens and hashes a segment. Blocks on the disk.
    ///
    /// # Errors
    /// When it cannot be read; temporary, for the disk may come back.
    pub fn open(path: &Path, number: u64, host: &str, pace: Pace) -> Result<Self, ShipError> {
        let local = |what: &dyn std::fmt::Display| {
            ShipError::temporary(Class::Local, format!("{}: {what}", path.display()))
        };
        let file = File::open(path).map_err(|e| local(&e))?;
        let (bytes, sha256) = hash(&file, &pace).map_err(|e| local(&e))?;
        let entries = ledger::extent(path).map_err(|e| local(&e))?;
        let name = format!(
            "{}/segment-{number:010}-{}-{}-{}.db",
            host_part(host),
            entries.start,
            entries.end,
            hex::encode(&sha256[..8])
        );
        Ok(Self {
            number,
            path: path.into(),
            entries,
            bytes,
            sha256,
            name,
            file: Arc::new(file),
            pace,
        })
    }

    /// The hash, hex.
    #[must_use]
    pub fn sha256_hex(&self) -> String {
        hex::encode(self.sha256)
    }

    /// The next bytes from `offset` on, at the sink's pace: empty at the end, otherwise at most 256 KiB, and at most
    /// `limit`.
    ///
    /// # Errors
    /// When the file cannot be read, or is not as long as it was.
    pub async fn read(&self, offset: u64, limit: usize) -> Result<Bytes, ShipError> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let size = left.min(CHUNK).min(limit);
        if size == 0 {
            return Ok(Bytes::new());
        }
        self.pace.take(0, size as u64).await;
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; size];
            file.read_exact_at(&mut buffer, offset).map(|()| buffer)
        });
        let failed =
            |why: String| ShipError::temporary(Class::Local, format!("{}: {why}", self.path.display()));
        match read.await {
            Ok(Ok(buffer)) => Ok(buffer.into()),
            Ok(Err(e)) => Err(failed(e.to_string())),
            Err(_) => Err(failed("the reading thread ended".into())),
        }
    }

    /// Its pace, for what is not read by [`Self::read`]: a sign of life is all that is wanted of it.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Says that a step that reads nothing (a check of what was written) makes progress.
    pub fn alive(&self) {
        self.pace.alive();
    }
}

/// The size and hash of a file. A sign of life for each piece: a large one on a slow disk takes its time.
fn hash(file: &File, pace: &Pace) -> io::Result<(u64, [u8; 32])> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(n) => {
                context.update(&buffer[..n]);
                at += n as u64;
                pace.alive();
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(context.finish().as_ref());
    Ok((at, sha256))
}

/// A host's name as a part of a path: no slash, no dot at its beginning.
fn host_part(host: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let text: String = host
        .chars()
        .take(255)
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    match text.trim_start_matches('.') {
        "" => "host".into(),
        rest => rest.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_one_part_of_a_path() {
        assert_eq!(host_part("web-1.example"), "web-1.example");
        assert_eq!(host_part("../x/y"), "_x_y");
        assert_eq!(host_part(""), "host");
    }
}
