//! Secrets in use that a workload sends by itself: found before anything goes up.

use crate::{
    mask::{Secrets, percent_decoded},
    protocol::http::{
        headers::{Known, known},
        request::Request,
    },
};

/// Whether a request's head holds one: as it was sent, or with its target's encodings taken off.
#[must_use]
pub fn in_head(secrets: &Secrets, request: &Request) -> bool {
    if !secrets.is_active() {
        return false;
    }
    let target = &request.target;
    let decoded = |text: &str| text.contains('%') && secrets.holds(&percent_decoded(text.as_bytes()));
    secrets.holds(request.head().bytes())
        || secrets.holds(target.path.as_bytes())
        || decoded(target.wire())
        || target
            .query
            .as_deref()
            .is_some_and(|q| decoded(q) || (q.contains('+') && decoded(&q.replace('+', "%20"))))
}

/// Whether the host as it was written holds one. The record has hosts in lower case, where it would not be found.
#[must_use]
pub fn in_host(secrets: &Secrets, request: &Request) -> bool {
    if !secrets.is_active() {
        return false;
    }
    let head = request.head();
    secrets.holds(head.start_line())
        || head
            .headers()
            .any(|h| known(h.name) == Known::Host && secrets.holds(h.value))
}
