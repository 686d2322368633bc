//! Shipping against real receivers: each is killed, slow, full and wrong in turn, and nothing is lost.

// A test fails by panicking.
#![allow(clippy::panic, clippy::unwrap_used)]

mod directory;
#[path = "../clients/aws/install.rs"]
mod install;
mod moto;
mod proxy;
mod rig;
mod s3s;
