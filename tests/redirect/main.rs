//! Real eBPF, in cgroups and network namespaces of the test's own. Needs root; being unable to run is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod counted;
mod datagrams;
mod devices;
mod doors;
mod escapes;
mod execs;
mod execs_held;
mod execs_lost;
mod execs_made_up;
mod exempt;
mod follow;
mod guard;
mod handover;
mod lifecycle;
mod matrix;
mod namespaces;
mod older;
mod older_beside;
mod older_rig;
mod older_threaded;
mod processes;
mod redirected;
mod steady;
mod storm;
mod unix;
mod upgrade;
