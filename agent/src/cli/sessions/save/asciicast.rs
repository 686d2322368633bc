//! asciicast v3 (<https://docs.asciinema.org/manual/asciicast/v3/>): what `replay` shows, in its own time.

use std::io::Write;

use serde_json::json;

use super::super::screen::Screen;
use crate::ledger::replay::{Replay, Step};

/// Columns and rows of the terminal that it is made for.
const SIZE: (u32, u32) = (160, 48);
/// How many rows of each result table.
const ROWS: usize = 100;

/// Writes the header and an event for each step; how many there were.
pub(super) fn write(mut replay: Replay, id: &uuid::Uuid, out: &mut impl Write) -> anyhow::Result<u64> {
    let mut screen = Screen::new(ROWS);
    let mut last: Option<Step> = None;
    let mut count = 0;
    while let Some(step) = replay.next_step()? {
        if last.is_none() {
            let header = json!({
                "version": 3,
                "term": { "cols": SIZE.0, "rows": SIZE.1 },
                "timestamp": step.at_ns.div_euclid(1_000_000_000),
                "title": format!("portcullis session {id}"),
            });
            writeln!(out, "{header}")?;
        }
        let waited = last
            .as_ref()
            .map_or(0, |last| step.at_ns.saturating_sub(last.at_ns));
        event(waited, &screen.show(&step), out)?;
        last = Some(step);
        count += 1;
    }
    if let Some(last) = &last {
        event(0, &screen.end(last), out)?;
    }
    Ok(count)
}

/// One event: seconds since the one before, and what is put out.
fn event(waited_ns: i64, text: &str, out: &mut impl Write) -> std::io::Result<()> {
    let micros = waited_ns.max(0) / 1000;
    let seconds = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let shown = serde_json::Value::from(text.replace('\n', "\r\n"));
    if text.is_empty() && micros == 0 {
        return Ok(());
    }
    writeln!(out, "[{seconds}, \"o\", {shown}]")
}
