//! Made-up operations for tests.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use super::{PolicySet, Principal, Query, source::File};
use crate::model::{ClassTable, Destination, Operation, OperationId, Process, Resource, Value, WorkloadName};

/// 2026-11-21T07:00:00.5Z
pub const NOW: i64 = 1_795_244_400_500_000_000;

pub fn request(method: &str, host: &str, path: &str) -> Operation {
    Operation {
        id: OperationId::new(),
        protocol: "http",
        action: "http:request",
        resource: Resource {
            kind: "HttpEndpoint",
            id: format!("{host}{path}").into(),
            attributes: Vec::new(),
            parents: vec![("HttpHost", host.into())],
        },
        destination: Destination {
            address: [10, 0, 0, 5].into(),
            port: 443,
            name: Some(host.into()),
            name_verified: true,
        },
        context: (
            "http",
            Value::record([
                ("method", method.into()),
                ("scheme", "https".into()),
                ("host", host.into()),
                ("port", 443.into()),
                ("path", path.into()),
                ("host_verified", true.into()),
            ]),
        ),
        recorded_context: None,
        recorded_resource: None,
        credential: None,
    }
}

pub fn connect(to: &str) -> Operation {
    let address: SocketAddr = to.parse().unwrap();
    Operation {
        id: OperationId::new(),
        protocol: "tcp",
        action: "tcp:connect",
        resource: Resource {
            kind: "TcpEndpoint",
            id: to.into(),
            attributes: Vec::new(),
            parents: Vec::new(),
        },
        destination: Destination {
            address: address.ip(),
            port: address.port(),
            name: None,
            name_verified: false,
        },
        context: ("tcp", Value::record([])),
        recorded_context: None,
        recorded_resource: None,
        credential: None,
    }
}

/// A read of `public.customers` in billing-db/app.
pub fn statement() -> Operation {
    let words = |words: &[&str]| Value::Set(words.iter().map(|w| (*w).into()).collect());
    Operation {
        id: OperationId::new(),
        protocol: "postgres",
        action: "sql:statement",
        resource: Resource {
            kind: "Database",
            id: "billing-db/app".into(),
            attributes: Vec::new(),
            parents: vec![("DatabaseServer", "billing-db".into())],
        },
        destination: Destination {
            address: [10, 0, 0, 5].into(),
            port: 5432,
            name: Some("billing-db".into()),
            name_verified: true,
        },
        context: (
            "sql",
            Value::record([
                ("phase", "simple".into()),
                ("verbs", words(&["select"])),
                ("reads", words(&["public.customers"])),
                ("writes", words(&[])),
                ("read_schemas", words(&["public"])),
                ("write_schemas", words(&[])),
                ("columns", words(&["public.customers.id", "public.customers.ssn"])),
                ("sensitive", words(&["us_ssn"])),
                ("functions", words(&["pg_catalog.count", "pg_catalog.lower"])),
                ("database", "app".into()),
                ("role", "svc".into()),
                ("transaction", "idle".into()),
                ("statements", 1.into()),
                ("incomplete", words(&[])),
                ("access", "read".into()),
                ("complete", true.into()),
            ]),
        ),
        recorded_context: None,
        recorded_resource: None,
        credential: None,
    }
}

pub struct World {
    pub principal: Principal,
    pub process: Process,
    pub classes: ClassTable,
}

impl Default for World {
    fn default() -> Self {
        Self {
            principal: Principal {
                workload: WorkloadName::new("bot").unwrap(),
                groups: ["readers".into(), "deploy".into()].into(),
                issuer: "https://issuer.internal".into(),
                subject: "svc-bot".into(),
            },
            process: Process {
                pid: 7,
                tid: 7,
                uid: 1000,
                gid: 1000,
                start_ns: 1,
                exe: Some(Arc::new(PathBuf::from("/usr/bin/curl"))),
                cgroup: None,
                sha256: None,
                parents: Vec::new(),
            },
            classes: ClassTable::new(["email", "us_ssn", "credit_card"].map(Arc::from)).unwrap(),
        }
    }
}

impl World {
    pub fn query<'a>(&'a self, operation: &'a Operation) -> Query<'a> {
        Query {
            principal: &self.principal,
            operation,
            process: &self.process,
            now_ns: NOW,
            classes: &self.classes,
            approval: None,
        }
    }
}

pub fn file(name: &str, text: &str) -> File {
    File {
        path: name.into(),
        name: name.into(),
        text: text.into(),
    }
}

pub fn set(text: &str) -> PolicySet {
    PolicySet::new(&[file("test.cedar", text)]).unwrap()
}
