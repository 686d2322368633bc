//! Revoked workloads, in `DATA_DIR/revoked.json`: they stay revoked over restarts, until an admin restores them.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{error::IdentityError, event::Actor};

/// The file is a few hundred bytes for each workload; more than this is not ours.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// One revocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When, nanoseconds since 1970 UTC.
    pub at_ns: i64,
    /// By whom.
    pub actor: Actor,
}

/// The list, as it is in the file.
#[derive(Debug)]
pub struct Revocations {
    path: PathBuf,
    list: BTreeMap<String, Revocation>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    v: u8,
    revoked: BTreeMap<String, Revocation>,
}

impl Revocations {
    /// Reads the list; none there is an empty one.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn load(data_dir: &Path) -> Result<Self, IdentityError> {
        let path = data_dir.join("revoked.json");
        let wrong = |message: String| IdentityError::RevocationsRead {
            path: path.clone(),
            message,
        };
        let mut text = Vec::new();
        match File::open(&path) {
            Ok(file) => {
                file.take(MAX_FILE)
                    .read_to_end(&mut text)
                    .map_err(|e| wrong(e.to_string()))?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Self {
                    path,
                    list: BTreeMap::new(),
                });
            }
            Err(e) => return Err(wrong(e.to_string())),
        }
        let on_disk: OnDisk = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
        if on_disk.v != 1 {
            return Err(wrong(format!("version {} is not known", on_disk.v)));
        }
        Ok(Self {
            path,
            list: on_disk.revoked,
        })
    }

    /// The revocation of a workload.
    #[must_use]
    pub fn get(&self, workload: &str) -> Option<&Revocation> {
        self.list.get(workload)
    }

    /// Adds one and writes the file; it stays added when that fails.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&mut self, workload: &str, revocation: Revocation) -> Result<(), IdentityError> {
        self.list.insert(workload.to_owned(), revocation);
        self.write(&self.list)
    }

    /// Removes one and writes the file; it stays when that fails.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn remove(&mut self, workload: &str) -> Result<(), IdentityError> {
        let mut list = self.list.clone();
        list.remove(workload);
        self.write(&list)?;
        self.list = list;
        Ok(())
    }

    fn write(&self, list: &BTreeMap<String, Revocation>) -> Result<(), IdentityError> {
        self.replace(list)
            .map_err(|source| IdentityError::RevocationsWrite {
                path: self.path.clone(),
                source,
            })
    }

    /// Whole and durable, or not at all.
    fn replace(&self, list: &BTreeMap<String, Revocation>) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let aside = self.path.with_extension("json.new");
        match std::fs::remove_file(&aside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)?;
        let text = serde_json::to_vec(&OnDisk {
            v: 1,
            revoked: list.clone(),
        })?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&aside, &self.path)?;
        File::open(dir)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const REVOCATION: Revocation = Revocation {
        at_ns: 5,
        actor: Actor { pid: 1, uid: 0 },
    };

    #[test]
    fn survives() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut list = Revocations::load(&data).unwrap();
        list.add("w", REVOCATION).unwrap();
        list.add("x", REVOCATION).unwrap();
        list.remove("x").unwrap();
        let again = Revocations::load(&data).unwrap();
        assert_eq!((again.get("w"), again.get("x")), (Some(&REVOCATION), None));
        let mode = std::fs::metadata(data.join("revoked.json"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn unreadable_is_an_error_not_empty() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["", "{", "{\"v\":2,\"revoked\":{}}", "[]"] {
            std::fs::write(dir.path().join("revoked.json"), text).unwrap();
            assert!(Revocations::load(dir.path()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_failed_write_fails_closed() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::write(&data, "a file, not a directory").unwrap();
        let mut list = Revocations {
            path: data.join("revoked.json"),
            list: BTreeMap::new(),
        };
        assert!(list.add("w", REVOCATION).is_err());
        assert!(list.get("w").is_some(), "still revoked");
        assert!(list.remove("w").is_err());
        assert!(list.get("w").is_some(), "not restored");
    }
}
