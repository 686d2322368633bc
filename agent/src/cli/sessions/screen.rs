//! A step of a session as lines of text. Nothing in it can drive the terminal that shows it.

use std::{collections::HashMap, fmt::Write as _};

use serde_json::Value;

use super::{plain, tables, transcript};
use crate::{
    ledger::replay::{Step, What},
    model::Direction,
};

/// The most bytes that are kept of one direction of a statement, to be shown as tables when it has ended.
const SQL_BYTES: usize = 1 << 20;
/// The most statements that are kept so at a time.
const SQL_STATEMENTS: usize = 64;
/// Fewer of a thousand characters may be no text, or it is not shown as such.
const ODD: usize = 100;

/// What has to be known from one step to the next.
pub(super) struct Screen {
    /// When the session began.
    begin_ns: Option<i64>,
    /// How many rows of each result table.
    rows: usize,
    /// Statements that have not ended.
    statements: HashMap<String, Sides>,
    /// The rest of a character that ends in the next frame, by operation and direction.
    rests: HashMap<(String, Direction), Vec<u8>>,
}

#[derive(Default)]
struct Sides {
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Screen {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            begin_ns: None,
            rows,
            statements: HashMap::new(),
            rests: HashMap::new(),
        }
    }

    /// The lines of a step, each ended.
    pub(super) fn show(&mut self, step: &Step) -> String {
        let begin = *self.begin_ns.get_or_insert(step.at_ns);
        let mut lines = Lines::new(step, begin);
        match &step.what {
            What::Entry { body, .. } => self.entry(body, &mut lines),
            What::Frame {
                operation,
                direction,
                size,
                bytes,
                ..
            } => self.frame(operation, *direction, *size, bytes.as_deref(), &mut lines),
        }
        lines.text
    }

    /// What was sent and received of statements of which no end is on record.
    pub(super) fn end(&mut self, last: &Step) -> String {
        let mut lines = Lines::new(last, self.begin_ns.unwrap_or(last.at_ns));
        for (operation, sides) in std::mem::take(&mut self.statements) {
            lines.put(' ', &format!("no end on record: {operation}"));
            self.tables(&sides, &mut lines);
        }
        lines.text
    }

    fn tables(&self, sides: &Sides, lines: &mut Lines) {
        let mut shown = Vec::new();
        let read = transcript::read(&sides.up, &sides.down, self.rows);
        // Writing to memory does not fail.
        let _ = tables::print(&read, &mut shown);
        for line in String::from_utf8_lossy(&shown).lines() {
            lines.add(line);
        }
    }

    fn entry(&mut self, body: &Value, lines: &mut Lines) {
        match text(body, "/kind") {
            "session" => session(body, lines),
            "operation" => self.operation(body, lines),
            "outcome" => self.outcome(body, lines),
            "approval" => approval(body, lines),
            other => lines.put(' ', other),
        }
    }

    fn operation(&mut self, body: &Value, lines: &mut Lines) {
        let decision = text(body, "/decision");
        let mut head = format!(
            "{decision} {} {}",
            text(body, "/action"),
            text(body, "/resource/id")
        );
        let policies = list(body, "/policies");
        let _ = write!(head, " ({} by policies [{policies}])", text(body, "/reason"));
        lines.put(' ', &head);
        for line in text(body, "/context/sql/text").lines() {
            lines.put('>', line);
        }
        if !text(body, "/message").is_empty() {
            lines.put(' ', text(body, "/message"));
        }
        if decision == "allow"
            && text(body, "/action").starts_with("sql:")
            && self.statements.len() < SQL_STATEMENTS
        {
            self.statements.insert(text(body, "/id").into(), Sides::default());
        }
    }

    fn outcome(&mut self, body: &Value, lines: &mut Lines) {
        let operation = text(body, "/operation");
        self.rests.retain(|(of, _), _| of != operation);
        if let Some(sides) = self.statements.remove(operation) {
            self.tables(&sides, lines);
        }
        let number = |name: &str| body[name].as_i64().unwrap_or_default();
        let mut end = format!("{} {}", text(body, "/reason"), text(body, "/status"));
        let _ = write!(
            end,
            ": {} bytes up, {} down, {} us",
            number("bytes_up"),
            number("bytes_down"),
            number("duration_us")
        );
        let masked = body["masked"].as_object().into_iter().flatten();
        for (n, (class, count)) in masked.enumerate() {
            let _ = write!(end, "{} {class} {count}", if n == 0 { "; masked" } else { "," });
        }
        lines.put(' ', &end);
    }

    fn frame(
        &mut self,
        operation: &str,
        direction: Direction,
        size: u64,
        bytes: Option<&[u8]>,
        lines: &mut Lines,
    ) {
        let mark = match direction {
            Direction::Up => '>',
            Direction::Down => '<',
        };
        let Some(bytes) = bytes else {
            return lines.put(mark, &format!("({size} bytes that were purged)"));
        };
        if let Some(sides) = self.statements.get_mut(operation) {
            let side = match direction {
                Direction::Up => &mut sides.up,
                Direction::Down => &mut sides.down,
            };
            let room = SQL_BYTES.saturating_sub(side.len());
            side.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            return;
        }
        let key = (operation.to_owned(), direction);
        let mut all = self.rests.remove(&key).unwrap_or_default();
        all.extend_from_slice(bytes);
        let rest = unfinished(&all);
        let whole = all.len() - rest;
        if rest > 0 {
            self.rests.insert(key, all.split_off(whole));
        }
        let shown = String::from_utf8_lossy(&all);
        if is_text(&shown) {
            for line in shown.lines() {
                lines.put(mark, line);
            }
        } else {
            lines.put(mark, &format!("({size} bytes that are no text)"));
        }
    }
}

/// How many bytes at the end begin a character that is not whole.
fn unfinished(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => 0,
        Err(e) if e.error_len().is_none() => bytes.len() - e.valid_up_to(),
        Err(_) => 0,
    }
}

fn is_text(shown: &str) -> bool {
    let odd = |c: char| c == char::REPLACEMENT_CHARACTER || (c.is_control() && !c.is_whitespace());
    let (all, strange) = shown.chars().fold((0, 0), |(all, strange), c| {
        (all + 1, strange + usize::from(odd(c)))
    });
    strange * 1000 <= all * ODD
}

fn session(body: &Value, lines: &mut Lines) {
    let to = format!(
        "{}:{}",
        text(body, "/destination/address"),
        body["destination"]["port"].as_i64().unwrap_or_default()
    );
    if text(body, "/event") == "close" {
        return lines.put(' ', &format!("closed: {}", text(body, "/reason")));
    }
    let pid = body["process"]["pid"].as_i64().unwrap_or_default();
    let (workload, exe) = (text(body, "/workload"), text(body, "/process/exe"));
    lines.put(' ', &format!("opened by {workload}, {exe} (pid {pid}), to {to}"));
}

fn approval(body: &Value, lines: &mut Lines) {
    let mut said = format!("approval {}: {}", text(body, "/event"), text(body, "/approval"));
    if !text(body, "/approver/subject").is_empty() {
        let _ = write!(said, " by {}", text(body, "/approver/subject"));
    }
    if !text(body, "/reason").is_empty() {
        let _ = write!(said, " ({})", text(body, "/reason"));
    }
    lines.put(' ', &said);
}

fn text<'a>(body: &'a Value, pointer: &str) -> &'a str {
    body.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list(body: &Value, pointer: &str) -> String {
    let items = body
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    items.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

/// Lines of one time.
struct Lines {
    time: String,
    text: String,
}

impl Lines {
    fn new(step: &Step, begin_ns: i64) -> Self {
        let ms = step.at_ns.saturating_sub(begin_ns) / 1_000_000;
        let mark = if step.recorded { ' ' } else { '~' };
        Self {
            time: format!("{mark}{:>6}.{:03}", ms / 1000, (ms % 1000).abs()),
            text: String::new(),
        }
    }

    fn put(&mut self, mark: char, line: &str) {
        let _ = writeln!(self.text, "{} {mark} {}", self.time, plain(line));
    }

    /// A line that has its marks, and is plain.
    fn add(&mut self, line: &str) {
        let _ = writeln!(self.text, "{} {line}", self.time);
    }
}
