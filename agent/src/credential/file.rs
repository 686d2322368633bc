//! Files with secrets: regular, bounded, and for their owner alone.

use std::{
    fs::OpenOptions,
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use zeroize::Zeroizing;

use super::{Secret, error::Failure, keys_file, material::MaterialValue, source::Obtained};
use crate::{config, io::Stamp, model::Rfc3339};

/// Where systemd puts a unit's credentials.
const SYSTEMD: &str = "CREDENTIALS_DIRECTORY";

/// How often a file that was written this very moment is read again before what is wrong with it is believed.
const AGAIN: u32 = 3;

/// Where a secret is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In a file.
    File(PathBuf),
    /// In one that systemd gave.
    Systemd(String),
}

/// What is in it.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// A password, token or key, and nothing else.
    Password,
    /// AWS keys, under the name of a profile.
    AwsKeys(Box<str>),
}

impl Place {
    /// Where the secret part of a credential is.
    pub(super) fn of(credential: &config::Credential) -> Option<Self> {
        let file = credential.file.as_ref().or(credential.key_file.as_ref());
        file.map(|path| Self::File(path.clone()))
            .or_else(|| credential.systemd.clone().map(Self::Systemd))
    }

    /// The file.
    pub(super) fn path(&self) -> Result<PathBuf, Failure> {
        match self {
            Self::File(path) => Ok(path.clone()),
            Self::Systemd(name) => std::env::var_os(SYSTEMD)
                .map(|dir| PathBuf::from(dir).join(name))
                .ok_or_else(|| {
                    Failure::gone("systemd", "it gave this daemon no credentials (LoadCredential=)")
                }),
        }
    }

    /// Who may be able to read it.
    pub(super) fn readers(&self) -> Readers {
        match self {
            Self::File(_) => Readers::Owner,
            // systemd may let the unit's user in by an access control list, whose mask shows as the group's bits.
            Self::Systemd(_) => Readers::Group,
        }
    }
}

/// The present version of a file; `None` when it is not there.
pub(super) async fn stamp(path: &Path) -> Option<Stamp> {
    Some(Stamp::of(&tokio::fs::metadata(path).await.ok()?))
}

/// Reads a secret from where it is.
pub(super) async fn obtain(place: &Place, form: &Form) -> Result<Obtained, Failure> {
    let (path, readers) = (place.path()?, place.readers());
    let mut tries = 0;
    loop {
        // Before reading: a change in between is seen as one.
        let stamp = stamp(&path).await;
        let result = read_to_end(&path, readers)
            .await
            .and_then(|bytes| value(&path, bytes, form));
        match (result, stamp) {
            (Ok(value), stamp) => {
                return Ok(Obtained {
                    value,
                    version: stamp
                        .map(|s| Rfc3339(s.modified_ns()).to_string())
                        .unwrap_or_default()
                        .into(),
                    expires_at: None,
                    refresh: None,
                    stamp: stamp.filter(|s| !s.is_fresh()),
                    lease: None,
                });
            }
            // Perhaps caught half written.
            (Err(_), Some(stamp)) if stamp.is_fresh() && tries < AGAIN => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (Err(failure), _) => return Err(failure),
        }
    }
}

fn value(path: &Path, mut bytes: Zeroizing<Vec<u8>>, form: &Form) -> Result<MaterialValue, Failure> {
    let wrong = |message: &str| Failure::gone(path.display().to_string(), message);
    match form {
        Form::Password => {
            trim(&mut bytes);
            if bytes.is_empty() {
                return Err(wrong("it is empty"));
            }
            if bytes.contains(&0) {
                return Err(wrong("it holds a zero byte, which no password can have"));
            }
            Ok(MaterialValue::Secret(Secret::new(bytes)))
        }
        Form::AwsKeys(profile) => {
            let keys = keys_file::parse(&bytes, profile).map_err(|message| wrong(&message))?;
            Ok(MaterialValue::Aws(keys))
        }
    }
}

/// Without one line end after it.
fn trim(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
}

/// A secret that a source itself needs, as text without the white space around it.
pub(super) async fn text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = read_to_end(path, Readers::Owner).await?;
    let wrong = |message: &str| Failure::new(path.display().to_string(), message);
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("it is not text"))?;
    match text.trim() {
        "" => Err(wrong("it is empty")),
        text => Ok(Zeroizing::new(text.to_owned())),
    }
}

/// Reads a file away from the threads that serve connections.
pub(super) async fn read_to_end(path: &Path, readers: Readers) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let of = path.to_owned();
    let place = path.display().to_string();
    match tokio::task::spawn_blocking(move || read(&of, readers)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(message)) => Err(Failure::gone(place, message)),
        Err(_) => Err(Failure::new(place, "reading it was interrupted")),
    }
}

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
fn read(path: &Path, readers: Readers) -> Result<Zeroizing<Vec<u8>>, String> {
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
