//! A query in DNS as an operation. This is the only place where one is made: what the gate asks is what an example and
//! `portcullis policy explain` ask.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use hickory_resolver::proto::rr::{Name, RecordType};

use super::features::Features;
use crate::model::{Destination, Operation, OperationId, Resource, Value};

/// What a workload asked within a minute, the query at hand included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// Queries, for any name.
    pub queries: i64,
    /// Different names below the zone of the name asked for; at most 1024.
    pub names: i64,
    /// Bytes of the names asked for below that zone.
    pub bytes: i64,
}

/// What is known of a query.
#[derive(Clone, Debug)]
pub struct NameQuery<'a> {
    /// The name; the root where it could not be read.
    pub name: &'a Name,
    /// The type; `None` where it could not be read.
    pub kind: Option<RecordType>,
    /// `udp`, `tcp`, `tls` or `unix`.
    pub transport: Arc<str>,
    /// What was asked before it.
    pub recent: Recent,
    /// Whether all of the message was understood.
    pub complete: bool,
    /// The resolver that the workload asked.
    pub to: SocketAddr,
}

impl NameQuery<'_> {
    /// The operation, with an id of its own.
    #[must_use]
    pub fn operation(&self) -> Operation {
        let features = Features::of(self.name);
        let id = written(self.name);
        let long = |n: usize| Value::Long(i64::try_from(n).unwrap_or(i64::MAX));
        let recent = Value::record([
            ("bytes", self.recent.bytes.into()),
            ("names", self.recent.names.into()),
            ("queries", self.recent.queries.into()),
        ]);
        let record = BTreeMap::from([
            ("access", Value::from("read")),
            ("bytes", long(features.bytes)),
            ("complete", self.complete.into()),
            ("entropy", features.entropy.into()),
            ("labels", long(features.labels)),
            ("longest_label", long(features.longest)),
            ("name", Value::String(Arc::clone(&id))),
            ("recent", recent),
            ("transport", Value::String(Arc::clone(&self.transport))),
            ("type", self.kind.map_or_else(String::new, kind).into()),
        ]);
        Operation {
            id: OperationId::new(),
            protocol: "dns",
            action: "dns:query",
            resource: Resource {
                kind: "DnsName",
                id,
                attributes: Vec::new(),
                parents: domains(self.name),
            },
            destination: Destination {
                address: self.to.ip(),
                port: self.to.port(),
                name: None,
                name_verified: false,
            },
            context: ("dns", Value::Record(record)),
            recorded_context: None,
            recorded_resource: None,
            credential: None,
        }
    }
}

/// The domains that a name is in, nearest first, without the root.
fn domains(name: &Name) -> Vec<(&'static str, Arc<str>)> {
    let mut domains = Vec::new();
    let mut domain = name.base_name();
    while domain.iter().next().is_some() {
        domains.push(("DnsName", written(&domain)));
        domain = domain.base_name();
    }
    domains
}

/// A name as policies write it: lower case, in ASCII, no dot at the end; `.` for the root.
#[must_use]
pub fn written(name: &Name) -> Arc<str> {
    let text = name.to_lowercase().to_ascii();
    match text.strip_suffix('.') {
        Some(text) if !text.is_empty() => text.into(),
        _ => text.into(),
    }
}

/// A type as policies write it: `A`, or `TYPE65280` for one without a name (RFC 3597 section 5).
#[must_use]
pub fn kind(kind: RecordType) -> String {
    match kind {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        kind => kind.to_string(),
    }
}

/// The other way round, in letters of either case.
#[must_use]
pub fn kind_of(text: &str) -> Option<RecordType> {
    let text = text.to_ascii_uppercase();
    let number = || text.strip_prefix("TYPE")?.parse::<u16>().ok();
    text.parse().ok().or_else(|| number().map(RecordType::from))
}
