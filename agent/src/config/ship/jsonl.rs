//! `[[ship]] kind = "jsonl"`

use std::path::PathBuf;

use serde::Deserialize;

/// Events to a file, one a line, for whatever collects files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jsonl {
    /// The file. Its directory must be there.
    pub path: PathBuf,
    /// When it has so many bytes it is renamed to `PATH.1` and a new one begun (1 MiB to 64 GiB).
    #[serde(default = "default_rotate", deserialize_with = "super::load::bytes")]
    pub rotate_bytes: u64,
    /// How many renamed ones are kept (0 to 1000).
    #[serde(default = "default_keep")]
    pub keep: u32,
}

fn default_rotate() -> u64 {
    128 << 20
}

fn default_keep() -> u32 {
    8
}

impl Jsonl {
    pub(super) fn check(&self) -> Result<(), String> {
        if !self.path.is_absolute() || self.path.file_name().is_none() {
            return Err("path is an absolute path of a file".into());
        }
        if !(1 << 20..=64 << 30).contains(&self.rotate_bytes) || self.keep > 1000 {
            return Err("rotate_bytes is from 1 MiB to 64 GiB and keep at most 1000".into());
        }
        Ok(())
    }
}
