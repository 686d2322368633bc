//! Heads as they are stored: credentials masked always, everything else as the principal may see it.

use std::sync::Arc;

use super::{
    head::{Head, Header},
    headers::{Known, known},
    inject::Injected,
    request::Request,
};
use crate::{
    gate::Gate,
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
    injected: Option<&Injected>,
    gate: &Gate,
    classes: ClassSet,
    counts: &mut Counts,
    out: &mut Vec<u8>,
) {
    let rules = gate.mask();
    start_line(request, injected, rules, classes, counts, out);
    lines(request.head(), injected, rules, classes, counts, out);
    if let Some(injected) = injected {
        out.extend_from_slice(&injected.shown_lines);
    }
    out.extend_from_slice(b"\r\n");
    gate.secrets().mask(out);
}

fn lines(
    head: &Head,
    injected: Option<&Injected>,
    rules: &Arc<MaskRules>,
    classes: ClassSet,
    counts: &mut Counts,
    out: &mut Vec<u8>,
) {
    for header in head.headers() {
        if injected.is_some_and(|i| i.drops(header.name)) {
            continue;
        }
        let value = shown(rules, classes, &header, counts);
        keep(rules, &header, value.as_deref(), out);
    }
}

fn start_line(
    request: &Request,
    injected: Option<&Injected>,
    rules: &Arc<MaskRules>,
    classes: ClassSet,
    counts: &mut Counts,
    out: &mut Vec<u8>,
) {
    let changed = injected.and_then(|i| i.shown_query.as_deref());
    if classes.is_empty() {
        return match changed {
            Some(query) => request.write_target(Some(query), out),
            None => request.write_start_line(out),
        };
    }
    let path = rules.mask_path(classes, request.target.wire(), counts);
    out.extend_from_slice(request.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    if let Some(query) = changed.or(request.target.query.as_deref()) {
        out.push(b'?');
        // What stands for the credential says which one it is; masking would take that away.
        let (rest, marker) = match (changed, query.rsplit_once('&')) {
            (Some(_), Some((rest, marker))) => (rest, Some(marker)),
            (Some(_), None) => ("", Some(query)),
            (None, _) => (query, None),
        };
        out.extend_from_slice(rules.mask_query(classes, rest, counts).as_bytes());
        if let Some(marker) = marker {
            if !rest.is_empty() {
                out.push(b'&');
            }
            out.extend_from_slice(marker.as_bytes());
        }
    }
    out.extend_from_slice(if request.minor == 1 {
        b" HTTP/1.1\r\n"
    } else {
        b" HTTP/1.0\r\n"
    });
}
