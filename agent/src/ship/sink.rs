//! What a sink is, what it is given, and what it says.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use super::{Event, Segment};
use crate::model::Seq;

/// Takes sealed segments. One `put` at a time.
pub trait SegmentSink: Send + Sync {
    /// Puts a segment in its place, whole or not at all, under [`Segment::name`]. A segment that is there already with
    /// the same content is acknowledged again. Dropped when it makes no progress in time: nothing half may be left
    /// where it could be taken for a segment.
    fn put<'a>(&'a self, segment: &'a Segment) -> BoxFuture<'a, Result<Receipt, ShipError>>;
}

/// Takes events, in the order of their places. One `send` at a time.
pub trait EventSink: Send {
    /// Sends a batch, which is not empty. Done when the receiver has acknowledged as much as its protocol can: what is
    /// said to be taken is never sent again by itself, and everything else is. Dropped when it takes too long: a
    /// connection that it leaves in an unknown state must not be used again.
    fn send<'a>(&'a mut self, batch: &'a [Event]) -> BoxFuture<'a, Result<Accepted, ShipError>>;

    /// Whether it is kept after failures: it reads again by itself what may have changed (roots, secrets), or has
    /// something that the next one would lack.
    fn lasts(&self) -> bool {
        false
    }
}

/// What a receiver said to a segment, or to a batch: for the acknowledgement on record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Where it is now: a path, an object's URL, a receiver's address. Nothing secret.
    pub place: String,
    /// What else the receiver said: a version, an etag, a request id. Canonical JSON takes integers only.
    pub detail: Map<String, Value>,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// How many events from the batch's beginning are done with: taken, or rejected. The others are sent again; none
    /// at all counts as a temporary failure.
    pub done: usize,
    /// Which of those the receiver will never take.
    pub rejected: Vec<Rejected>,
    /// What it said.
    pub receipt: Receipt,
}

impl Accepted {
    /// All of a batch was taken.
    #[must_use]
    pub fn all(batch: &[Event], receipt: Receipt) -> Self {
        Self {
            done: batch.len(),
            rejected: Vec::new(),
            receipt,
        }
    }
}

/// An event that a receiver will never take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its place.
    pub seq: Seq,
    /// What kind of trouble.
    pub class: Class,
    /// What the receiver said; nothing secret. Cut short where it is recorded.
    pub why: String,
}

/// What kind of trouble; counts go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// No connection: no name, no route, nobody listens, TLS that cannot be verified.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The connection broke, or the answer makes no sense.
    Broken,
    /// The receiver knows who asks, or does not, and says no.
    Denied,
    /// What it should be put into is not there: a bucket, a directory, an index.
    Missing,
    /// No room.
    Full,
    /// The receiver asks to come later.
    Busy,
    /// Something else is there under the same name.
    Conflict,
    /// The receiver does not take this one, whoever sends it.
    Invalid,
    /// It is larger than what the receiver takes.
    TooLarge,
    /// What should be sent cannot be read or put into the receiver's form on this host.
    Local,
}

impl Class {
    /// The word in entries, status and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Denied => "denied",
            Self::Missing => "missing",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::TooLarge => "too_large",
            Self::Local => "local",
        }
    }
}

/// Why a sink did not take something. The texts hold nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShipError {
    /// It may take it later: the same is tried again, after a pause, for as long as it takes. Also what only an admin
    /// can mend (a wrong key, a bucket that is not there): nothing of what is shipped is at fault.
    #[error("{class}: {why}", class = .class.as_str())]
    Temporary {
        /// What kind of trouble.
        class: Class,
        /// What happened.
        why: String,
        /// When the receiver wants to be asked again.
        after: Option<Duration>,
    },
    /// It will never take this segment, or any event of this batch: they become dead letters.
    #[error("{class}: {why}", class = .class.as_str())]
    Permanent {
        /// What kind of trouble.
        class: Class,
        /// What the receiver said.
        why: String,
    },
    /// The batch is larger than it takes: it is halved; a single event becomes a dead letter.
    #[error("too large: {why}")]
    TooLarge {
        /// What the receiver said.
        why: String,
    },
}

impl ShipError {
    /// A failure that may pass.
    #[must_use]
    pub fn temporary(class: Class, why: impl Into<String>) -> Self {
        Self::Temporary {
            class,
            why: why.into(),
            after: None,
        }
    }

    /// A failure that will not pass.
    #[must_use]
    pub fn permanent(class: Class, why: impl Into<String>) -> Self {
        Self::Permanent {
            class,
            why: why.into(),
        }
    }

    /// What kind of trouble.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Temporary { class, .. } | Self::Permanent { class, .. } => *class,
            Self::TooLarge { .. } => Class::TooLarge,
        }
    }

    /// What happened.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Temporary { why, .. } | Self::Permanent { why, .. } | Self::TooLarge { why } => why,
        }
    }
}
