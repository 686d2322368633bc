//! Processes of workloads: what the scheduler's tracepoints say of them.
//!
//! Unlike every other program these are on the host and not on a cgroup: each has a link of its own, pinned beside the
//! agent's, and asks for itself whether a process is a workload's.

mod attach;
mod offsets;
mod scan;

pub(super) use attach::{PROGRAMS, describe, ensure};
pub(super) use offsets::offsets;
pub(super) use scan::{forget, scan};
