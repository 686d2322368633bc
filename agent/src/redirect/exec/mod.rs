//! Processes of workloads: what the scheduler's tracepoints say of them, and what becomes of their execs.
//!
//! Who belongs to a workload the guard's programs find out (`guard`); where the workload's switches say so, they tell of it.
//! What they tell comes through one ring buffer, in order, and outlives the agent as the maps do.

mod elf;
mod event;
mod file;
mod files;
mod given;
mod places;
mod processes;
mod readers;
mod table;

pub use event::{Executed, FileId, Happened};
pub use file::Program;
pub use files::Found;
pub use given::Kind;
pub(super) use processes::Maps;
pub use processes::Processes;
