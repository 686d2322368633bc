//! The identity module against an issuer: the embedded one with its faults, and a certified provider.

// Helpers of tests fail tests: clippy knows tests only by their attribute.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod issuer;
mod life;
mod provider;
mod rig;
mod tokens;
