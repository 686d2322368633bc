//! Shipping: what the ledger has goes to other places, and the ledger says what became of it.
//!
//! Invariants:
//! - Shipping only reads. It shares no lock with the ledger's writer, and runs on threads of its own: a slow, hanging or
//!   dead sink delays nothing and nobody but itself.
//! - A position moves on after the receiver's acknowledgement, and never before: everything arrives at least once, under
//!   a name or id that is the same each time.
//! - What cannot be shipped (rejected by the receiver, purged before its turn) is counted and on record.
//! - Memory is bounded: one batch, or one part of one segment, for each sink.
//!
//! `worker/` is the task of one sink, `shipping` all of them, `sink` what a sink is. README.md says how it is set up.

mod build;
mod context;
mod dead;
mod directory;
mod event;
mod file;
mod metrics;
mod pace;
mod s3;
mod segment;
mod shipping;
mod sink;
mod state;
mod status;
mod worker;

pub use self::{
    context::Context,
    dead::DeadLetter,
    event::Event,
    metrics::metrics,
    pace::Pace,
    segment::Segment,
    shipping::{Shipping, ShippingError},
    sink::{Accepted, Class, EventSink, Receipt, Rejected, SegmentSink, ShipError},
    status::{HeldBack, SinkError, SinkStatus},
    worker::Times,
};
