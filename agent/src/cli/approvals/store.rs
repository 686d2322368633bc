//! Where a sign-in is kept between commands: a file that only its owner can read, one for each daemon or page, so that
//! the token of one is never sent to another.

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes of the file.
const MAX: u64 = 64 * 1024;

/// Why a kept sign-in cannot be used, or not be kept.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum StoreError {
    /// Neither variable says where.
    #[error("neither XDG_STATE_HOME nor HOME is set: there is nowhere to keep a sign-in")]
    Nowhere,
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Others may have read it.
    #[error("{path}: {message}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Why, and what to do.
        message: String,
    },
}

/// Where.
pub(super) struct Store {
    path: PathBuf,
    target: String,
}

/// What.
pub(super) struct Kept {
    pub(super) token: Zeroizing<String>,
    /// Seconds since 1970 UTC.
    pub(super) expires_at: i64,
}

#[derive(Serialize, Deserialize)]
struct File {
    target: String,
    token: String,
    expires_at: i64,
}

impl Store {
    /// For a daemon or page.
    pub(super) fn new(target: &str) -> Result<Self, StoreError> {
        let var = |name| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let state = var("XDG_STATE_HOME").filter(|dir| dir.is_absolute());
        let state = state.or_else(|| var("HOME").map(|home| home.join(".local/state")));
        Ok(Self::in_dir(
            &state.ok_or(StoreError::Nowhere)?.join("portcullis"),
            target,
        ))
    }

    fn in_dir(dir: &std::path::Path, target: &str) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, target.as_bytes());
        let name = hex::encode(&digest.as_ref()[..8]);
        Self {
            path: dir.join(format!("sign-in-{name}.json")),
            target: target.into(),
        }
    }

    fn failed(&self) -> impl Fn(std::io::Error) -> StoreError {
        let path = self.path.clone();
        move |source| StoreError::File {
            path: path.clone(),
            source,
        }
    }

    /// The sign-in; `None` where there is none.
    pub(super) fn load(&self) -> Result<Option<Kept>, StoreError> {
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.path);
        let file = match opened {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.failed()(e)),
        };
        let meta = file.metadata().map_err(self.failed())?;
        let exposed = |message: &str| StoreError::Exposed {
            path: self.path.clone(),
            message: message.into(),
        };
        if !meta.is_file() || meta.uid() != nix::unistd::geteuid().as_raw() {
            return Err(exposed("it is not a file of yours: remove it and sign in again"));
        }
        if meta.mode() & 0o077 != 0 {
            return Err(exposed(
                "others can read your sign-in: remove it (`portcullis approvals logout`) and sign in again",
            ));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX).read_to_string(&mut text).map_err(self.failed())?;
        let Ok(kept) = serde_json::from_str::<File>(&text) else {
            return Ok(None);
        };
        if kept.target != self.target {
            return Ok(None);
        }
        Ok(Some(Kept {
            token: Zeroizing::new(kept.token),
            expires_at: kept.expires_at,
        }))
    }

    /// Keeps a sign-in in place of a former one.
    pub(super) fn save(&self, token: &str, expires_at: i64) -> Result<(), StoreError> {
        let failed = self.failed();
        if let Some(dir) = self.path.parent() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(&failed)?;
        }
        let aside = self.path.with_extension(format!("{}", std::process::id()));
        // Left by a process of this id that was killed.
        let _ = std::fs::remove_file(&aside);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)
            .map_err(&failed)?;
        let kept = File {
            target: self.target.clone(),
            token: token.into(),
            expires_at,
        };
        let text = Zeroizing::new(serde_json::to_vec(&kept).map_err(|e| failed(e.into()))?);
        file.write_all(&text).map_err(&failed)?;
        file.sync_all().map_err(&failed)?;
        std::fs::rename(&aside, &self.path).map_err(&failed)
    }

    /// Forgets it; whether there was one.
    pub(super) fn remove(&self) -> Result<bool, StoreError> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(self.failed()(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn kept_for_one_target_and_one_reader() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("a/portcullis");
        let (one, two) = (
            Store::in_dir(&dir, "https://one"),
            Store::in_dir(&dir, "https://two"),
        );
        assert!(one.load().unwrap().is_none());
        one.save("t1", 7).unwrap();
        one.save("t2", 8).unwrap();
        let kept = one.load().unwrap().unwrap();
        assert_eq!((kept.token.as_str(), kept.expires_at), ("t2", 8));
        assert_eq!(std::fs::metadata(&one.path).unwrap().mode() & 0o777, 0o600);
        assert!(two.load().unwrap().is_none());
        // A token is not lent by moving its file.
        std::fs::copy(&one.path, &two.path).unwrap();
        assert!(two.load().unwrap().is_none());
        std::fs::set_permissions(&one.path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = one.load().err().unwrap().to_string();
        assert!(error.contains("others can read"), "{error}");
        assert!(one.remove().unwrap() && !one.remove().unwrap());
        std::os::unix::fs::symlink(&two.path, &one.path).unwrap();
        assert!(one.load().is_err());
    }
}
