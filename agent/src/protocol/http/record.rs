//! Heads as they are stored: credentials masked always, everything else as the principal may see it.

use std::sync::Arc;

use super::{
    head::{Head, Header},
    headers::{Known, known},
    request::Request,
};
use crate::{
    mask::{Counts, MaskRules},
    model::ClassSet,
};

/// A header line's value with what may not be shown masked; `None` when it stays. Fields that frame the message are
/// not looked at: changing one would change the message.
pub fn shown(
    rules: &Arc<MaskRules>,
    classes: ClassSet,
    header: &Header<'_>,
    counts: &mut Counts,
) -> Option<Vec<u8>> {
    if classes.is_empty() || !matches!(known(header.name), Known::Other | Known::Range | Known::IfRange) {
        return None;
    }
    rules.mask_header_value(classes, header.name, header.value, counts)
}

/// Appends a header line as it is stored: `value` where one was already masked, the credential hidden in any case.
pub fn keep(rules: &Arc<MaskRules>, header: &Header<'_>, value: Option<&[u8]>, out: &mut Vec<u8>) {
    let current = value.unwrap_or(header.value);
    match rules.record_header(header.name, current) {
        Some(hidden) => line(header.name, &hidden, out),
        None => match value {
            Some(value) => line(header.name, value, out),
            None => out.extend_from_slice(header.line),
        },
    }
}

/// Appends a header line.
pub fn line(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends a request's head as it is stored.
pub fn request_head(
    request: &Request,
    rules: &Arc<MaskRules>,
    classes: ClassSet,
    counts: &mut Counts,
    out: &mut Vec<u8>,
) {
    start_line(request, rules, classes, counts, out);
    lines(request.head(), rules, classes, counts, out);
    out.extend_from_slice(b"\r\n");
}

fn lines(head: &Head, rules: &Arc<MaskRules>, classes: ClassSet, counts: &mut Counts, out: &mut Vec<u8>) {
    for header in head.headers() {
        let value = shown(rules, classes, &header, counts);
        keep(rules, &header, value.as_deref(), out);
    }
}

fn start_line(
    request: &Request,
    rules: &Arc<MaskRules>,
    classes: ClassSet,
    counts: &mut Counts,
    out: &mut Vec<u8>,
) {
    if classes.is_empty() {
        return request.write_start_line(out);
    }
    let path = rules.mask_path(classes, request.target.wire(), counts);
    out.extend_from_slice(request.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    if let Some(query) = &request.target.query {
        let query = rules.mask_query(classes, query, counts);
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(if request.minor == 1 {
        b" HTTP/1.1\r\n"
    } else {
        b" HTTP/1.0\r\n"
    });
}
