//! Arguments, and one file per command.

mod cgroup;
mod daemon;
mod enter;
mod ledger;
mod sessions;
mod status;
mod tag;
mod time;
mod verify_bpf;
mod workload;

pub mod control;
pub mod enter;
pub mod run;
pub mod signals;
pub mod trust;
