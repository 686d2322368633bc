//! What every request over the network passes first, and what every answer carries.
//!
//! Invariants: only the configured name is answered to, so that no other name can be made to point here (DNS
//! rebinding); what changes something came from a page of this origin; no answer can be framed, guessed a type for, or
//! kept by a cache.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::desk::Desk;

/// For a whole request, a watcher's wait included.
const PATIENCE: Duration = Duration::from_secs(40);

/// What the guard knows.
#[derive(Clone)]
pub struct Guard {
    desk: Desk,
    origin: Arc<str>,
    /// The host and, where it is not the scheme's own, the port.
    host: Arc<str>,
}

impl Guard {
    /// For an origin.
    pub fn new(desk: Desk, origin: &str) -> Self {
        let host = origin.split_once("://").map_or(origin, |(_, host)| host);
        Self {
            desk,
            origin: origin.into(),
            host: host.into(),
        }
    }

    fn refuses(&self, request: &Request) -> Option<(StatusCode, &'static str)> {
        let headers = request.headers();
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|h| h.to_str().ok()).unwrap_or_default();
        let named = request
            .uri()
            .authority()
            .is_none_or(|a| a.as_str().eq_ignore_ascii_case(&self.host));
        if hosts.next().is_some() || !host.eq_ignore_ascii_case(&self.host) || !named {
            return Some((StatusCode::MISDIRECTED_REQUEST, "Host is not [console] url"));
        }
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        // Programs show a token or a signature with each request, which no page of another site can.
        let by_program = request.uri().path().starts_with("/v1/") || request.uri().path() == super::SLACK;
        if changes && !by_program && !self.own_page(headers) {
            return Some((StatusCode::FORBIDDEN, "the form came from another site"));
        }
        None
    }

    /// Whether a browser says that the request is by a page of this origin. Both headers are the browser's own: no
    /// script can set them. One without either is too old to be told apart from an attack.
    fn own_page(&self, headers: &HeaderMap) -> bool {
        let text = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
        match (
            text(header::ORIGIN),
            text(HeaderName::from_static("sec-fetch-site")),
        ) {
            (None, None) => false,
            (origin, site) => {
                origin.is_none_or(|origin| origin == &*self.origin)
                    && site.is_none_or(|site| site == "same-origin")
            }
        }
    }
}

/// The middleware.
pub async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let refused = guard.refuses(&request);
    let mut response = match refused {
        Some((status, why)) => {
            guard.desk.refused("web", why);
            (status, format!("{why}\n")).into_response()
        }
        None => match tokio::time::timeout(PATIENCE, next.run(request)).await {
            Ok(response) => response,
            Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
        },
    };
    harden(response.headers_mut(), guard.origin.starts_with("https://"));
    response
}

fn harden(headers: &mut HeaderMap, secure: bool) {
    let mut set = |name: HeaderName, value: &'static str| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    set(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'",
    );
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // With no-referrer a browser's Origin is `null` on this site's own forms (Fetch section 3.2.5), and could not be
    // told from another site's. Same-origin tells others just as little.
    set(header::REFERRER_POLICY, "same-origin");
    set(
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    set(
        HeaderName::from_static("permissions-policy"),
        "camera=(), geolocation=(), microphone=(), payment=()",
    );
    if secure {
        set(header::STRICT_TRANSPORT_SECURITY, "max-age=63072000");
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
