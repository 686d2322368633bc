//! From a `[[ship]]` to its sink.

use std::sync::Arc;

use super::{Class, Context, EventSink, SegmentSink, ShipError, directory::Directory, s3::S3};
use crate::config::{Ship, ShipTo};

/// A sink, by what it takes.
pub enum Sink {
    /// Sealed segments.
    Segments(Arc<dyn SegmentSink>),
    /// Events.
    Events(Box<dyn EventSink>),
}

/// Makes the sink of a configuration that was checked. Asks nobody yet.
///
/// # Errors
/// When a file that it names (further roots) cannot be used.
pub fn sink(ship: &Ship, context: &Context) -> Result<Sink, ShipError> {
    let timeout = ship.common.timeout;
    match &ship.to {
        ShipTo::Directory(to) => Ok(Sink::Segments(Arc::new(Directory::new(to)))),
        ShipTo::S3(to) => Ok(Sink::Segments(Arc::new(S3::new(to, context, timeout)?))),
        ShipTo::Otlp(_) => missing(ship),
        ShipTo::Syslog(_) => missing(ship),
        ShipTo::SplunkHec(_) => missing(ship),
        ShipTo::Jsonl(_) => missing(ship),
    }
}

fn missing(ship: &Ship) -> Result<Sink, ShipError> {
    let why = format!("this version has no sink of kind {}", ship.to.kind());
    Err(ShipError::permanent(Class::Local, why))
}
