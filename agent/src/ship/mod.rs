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
pub mod cef;
mod context;
mod dead;
mod directory;
mod event;
mod file;
pub mod form;
pub mod hec;
pub mod jsonl;
mod look;
mod metrics;
mod net;
pub mod ocsf;
pub mod otlp;
mod pace;
mod s3;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
mod segment;
mod shipping;
mod sink;
mod state;
mod status;
pub mod syslog;
pub mod view;
mod web;
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
