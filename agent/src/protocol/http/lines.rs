//! What a response's lines become on the way down: framing fields as the body is sent, values masked, credentials kept
//! out of the record.

use std::sync::Arc;

use bytes::BytesMut;

use super::{
    forward::Failure,
    head::Header,
    headers::{self, Known, known},
    record,
    reply::Reply,
    response::Response,
};
use crate::{
    gate::Permit,
    mask::{Counts, MaskRules},
    model::{ClassSet, Direction},
    protocol::wire::Leg,
};

/// `HTTP/1.1 200`.
const STATUS: usize = 12;

/// How the head's framing lines are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lines {
    /// As they came.
    Verbatim,
    /// Content-Length of so many bytes.
    Length(usize),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// None: the close delimits the body.
    Close,
}

impl Reply<'_> {
    /// Writes a head downstream and into the record.
    pub(super) async fn write_head(
        &self,
        response: &Response,
        lines: Lines,
        changed: bool,
        down: &mut Leg,
        permit: &mut Permit,
        close: bool,
    ) -> Result<(), Failure> {
        let rules = self.gate.mask();
        let secrets = self.gate.secrets();
        let mut injected = 0;
        let facts = response.facts();
        let mut counts = Counts::default();
        let mut out = Vec::with_capacity(response.head().bytes().len() + 64);
        out.extend_from_slice(response.head().start_line());
        // The version and the status stay what they are.
        injected += out.get_mut(STATUS..).map_or(0, |phrase| secrets.mask(phrase));
        let mut kept = out.clone();
        for header in response.head().headers() {
            let field = known(header.name);
            let gone = match field {
                Known::ContentLength => lines != Lines::Verbatim,
                Known::TransferEncoding => matches!(lines, Lines::Close | Lines::Length(_)),
                Known::Validator => changed,
                Known::AcceptRanges => !self.classes.is_empty() || self.carries,
                Known::Connection => close || facts.rewrite_connection,
                _ => headers::ends_here(field, header.name, header.value, facts),
            };
            if let (Known::ContentLength, Lines::Length(n)) = (field, lines) {
                let value = n.to_string();
                record::line(header.name, value.as_bytes(), &mut out);
                record::line(header.name, value.as_bytes(), &mut kept);
            }
            if gone {
                continue;
            }
            let value = record::shown(rules, self.classes, &header, &mut counts);
            let (from, kept_from) = (out.len(), kept.len());
            match &value {
                Some(value) => record::line(header.name, value, &mut out),
                None => out.extend_from_slice(header.line),
            }
            record::keep(rules, &header, value.as_deref(), &mut kept);
            // A length of so many digits is no secret, whatever a secret looks like.
            if !matches!(
                field,
                Known::ContentLength | Known::TransferEncoding | Known::Connection
            ) {
                injected += secrets.mask(&mut out[from..]);
                secrets.mask(&mut kept[kept_from..]);
            }
        }
        let mut tail = Vec::new();
        if lines == Lines::Chunked && !facts.chunked {
            tail.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if close {
            tail.extend_from_slice(b"Connection: close\r\n");
        } else if facts.rewrite_connection {
            headers::write_connection(facts, false, &mut tail);
        }
        tail.extend_from_slice(b"\r\n");
        out.extend_from_slice(&tail);
        kept.extend_from_slice(&tail);
        down.output.extend_from_slice(&out);
        permit.add_masked(&counts);
        permit.add_injected(injected);
        Ok(permit.record(Direction::Down, &kept).await?)
    }
}

/// Trailer lines as they are shown, and as they are stored; `changed` leaves out those that name bytes which are no
/// longer sent.
pub(super) fn trailers(
    rules: &Arc<MaskRules>,
    classes: ClassSet,
    section: &[u8],
    changed: bool,
    permit: &mut Permit,
) -> (Vec<u8>, Vec<u8>) {
    let (mut shown, mut kept) = (Vec::new(), Vec::new());
    let mut counts = Counts::default();
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let section = [section, b"\r\n"].concat();
    if let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(&section, &mut lines) {
        for line in lines {
            if changed && known(line.name) == Known::Validator {
                continue;
            }
            let plain = [line.name.as_bytes(), b": ", line.value, b"\r\n"].concat();
            let header = Header {
                name: line.name,
                value: line.value,
                line: &plain,
            };
            let value = record::shown(rules, classes, &header, &mut counts);
            record::line(line.name, value.as_deref().unwrap_or(line.value), &mut shown);
            record::keep(rules, &header, value.as_deref(), &mut kept);
        }
    }
    permit.add_masked(&counts);
    permit.add_injected(permit.secrets().mask(&mut shown));
    permit.secrets().mask(&mut kept);
    (shown, kept)
}

/// One chunk.
pub(super) fn chunk(content: &[u8], out: &mut BytesMut) {
    let mut digits = [0u8; 16];
    let mut at = digits.len();
    let mut left = content.len();
    while left > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[left & 15];
        left >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(content);
    out.extend_from_slice(b"\r\n");
}
