//! One request, statement or command: the unit of policy, approval and record.

use std::{net::IpAddr, sync::Arc};

use super::{OperationId, Value};

/// What an operation is asked of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resource {
    /// Cedar entity type, e.g. `HttpEndpoint`.
    pub kind: &'static str,
    /// Entity id, e.g. `api.internal/customers/7`.
    pub id: Arc<str>,
    /// The entity's attributes, as the schema names them.
    pub attributes: Vec<(&'static str, Value)>,
    /// Entities it is in, nearest first: (type, id), e.g. (`HttpHost`, `api.internal`).
    pub parents: Vec<(&'static str, Arc<str>)>,
}

/// Where the bytes would go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The address that the workload asked for.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The name it was asked for under (SNI, Host), if any.
    pub name: Option<Arc<str>>,
    /// Whether that name is proved: by the upstream's certificate, or by the host's own look-up of it.
    pub name_verified: bool,
}

/// What a protocol understood and asks the gate to decide.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its id, and that of its entry.
    pub id: OperationId,
    /// The protocol's name, e.g. `http`.
    pub protocol: &'static str,
    /// The Cedar action, e.g. `http:request`.
    pub action: &'static str,
    /// What it is asked of.
    pub resource: Resource,
    /// Where it would go.
    pub destination: Destination,
    /// Name and value of the protocol's part of the policy context, e.g. (`http`, record). Policy decides on it as
    /// it is here.
    pub context: (&'static str, Value),
    /// The same, as the entry may keep it: sensitive values masked. `None` where nothing had to be masked.
    pub recorded_context: Option<Value>,
    /// The resource's id as the entry may keep it. `None` where nothing had to be masked.
    pub recorded_resource: Option<Arc<str>>,
    /// The credential that the agent puts into it, by reference.
    pub credential: Option<Arc<str>>,
}
