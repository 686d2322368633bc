//! What the demo prints: steps, what is run, what came back, and which claims held.

use std::{
    cell::Cell,
    io::{IsTerminal as _, Write as _},
};

/// The narrator. Colours where standard output is a terminal and `NO_COLOR` is not set.
pub struct Show {
    colour: bool,
    step: Cell<u32>,
    held: Cell<u32>,
    false_claims: Cell<u32>,
}

impl Show {
    pub fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            colour,
            step: Cell::new(0),
            held: Cell::new(0),
            false_claims: Cell::new(0),
        }
    }

    /// A new step.
    pub fn step(&self, title: &str) {
        self.step.set(self.step.get() + 1);
        self.line(&format!("\n{}. {title}", self.step.get()), "1;36");
    }

    /// What happens and why.
    pub fn tell(&self, text: &str) {
        self.line(&format!("   {text}"), "");
    }

    /// What is run, as somebody would type it.
    pub fn run(&self, who: &str, command: &str) {
        self.line(&format!("   {who} $ {command}"), "1");
    }

    /// What came back.
    pub fn came(&self, text: &str) {
        for line in text.trim_end().lines() {
            self.line(&format!("   | {line}"), "2");
        }
    }

    /// A claim, checked; `seen` is shown when it is false.
    pub fn check(&self, claim: &str, holds: bool, seen: impl FnOnce() -> String) {
        if holds {
            self.held.set(self.held.get() + 1);
            self.line(&format!("   ✓ {claim}"), "32");
        } else {
            self.false_claims.set(self.false_claims.get() + 1);
            self.line(&format!("   ✗ FALSE: {claim}"), "1;31");
            self.came(&seen());
        }
    }

    /// A table, as `sqlite3 -box` would have it.
    pub fn table(&self, columns: &[String], rows: &[Vec<String>]) {
        let width = |i: usize| {
            let cells = rows.iter().filter_map(|r| r.get(i)).chain(columns.get(i));
            cells.map(|c| c.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.line(&format!("   | {}", line(columns)), "1");
        for row in rows {
            self.line(&format!("   | {}", line(row)), "2");
        }
    }

    /// The end: whether every claim held.
    pub fn end(&self, took: std::time::Duration) -> bool {
        let (held, wrong) = (self.held.get(), self.false_claims.get());
        if wrong == 0 {
            self.line(
                &format!("\nAll {held} claims held, in {:.1} s.", took.as_secs_f64()),
                "1;32",
            );
        } else {
            self.line(
                &format!("\n{wrong} of {} claims were false.", held + wrong),
                "1;31",
            );
        }
        wrong == 0
    }

    fn line(&self, text: &str, style: &str) {
        let mut out = std::io::stdout().lock();
        let written = if self.colour && !style.is_empty() {
            let start = text.len() - text.trim_start_matches('\n').len();
            writeln!(out, "{}\x1b[{style}m{}\x1b[0m", &text[..start], &text[start..])
        } else {
            writeln!(out, "{text}")
        };
        // Whoever closed the pipe does not want to read on; the checks go on all the same.
        let _ = written.and_then(|()| out.flush());
    }
}
