//! What is known of executed files: each is read once, and remembered as long as it is the same.

use std::{
    collections::HashMap,
    ffi::OsStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    event::{Executed, FileId},
    file::{self, Program},
    given::{self, Kind},
    table::{Id, Node},
};
use crate::model::Ancestor;

/// Files that are remembered.
const MOST: usize = 4096;

/// What an exec runs, as far as it could be read.
#[derive(Clone, Debug)]
pub struct Found {
    /// The executed file: of a script the interpreter.
    pub program: Arc<Program>,
    /// How it comes to run.
    pub kind: Kind,
    /// The script, or what the loader is to run.
    pub given: Program,
    /// Where it runs.
    pub cwd: Option<std::path::PathBuf>,
    /// What it comes from, nearest first.
    pub parents: Vec<Ancestor>,
    /// Nothing was read, as that took too long: nobody knows what it is.
    pub unread: bool,
}

/// Those that were read. Has no descriptors: a reader may be the last who has it.
#[derive(Default)]
pub(super) struct Files(Mutex<HashMap<FileId, Arc<Program>>>);

impl Files {
    fn lock(&self) -> MutexGuard<'_, HashMap<FileId, Arc<Program>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What can be said of a file without a read, which never waits: it was read before, or is not to be read at all.
    /// What the host does not have at its path is another file's name elsewhere.
    pub(super) fn known(&self, pid: u32, id: FileId) -> Option<Arc<Program>> {
        if id.made_up {
            return Some(Arc::new(file::unread(pid, id)));
        }
        let known = self.lock().get(&id).cloned()?;
        (known.host || file::is_called(pid, &known)).then_some(known)
    }

    /// A file. Blocks for as long as hashing takes.
    fn program(&self, pid: u32, id: FileId, name: &OsStr) -> Arc<Program> {
        if let Some(known) = self.known(pid, id) {
            return known;
        }
        let program = Arc::new(file::identify(pid, id, name));
        if program.sha256.is_some() && !program.memfd && file::settled(id) {
            let mut files = self.lock();
            if files.len() >= MOST {
                files.clear();
            }
            files.insert(id, Arc::clone(&program));
        }
        program
    }

    /// What an exec runs, and what it comes from. Blocks for as long as hashing takes.
    pub(super) fn look(&self, executed: &Executed, ancestors: Vec<(Id, Node)>) -> Found {
        let pid = executed.process.0;
        let program = self.program(pid, executed.file, &executed.name);
        let (kind, given) = given::given(executed, &program);
        Found {
            program,
            kind,
            given,
            cwd: file::cwd(pid),
            parents: self.describe(ancestors),
            unread: false,
        }
    }

    /// The same where nothing has to be read: a program that was read before and is given nothing to run, and comes from
    /// such. Never waits.
    pub(super) fn at_once(&self, executed: &Executed, ancestors: &[(Id, Node)]) -> Option<Found> {
        let pid = executed.process.0;
        if !given::is_by_itself(executed) {
            return None;
        }
        let program = self.known(pid, executed.file).filter(|known| !known.loader)?;
        Some(Found {
            program,
            kind: Kind::Program,
            given: Program::default(),
            cwd: file::cwd(pid),
            parents: self.all_known(ancestors)?,
            unread: false,
        })
    }

    /// The same without a read.
    pub(super) fn unread(&self, executed: &Executed, ancestors: Vec<(Id, Node)>) -> Found {
        let pid = executed.process.0;
        let known = self.known(pid, executed.file);
        Found {
            program: known.unwrap_or_else(|| Arc::new(file::unread(pid, executed.file))),
            kind: Kind::Program,
            given: Program::default(),
            cwd: file::cwd(pid),
            parents: self.describe_known(ancestors),
            unread: true,
        }
    }

    /// Programs of processes. Blocks for as long as hashing takes.
    pub(super) fn describe(&self, processes: Vec<(Id, Node)>) -> Vec<Ancestor> {
        let describe = |(id, node): (Id, Node)| {
            let program = node.file.map(|(file, name)| self.program(id.0, file, &name));
            ancestor(id, program)
        };
        processes.into_iter().map(describe).collect()
    }

    /// The same without a read: what would have to be read is left out.
    pub(super) fn describe_known(&self, processes: Vec<(Id, Node)>) -> Vec<Ancestor> {
        let describe = |(id, node): (Id, Node)| {
            let program = node.file.and_then(|(file, _)| self.known(id.0, file));
            ancestor(id, program)
        };
        processes.into_iter().map(describe).collect()
    }

    /// The same where nothing would be left out.
    pub(super) fn all_known(&self, processes: &[(Id, Node)]) -> Option<Vec<Ancestor>> {
        let describe = |(id, node): &(Id, Node)| {
            let program = match &node.file {
                Some((file, _)) => Some(self.known(id.0, *file)?),
                None => None,
            };
            Some(ancestor(*id, program))
        };
        processes.iter().map(describe).collect()
    }
}

fn ancestor((pid, start_ns): Id, program: Option<Arc<Program>>) -> Ancestor {
    Ancestor {
        pid,
        start_ns,
        exe: program.as_ref().and_then(|p| p.path.clone()),
        sha256: program.and_then(|p| p.sha256.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use portcullis_abi as abi;

    use super::*;
    use crate::redirect::exec::event::{Happened, bytes, parse};

    /// This process, as if it had just been executed by the name `/x`.
    fn executed(flags: u32, args: &[u8]) -> Executed {
        let file = std::fs::metadata("/proc/self/exe").unwrap();
        let event = abi::Event {
            kind: abi::EXECUTED,
            pid: std::process::id(),
            ino: file.ino(),
            size: file.size(),
            ctime_s: file.ctime().cast_unsigned(),
            ctime_ns: u32::try_from(file.ctime_nsec()).unwrap(),
            dev: file::kernel_device(file.dev()),
            flags,
            args_bytes: u32::try_from(args.len()).unwrap(),
            args_kept: u32::try_from(args.len()).unwrap(),
            ..abi::Event::default()
        };
        let mut rest = [0; abi::NAME].to_vec();
        rest[..2].copy_from_slice(b"/x");
        rest.extend(args);
        match parse(&bytes(&event, &rest)) {
            Some(Happened::Executed(executed)) => *executed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_read_is_told_at_once_and_nothing_else() {
        let files = Files::default();
        let itself = executed(abi::ITSELF, b"x\0");
        assert!(files.at_once(&itself, &[]).is_none(), "not read yet");
        // This test may just have been built.
        while !file::settled(itself.file) {
            std::thread::yield_now();
        }
        let looked = files.look(&itself, Vec::new());
        assert!(looked.program.sha256.is_some());
        let told = files.at_once(&itself, &[]).unwrap();
        assert_eq!(
            (told.program, told.kind, told.cwd),
            (looked.program, looked.kind, looked.cwd)
        );
        // What it is the interpreter of has to be looked at, also where the kernel's programs cannot tell.
        assert!(files.at_once(&executed(abi::INTERPRETS, b"x\0"), &[]).is_none());
        assert!(files.at_once(&executed(0, b"sh\0/x\0"), &[]).is_none());
        assert!(files.at_once(&executed(0, b"/x\0-x\0"), &[]).is_some());
        let parent = |ino| {
            let file = FileId { ino, ..itself.file };
            let mut node = Node::default();
            node.file = Some((file, OsStr::new("/x").into()));
            [((std::process::id(), 0), node)]
        };
        let told = files.at_once(&itself, &parent(itself.file.ino)).unwrap();
        assert!(told.parents[0].sha256.is_some());
        assert!(files.at_once(&itself, &parent(0)).is_none());
    }
}
