//! What an interpreter or a loader is given to run: a script, a program.
//!
//! It is opened by the name that the process has it by, which may lead anywhere.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Read as _,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::statfs::{FUSE_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, fstatfs},
};

use super::{
    elf,
    event::Executed,
    file::{self, Program},
};

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

/// What a name leads to.
enum Opened {
    /// A file, and whether its content is the same for everybody who reads it.
    File(File, bool),
    /// One whose content somebody makes up, by its path: it is not read.
    MadeUp(PathBuf),
}

/// What an interpreter or a loader is given to run, where it is that; opened as the process would. Of a program that is
/// made up, nobody can tell what it does.
pub(super) fn given(executed: &Executed, program: &Program) -> (Kind, Program) {
    let pid = executed.process.0;
    if program.loader {
        let target = elf::loaded(&executed.args).map(OsStr::to_os_string);
        let target = target.map(|name| (open_as(pid, &name), name));
        let program = target.map_or_else(Program::default, |(opened, name)| match opened {
            Some(opened) => of(&opened, &name),
            None => at(name.into()),
        });
        return (Kind::Loader, program);
    }
    if executed.file.made_up {
        return (Kind::Program, Program::default());
    }
    let nothing = (Kind::Program, Program::default());
    let Some(opened) = open_as(pid, &executed.name) else {
        return nothing;
    };
    if let Opened::File(script, _) = &opened {
        // The same file: it runs by itself.
        let same = script
            .metadata()
            .is_ok_and(|shown| file::is_like(&shown, executed.file));
        if same || !is_script(script) {
            return nothing;
        }
    }
    (Kind::Script, of(&opened, &executed.name))
}

fn at(path: PathBuf) -> Program {
    Program {
        path: Some(Arc::new(path)),
        ..Program::default()
    }
}

fn of(opened: &Opened, name: &OsStr) -> Program {
    let (file, steady) = match opened {
        Opened::File(file, steady) => (file, *steady),
        Opened::MadeUp(path) => return at(path.clone()),
    };
    let path = path(file).unwrap_or_else(|| name.into());
    let host = file::is_hosts(file, &path);
    Program {
        host,
        path: Some(Arc::new(path)),
        sha256: (steady || host).then(|| file::hash(file)).flatten(),
        memfd: file
            .metadata()
            .is_ok_and(|m| file::in_memory(file::kernel_device(m.dev()))),
        loader: false,
    }
}

/// Opens a file by the name that a process gave the kernel, in that process's root and directory.
fn open_as(pid: u32, name: &OsStr) -> Option<Opened> {
    let bytes = name.as_bytes();
    // fexecve(3): the kernel names the descriptor.
    if let Some(fd) = bytes.strip_prefix(b"/dev/fd/") {
        let fd = std::str::from_utf8(fd).ok()?;
        let (fd, below) = fd
            .split_once('/')
            .map_or((fd, None), |(fd, below)| (fd, Some(below)));
        let fd: u32 = fd.parse().ok()?;
        let place = file::place(Path::new(&format!("/proc/{pid}/fd/{fd}")))?;
        // Others may have opened it, in a user namespace of theirs.
        return match below {
            None => open(&place, false),
            Some(below) => open(&find(&place, OsStr::new(below))?, false),
        };
    }
    let root = File::open(format!("/proc/{pid}/root")).ok()?;
    // The way there leads by no link of /proc, and so through nothing but what is mounted for the process.
    let steady = has_users_of_host(pid);
    if bytes.starts_with(b"/") {
        return open(&find(&root, name)?, steady);
    }
    let mut path = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    path.push(name);
    open(&find(&root, path.as_os_str())?, steady)
}

/// Whether a process is in the host's user namespace. In another one it may have mounted an overlay over what it makes up.
fn has_users_of_host(pid: u32) -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).ok();
    let host = of("1").or_else(|| of("self"));
    host.is_some() && of(&pid.to_string()) == host
}

/// Where a name leads in a root, and nothing outside of it.
fn find(root: &File, name: &OsStr) -> Option<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    openat2(root, name, how).ok().map(File::from)
}

/// Opens a regular file. `steady` says whether an overlay is one of those
/// that the host has mounted, which nothing says of the file itself; those of containers are, and what they have is made up
/// by nobody.
fn open(place: &File, steady: bool) -> Option<Opened> {
    let magic = fstatfs(place).ok()?.filesystem_type();
    if magic == FUSE_SUPER_MAGIC {
        return path(place).map(Opened::MadeUp);
    }
    let steady = steady || magic != OVERLAYFS_SUPER_MAGIC;
    Some(Opened::File(file::reopen(place)?, steady))
}

/// The path of an open file.
fn path(file: &File) -> Option<PathBuf> {
    fs::read_link(file::descriptor(file)).ok()
}

fn is_script(mut file: &File) -> bool {
    let mut start = [0; 2];
    file.read_exact(&mut start).is_ok() && start == *b"#!"
}
