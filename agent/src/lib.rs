//! Portcullis: a host agent that gates everything an AI agent's processes do on a host.
//!
//! `ARCHITECTURE.md` beside this crate has the life of a connection and the direction of imports.

pub mod clock;
pub mod config;
pub mod io;
pub mod mask;
pub mod model;
