//! CSV (RFC 4180): one line for each value of each row shown, so that tables with different columns fit into one.

use std::borrow::Cow;

use super::{Answer, Assessed, Evidence};

const HEADER: [&str; 12] = [
    "control",
    "title",
    "status",
    "query",
    "question",
    "exception",
    "rows",
    "more_rows",
    "error",
    "row",
    "column",
    "value",
];

/// The report as CSV. What holds for all of it comes first, as values of a query `report` without a control.
#[must_use]
pub fn csv(evidence: &Evidence) -> String {
    let mut out = String::new();
    line(&mut out, &HEADER);
    let report = evidence.verdict.report.as_ref();
    let number = |n: u64| n.to_string();
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    for (column, value) in [
        ("tool", evidence.tool.clone()),
        ("made_at", evidence.made_at.clone()),
        ("as_of", evidence.as_of.clone()),
        ("source", evidence.source.clone()),
        ("since", optional(&evidence.range.since)),
        ("until", optional(&evidence.range.until)),
        ("workload", optional(&evidence.range.workload)),
        ("oldest", optional(&evidence.range.oldest)),
        ("records", number(evidence.range.records)),
        ("verified", evidence.verdict.verified.to_string()),
        ("verification_error", optional(&evidence.verdict.error)),
        ("gaps", number(report.map(|r| r.gaps).unwrap_or_default())),
        ("origin", evidence.head.origin.clone()),
        ("entries", number(evidence.head.entries)),
        ("root", evidence.head.root.clone()),
        ("checkpoint_entries", number(evidence.head.checkpoint_entries)),
        ("checkpoint", evidence.head.checkpoint.clone()),
        ("key", evidence.head.key.clone()),
        ("key_given", evidence.head.key_given.to_string()),
    ] {
        line(
            &mut out,
            &["", "", "", "report", "", "", "", "", "", "", column, &value],
        );
    }
    for control in &evidence.controls {
        for answer in &control.queries {
            rows(&mut out, control, answer);
        }
    }
    out
}

fn rows(out: &mut String, control: &Assessed, answer: &Answer) {
    let count = answer.rows.to_string();
    let yes = |b: bool| if b { "yes" } else { "no" };
    let all = |row: &str, column: &str, value: &str, out: &mut String| {
        line(
            out,
            &[
                &control.id,
                &control.title,
                control.status.as_str(),
                &answer.name,
                &answer.question,
                yes(answer.exception),
                &count,
                yes(answer.more),
                answer.error.as_deref().unwrap_or_default(),
                row,
                column,
                value,
            ],
        );
    };
    if answer.samples.is_empty() {
        all("", "", "", out);
    }
    for (n, row) in answer.samples.iter().enumerate() {
        for (column, value) in answer.columns.iter().zip(row) {
            all(&(n + 1).to_string(), column, &value.to_string(), out);
        }
    }
}

fn line(out: &mut String, fields: &[&str]) {
    for (n, field) in fields.iter().enumerate() {
        if n > 0 {
            out.push(',');
        }
        let field = inert(field);
        if field.contains([',', '"', '\r', '\n']) {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(&field);
        }
    }
    out.push_str("\r\n");
}

/// A spreadsheet takes what begins with one of these for a formula (CWE-1236), some of them also after white space; an
/// apostrophe before it makes it text. A number stays one.
fn inert(field: &str) -> Cow<'_, str> {
    let first = field
        .trim_start_matches([' ', '\u{a0}', '\u{3000}', '\u{feff}'])
        .chars()
        .next();
    let formula = matches!(
        first,
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '\'' | '＝' | '＋' | '－' | '＠')
    );
    if formula && field.parse::<f64>().is_err() {
        format!("'{field}").into()
    } else {
        field.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_text() {
        for bad in [
            "=1+1", "+cmd", "-2+3", "@SUM(A1)", "\tx", "\r=1", " =1", "＝1", "'=1",
        ] {
            assert_eq!(inert(bad), format!("'{bad}"));
        }
        for good in ["", "a", "a=b", "-12", "+1.5", "2026-11-26T00:00:00Z", "é"] {
            assert_eq!(inert(good), good);
        }
        let mut out = String::new();
        line(&mut out, &["a\"b", "c,d", "e\nf", "=g"]);
        assert_eq!(out, "\"a\"\"b\",\"c,d\",\"e\nf\",'=g\r\n");
    }
}
