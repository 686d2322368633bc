//! Shipping against real receivers: each is killed, slow, full and wrong in turn, and nothing is lost.

// A test fails by panicking.
#![allow(clippy::panic, clippy::unwrap_used)]
