//! Real eBPF, in cgroups and network namespaces of the test's own. Needs root; being unable to run is a failure.

mod doors;
mod follow;
mod guard;
mod lifecycle;
mod redirected;
mod storm;
