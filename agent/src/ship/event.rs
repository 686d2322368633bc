//! An entry on its way to a sink of events.

use serde_json::Value;

use crate::{ledger::Recorded, model::Seq};

/// An entry, as it was recorded and as a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its place in the ledger: with the host it names the entry for ever.
    pub seq: Seq,
    /// Canonical JSON, as hashed.
    pub body: String,
    /// The same, read.
    pub json: Value,
}

impl Event {
    /// From a recorded entry. A body that is not JSON (a damaged ledger) becomes null: sinks reject what they cannot
    /// put into their form.
    #[must_use]
    pub fn new(recorded: Recorded) -> Self {
        let json = serde_json::from_str(&recorded.body).unwrap_or(Value::Null);
        Self {
            seq: recorded.seq,
            body: recorded.body,
            json,
        }
    }

    /// A member of the body that is text, or nothing.
    #[must_use]
    pub fn text(&self, member: &str) -> &str {
        self.json.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    /// The entry's id: the same whenever it is sent.
    #[must_use]
    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// `operation`, `outcome`, ...
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("kind")
    }

    /// When, RFC 3339 with nine decimals.
    #[must_use]
    pub fn at(&self) -> &str {
        self.text("at")
    }

    /// Whether it is the record of shipping itself. Such an entry is shipped, but asks for no acknowledgement of its
    /// own: otherwise two sinks would keep each other busy for ever.
    #[must_use]
    pub fn is_about_shipping(&self) -> bool {
        self.kind() == "ledger"
            && matches!(
                self.text("event"),
                "shipped" | "ship_failing" | "ship_recovered" | "ship_rejected"
            )
    }
}
