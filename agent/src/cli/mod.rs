//! The commands: what each takes, and what it does.

pub mod cgroup;
pub mod control;
pub mod enter;
pub mod run;
pub mod signals;
pub mod trust;
