//! Sinks in the text of `/metrics`.

use std::fmt::Write as _;

use super::SinkStatus;

/// One family: its name below `portcullis_ship_`, its type, what it says, and its value for a sink.
type Family = (&'static str, &'static str, &'static str, fn(&SinkStatus) -> u64);

const FAMILIES: [Family; 10] = [
    ("taken", "counter", "Entries or segments that a sink took", |s| {
        s.taken
    }),
    ("taken_bytes", "counter", "Bytes that a sink took", |s| {
        s.taken_bytes
    }),
    (
        "rejected",
        "counter",
        "Entries or segments that a sink rejected",
        |s| s.rejected,
    ),
    (
        "purged",
        "counter",
        "Entries purged before they could be shipped",
        |s| s.purged,
    ),
    (
        "dead_letters",
        "gauge",
        "Rejected ones that can be sent again",
        |s| s.dead_letters,
    ),
    (
        "waiting",
        "gauge",
        "Entries or segments that wait for a sink",
        |s| s.waiting,
    ),
    ("waiting_bytes", "gauge", "Bytes that wait for a sink", |s| {
        s.waiting_bytes
    }),
    (
        "waiting_seconds",
        "gauge",
        "Age of the oldest that waits for a sink",
        |s| s.waiting_seconds,
    ),
    ("failing", "gauge", "Whether a sink's last try failed", |s| {
        u64::from(s.error.is_some())
    }),
    (
        "failing_seconds",
        "gauge",
        "For how long a sink has been failing",
        |s| s.error.as_ref().map_or(0, |e| e.seconds),
    ),
];

/// The sinks' metrics as `OpenMetrics` text, without the end mark. Names and kinds have no character that would need
/// an escape.
#[must_use]
pub fn metrics(sinks: &[SinkStatus]) -> String {
    let mut text = String::new();
    if sinks.is_empty() {
        return text;
    }
    for (name, kind, help, value) in FAMILIES {
        // Writing to a String does not fail.
        let _ = writeln!(text, "# TYPE portcullis_ship_{name} {kind}");
        let _ = writeln!(text, "# HELP portcullis_ship_{name} {help}.");
        let total = if kind == "counter" { "_total" } else { "" };
        for sink in sinks {
            let _ = writeln!(
                text,
                "portcullis_ship_{name}{total}{{sink=\"{}\",kind=\"{}\",unit=\"{}\"}} {}",
                sink.name,
                sink.kind,
                sink.unit,
                value(sink)
            );
        }
    }
    text
}
