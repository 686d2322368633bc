//! Segments to a directory: a mounted share, another disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use aws_lc_rs::digest;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::{Class, Pace, Receipt, Segment, SegmentSink, ShipError};
use crate::config::ship;

/// Pieces under way to the writing thread.
const AHEAD: usize = 4;

/// Puts segments into a directory.
///
/// A file is written under a temporary name, made durable, read back and compared, and then linked to its own name,
/// which fails where that is taken: nothing is ever replaced. The work is done by a thread for each segment, for a share
/// that hangs takes the thread with it that touches it; while one hangs there is no second.
pub(super) struct Directory {
    path: PathBuf,
    mode: u32,
    uid: Option<u32>,
    gid: Option<u32>,
    busy: Arc<AtomicBool>,
}

/// What the thread needs.
struct Job {
    directory: PathBuf,
    /// The name below the directory, and whether it has a host's part.
    name: String,
    sha256: [u8; 32],
    bytes: u64,
    mode: u32,
    owner: (Option<u32>, Option<u32>),
    pace: Pace,
    _busy: Busy,
}

/// Says that the thread is there, until it ends.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Directory {
    pub(super) fn new(config: &ship::Directory) -> Self {
        Self {
            path: config.path.clone(),
            mode: config.mode_bits().unwrap_or(0o400),
            uid: config.uid,
            gid: config.gid,
            busy: Arc::default(),
        }
    }

    async fn copy(&self, segment: &Segment) -> Result<Receipt, ShipError> {
        if self.busy.swap(true, Ordering::AcqRel) {
            let why = format!(
                "{} does not answer: a former try still hangs",
                self.path.display()
            );
            return Err(ShipError::temporary(Class::Timeout, why));
        }
        let job = Job {
            directory: self.path.clone(),
            name: segment.name.clone(),
            sha256: segment.sha256,
            bytes: segment.bytes,
            mode: self.mode,
            owner: (self.uid, self.gid),
            pace: segment.pace().clone(),
            _busy: Busy(Arc::clone(&self.busy)),
        };
        let (pieces, incoming) = mpsc::channel(AHEAD);
        let (done, outcome) = oneshot::channel();
        std::thread::Builder::new()
            .name("ship-directory".into())
            .spawn(move || {
                // Nobody may wait any more: then nobody needs to know.
                let _ = done.send(job.run(incoming));
            })
            .map_err(|e| ShipError::temporary(Class::Local, format!("no thread can be had: {e}")))?;
        let feed = async {
            let mut at = 0;
            loop {
                let piece = segment.read(at, usize::MAX).await?;
                if piece.is_empty() {
                    return Ok(());
                }
                at += piece.len() as u64;
                if pieces.send(piece).await.is_err() {
                    // It ended: its outcome says why.
                    return Ok(());
                }
            }
        };
        let fed: Result<(), ShipError> = feed.await;
        drop(pieces);
        let outcome = outcome
            .await
            .map_err(|_| ShipError::temporary(Class::Local, "the writing thread ended"))?;
        fed.and(outcome)
    }
}

impl SegmentSink for Directory {
    fn put<'a>(&'a self, segment: &'a Segment) -> BoxFuture<'a, Result<Receipt, ShipError>> {
        Box::pin(self.copy(segment))
    }
}

impl Job {
    fn run(&self, incoming: mpsc::Receiver<Bytes>) -> Result<Receipt, ShipError> {
        // Not made: a share that is not mounted is an empty directory, which must not be filled in its place.
        if !self.directory.is_dir() {
            let why = format!("{} is not there, or is not a directory", self.directory.display());
            return Err(ShipError::temporary(Class::Missing, why));
        }
        let target = self.directory.join(&self.name);
        let parent = target.parent().unwrap_or(&self.directory).to_owned();
        if !parent.is_dir() {
            fs::create_dir(&parent).map_err(|e| told(&parent, &e))?;
            sync(&self.directory)?;
        }
        let file_name = target
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let temporary = parent.join(format!(".{file_name}.part"));
        let was_there = self.is_there(&target)?;
        let outcome = if was_there {
            Ok(())
        } else {
            let written = self.write(&temporary, incoming);
            written.and_then(|()| self.place(&temporary, &target))
        };
        if let Err(e) = fs::remove_file(&temporary)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %temporary.display(), "a temporary file stays: {e}");
        }
        outcome?;
        self.finish(&target, &parent, was_there)
    }

    /// Whether the segment is in its place already, whole. Something else in its place is not replaced.
    fn is_there(&self, target: &Path) -> Result<bool, ShipError> {
        match fs::symlink_metadata(target) {
            Ok(metadata) if metadata.is_file() => {}
            Ok(_) => {
                let why = format!("{} is there, and is not a file", target.display());
                return Err(ShipError::permanent(Class::Conflict, why));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(told(target, &e)),
        }
        let (bytes, sha256) = self.read_back(target)?;
        if (bytes, sha256) == (self.bytes, self.sha256) {
            return Ok(true);
        }
        let why = format!(
            "{} is there with other content ({bytes} bytes, sha256 {}); it is not replaced",
            target.display(),
            hex::encode(sha256)
        );
        Err(ShipError::permanent(Class::Conflict, why))
    }

    fn write(&self, temporary: &Path, mut incoming: mpsc::Receiver<Bytes>) -> Result<(), ShipError> {
        let failed = |e: io::Error| told(temporary, &e);
        // What a former try left is of no use.
        match fs::remove_file(temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)
            .map_err(failed)?;
        let mut bytes = 0;
        while let Some(piece) = incoming.blocking_recv() {
            file.write_all(&piece).map_err(failed)?;
            bytes += piece.len() as u64;
            self.pace.alive();
        }
        if bytes != self.bytes {
            return Err(ShipError::temporary(
                Class::Local,
                "the segment did not come whole",
            ));
        }
        if self.owner != (None, None) {
            std::os::unix::fs::chown(temporary, self.owner.0, self.owner.1).map_err(failed)?;
        }
        file.set_permissions(fs::Permissions::from_mode(self.mode))
            .map_err(failed)?;
        file.sync_all().map_err(failed)?;
        drop(file);
        self.pace.alive();
        let (there, sha256) = self.read_back(temporary)?;
        if (there, sha256) != (self.bytes, self.sha256) {
            let why = format!("{} does not hold what was written to it", temporary.display());
            return Err(ShipError::temporary(Class::Broken, why));
        }
        Ok(())
    }

    /// Gives the file its name. A link, not a renaming, which would replace what is there; where the file system knows no
    /// links, a renaming after a look.
    fn place(&self, temporary: &Path, target: &Path) -> Result<(), ShipError> {
        match fs::hard_link(temporary, target) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => self.is_there(target).map(|_| ()),
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOSYS | libc::EMLINK)
                ) =>
            {
                if self.is_there(target)? {
                    return Ok(());
                }
                fs::rename(temporary, target).map_err(|e| told(target, &e))
            }
            Err(e) => Err(told(target, &e)),
        }
    }

    /// The hash beside it, in the form of `sha256sum`, and both names durable.
    fn finish(&self, target: &Path, parent: &Path, was_there: bool) -> Result<Receipt, ShipError> {
        let file_name = target
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let sum = parent.join(format!("{file_name}.sha256"));
        let line = format!("{}  {file_name}\n", hex::encode(self.sha256));
        if fs::read(&sum).ok().as_deref() != Some(line.as_bytes()) {
            let failed = |e: io::Error| told(&sum, &e);
            let fresh = parent.join(format!(".{file_name}.sha256.part"));
            let mut file = File::create(&fresh).map_err(failed)?;
            file.write_all(line.as_bytes()).map_err(failed)?;
            if self.owner != (None, None) {
                std::os::unix::fs::chown(&fresh, self.owner.0, self.owner.1).map_err(failed)?;
            }
            file.set_permissions(fs::Permissions::from_mode(self.mode))
                .map_err(failed)?;
            file.sync_all().map_err(failed)?;
            fs::rename(&fresh, &sum).map_err(failed)?;
        }
        sync(parent)?;
        let mut receipt = Receipt {
            place: target.display().to_string(),
            ..Receipt::default()
        };
        receipt.detail.insert("was_there".into(), was_there.into());
        Ok(receipt)
    }

    fn read_back(&self, path: &Path) -> Result<(u64, [u8; 32]), ShipError> {
        let failed = |e: io::Error| told(path, &e);
        let mut file = File::open(path).map_err(failed)?;
        let mut context = digest::Context::new(&digest::SHA256);
        let mut buffer = vec![0; 256 << 10];
        let mut bytes = 0;
        loop {
            let n = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed(e)),
            };
            context.update(&buffer[..n]);
            bytes += n as u64;
            self.pace.alive();
        }
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(context.finish().as_ref());
        Ok((bytes, sha256))
    }
}

fn sync(directory: &Path) -> Result<(), ShipError> {
    let synced = File::open(directory).and_then(|dir| dir.sync_all());
    synced.map_err(|e| told(directory, &e))
}

/// What went wrong on a path. All of it may pass: room is made, a share is mounted, rights are given.
fn told(path: &Path, error: &io::Error) -> ShipError {
    let class = match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge, _) => {
            Class::Full
        }
        (io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem, _) => Class::Denied,
        (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) => Class::Missing,
        (io::ErrorKind::TimedOut, _) => Class::Timeout,
        (_, Some(libc::ESTALE | libc::EHOSTDOWN | libc::ENOTCONN)) => Class::Unreachable,
        _ => Class::Broken,
    };
    ShipError::temporary(class, format!("{}: {error}", path.display()))
}
