//! A query as an operation: what policy decides on.

use hickory_resolver::proto::{op::Query, rr::Name};

use super::query::Asked;
use crate::{
    gate::Gate,
    model::{Operation, Transport},
    policy::{NameQuery, Recent},
};

/// The operation that a message asks for, as far as it could be read.
#[must_use]
pub fn of(asked: &Asked, recent: Recent, complete: bool, gate: &Gate) -> Operation {
    let question = asked.question.as_ref();
    let root = Name::root();
    let query = NameQuery {
        name: question.map_or(&root, Query::name),
        kind: question.map(Query::query_type),
        transport: transport(gate).into(),
        recent,
        complete,
        to: gate.original_dst().0,
    };
    query.operation()
}

fn transport(gate: &Gate) -> &'static str {
    match (gate.transport(), gate.tls()) {
        (_, Some(_)) => "tls",
        (Transport::Udp, None) => "udp",
        (Transport::Tcp, None) => "tcp",
        (Transport::Unix, None) => "unix",
    }
}
