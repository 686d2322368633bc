//! Processes of workloads: what the scheduler's tracepoints say of them, and what becomes of their execs.
//!
//! Unlike every other program these are on the host and not on a cgroup: each has a link of its own, pinned beside the
//! agent's, and asks for itself whether a process is a workload's. What they tell comes through one ring buffer, in
//! order, and outlives the agent as the maps do.

mod attach;
mod elf;
mod event;
mod file;
mod offsets;
mod processes;
mod scan;
mod table;

pub(super) use attach::{HELD_CALLS, PROGRAMS, describe, ensure};
pub use event::{Executed, FileId, Happened};
pub use file::{Kind, Program};
pub(super) use offsets::offsets;
pub(super) use processes::Maps;
pub use processes::Processes;
pub(super) use scan::{forget, scan};
