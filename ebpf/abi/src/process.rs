//! Processes: what the programs remember of them.

/// Processes of workloads that the programs remember at once; those beyond them are ended. The memory is taken when they
/// are loaded, some 12 MB: a fork cannot wait for any.
pub const MAX_PROCESSES: usize = 1 << 17;

/// A process of a workload: the value of `PROCESSES`, by thread group id (initial pid namespace).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proc {
    /// Id of the tagged cgroup: the nearest tagged ancestor of the process's own, or its own.
    pub tagged: u64,
    /// The kernel's count of the execs of its threads, as of the last that the programs saw; 0 of one that was there
    /// before the tag.
    pub execs: u32,
    /// Zero.
    pub reserved: u32,
}
