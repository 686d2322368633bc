//! What an interpreter or a loader is given to run: a script, a program.
//!
//! It is opened by the name that the process has it by, which may lead anywhere, or nowhere for anybody else: then its
//! content is not known, and is said not to be.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
    sync::Arc,
};

use nix::{errno::Errno, fcntl::ResolveFlag};

use super::{
    elf,
    event::{Executed, Runs},
    file::{self, Program},
    places::{self, Served},
};
use crate::redirect::sys::process::{Shown, shown};

/// Where a process finds its own descriptors.
const DESCRIPTORS: [&str; 3] = ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"];

/// How a program comes to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By itself.
    Program,
    /// A script, or anything else that the kernel has another program run (binfmt_misc): what runs is its interpreter.
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
enum Place {
    /// A regular file that is not opened yet.
    Of(File, Shown),
    /// What cannot be told without a question to whoever makes up what is there, by its name.
    MadeUp(PathBuf),
}

/// The process that was given something.
struct Taker {
    pid: u32,
    /// Whether it has it from others, who may have other things mounted.
    foreign: bool,
}

/// What an interpreter or a loader is given to run, where it is that; opened as the process would.
pub(super) fn given(executed: &Executed, program: &Program) -> (Kind, Program) {
    let mut taker = Taker {
        pid: executed.process.0,
        foreign: false,
    };
    if program.loader {
        let name = elf::loaded(&executed.args);
        let found = name.map(|name| match taker.find(name) {
            Some(Place::Of(file, shown)) => Taker::of(&file, &shown, taker.open(&file, &shown).as_ref()),
            Some(Place::MadeUp(name)) => at(name),
            None => at(name.into()),
        });
        return (Kind::Loader, found.unwrap_or_default());
    }
    let nothing = (Kind::Program, Program::default());
    if is_by_itself(executed) {
        return nothing;
    }
    let place = executed.name_complete.then(|| taker.find(&executed.name));
    let (file, shown) = match place.flatten() {
        Some(Place::Of(file, shown)) => (file, shown),
        Some(Place::MadeUp(name)) => return (Kind::Script, at(name)),
        None if executed.name_complete => return (Kind::Script, at((&executed.name).into())),
        None => return (Kind::Script, Program::default()),
    };
    // The same file: it runs by itself.
    let same =
        || file::is_like(&shown, executed.file) && file::is_on(&file, &shown, executed.file, taker.pid);
    if executed.runs == Runs::Unknown && same() {
        return nothing;
    }
    let opened = taker.open(&file, &shown);
    (Kind::Script, Taker::of(&file, &shown, opened.as_ref()))
}

/// Whether what runs is what was executed, and no interpreter of it.
pub(super) fn is_by_itself(executed: &Executed) -> bool {
    match executed.runs {
        Runs::Itself => true,
        Runs::Interprets => false,
        Runs::Unknown => !names_itself(executed),
    }
}

/// Whether the name that was executed is among the arguments, where the kernel puts it for an interpreter.
fn names_itself(executed: &Executed) -> bool {
    let name = executed.name.as_bytes();
    let is_name = |argument: &OsString| match executed.name_complete {
        true => argument.as_bytes() == name,
        false => argument.as_bytes().starts_with(name),
    };
    // Those before it may fill what is kept.
    !executed.args_complete || executed.args.iter().skip(1).any(is_name)
}

fn at(path: PathBuf) -> Program {
    Program {
        path: Some(Arc::new(path)),
        ..Program::default()
    }
}

impl Taker {
    /// Whether the overlays on its way are the host's. In a user namespace of its own it may have mounted one over what it
    /// makes up; and nothing says of a file whose overlay it is on.
    fn has_overlays_of_host(&self) -> bool {
        let users = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).ok();
        let host = users("1").or_else(|| users("self"));
        !self.foreign && host.is_some() && users(&self.pid.to_string()) == host
    }

    /// Where a name leads that the process gave the kernel, in its root and directory.
    fn find(&mut self, name: &OsStr) -> Option<Place> {
        let bytes = name.as_bytes();
        // fexecve(3): the kernel names the descriptor, and the process may do so itself.
        let fd = DESCRIPTORS
            .iter()
            .find_map(|at| bytes.strip_prefix(at.as_bytes()));
        if let Some(fd) = fd {
            let fd = std::str::from_utf8(fd).ok()?;
            let (fd, below) = fd
                .split_once('/')
                .map_or((fd, None), |(fd, below)| (fd, Some(below)));
            let fd: u32 = fd.parse().ok()?;
            let opened = places::at(format!("/proc/{}/fd/{fd}", self.pid))?;
            self.foreign = true;
            return match below {
                None => known(opened),
                Some(below) => self.walk(&opened, OsStr::new(below)),
            };
        }
        let root = places::at(format!("/proc/{}/root", self.pid))?;
        if bytes.starts_with(b"/") {
            return self.walk(&root, name);
        }
        let mut path = fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()?;
        path.push(name);
        self.walk(&root, path.as_os_str())
    }

    /// Nobody is asked on the way but by the kernel itself. What the process has executed the kernel knows, unless whoever
    /// serves it wants to be asked each time.
    fn walk(&self, root: &File, name: &OsStr) -> Option<Place> {
        match places::find(root, name, ResolveFlag::empty()) {
            Ok(place) => known(place),
            Err(Errno::EAGAIN) if places::may_ask(self.pid, !self.has_overlays_of_host()) => {
                Some(Place::MadeUp(name.into()))
            }
            Err(Errno::EAGAIN) => known(places::search(root, name, ResolveFlag::empty()).ok()?),
            Err(_) => None,
        }
    }

    /// Opens it, if its content is the same for everybody who reads it.
    fn open(&self, file: &File, shown: &Shown) -> Option<File> {
        let steady = file::in_memory(shown.dev)
            || places::mount(file, self.pid).is_some_and(|mount| match mount.kind {
                Served::Kernel => true,
                Served::Below => self.has_overlays_of_host(),
                Served::Process => false,
            });
        steady.then(|| places::reopen(file))?
    }

    /// What is at a place, and is `opened` if its content is to be known.
    fn of(place: &File, shown: &Shown, opened: Option<&File>) -> Program {
        let Some(path) = places::path(place) else {
            return Program::default();
        };
        Program {
            host: opened.is_some_and(|file| file::is_hosts(file, &path)),
            path: Some(Arc::new(path)),
            sha256: opened.and_then(file::hash),
            memfd: file::in_memory(shown.dev),
            loader: false,
        }
    }
}

fn known(file: File) -> Option<Place> {
    let shown = shown(&file).ok()?;
    shown.regular.then_some(Place::Of(file, shown))
}
