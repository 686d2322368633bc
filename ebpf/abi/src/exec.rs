//! Execs: what the programs tell of processes, and what the agent tells them.

/// Bytes of the ring buffer between the programs and the agent.
pub const EVENT_BYTES: usize = 1 << 22;

/// Bytes of a program's arguments that are kept, NUL after each.
pub const ARGS: usize = 4096;

/// Bytes of the name that a program was executed by.
pub const NAME: usize = 256;

/// Executed files whose verdicts the programs remember.
pub const MAX_VERDICTS: usize = 16_384;

/// Processes that are held at once; the next one is ended.
pub const MAX_HELD: usize = 1024;

/// A workload's execs are told to the agent ([`Tag::flags`](crate::Tag)).
pub const EXEC_AUDIT: u64 = 1 << 16;
/// A workload's execs run only when they are allowed.
pub const EXEC_ENFORCE: u64 = 1 << 17;
/// A process of which the agent cannot be told is ended.
pub const EXEC_LOSS_KILLS: u64 = 1 << 18;

/// A process was made.
pub const FORKED: u32 = 1;
/// A process has a new program; a name and arguments follow the event.
pub const EXECUTED: u32 = 2;
/// A process has ended.
pub const EXITED: u32 = 3;
/// A process has left its workload.
pub const LEFT: u32 = 4;

/// The process is stopped until the agent has decided.
pub const HELD: u32 = 1;
/// The process was ended before its first instruction.
pub const KILLED: u32 = 1 << 1;
/// By a verdict that the programs remembered.
pub const REMEMBERED: u32 = 1 << 2;
/// Someone has the executed file open for writing.
pub const WRITERS: u32 = 1 << 3;
/// The arguments could not be read.
pub const NO_ARGS: u32 = 1 << 4;
/// The executed file is on a file system by which somebody makes up content and metadata as he likes, or on one of which
/// that cannot be told: it is like no file that was seen before, and what asks for it may wait for ever.
pub const MADE_UP: u32 = 1 << 5;
/// The executed file runs by itself: it is not an interpreter that the kernel has put in the place of another file.
pub const ITSELF: u32 = 1 << 6;
/// It is such an interpreter. Where neither is set, the program could not tell.
pub const INTERPRETS: u32 = 1 << 7;

/// What happened to a process of a workload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Id of the tagged cgroup.
    pub tagged: u64,
    /// Nanoseconds since boot.
    pub at_ns: u64,
    /// The process's start, nanoseconds since boot.
    pub start_ns: u64,
    /// Its parent's; of a new process, its maker's.
    pub parent_start_ns: u64,
    /// The executed file: inode number.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// When its inode changed last, seconds since 1970.
    pub ctime_s: u64,
    /// And nanoseconds.
    pub ctime_ns: u32,
    /// Its file system's device, as the kernel has it: major in the upper 12 bits, minor in the lower 20.
    pub dev: u32,
    /// [`FORKED`], [`EXECUTED`], [`EXITED`] or [`LEFT`].
    pub kind: u32,
    /// [`HELD`] and so on.
    pub flags: u32,
    /// The process.
    pub pid: u32,
    /// Its parent; of a new process, its maker.
    pub parent: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// How often this thread has executed.
    pub execs: u32,
    /// How it ended, as wait(2) has it.
    pub status: u32,
    /// Bytes of all arguments.
    pub args_bytes: u32,
    /// Bytes of them that follow, after the name.
    pub args_kept: u32,
}

/// An executed file of a workload: the key of `VERDICTS`. A file that is written to has another `ctime`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// Id of the tagged cgroup.
    pub tagged: u64,
    /// As in [`Event`], as all of these.
    pub ino: u64,
    /// Seconds.
    pub ctime_s: u64,
    /// Nanoseconds.
    pub ctime_ns: u32,
    /// Device.
    pub dev: u32,
}

/// What the agent said of a file: the value of `VERDICTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecVerdict {
    /// Until when it holds, nanoseconds since boot.
    pub until_ns: u64,
    /// The generation under which it was given; of another one it does not hold.
    pub generation: u32,
    /// 1 allows, 2 denies.
    pub effect: u32,
}

const _: () = {
    assert!(size_of::<Event>() == 7 * 8 + 12 * 4);
    assert!(size_of::<FileKey>() == 3 * 8 + 2 * 4);
    assert!(size_of::<ExecVerdict>() == 8 + 2 * 4);
};

#[cfg(feature = "user")]
mod pod {
    // Safety: plain integers without padding, as asserted above; any bytes make a valid value.
    unsafe impl aya::Pod for super::FileKey {}
    unsafe impl aya::Pod for super::ExecVerdict {}
}
