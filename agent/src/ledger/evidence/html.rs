//! HTML: one file that needs nothing else, for a screen and for paper.

use std::{borrow::Borrow, collections::BTreeMap};

use askama::Template;

use super::{Answer, Assessed, Cell, Evidence, Status};

const STYLE: &str = include_str!("report.css");

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    e: &'a Evidence,
    style: &'static str,
    host: &'a str,
    families: Vec<(&'a str, Vec<&'a Assessed>)>,
    tally: Vec<(Status, usize)>,
}

/// The report as HTML.
///
/// # Errors
/// Never in practice: writing into memory does not fail.
pub fn html(evidence: &Evidence) -> Result<String, std::fmt::Error> {
    let mut families: Vec<(&str, Vec<&Assessed>)> = Vec::new();
    for control in &evidence.controls {
        match families.iter_mut().find(|(family, _)| *family == control.family) {
            Some((_, list)) => list.push(control),
            None => families.push((&control.family, vec![control])),
        }
    }
    let mut tally: BTreeMap<&str, (Status, usize)> = BTreeMap::new();
    for control in &evidence.controls {
        tally
            .entry(control.status.as_str())
            .or_insert((control.status, 0))
            .1 += 1;
    }
    let mut tally: Vec<(Status, usize)> = tally.into_values().collect();
    tally.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let page = Page {
        e: evidence,
        style: STYLE,
        host: evidence
            .head
            .origin
            .strip_prefix("portcullis/")
            .unwrap_or(&evidence.head.origin),
        families,
        tally,
    };
    page.render().map_err(|_| std::fmt::Error)
}

/// An id that HTML can point to.
fn anchor(id: &str) -> String {
    id.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}

/// A number as people read it: 1,234,567. Templates pass some values by reference.
fn count(n: impl Borrow<u64>) -> String {
    let digits = n.borrow().to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `2026-11-26 00:14:38 UTC` of an RFC 3339 time; other text as it is.
fn when(text: &str) -> String {
    match text.split_once('T') {
        Some((day, rest)) if rest.ends_with('Z') && rest.len() >= 9 && rest.is_char_boundary(8) => {
            format!("{day} {} UTC", &rest[..8])
        }
        _ => text.into(),
    }
}

impl Cell {
    fn is_number(&self) -> bool {
        matches!(self, Self::Integer(_) | Self::Real(_))
    }

    /// A time as people read it, where it is one of those that records have.
    fn time(&self) -> Option<String> {
        match self {
            Self::Text(text) if text.len() == 30 && text.ends_with('Z') && text.as_bytes()[10] == b'T' => {
                Some(when(text))
            }
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl Answer {
    fn count(&self) -> String {
        let more = if self.more { "more than " } else { "" };
        format!(
            "{more}{} {}",
            count(self.rows),
            if self.rows == 1 { "row" } else { "rows" }
        )
    }

    fn left_out(&self) -> bool {
        self.more || self.rows > self.samples.len() as u64
    }

    /// How it looks: rows of an exception are marked.
    fn mark(&self) -> &'static str {
        match (self.error.is_some(), self.rows > 0, self.exception) {
            (true, ..) => "failed",
            (_, true, true) => "exceptions",
            (_, true, false) => "supported",
            (_, false, true) => "clear",
            (_, false, false) => "no_rows",
        }
    }

    /// What the number of rows says.
    fn says(&self) -> &'static str {
        match self.mark() {
            "failed" => "not answered",
            "exceptions" => "to be explained",
            "clear" => "nothing to explain",
            _ => "",
        }
    }
}

impl Assessed {
    /// Questions for supporting rows that have some, of all such.
    fn answered(&self) -> String {
        let questions = self.queries.iter().filter(|q| !q.exception);
        let with_rows = questions.clone().filter(|q| q.rows > 0).count();
        format!("{with_rows} of {}", questions.count())
    }

    /// Rows that need an explanation.
    fn to_explain(&self) -> u64 {
        self.queries.iter().filter(|q| q.exception).map(|q| q.rows).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_readable() {
        for (n, text) in [
            (0u64, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(n), text);
        }
        assert_eq!(when("2026-11-26T00:14:38.123456789Z"), "2026-11-26 00:14:38 UTC");
        for odd in ["", "T", "xTyZ", "aT€€€€Z"] {
            assert_eq!(when(odd), odd);
        }
        assert_eq!(anchor("AC-2(1)"), "ac-2-1-");
    }
}
