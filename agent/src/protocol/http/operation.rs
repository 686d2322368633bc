//! A request as an operation: what policy decides on, and what of it may be kept.

use std::sync::Arc;

use super::{inject::leak, mask, request::Request};
use crate::{
    gate::Gate,
    model::{Destination, Operation, OperationId, Resource, Value},
    protocol::dns::encrypted,
};

/// The operation that a request, or what was understood of one, asks for.
pub fn of(request: &Request, host_verified: bool, gate: &Gate) -> Operation {
    let to = gate.original_dst().0;
    let (scheme, default_port) = if gate.tls().is_some() {
        ("https", 443)
    } else {
        ("http", 80)
    };
    // A request that could not be read has no host of its own.
    let hidden = request.host.is_empty() || leak::in_host(gate.secrets(), request);
    let host: Arc<str> = if hidden {
        to.ip().to_canonical().to_string().into()
    } else {
        request.host.as_str().into()
    };
    let path: Arc<str> = request.target.path.as_str().into();
    let shown = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_string()
    };
    let authority = if to.port() == default_port {
        shown
    } else {
        format!("{shown}:{}", to.port())
    };
    let id: Arc<str> = format!("{authority}{path}").into();
    let masked_path = mask::path(gate.mask(), &path);
    let masked_query = request
        .target
        .query
        .as_deref()
        .map(|q| (q, mask::query(gate.mask(), q)));
    let content_type = request.content_type.as_deref();
    let dns = encrypted::is_dns(gate, &host, &path, request.target.query.as_deref(), content_type);
    let masked_type = content_type.map(|t| (t, mask::text(gate.mask(), t)));
    let context = |path: Arc<str>, query: Option<&str>, content_type: Option<&str>| {
        let mut record = std::collections::BTreeMap::from([
            ("method", Value::from(request.method.as_str())),
            ("scheme", Value::from(scheme)),
            ("host", Value::String(Arc::clone(&host))),
            ("port", Value::Long(to.port().into())),
            ("path", Value::String(path)),
            ("host_verified", Value::Bool(host_verified)),
        ]);
        if dns {
            record.insert("dns", Value::Bool(true));
        }
        if request.target.encoded_slash {
            record.insert("complete", Value::Bool(false));
        }
        if let Some(query) = query {
            record.insert("query", Value::from(query));
        }
        if let Some(content_type) = content_type {
            record.insert("content_type", Value::from(content_type));
        }
        Value::Record(record)
    };
    let changed = masked_path.is_some()
        || [&masked_query, &masked_type]
            .into_iter()
            .flatten()
            .any(|(_, masked)| masked.is_some());
    let recorded_context = changed.then(|| {
        let path = masked_path
            .as_deref()
            .map_or_else(|| Arc::clone(&path), Arc::from);
        context(path, kept(masked_query.as_ref()), kept(masked_type.as_ref()))
    });
    Operation {
        id: OperationId::new(),
        protocol: "http",
        action: "http:request",
        resource: Resource {
            kind: "HttpEndpoint",
            id,
            attributes: Vec::new(),
            parents: vec![("HttpHost", Arc::clone(&host))],
        },
        destination: Destination {
            address: to.ip(),
            port: to.port(),
            name: (!hidden).then(|| Arc::clone(&host)),
            name_verified: host_verified,
        },
        context: (
            "http",
            context(Arc::clone(&path), request.target.query.as_deref(), content_type),
        ),
        recorded_context,
        recorded_resource: masked_path.map(|path| format!("{authority}{path}").into()),
        credential: None,
    }
}

fn kept<'a>(value: Option<&'a (&'a str, Option<String>)>) -> Option<&'a str> {
    value.map(|(raw, masked)| masked.as_deref().unwrap_or(raw))
}
