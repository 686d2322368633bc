//! The vocabulary: what every other module speaks of, without any IO.

mod access;
mod approver;
mod aws;
mod class;
mod decision;
mod entropy;
mod entry;
mod identity;
mod ids;
mod operation;
mod origin;
mod reason;
mod secrets;
pub mod text;
mod time;
mod value;

pub use access::Access;
pub use approver::Approver;
pub use aws::{AwsClass, aws_class};
pub use class::{ClassId, ClassSet, ClassTable};
pub use decision::{Decision, Effect, HoldTerms, Obligations, Requirement};
pub use entropy::entropy;
pub use entry::{Entry, EntryKind};
pub use identity::Identity;
pub use ids::{CgroupId, OperationId, OriginalDst, Seq, SessionId, WorkloadName};
pub use operation::{Destination, Operation, Resource};
pub use origin::{Ancestor, Origin, Process, Transport};
pub use reason::Reason;
pub use secrets::SecretSink;
pub use time::Rfc3339;
pub use value::Value;

/// Which leg of a connection something belongs to.
///
/// Downstream is the workload's side, upstream the real destination's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The workload's side.
    Downstream,
    /// The real destination's side.
    Upstream,
}

/// Which way a message flows; payload frames are recorded by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the workload to the destination: a request, a statement.
    Up,
    /// From the destination to the workload: a response, rows.
    Down,
}
