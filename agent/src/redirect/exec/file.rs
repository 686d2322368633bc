//! What an executed file is: its path, and its content by SHA-256.
//!
//! Everything is read through the process itself (/proc/PID) or checked against what the kernel said of the file, so
//! that another file of the same name is never taken for it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    errno::Errno,
    fcntl::ResolveFlag,
    sys::memfd::{MFdFlags, memfd_create},
};

use super::{elf, event::FileId, places};
use crate::redirect::sys::{self, process::Shown};

/// Larger files are not hashed: what runs is known by its path only, which policy sees.
const MOST: u64 = 4 << 30;
/// A file that changed less than this before now may change again without another change time, where that has the
/// kernel's tick only: what is known of it is not remembered.
const SETTLED: Duration = Duration::from_secs(1);

/// What is known of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// Its path, in the process's own view; `None` where nobody could tell any more.
    pub path: Option<Arc<PathBuf>>,
    /// The host has the same file at this path: in a mount namespace of its own, or a container, a process may find
    /// anything there.
    pub host: bool,
    /// SHA-256 of its content, hex; `None` where it could not be read any more, is too large, or is made up by another
    /// process with each read (FUSE).
    pub sha256: Option<Arc<str>>,
    /// It is in memory only (memfd_create(2)).
    pub memfd: bool,
    /// It is the dynamic loader.
    pub loader: bool,
}

/// Reads what an exec runs. Blocks for as long as hashing takes.
pub(super) fn identify(pid: u32, id: FileId, name: &OsStr) -> Program {
    let own = format!("/proc/{pid}/exe");
    let opened = places::at(&own).and_then(|place| open(&place, id, pid));
    let (file, path) = match opened {
        Some(file) => (Some(file), fs::read_link(&own).ok()),
        // It has ended, or executes something else by now.
        None => match named(pid, id, name) {
            Some(file) => (Some(file), Some(name.into())),
            None => (None, None),
        },
    };
    Program {
        host: file
            .as_ref()
            .zip(path.as_ref())
            .is_some_and(|(f, p)| is_hosts(f, p)),
        path: path.map(Arc::new),
        sha256: file.as_ref().and_then(hash),
        memfd: in_memory(id.dev),
        loader: file.as_ref().is_some_and(elf::is_loader),
    }
}

/// Opens the executed file by its name, where the agent has it there, too.
fn named(pid: u32, id: FileId, name: &OsStr) -> Option<File> {
    if !Path::new(name).is_absolute() {
        return None;
    }
    let place = places::find(&places::at("/")?, name, ResolveFlag::empty()).ok()?;
    open(&place, id, pid)
}

/// Opens what is at a place, where it is the executed file.
fn open(place: &File, id: FileId, pid: u32) -> Option<File> {
    let shown = sys::process::shown(place).ok()?;
    let same = shown.regular && is_like(&shown, id) && is_on(place, &shown, id, pid);
    same.then(|| places::reopen(place))?
}

/// What is known of an executed file without a read, and all that is known of one that is made up: its path, where the
/// process still runs it.
pub(super) fn unread(pid: u32, id: FileId) -> Program {
    let own = format!("/proc/{pid}/exe");
    let same = places::at(&own).is_some_and(|place| places::inode(&place) == Some(id.ino));
    let path = same.then(|| fs::read_link(&own).ok()).flatten();
    Program {
        path: path.map(Arc::new),
        memfd: in_memory(id.dev),
        ..Program::default()
    }
}

/// Whether a process runs what has the same path in its own view.
pub(super) fn is_called(pid: u32, program: &Program) -> bool {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok();
    path.as_ref() == program.path.as_deref()
}

/// Whether nobody changes a file so soon after its change that it would not show.
pub(super) fn settled(id: FileId) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(id.changed).is_some_and(|age| age > SETTLED)
}

/// Whether what is shown is what the kernel spoke of, but for the device.
pub(super) fn is_like(shown: &Shown, id: FileId) -> bool {
    let (seconds, nanoseconds) = shown.changed;
    let changed = u64::try_from(seconds).map(|s| Duration::new(s, nanoseconds.min(999_999_999)));
    shown.ino == id.ino && shown.size == id.size && changed == Ok(id.changed)
}

/// Whether it is on the file system that the kernel spoke of. Some show another device than they have.
pub(super) fn is_on(place: &File, shown: &Shown, id: FileId, pid: u32) -> bool {
    shown.dev == id.dev || places::mount(place, pid).is_some_and(|mount| mount.device == id.dev)
}

/// Whether the host has this very file at `path`. What the host has is what its first process sees: this one may be in
/// a mount namespace of its own.
pub(super) fn is_hosts(file: &File, path: &Path) -> bool {
    let same = || {
        let root = places::at("/proc/1/root").or_else(|| places::at("/"))?;
        let (name, straight) = (path.as_os_str(), ResolveFlag::RESOLVE_NO_SYMLINKS);
        let there = match places::find(&root, name, straight) {
            // Some servers of the network are asked each time.
            Err(Errno::EAGAIN) if !places::may_ask_on(1, path) => places::search(&root, name, straight),
            found => found,
        };
        let there = there.ok()?;
        let (there, here) = (sys::process::shown(there).ok()?, sys::process::shown(file).ok()?);
        Some((there.dev, there.ino) == (here.dev, here.ino))
    };
    path.is_absolute() && same() == Some(true)
}

/// SHA-256 of a file's content, hex; `None` where it is too large or cannot be read.
pub(super) fn hash(file: &File) -> Option<Arc<str>> {
    use std::os::unix::fs::FileExt as _;
    if file.metadata().ok()?.len() > MOST {
        return None;
    }
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut buffer = vec![0; 64 * 1024];
    let mut at = 0_u64;
    while at <= MOST {
        match file.read_at(&mut buffer, at) {
            Ok(0) => return Some(hex::encode(digest.finish()).into()),
            Ok(n) => {
                digest.update(buffer.get(..n)?);
                at = at.checked_add(u64::try_from(n).ok()?)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    None
}

/// Whether a device is the kernel's own file system for files in memory: the one that such a file of ours is on.
pub(super) fn in_memory(device: u32) -> bool {
    static DEVICES: std::sync::OnceLock<Vec<u32>> = std::sync::OnceLock::new();
    let devices = DEVICES.get_or_init(|| {
        [
            MFdFlags::MFD_CLOEXEC,
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB,
        ]
        .into_iter()
        .filter_map(|flags| {
            File::from(memfd_create("portcullis", flags).ok()?)
                .metadata()
                .ok()
        })
        .map(|m| kernel_device(m.dev()))
        .collect()
    });
    devices.contains(&device)
}

/// `dev_t` as the kernel has it inside, from what stat(2) shows.
pub(super) fn kernel_device(device: u64) -> u32 {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    u32::try_from((major << 20) | minor).unwrap_or_default()
}

/// A process's working directory.
pub(super) fn cwd(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}
