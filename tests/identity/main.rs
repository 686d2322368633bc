//! The identity module against an issuer: the embedded one with its faults, and a certified provider.

mod issuer;
mod life;
mod provider;
mod rig;
mod tokens;
