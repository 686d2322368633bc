//! Where paths lead and what is there, without a question to whoever serves it: a workload that serves files itself (FUSE)
//! answers when it likes, and what waits for that cannot be ended, not even by SIGKILL.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

/// `RESOLVE_CACHED` (linux/openat2.h, since Linux 5.12): what the kernel has to ask anybody for is EAGAIN.
const CACHED: ResolveFlag = ResolveFlag::from_bits_retain(0x20);
/// The same is said where somebody else changes directories or mounts meanwhile.
const TRIES: usize = 16;

/// What the mounts of a process say of a file's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The device of the file system as the kernel has it inside, whatever stat(2) shows.
    pub device: u32,
    /// What somebody may make up there.
    pub kind: Served,
    /// Where it is, as the process has it.
    at: PathBuf,
}

/// By whom a file system is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// By the kernel, or a server of the network.
    Kernel,
    /// By what is below, which may be anything.
    Below,
    /// By a process, or the host of a virtual machine.
    Process,
}

/// Where a link of /proc leads, or any path that a workload has no part in. The link itself is not opened.
pub(super) fn at(path: impl AsRef<Path>) -> Option<File> {
    let mut how = OpenOptions::new();
    how.read(true).custom_flags(libc::O_PATH).open(path).ok()
}

/// Where a name leads in a root, and nothing outside of it.
///
/// # Errors
/// EAGAIN where somebody would have to be asked.
pub(super) fn find(root: &File, name: &OsStr, further: ResolveFlag) -> Result<File, Errno> {
    let mut found = Err(Errno::EAGAIN);
    for _ in 0..TRIES {
        found = search(root, name, further | CACHED);
        if !matches!(found, Err(Errno::EAGAIN)) {
            break;
        }
    }
    found
}

/// The same, and whoever serves what is on the way is asked.
pub(super) fn search(root: &File, name: &OsStr, further: ResolveFlag) -> Result<File, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | further);
    openat2(root, name, how).map(File::from)
}

/// The path of an open file.
pub(super) fn path(file: &File) -> Option<PathBuf> {
    fs::read_link(descriptor(file)).ok()
}

/// Opens a place to be read.
pub(super) fn reopen(place: &File) -> Option<File> {
    File::open(descriptor(place)).ok()
}

/// Where /proc has an open file of the calling thread, which as a reader has descriptors of its own.
fn descriptor(file: &File) -> PathBuf {
    format!("/proc/thread-self/fd/{}", file.as_raw_fd()).into()
}

/// What the kernel says of an open descriptor (proc_pid_fdinfo(5)).
fn info(file: &File, name: &str) -> Option<u64> {
    let info = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", file.as_raw_fd())).ok()?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line?.trim().parse().ok()
}

/// A file's inode number as the kernel has it inside.
pub(super) fn inode(file: &File) -> Option<u64> {
    info(file, "ino")
}

/// The mount of a file, where a process or the agent has it.
pub(super) fn mount(file: &File, of: u32) -> Option<Mount> {
    let id = info(file, "mnt_id")?;
    let of = of.to_string();
    // A process with a root of its own is not shown the mount that this is in.
    [of.as_str(), "self"].into_iter().find_map(|process| {
        let mut found = None;
        mounts(process, |(number, mount)| {
            found = (number == id).then_some(mount);
            found.is_some()
        });
        found
    })
}

/// Whether a walk among the mounts of a process may have to ask another process: where one serves files, or where that is
/// not known. `overlays` says whether what is below an overlay may be such, too.
pub(super) fn may_ask(process: u32, overlays: bool) -> bool {
    let mut all = 0_u32;
    let asks = mounts(&process.to_string(), |(_, mount)| {
        all = all.saturating_add(1);
        mount.kind == Served::Process || (overlays && mount.kind == Served::Below)
    });
    asks || all == 0
}

/// Whether the way to a path, which leads by no link, may be one on which another process has to be asked.
pub(super) fn may_ask_on(process: u32, path: &Path) -> bool {
    // As mounts are read.
    let path = path.to_string_lossy().into_owned();
    let (path, mut all) = (Path::new(&path), 0_u32);
    let asks = mounts(&process.to_string(), |(_, mount)| {
        all = all.saturating_add(1);
        mount.kind == Served::Process && path.starts_with(&mount.at)
    });
    asks || all == 0
}

/// Goes through a process's mounts (proc_pid_mountinfo(5)) until `found` says so.
fn mounts(of: &str, mut found: impl FnMut((u64, Mount)) -> bool) -> bool {
    let Ok(mounts) = File::open(format!("/proc/{of}/mountinfo")) else {
        return false;
    };
    let lines = BufReader::new(mounts).split(b'\n');
    lines
        .map_while(Result::ok)
        .filter_map(|line| parse(&line))
        .any(&mut found)
}

fn parse(line: &[u8]) -> Option<(u64, Mount)> {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let id = words.next()?.parse().ok()?;
    let (major, minor) = words.nth(1)?.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    let at = unescaped(words.nth(1)?);
    let mut words = words.skip_while(|word| *word != "-");
    let kind = match words.nth(1)? {
        "overlay" => Served::Below,
        kind if kind.starts_with("fuse") || kind == "virtiofs" => Served::Process,
        _ => Served::Kernel,
    };
    let device = (major << 20) | minor;
    Some((id, Mount { device, kind, at }))
}

/// Blanks, tabs, line feeds and backslashes are octal there.
fn unescaped(word: &str) -> PathBuf {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    plain
        .iter()
        .fold(word.to_owned(), |word, (escaped, plain)| {
            word.replace(escaped, plain)
        })
        .into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn an_open_file_is_where_it_is_mounted() {
        let (this, proc) = (at("/proc/self/exe").unwrap(), File::open("/proc").unwrap());
        assert_eq!(inode(&this), Some(this.metadata().unwrap().ino()));
        let shown = proc.metadata().unwrap().dev();
        let shown = (nix::sys::stat::major(shown) << 20) | nix::sys::stat::minor(shown);
        let (of_this, of_proc) = (mount(&this, std::process::id()), mount(&proc, u32::MAX));
        assert_eq!(of_proc.as_ref().map(|m| u64::from(m.device)), Some(shown));
        assert!(of_this.is_some() && of_this != of_proc);
        let (pipe, _end) = std::io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(pipe));
        assert_eq!(mount(&pipe, 1), None, "nobody has that mounted");
        assert!(may_ask(u32::MAX, false), "of nobody nothing is known");
        assert!(
            may_ask_on(u32::MAX, Path::new("/proc")),
            "of nobody nothing is known"
        );
        assert!(
            !may_ask_on(std::process::id(), Path::new("/proc/1")),
            "the kernel serves it"
        );
    }

    #[test]
    fn who_serves_a_mount() {
        let of = |kind: &str| {
            let line = format!("36 35 98:12 / /a/b\\040c rw,noatime master:1 shared:2 - {kind} /dev/root rw");
            parse(line.as_bytes()).unwrap()
        };
        assert_eq!(of("ext4").1.device, (98 << 20) | 12);
        assert_eq!(of("ext4").1.at, Path::new("/a/b c"));
        for (kind, served) in [
            ("ext4", Served::Kernel),
            ("fuse", Served::Process),
            ("fuse.sshfs", Served::Process),
            ("fuseblk", Served::Process),
            ("virtiofs", Served::Process),
            ("overlay", Served::Below),
        ] {
            assert_eq!((of(kind).0, of(kind).1.kind), (36, served), "{kind}");
        }
        assert_eq!(parse(b"36 35 98:12 / /b rw"), None);
    }

    #[test]
    fn what_the_kernel_knows_is_found_and_nothing_outside_of_a_root() {
        let root = at("/").unwrap();
        std::fs::metadata("/etc/passwd").unwrap();
        let found = find(&root, OsStr::new("/etc/passwd"), ResolveFlag::empty()).unwrap();
        assert_eq!(path(&found).as_deref(), Some(Path::new("/etc/passwd")));
        let etc = at("/etc").unwrap();
        let inside = search(&etc, OsStr::new("../../etc/passwd"), ResolveFlag::empty());
        assert!(inside.is_err(), "{inside:?}");
    }
}
