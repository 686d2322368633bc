//! Processes: what the programs remember of them.

/// Threads of workloads that the programs remember at once. The memory is taken when they are loaded, some 7 MB: a fork
/// cannot wait for any.
pub const MAX_PROCS: usize = 65_536;

/// A thread of a workload: the value of `PROCS`, by thread id (initial pid namespace).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proc {
    /// Id of the tagged cgroup: the nearest tagged ancestor of the thread's own, or its own.
    pub tagged: u64,
    /// Start of its process (thread group leader), nanoseconds since boot; of one that ran before its cgroup was tagged,
    /// to a clock tick (10 ms).
    pub start_ns: u64,
    /// Its process.
    pub tgid: u32,
    /// The kernel's count of the execs of this thread, as of the last that the programs saw.
    pub execs: u32,
}
