//! Workers with sinks that do as they are told.

mod events;
mod rig;
mod segments;
