//! Errors that are said here: ErrorResponse with a SQLSTATE (PostgreSQL, "Error and Notice Message Fields", appendix
//! A), written so that a client library understands it and a program can act on it.

use bytes::{BufMut as _, BytesMut};

use super::frame::{Fault, put_cstr, write};
pub use super::sqlstate::{code_of, reason_of};
use crate::gate::Denied;

/// A statement that can only be refused: it makes the server's transaction fail where a denial has to. Its words are
/// for whoever reads the server's log.
pub const POISON: &[u8] = b"denied by portcullis";

/// How much an error ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement, and the transaction that it is in.
    Error,
    /// The connection.
    Fatal,
}

/// What is said.
#[derive(Clone, Debug)]
pub struct Error<'a> {
    /// What it ends.
    pub severity: Severity,
    /// SQLSTATE, five characters.
    pub code: &'static str,
    /// One line.
    pub message: &'a str,
    /// More, for a program: words with `=`.
    pub detail: Option<&'a str>,
    /// What to do about it.
    pub hint: Option<&'a str>,
}

impl Error<'_> {
    /// Appends the ErrorResponse.
    pub fn write(&self, out: &mut BytesMut) {
        let severity: &[u8] = match self.severity {
            Severity::Error => b"ERROR",
            Severity::Fatal => b"FATAL",
        };
        write(out, b'E', |out| {
            let mut field = |tag: u8, text: &[u8]| {
                out.put_u8(tag);
                put_cstr(out, text);
            };
            field(b'S', severity);
            field(b'V', severity);
            field(b'C', self.code.as_bytes());
            field(b'M', self.message.as_bytes());
            if let Some(detail) = self.detail {
                field(b'D', detail.as_bytes());
            }
            if let Some(hint) = self.hint {
                field(b'H', hint.as_bytes());
            }
            // Where the server names its own source file and routine: who said this.
            field(b'R', b"portcullis");
            out.put_u8(0);
        });
    }
}

/// Appends the answer to something that may not pass: who decided, why, and what to do.
pub fn denied(denied: &Denied, severity: Severity, out: &mut BytesMut) {
    let message = match &denied.message {
        Some(words) => format!("denied by Portcullis: {words}"),
        None => format!("denied by Portcullis: {}", denied.reason),
    };
    let mut detail = format!(
        "reason={} policies={} entry={}",
        denied.reason,
        denied.policies.join(","),
        denied.entry
    );
    if !denied.approval.is_empty() {
        detail.push_str(" approval=");
        detail.push_str(&denied.approval.join(","));
    }
    if let Some(asked) = &denied.request {
        detail.push_str(&format!(" request={}", asked.id));
        if let Some(page) = &asked.page {
            detail.push_str(&format!(" page={page}"));
        }
    }
    Error {
        severity,
        code: code_of(denied.reason),
        message: &message,
        detail: Some(&detail),
        hint: Some(denied.reason.guidance()),
    }
    .write(out);
}

/// Appends the end of a connection whose bytes cannot be carried.
pub fn fatal(fault: Fault, out: &mut BytesMut) {
    let code = match fault {
        Fault::TooLarge { .. } => "54000",
        // character_not_in_repertoire
        Fault::Text => "22021",
        Fault::Length | Fault::Unexpected(_) | Fault::Fields | Fault::Truncated => "08P01",
    };
    Error {
        severity: Severity::Fatal,
        code,
        message: &format!("Portcullis cannot carry this connection further: {fault}"),
        detail: None,
        hint: None,
    }
    .write(out);
}
