//! A query as an operation: what policy decides on.

use std::{collections::BTreeMap, sync::Arc};

use hickory_resolver::proto::rr::Name;

use super::{
    features::Features,
    query::{self, Asked},
    rate::Recent,
};
use crate::{
    gate::{Gate, written},
    model::{Destination, Operation, OperationId, Resource, Transport, Value},
};

/// The operation that a message asks for, as far as it could be read.
#[must_use]
pub fn of(asked: &Asked, recent: Recent, complete: bool, gate: &Gate) -> Operation {
    let to = gate.original_dst().0;
    let question = asked.question.as_ref();
    let name = question.map(|q| q.name().clone()).unwrap_or_else(Name::root);
    let features = Features::of(&name);
    let id = written(&name);
    let long = |n: usize| Value::Long(i64::try_from(n).unwrap_or(i64::MAX));
    let recent = Value::record([
        ("bytes", recent.bytes.into()),
        ("names", recent.names.into()),
        ("queries", recent.queries.into()),
    ]);
    let record = BTreeMap::from([
        ("access", Value::from("read")),
        ("bytes", long(features.bytes)),
        ("complete", complete.into()),
        ("entropy", features.entropy.into()),
        ("labels", long(features.labels)),
        ("longest_label", long(features.longest)),
        ("name", Value::String(Arc::clone(&id))),
        ("recent", recent),
        ("transport", transport(gate).into()),
        (
            "type",
            question
                .map_or_else(String::new, |q| query::kind(q.query_type()))
                .into(),
        ),
    ]);
    Operation {
        id: OperationId::new(),
        protocol: "dns",
        action: "dns:query",
        resource: Resource {
            kind: "DnsName",
            id,
            attributes: Vec::new(),
            parents: domains(&name),
        },
        destination: Destination {
            address: to.ip(),
            port: to.port(),
            name: None,
            name_verified: false,
        },
        context: ("dns", Value::Record(record)),
        recorded_context: None,
        recorded_resource: None,
        credential: None,
    }
}

/// The domains that a name is in, nearest first, without the root.
fn domains(name: &Name) -> Vec<(&'static str, Arc<str>)> {
    let mut domains = Vec::new();
    let mut domain = name.base_name();
    while !domain.is_root() {
        domains.push(("DnsName", written(&domain)));
        domain = domain.base_name();
    }
    domains
}

fn transport(gate: &Gate) -> &'static str {
    match (gate.transport(), gate.tls()) {
        (_, Some(_)) => "tls",
        (Transport::Udp, None) => "udp",
        (Transport::Tcp, None) => "tcp",
        (Transport::Unix, None) => "unix",
    }
}
