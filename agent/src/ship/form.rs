//! The forms that an event is sent in.

use super::{
    Event, cef, ocsf,
    view::{HostFacts, View},
};
use crate::config::ship::EventFormat;

/// How events are written, and for which host.
#[derive(Clone, Debug)]
pub struct Form {
    /// Which form.
    pub format: EventFormat,
    /// Of which host.
    pub facts: HostFacts,
}

impl Form {
    /// An event's body.
    #[must_use]
    pub fn body(&self, event: &Event) -> String {
        match self.format {
            EventFormat::Ocsf => ocsf::event(&view(event), &self.facts),
            EventFormat::Cef => cef::cef(&view(event), &self.facts),
            EventFormat::Json => event.body.clone(),
        }
    }
}

/// An event, to be looked at.
#[must_use]
pub fn view(event: &Event) -> View<'_> {
    View {
        seq: event.seq.0,
        text: &event.body,
        body: &event.json,
    }
}
