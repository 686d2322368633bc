//! Real eBPF, in cgroups and network namespaces of the test's own. Needs root; being unable to run is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod datagrams;
mod doors;
mod execs;
mod follow;
mod guard;
mod lifecycle;
mod processes;
mod redirected;
mod storm;
