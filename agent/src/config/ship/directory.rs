//! `[[ship]] kind = "directory"`

use std::path::PathBuf;

use serde::Deserialize;

/// Sealed segments to a directory: a mounted share, another disk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// The directory. It must be there: a share that is not mounted is not replaced by an empty directory.
    pub path: PathBuf,
    /// The mode of the files, four octal digits.
    #[serde(default = "default_mode")]
    pub mode: String,
    /// The owner of the files, by number; as the daemon unless set.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Their group, by number.
    #[serde(default)]
    pub gid: Option<u32>,
}

fn default_mode() -> String {
    "0440".into()
}

impl Directory {
    /// The files' permission bits.
    #[must_use]
    pub fn mode_bits(&self) -> Option<u32> {
        let octal = self.mode.len() == 4 && self.mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let bits = u32::from_str_radix(&self.mode, 8).ok()?;
        (octal && bits <= 0o777).then_some(bits)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !self.path.is_absolute() {
            return Err("path is absolute".into());
        }
        match self.mode_bits() {
            Some(bits) if bits & 0o400 == 0o400 && bits & 0o133 == 0 => Ok(()),
            _ => Err(
                "mode is such as 0440 or 0644: its owner reads, nobody executes, nobody else writes".into(),
            ),
        }
    }
}
