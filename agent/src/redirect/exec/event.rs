//! What the programs tell, read from the bytes of the ring buffer.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _, time::Duration};

use portcullis_abi as abi;

use crate::model::CgroupId;

/// A file as the kernel tells it from others: another content has another change time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    /// Device, as the kernel has it.
    pub dev: u32,
    /// Inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Change time since 1970.
    pub changed: Duration,
    /// Somebody makes up its content, and all of the above but the device: it may claim to be any file. Nothing said of
    /// it is remembered, and it is not opened.
    pub made_up: bool,
}

impl FileId {
    /// Bytes to be read of it.
    pub(super) fn read_bytes(self) -> u64 {
        if self.made_up { 0 } else { self.size }
    }
}

/// How the executed file comes to run, as the kernel says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// It is what was executed.
    Itself,
    /// It is the interpreter of what was executed.
    Interprets,
    /// One or the other: this kernel's programs cannot tell.
    Unknown,
}

/// A process has a new program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// The workload's tagged cgroup.
    pub tagged: CgroupId,
    /// The process, and when it started: nanoseconds since boot.
    pub process: (u32, u64),
    /// Its parent.
    pub parent: (u32, u64),
    /// How often the process has executed: with it, a name of this run.
    pub execs: u32,
    /// Nanoseconds since boot.
    pub at_ns: u64,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// What runs: of a script the interpreter.
    pub file: FileId,
    /// Whether that was executed, or stands for something else.
    pub runs: Runs,
    /// What it was executed by, as the caller wrote it.
    pub name: OsString,
    /// Whether all of the name is here.
    pub name_complete: bool,
    /// Its arguments, as far as they are kept.
    pub args: Vec<OsString>,
    /// Bytes of all of them.
    pub args_bytes: u32,
    /// Whether all of them are here.
    pub args_complete: bool,
    /// It is stopped until it is decided.
    pub held: bool,
    /// It was ended before its first instruction.
    pub killed: bool,
    /// By a verdict that the kernel remembered, or let run by one.
    pub remembered: bool,
    /// Someone has the file open for writing.
    pub writers: bool,
}

/// What happened to a process of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was made.
    Forked {
        /// It, and when it started.
        process: (u32, u64),
        /// Its maker.
        parent: (u32, u64),
    },
    /// It has a new program.
    Executed(Box<Executed>),
    /// It has ended.
    Exited {
        /// It.
        process: (u32, u64),
        /// Nanoseconds since boot.
        at_ns: u64,
        /// As wait(2) has it.
        status: u32,
    },
    /// It has left its workload, and nothing more is told of it.
    Left {
        /// It.
        process: (u32, u64),
        /// Nanoseconds since boot.
        at_ns: u64,
    },
}

/// Little by little, in the order of [`abi::Event`], which has no padding.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn u64(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_ne_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*bytes))
    }

    fn event(&mut self) -> Option<abi::Event> {
        Some(abi::Event {
            tagged: self.u64()?,
            at_ns: self.u64()?,
            start_ns: self.u64()?,
            parent_start_ns: self.u64()?,
            ino: self.u64()?,
            size: self.u64()?,
            ctime_s: self.u64()?,
            ctime_ns: self.u32()?,
            dev: self.u32()?,
            kind: self.u32()?,
            flags: self.u32()?,
            pid: self.u32()?,
            parent: self.u32()?,
            uid: self.u32()?,
            gid: self.u32()?,
            execs: self.u32()?,
            status: self.u32()?,
            args_bytes: self.u32()?,
            args_kept: self.u32()?,
        })
    }
}

/// Reads an event; `None` where it is none of this layout.
pub(super) fn parse(bytes: &[u8]) -> Option<Happened> {
    let mut reader = Reader(bytes);
    let event = reader.event()?;
    let (process, parent) = ((event.pid, event.start_ns), (event.parent, event.parent_start_ns));
    match event.kind {
        abi::FORKED => Some(Happened::Forked { process, parent }),
        abi::EXITED => Some(Happened::Exited {
            process,
            at_ns: event.at_ns,
            status: event.status,
        }),
        abi::LEFT => Some(Happened::Left {
            process,
            at_ns: event.at_ns,
        }),
        abi::EXECUTED => {
            let (name, rest) = reader.0.split_at_checked(abi::NAME)?;
            let kept = rest.get(..usize::try_from(event.args_kept).ok()?)?;
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            let has = |flag| event.flags & flag != 0;
            let runs = match (has(abi::ITSELF), has(abi::INTERPRETS)) {
                (true, false) => Runs::Itself,
                (false, true) => Runs::Interprets,
                _ => Runs::Unknown,
            };
            let changed = Duration::new(event.ctime_s, event.ctime_ns.min(999_999_999));
            Some(Happened::Executed(Box::new(Executed {
                tagged: CgroupId(event.tagged),
                process,
                parent,
                execs: event.execs,
                at_ns: event.at_ns,
                uid: event.uid,
                gid: event.gid,
                file: FileId {
                    dev: event.dev,
                    ino: event.ino,
                    size: event.size,
                    changed,
                    made_up: has(abi::MADE_UP),
                },
                runs,
                // One that just fits looks as one that was cut.
                name_complete: name.len() < abi::NAME - 1,
                name: OsString::from_vec(name.to_vec()),
                args: arguments(kept),
                args_bytes: event.args_bytes,
                args_complete: event.args_kept == event.args_bytes && !has(abi::NO_ARGS),
                held: has(abi::HELD),
                killed: has(abi::KILLED),
                remembered: has(abi::REMEMBERED),
                writers: has(abi::WRITERS),
            })))
        }
        _ => None,
    }
}

/// Each ends with NUL; the last may have been cut.
fn arguments(kept: &[u8]) -> Vec<OsString> {
    let kept = kept.strip_suffix(&[0]).unwrap_or(kept);
    if kept.is_empty() {
        return Vec::new();
    }
    kept.split(|b| *b == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect()
}

#[cfg(test)]
pub(super) fn bytes(event: &abi::Event, rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [
        event.tagged,
        event.at_ns,
        event.start_ns,
        event.parent_start_ns,
        event.ino,
        event.size,
        event.ctime_s,
    ] {
        out.extend(word.to_ne_bytes());
    }
    for word in [
        event.ctime_ns,
        event.dev,
        event.kind,
        event.flags,
        event.pid,
        event.parent,
        event.uid,
        event.gid,
        event.execs,
        event.status,
        event.args_bytes,
        event.args_kept,
    ] {
        out.extend(word.to_ne_bytes());
    }
    out.extend(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_exec_with_cut_arguments() {
        let mut rest = [0; abi::NAME].to_vec();
        rest[..4].copy_from_slice(b"./ls");
        rest.extend(b"ls\0\0-l");
        let event = abi::Event {
            kind: abi::EXECUTED,
            pid: 7,
            start_ns: 9,
            execs: 3,
            flags: abi::HELD,
            args_bytes: 8,
            args_kept: 6,
            ..abi::Event::default()
        };
        let Some(Happened::Executed(executed)) = parse(&bytes(&event, &rest)) else {
            panic!("no exec");
        };
        assert_eq!((executed.process, executed.execs), ((7, 9), 3));
        assert_eq!(executed.name, "./ls");
        assert_eq!(executed.args, ["ls", "", "-l"]);
        assert!(executed.held && !executed.killed && !executed.args_complete);
    }

    #[test]
    fn the_reader_has_the_layout_of_the_programs() {
        assert_eq!(bytes(&abi::Event::default(), &[]).len(), size_of::<abi::Event>());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(kind in 0_u32..6, kept: u32, rest in proptest::collection::vec(any::<u8>(), 0..600)) {
            let event = abi::Event { kind, args_kept: kept, ..abi::Event::default() };
            let _any = parse(&bytes(&event, &rest));
            let _any = parse(&rest);
        }
    }
}
