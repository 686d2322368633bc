//! Files that change.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    time::{SystemTime, UNIX_EPOCH},
};

/// What tells one version of a file from the next, however it was written: renamed over, or in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// That of a file by what the kernel says of it.
    #[must_use]
    pub fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// When it was last written, nanoseconds since 1970 UTC.
    #[must_use]
    pub fn modified_ns(&self) -> i64 {
        nanoseconds(self.modified)
    }

    /// Whether the file was changed so short a time ago that a further change might leave the same stamp: file times
    /// advance by ticks of up to 10 ms.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        now.saturating_sub(nanoseconds(self.changed)) < 50_000_000
    }
}

fn nanoseconds((seconds, nanos): (i64, i64)) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
