//! What an executed file is: its path, its content by SHA-256, and what it is told to run.
//!
//! Everything is read through the process itself (/proc/PID) or checked against what the kernel said of the file, so
//! that another file of the same name is never taken for it.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::{
        memfd::{MFdFlags, memfd_create},
        statfs::{FUSE_SUPER_MAGIC, fstatfs},
    },
};

use super::{
    elf,
    event::{Executed, FileId},
};

/// Larger files are not hashed: what runs is known by its path only, which policy sees.
const MOST: u64 = 4 << 30;
/// A file that changed less than this before now may change again without another change time, where that has the
/// kernel's tick only: what is known of it is not remembered.
const SETTLED: Duration = Duration::from_secs(1);

/// How a program comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By itself.
    Program,
    /// A script: what runs is its interpreter.
    Script,
    /// By the dynamic loader, executed as a program.
    Loader,
}

impl Kind {
    /// The word in entries and policies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Script => "script",
            Self::Loader => "loader",
        }
    }
}

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
    let opened = File::open(&own).ok().filter(|file| is(file, id));
    let (file, path) = match opened {
        Some(file) => (Some(file), fs::read_link(&own).ok()),
        // It has ended, or executes something else by now.
        None => {
            let path = Path::new(name);
            let file = path
                .is_absolute()
                .then(|| regular(File::open("/").ok()?, name))
                .flatten();
            match file.filter(|file| is(file, id)) {
                Some(file) => (Some(file), Some(path.to_path_buf())),
                None => (None, None),
            }
        }
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

/// Whether a process runs what has the same path in its own view.
pub(super) fn is_called(pid: u32, program: &Program) -> bool {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok();
    path.as_ref() == program.path.as_deref()
}

/// What an interpreter or a loader is given to run, where it is that; opened as the process would.
pub(super) fn given(executed: &Executed, program: &Program) -> (Kind, Program) {
    let pid = executed.process.0;
    if program.loader {
        let target = elf::loaded(&executed.args).map(OsStr::to_os_string);
        return (
            Kind::Loader,
            target.map_or_else(Program::default, |t| as_process(pid, &t)),
        );
    }
    let Some(script) = open_as(pid, &executed.name) else {
        return (Kind::Program, Program::default());
    };
    // The same file: it runs by itself.
    if is(&script, executed.file) || !is_script(&script) {
        return (Kind::Program, Program::default());
    }
    (Kind::Script, of_file(&script, &executed.name))
}

/// Whether nobody changes a file so soon after its change that it would not show.
pub(super) fn settled(id: FileId) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.checked_sub(id.changed).is_some_and(|age| age > SETTLED)
}

/// Whether it is the file that the kernel spoke of. Not by its device: some file systems show another one to stat(2).
fn is(file: &File, id: FileId) -> bool {
    file.metadata().is_ok_and(|m| {
        let nanoseconds = u32::try_from(m.ctime_nsec()).unwrap_or_default();
        let changed = u64::try_from(m.ctime()).map(|s| Duration::new(s, nanoseconds));
        m.ino() == id.ino && m.size() == id.size && changed == Ok(id.changed)
    })
}

/// Whether the host has this very file at `path`. What the host has is what its first process sees: this one may be in
/// a mount namespace of its own.
fn is_hosts(file: &File, path: &Path) -> bool {
    let same = || {
        let root = File::open("/proc/1/root").or_else(|_| File::open("/")).ok()?;
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let there = File::from(openat2(root, path, how).ok()?).metadata().ok()?;
        let here = file.metadata().ok()?;
        Some((there.dev(), there.ino()) == (here.dev(), here.ino()))
    };
    path.is_absolute() && same() == Some(true)
}

fn as_process(pid: u32, name: &OsStr) -> Program {
    open_as(pid, name).map_or_else(
        || Program {
            path: Some(Arc::new(name.into())),
            ..Program::default()
        },
        |file| of_file(&file, name),
    )
}

fn of_file(file: &File, name: &OsStr) -> Program {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let path = path.unwrap_or_else(|_| name.into());
    Program {
        host: is_hosts(file, &path),
        path: Some(Arc::new(path)),
        sha256: hash(file),
        memfd: file.metadata().is_ok_and(|m| in_memory(kernel_device(m.dev()))),
        loader: false,
    }
}

/// Opens a file by the name that a process gave the kernel, in that process's root and directory.
fn open_as(pid: u32, name: &OsStr) -> Option<File> {
    let bytes = name.as_bytes();
    // fexecve(3): the kernel names the descriptor.
    if let Some(fd) = bytes.strip_prefix(b"/dev/fd/") {
        let fd = std::str::from_utf8(fd).ok()?;
        let (fd, below) = fd
            .split_once('/')
            .map_or((fd, None), |(fd, below)| (fd, Some(below)));
        let fd: u32 = fd.parse().ok()?;
        let opened = format!("/proc/{pid}/fd/{fd}");
        return match below {
            None => File::open(opened).ok().filter(is_regular),
            Some(below) => regular(File::open(opened).ok()?, OsStr::new(below)),
        };
    }
    let root = File::open(format!("/proc/{pid}/root")).ok()?;
    if bytes.starts_with(b"/") {
        return regular(root, name);
    }
    let mut path = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    path.push(name);
    regular(root, path.as_os_str())
}

/// Opens a regular file in a root, and nothing outside of it; never a device, and without waiting for a pipe.
fn regular(root: File, name: &OsStr) -> Option<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let place = openat2(root, name, how).ok()?;
    let place = File::from(place);
    if !is_regular(&place) {
        return None;
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).ok()
}

fn is_regular(file: &File) -> bool {
    file.metadata().is_ok_and(|m| m.is_file())
}

fn is_script(mut file: &File) -> bool {
    let mut start = [0; 2];
    file.read_exact(&mut start).is_ok() && start == *b"#!"
}

fn hash(file: &File) -> Option<Arc<str>> {
    use std::os::unix::fs::FileExt as _;
    if file.metadata().ok()?.len() > MOST || fstatfs(file).ok()?.filesystem_type() == FUSE_SUPER_MAGIC {
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
fn in_memory(device: u32) -> bool {
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
fn kernel_device(device: u64) -> u32 {
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    u32::try_from((major << 20) | minor).unwrap_or_default()
}

/// A process's working directory.
pub(super) fn cwd(pid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}
