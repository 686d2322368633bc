//! From a `[[ship]]` to its sink.

use std::sync::Arc;

use super::{
    Context, EventSink, SegmentSink, ShipError, directory::Directory, form::Form, hec::SplunkHec,
    jsonl::Jsonl, otlp::Otlp, s3::S3, syslog::Syslog, view::HostFacts,
};
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
    let events = |sink: Box<dyn EventSink>| Ok(Sink::Events(sink));
    match &ship.to {
        ShipTo::Directory(to) => Ok(Sink::Segments(Arc::new(Directory::new(to)))),
        ShipTo::S3(to) => Ok(Sink::Segments(Arc::new(S3::new(to, context, timeout)?))),
        ShipTo::Otlp(to) => events(Box::new(Otlp::new(to, form(ship, context), context.clone())?)),
        ShipTo::Syslog(to) => {
            let sink = Syslog::new(to, form(ship, context), context.clone(), timeout)?;
            events(Box::new(sink))
        }
        ShipTo::SplunkHec(to) => {
            let sink = SplunkHec::new(to, form(ship, context), context.clone())?;
            events(Box::new(sink))
        }
        ShipTo::Jsonl(to) => events(Box::new(Jsonl::new(to.clone(), form(ship, context)))),
    }
}

fn form(ship: &Ship, context: &Context) -> Form {
    Form {
        format: ship.events.format,
        facts: HostFacts {
            raw: ship.events.raw_data,
            ..HostFacts::new(&context.host)
        },
    }
}
