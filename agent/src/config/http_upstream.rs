//! `[[upstream]] protocol = "http"`: what is put into requests, and into which.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    credential::{Credential, Gives},
    upstream::{Login, Upstream, UpstreamProtocol},
};

/// Where a credential goes in a request; exactly one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Inject {
    /// `Authorization: Bearer`, with this credential.
    pub bearer: Option<String>,
    /// `Authorization: Basic`, with this credential as the password.
    pub basic: Option<String>,
    /// The user of `basic`; the credential's own where its source makes both.
    pub user: Option<String>,
    /// A header field of this name, with `credential`.
    pub header: Option<String>,
    /// What stands before the credential in that field.
    pub prefix: Option<String>,
    /// A query parameter of this name, with `credential`.
    pub query: Option<String>,
    /// A cookie of this name, with `credential`.
    pub cookie: Option<String>,
    /// The credential of `header`, `query` and `cookie`.
    pub credential: Option<String>,
    /// AWS Signature Version 4, with this credential's keys.
    pub aws_sigv4: Option<String>,
    /// The service that `aws-sigv4` signs for; from the host unless set.
    pub service: Option<String>,
    /// The region that `aws-sigv4` signs for; from the host unless set.
    pub region: Option<String>,
}

impl Inject {
    /// The `[[credential]]`.
    #[must_use]
    pub fn reference(&self) -> Option<&str> {
        let all = [&self.bearer, &self.basic, &self.credential, &self.aws_sigv4];
        all.into_iter().flatten().next().map(String::as_str)
    }
}

/// Fields that frame or route a message, or that the gate itself reads: nothing is injected into them.
const RESERVED: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "accept-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "range",
    "if-range",
    "keep-alive",
    "proxy-connection",
    "http2-settings",
    "cookie",
];

impl Upstream {
    /// Whether it is for requests of this path: as policy sees it, and as it goes upstream.
    #[must_use]
    pub fn has_path(&self, path: &str, wire: &str) -> bool {
        let Some(prefix) = &self.path_prefix else {
            return true;
        };
        let prefix = prefix.trim_end_matches('/');
        // What a server that does not decode slashes sees has to be below it, too.
        let below = |path: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        below(path) && (path == wire || !wire.contains("%2F") || below(wire))
    }

    /// Whether it is for a host, in lower case.
    #[must_use]
    pub fn has_host(&self, host: &str) -> bool {
        match self.host.strip_prefix("*.") {
            // One label or more in front, and never the name itself.
            Some(parent) => host
                .len()
                .checked_sub(parent.len() + 1)
                .filter(|at| *at > 0)
                .and_then(|at| host.get(at..))
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(|rest| rest.eq_ignore_ascii_case(parent)),
            None => {
                let bare = self.host.trim_start_matches('[').trim_end_matches(']');
                bare.eq_ignore_ascii_case(host)
            }
        }
    }
}

/// Whether an upstream of HTTP makes sense.
pub(super) fn check(upstream: &Upstream, credentials: &BTreeMap<&str, &Credential>) -> Result<(), String> {
    let postgres = [
        ("server_name", upstream.server_name.is_some()),
        ("tls", upstream.tls.is_some()),
        ("tls_negotiation", upstream.tls_negotiation.is_some()),
        ("login", upstream.login != Login::PassThrough),
        ("user", upstream.user.is_some()),
        ("credential", upstream.credential.is_some()),
        ("database", upstream.database.is_some()),
        ("roles", !upstream.roles.is_empty()),
    ];
    if let Some((key, _)) = postgres.into_iter().find(|(_, set)| *set) {
        return Err(format!(
            "{key} is for protocol = \"postgres\"; what goes into requests is in inject"
        ));
    }
    check_host(&upstream.host)?;
    if let Some(prefix) = &upstream.path_prefix
        && (!prefix.starts_with('/')
            || prefix.contains(['?', '#', '%', ' ', '\\', ';'])
            || prefix.contains("//"))
    {
        return Err("path_prefix starts with '/' and is written without percent-encoding".into());
    }
    if upstream.certificate.is_some() && upstream.plaintext {
        return Err("a client certificate needs TLS: leave plaintext out".into());
    }
    match &upstream.inject {
        Some(inject) => check_inject(inject, credentials),
        None if upstream.certificate.is_some() => Ok(()),
        None => Err("inject or certificate is needed".into()),
    }
}

/// What only HTTP has.
pub(super) fn check_absent(upstream: &Upstream) -> Result<(), String> {
    let http = [
        ("path_prefix", upstream.path_prefix.is_some()),
        ("inject", upstream.inject.is_some()),
        ("plaintext", upstream.plaintext),
    ];
    match http.into_iter().find(|(_, set)| *set) {
        Some((key, _)) => Err(format!("{key} is for protocol = \"http\"")),
        None => Ok(()),
    }
}

/// Whether one that stands before another of HTTP takes every request of it.
pub(super) fn shadows(before: &Upstream, upstream: &Upstream) -> bool {
    let both = before.protocol == UpstreamProtocol::Http && upstream.protocol == UpstreamProtocol::Http;
    both && before.port == upstream.port
        && before.workloads.is_empty()
        && (before.plaintext || !upstream.plaintext)
        && before.host.eq_ignore_ascii_case(&upstream.host)
        && match (&before.path_prefix, &upstream.path_prefix) {
            (None, _) => true,
            (Some(_), Some(path)) => before.has_path(path, path),
            (Some(_), None) => false,
        }
}

fn check_host(host: &str) -> Result<(), String> {
    let name = host.strip_prefix("*.").unwrap_or(host);
    if name.contains('*') {
        return Err("host is a name, or '*.' and a name".into());
    }
    if host.starts_with("*.") && (!name.contains('.') || name.parse::<std::net::IpAddr>().is_ok()) {
        return Err("after '*.' host has a name of at least two labels".into());
    }
    if name.ends_with('.') || name.contains([':', '/']) && !name.starts_with('[') {
        return Err("host is a name without scheme, port, path and final dot".into());
    }
    Ok(())
}

fn check_inject(inject: &Inject, credentials: &BTreeMap<&str, &Credential>) -> Result<(), String> {
    let places = [
        ("bearer", inject.bearer.is_some()),
        ("basic", inject.basic.is_some()),
        ("header", inject.header.is_some()),
        ("query", inject.query.is_some()),
        ("cookie", inject.cookie.is_some()),
        ("aws-sigv4", inject.aws_sigv4.is_some()),
    ];
    let mut set = places.into_iter().filter(|(_, set)| *set).map(|(place, _)| place);
    let (Some(place), None) = (set.next(), set.next()) else {
        return Err("inject has exactly one of bearer, basic, header, query, cookie, aws-sigv4".into());
    };
    for (key, given, fits) in [
        ("user", inject.user.is_some(), place == "basic"),
        ("prefix", inject.prefix.is_some(), place == "header"),
        (
            "credential",
            inject.credential.is_some(),
            matches!(place, "header" | "query" | "cookie"),
        ),
        ("service", inject.service.is_some(), place == "aws-sigv4"),
        ("region", inject.region.is_some(), place == "aws-sigv4"),
    ] {
        if given && !fits {
            return Err(format!("inject: {key} does not go with {place}"));
        }
    }
    let Some(reference) = inject.reference() else {
        return Err(format!("inject: {place} needs credential"));
    };
    let Some(credential) = credentials.get(reference) else {
        return Err(format!(
            "inject: there is no [[credential]] of the name '{reference}'"
        ));
    };
    let gives = credential.gives();
    let (fits, wants) = match place {
        "aws-sigv4" => (gives == Gives::AwsKeys, "AWS keys"),
        _ => (
            matches!(gives, Gives::Secret | Gives::Login),
            "a password, token or key",
        ),
    };
    if !fits {
        let is = gives.as_str();
        return Err(format!(
            "inject: {place} is '{reference}', which is {is}, not {wants}"
        ));
    }
    if place == "basic" && gives == Gives::Secret && inject.user.is_none() {
        return Err("inject: basic needs user, which may be empty".into());
    }
    check_place(inject)
}

fn check_place(inject: &Inject) -> Result<(), String> {
    let token = |name: &str| {
        !name.is_empty()
            && name.len() <= 128
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    for (key, name) in [("header", &inject.header), ("cookie", &inject.cookie)] {
        if name.as_deref().is_some_and(|n| !token(n)) {
            return Err(format!("inject: {key} is not a name that a {key} can have"));
        }
    }
    if let Some(name) = &inject.header
        && RESERVED
            .iter()
            .any(|r| r.eq_ignore_ascii_case(&name.replace('_', "-")))
    {
        return Err(format!("inject: nothing is injected into '{name}'"));
    }
    if inject.query.as_deref().is_some_and(|n| {
        n.is_empty()
            || !n
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
    }) {
        return Err("inject: query is the name of a parameter: A-Z a-z 0-9 - . _ ~".into());
    }
    let visible = |t: &String| t.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !inject.prefix.as_ref().is_none_or(visible) {
        return Err("inject: prefix is visible ASCII".into());
    }
    if !inject
        .user
        .as_ref()
        .is_none_or(|u| visible(u) && !u.contains(':'))
    {
        return Err("inject: user is visible ASCII without ':'".into());
    }
    Ok(())
}
