//! The commands.

pub mod policy;
