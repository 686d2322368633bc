//! Shipping: what the ledger has goes to other places, and the ledger says what became of it.
//!
//! Invariants:
//! - Shipping only reads. It shares no lock with the ledger's writer, and runs on threads of its own: a slow, hanging or
//!   dead sink delays nothing and nobody but itself.
//! - A position moves on after the receiver's acknowledgement, and never before: everything arrives at least once, under
//!   a name or id that is the same each time.
//! - What cannot be shipped (rejected by the receiver, purged before its turn) is counted and on record.
//! - Memory is bounded: one batch, or one part of one segment, for each sink.

mod build;
pub mod cef;
mod context;
mod event;
pub mod form;
pub mod jsonl;
mod net;
pub mod ocsf;
mod pace;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
mod segment;
mod sink;
pub mod view;

pub use self::{
    context::Context,
    event::Event,
    pace::Pace,
    segment::Segment,
    sink::{Accepted, Class, EventSink, Receipt, Rejected, SegmentSink, ShipError},
};
