//! What the server says beside results: errors, notices, notifications. They can carry values, so they are masked.
//!
//! Content detectors see every field. Of a statement that reads what may not be shown, the server's words about
//! values are taken out as well: PostgreSQL puts them in double quotes, in parentheses, or into fields of their own
//! (`invalid input syntax for type integer: "..."`, `Key (ssn)=(...) already exists.`, `Failing row contains (...)`).
//! A message that a function made up cannot be told from a value, so it goes as a whole.

use std::{borrow::Cow, sync::Arc};

use bytes::{BufMut as _, BytesMut};

use super::super::{
    deny,
    frame::{Fault, HEADER, Reader, put_cstr, write},
};
use crate::{
    mask::{Counts, MaskRules},
    model::ClassSet,
};

/// What stands for words that were taken out.
const TAKEN: &str = "[masked]";

/// How much of a message may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Everything that no detector finds.
    Scanned,
    /// The same, but for the detail, which shows a row.
    NoRow,
    /// Nothing that could be a value of a masked column.
    NoValues,
    /// Nothing but its SQLSTATE: code that nobody looked into wrote it.
    CodeOnly,
}

/// Appends an ErrorResponse or NoticeResponse (`tag`) as it may be shown; the SQLSTATE.
///
/// # Errors
/// When it is none.
pub fn notice(
    tag: u8,
    body: &[u8],
    trust: Trust,
    rules: &Arc<MaskRules>,
    hidden: ClassSet,
    counts: &mut Counts,
    out: &mut BytesMut,
) -> Result<String, Fault> {
    let mut fields = Vec::new();
    let mut r = Reader::new(body);
    loop {
        match r.u8()? {
            0 => break,
            kind => fields.push((kind, r.cstr()?)),
        }
    }
    r.end()?;
    let code = fields
        .iter()
        .find(|(kind, _)| *kind == b'C')
        .map(|(_, text)| {
            String::from_utf8_lossy(text)
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .take(5)
                .collect()
        })
        .unwrap_or_default();
    write(out, tag, |out| {
        for (kind, text) in &fields {
            if let Some(text) = shown(*kind, text, trust, rules, hidden, counts) {
                out.put_u8(*kind);
                put_cstr(out, &text);
            }
        }
        out.put_u8(0);
    });
    Ok(code)
}

/// The relation whose row an error's detail shows: of those that break a constraint. Empty when it is not said.
pub(super) fn shows_row_of(body: &[u8]) -> Option<String> {
    let field = |wanted: u8| {
        let mut r = Reader::new(body);
        loop {
            match r.u8().ok()? {
                0 => return None,
                kind => {
                    let text = r.cstr().ok()?;
                    if kind == wanted {
                        return Some(String::from_utf8_lossy(text));
                    }
                }
            }
        }
    };
    if !field(b'C')?.starts_with("23") {
        return None;
    }
    field(b'D')?;
    let (schema, table) = (field(b's').unwrap_or_default(), field(b't').unwrap_or_default());
    Some(format!("{schema}.{table}"))
}

/// The SQLSTATE of an error message, with its header.
pub(super) fn code(message: &[u8]) -> String {
    let body = message.get(HEADER..).unwrap_or_default();
    let at = body
        .iter()
        .enumerate()
        .find(|(at, b)| **b == b'C' && (*at == 0 || body[at - 1] == 0))
        .map_or(0, |(at, _)| at + 1);
    let rest = body.get(at..).unwrap_or_default();
    String::from_utf8_lossy(&rest[..rest.len().min(5)]).into_owned()
}

/// What the workload is told when a question of ours has made the server skip its batch.
pub(super) fn interrupted(error: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    deny::Error {
        severity: deny::Severity::Error,
        // query_canceled
        code: "57014",
        message: &format!(
            "the database did not say what the statement means (SQLSTATE {})",
            code(error)
        ),
        detail: None,
        hint: Some("Nothing of the batch was run. Retry it."),
    }
    .write(&mut out);
    out
}

/// A field as it may be shown; `None` when it is left out.
fn shown<'a>(
    kind: u8,
    text: &'a [u8],
    trust: Trust,
    rules: &Arc<MaskRules>,
    hidden: ClassSet,
    counts: &mut Counts,
) -> Option<Cow<'a, [u8]>> {
    let fixed = matches!(
        kind,
        // Severity, SQLSTATE, positions, and where in the server's own source it was raised.
        b'S' | b'V' | b'C' | b'P' | b'p' | b'F' | b'L' | b'R'
    );
    if fixed || hidden.is_empty() {
        return Some(Cow::Borrowed(text));
    }
    let taken = match (trust, kind) {
        (Trust::NoRow, b'D') => return None,
        (Trust::Scanned | Trust::NoRow, _) => Cow::Borrowed(text),
        // Names of schema, table, column, type and constraint.
        (Trust::NoValues, b's' | b't' | b'c' | b'd' | b'n') => Cow::Borrowed(text),
        (Trust::NoValues, b'M' | b'H') => Cow::Owned(without_values(text)),
        (Trust::CodeOnly, b'M') => Cow::Owned(
            format!("{TAKEN} the server's words are not shown: code that was called wrote them").into_bytes(),
        ),
        (Trust::NoValues | Trust::CodeOnly, _) => return None,
    };
    let lossy = String::from_utf8_lossy(&taken);
    match rules.mask_text(hidden, &lossy, counts) {
        Cow::Borrowed(_) => Some(taken),
        Cow::Owned(masked) => Some(Cow::Owned(masked.into_bytes())),
    }
}

/// The text without what stands in double quotes or parentheses, to the end where one is not closed.
fn without_values(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'"' | b'(')) {
        let (open, close) = (rest[at], if rest[at] == b'"' { b'"' } else { b')' });
        out.extend_from_slice(&rest[..=at]);
        out.extend_from_slice(TAKEN.as_bytes());
        // The last one: a value may hold the closing character itself.
        match rest[at + 1..].iter().rposition(|b| *b == close) {
            Some(end) => {
                out.push(close);
                rest = &rest[at + 1 + end + 1..];
            }
            None => return out,
        }
        if open == b'(' && rest.is_empty() {
            break;
        }
    }
    // What a colon introduces without quotes can be a value, too.
    out.extend_from_slice(rest);
    out
}

/// Appends a NotificationResponse with its payload masked.
///
/// # Errors
/// When it is none.
pub(super) fn notification(
    body: &[u8],
    rules: &Arc<MaskRules>,
    hidden: ClassSet,
    counts: &mut Counts,
    out: &mut BytesMut,
) -> Result<(), Fault> {
    let mut r = Reader::new(body);
    let (pid, channel, payload) = (r.i32()?, r.cstr()?, r.cstr()?);
    r.end()?;
    let lossy = String::from_utf8_lossy(payload);
    let masked = rules.mask_text(hidden, &lossy, counts);
    write(out, b'A', |out| {
        out.put_i32(pid);
        put_cstr(out, channel);
        match &masked {
            Cow::Borrowed(_) => put_cstr(out, payload),
            Cow::Owned(masked) => put_cstr(out, masked.as_bytes()),
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Mask, protocol::postgres::frame::message};

    fn rules() -> Arc<MaskRules> {
        Arc::new(MaskRules::new(&Mask::default(), &[7; 32]).unwrap())
    }

    fn error(fields: &[(u8, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, text) in fields {
            body.push(*kind);
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        body
    }

    fn said(fields: &[(u8, &str)], trust: Trust) -> (String, String) {
        let rules = rules();
        let mut out = BytesMut::new();
        let mut counts = Counts::default();
        let code = notice(
            b'E',
            &error(fields),
            trust,
            &rules,
            rules.all(),
            &mut counts,
            &mut out,
        )
        .unwrap();
        let body = message(&out, 10_000).unwrap().unwrap().body;
        (code, body.escape_ascii().to_string())
    }

    #[test]
    fn rows_that_break_constraints_are_known_by_their_relation() {
        let row = |code| {
            let row = "Failing row contains (1, null, rosebud).";
            let fields = [
                (b'C', code),
                (b'M', "x"),
                (b'D', row),
                (b's', "app"),
                (b't', "uses"),
            ];
            shows_row_of(&error(&fields))
        };
        assert_eq!(row("23502").as_deref(), Some("app.uses"));
        assert_eq!(row("22023"), None);
        let fields = [
            (b'M', "null value in column \"a\""),
            (b'D', "Failing row contains (rosebud)."),
        ];
        let (_, text) = said(&fields, Trust::NoRow);
        assert!(
            text.contains("null value in column") && !text.contains("rosebud"),
            "{text}"
        );
        assert_eq!(
            shows_row_of(&error(&[(b'C', "23514"), (b'M', "x")])),
            None,
            "no row"
        );
        assert_eq!(shows_row_of(b"C23514"), None);
    }

    #[test]
    fn values_are_taken_out_of_errors() {
        let (code, text) = said(
            &[
                (b'C', "22P02"),
                (
                    b'M',
                    "invalid input syntax for type integer: \"s3cr3t \"quoted\" (x)\"",
                ),
                (b'D', "Failing row contains (1, s3cr3t)."),
                (b'W', "column \"x\" s3cr3t"),
                (b't', "customers"),
            ],
            Trust::NoValues,
        );
        assert_eq!(code, "22P02");
        assert!(!text.contains("s3cr3t") && !text.contains("quoted"), "{text}");
        assert!(text.contains("invalid input syntax for type integer") && text.contains("customers"));
    }

    #[test]
    fn words_of_unknown_code_are_not_shown() {
        let (_, text) = said(
            &[(b'C', "P0001"), (b'M', "the ssn is s3cr3t"), (b'H', "s3cr3t")],
            Trust::CodeOnly,
        );
        assert!(!text.contains("s3cr3t") && text.contains("P0001"), "{text}");
    }

    #[test]
    fn detectors_see_every_message() {
        let (_, text) = said(
            &[(b'C', "P0001"), (b'M', "mail a.person@example.com now")],
            Trust::Scanned,
        );
        assert!(text.contains("[masked:email]"), "{text}");
        let plain = &[
            (b'S', "ERROR"),
            (b'C', "42P01"),
            (b'M', "relation \"x\" does not exist"),
            (b'P', "15"),
        ];
        let (_, text) = said(plain, Trust::Scanned);
        assert_eq!(text, error(plain).escape_ascii().to_string(), "to the byte");
    }

    #[test]
    fn cut_ones_are_refused() {
        let rules = rules();
        let whole = error(&[(b'C', "P0001"), (b'M', "x")]);
        for n in 0..whole.len() {
            let (mut out, mut counts) = (BytesMut::new(), Counts::default());
            let cut = notice(
                b'N',
                &whole[..n],
                Trust::Scanned,
                &rules,
                rules.all(),
                &mut counts,
                &mut out,
            );
            assert!(cut.is_err(), "{n}");
        }
    }
}
