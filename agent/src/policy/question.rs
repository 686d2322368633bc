//! A question as people write it: in examples, and for `portcullis policy explain`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use serde::Deserialize;

use super::{
    Approval, ApprovalScope, Principal, Query, aws,
    database::{Login, Statement},
    names,
    schema::{self, Schema},
    shape::{Members, Shape},
};
use crate::model::{ClassTable, Destination, Operation, OperationId, Process, Resource, Value, WorkloadName};

/// Why a question cannot be put.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// It does not say what is asked.
    #[error(
        "say what is asked: `method` and `url`, or `aws`, or `database` and `sql`, or `dns`, or `connect`, or `action`, `resource` and `context`"
    )]
    Nothing,
    /// It says so twice.
    #[error("give one of `url`, `aws`, `database`, `dns`, `connect` and `action`, not several")]
    Several,
    /// A value that cannot be read.
    #[error("{key}: {message}")]
    Value {
        /// Which.
        key: String,
        /// Why, and what to write instead.
        message: String,
    },
    /// The schema in this program is wrong.
    #[error(transparent)]
    Policy(#[from] super::PolicyError),
}

pub(super) fn wrong(key: &str, message: impl Into<String>) -> QuestionError {
    QuestionError::Value {
        key: key.into(),
        message: message.into(),
    }
}

/// A question: who, and one of an HTTP request (`method`, `url`), a call to AWS (`aws`), a statement or login (`database`), a query in DNS (`dns`), a connection
/// (`connect`), or any operation (`action`, `resource`, `context`).
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The workload's name.
    #[serde(default = "workload")]
    pub workload: String,
    /// Its groups.
    #[serde(default)]
    pub groups: Vec<Arc<str>>,
    /// `iss` of its token.
    #[serde(default = "issuer")]
    pub issuer: Arc<str>,
    /// `sub` of its token; its name when empty.
    #[serde(default)]
    pub subject: Option<Arc<str>>,
    /// The executable.
    #[serde(default)]
    pub exe: Option<PathBuf>,
    /// The process's user.
    #[serde(default)]
    pub uid: u32,
    /// RFC 3339; the epoch's start when empty.
    #[serde(default)]
    pub time: Option<String>,
    /// A human's answer.
    #[serde(default)]
    pub approval: Option<Answer>,

    /// A call to AWS.
    #[serde(default)]
    pub aws: Option<aws::Call>,
    /// HTTP method.
    #[serde(default = "method")]
    pub method: String,
    /// HTTP URL.
    #[serde(default)]
    pub url: Option<String>,
    /// `context.http.content_type`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// `context.http.host_verified`.
    #[serde(default = "yes")]
    pub host_verified: bool,
    /// Server and database: `billing-db/app`.
    #[serde(default)]
    pub database: Option<String>,
    /// The role asked for in the login; `postgres` when empty.
    #[serde(default)]
    pub role: Option<Arc<str>>,
    /// A statement in `database`.
    #[serde(default)]
    pub sql: Option<Statement>,
    /// The same, as a codec has understood it: the whole record.
    #[serde(skip)]
    pub understood: Option<Value>,
    /// A login to `database`, which is what is asked without `sql`.
    #[serde(default)]
    pub login: Option<Login>,
    /// A cancel request.
    #[serde(default)]
    pub cancel: bool,
    /// A query in DNS.
    #[serde(default)]
    pub dns: Option<names::Lookup>,
    /// Address and port of a connection whose protocol is not understood.
    #[serde(default)]
    pub connect: Option<SocketAddr>,

    /// Any action.
    #[serde(default)]
    pub action: Option<String>,
    /// What it is asked of.
    #[serde(default)]
    pub resource: Option<Entity>,
    /// The protocol's record under the protocol's name.
    #[serde(default)]
    pub context: BTreeMap<String, serde_json::Value>,

    /// `context.destination.address`.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// `context.destination.port`, where it is not the URL's.
    #[serde(default)]
    pub port: Option<u16>,
    /// `context.complete`.
    #[serde(default)]
    pub complete: Option<bool>,
}

/// `approval` of a question.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Who gave it.
    pub approver: Arc<str>,
    /// For which group.
    pub group: Arc<str>,
}

/// An entity of a question.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entity {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id.
    pub id: Arc<str>,
    /// What it is in.
    #[serde(default, rename = "in")]
    pub within: Vec<Entity>,
}

fn workload() -> String {
    "example".into()
}
fn issuer() -> Arc<str> {
    "https://issuer.example".into()
}
fn method() -> String {
    "GET".into()
}
fn yes() -> bool {
    true
}

impl Default for Question {
    fn default() -> Self {
        Self {
            workload: workload(),
            groups: Vec::new(),
            issuer: issuer(),
            subject: None,
            exe: None,
            uid: 0,
            time: None,
            approval: None,
            aws: None,
            method: method(),
            url: None,
            content_type: None,
            host_verified: true,
            database: None,
            role: None,
            sql: None,
            understood: None,
            login: None,
            cancel: false,
            dns: None,
            connect: None,
            action: None,
            resource: None,
            context: BTreeMap::new(),
            address: None,
            port: None,
            complete: None,
        }
    }
}

/// A question with everything that a [`Query`] borrows.
#[derive(Clone, Debug)]
pub struct Asked {
    principal: Principal,
    operation: Operation,
    process: Process,
    now_ns: i64,
    approval: Option<Approval>,
}

impl Asked {
    /// The query.
    #[must_use]
    pub fn query<'a>(&'a self, classes: &'a ClassTable) -> Query<'a> {
        Query {
            principal: &self.principal,
            operation: &self.operation,
            process: &self.process,
            now_ns: self.now_ns,
            classes,
            approval: self.approval.as_ref(),
        }
    }
}

impl Question {
    /// Makes it ready to be asked.
    ///
    /// # Errors
    /// When it does not say what is asked, or a value cannot be read.
    pub fn ask(&self) -> Result<Asked, QuestionError> {
        let schema = schema::schema()?;
        let of_database = self.role.is_some() || self.sql.is_some() || self.login.is_some() || self.cancel;
        let mut operation = match (&self.url, &self.database, self.connect, &self.action) {
            (_, None, _, _) if of_database => {
                return Err(wrong("database", "say which, as server/database"));
            }
            asked if self.aws.is_some() => match (asked, &self.aws) {
                ((None, None, None, None), Some(call)) => call.operation()?,
                _ => return Err(QuestionError::Several),
            },
            asked if self.dns.is_some() => match (asked, &self.dns) {
                ((None, None, None, None), Some(query)) => query.operation()?,
                _ => return Err(QuestionError::Several),
            },
            (Some(url), None, None, None) => self.http(url)?,
            (None, Some(id), None, None) => self.database(id)?,
            (None, None, Some(to), None) => connect(to),
            (None, None, None, Some(action)) => self.any(schema, action)?,
            (None, None, None, None) => return Err(QuestionError::Nothing),
            _ => return Err(QuestionError::Several),
        };
        operation.destination.address = self.address.unwrap_or(operation.destination.address);
        operation.destination.port = self.port.unwrap_or(operation.destination.port);
        if let (Value::Record(record), Some(complete)) = (&mut operation.context.1, self.complete) {
            record.insert("complete", complete.into());
        }
        let now_ns = match &self.time {
            None => 0,
            Some(text) => nanoseconds("time", text)?,
        };
        let name = WorkloadName::new(&self.workload).map_err(|e| wrong("workload", e.to_string()))?;
        Ok(Asked {
            principal: Principal {
                subject: self.subject.clone().unwrap_or_else(|| name.as_str().into()),
                workload: name,
                groups: self.groups.clone().into(),
                issuer: self.issuer.clone(),
            },
            operation,
            process: Process {
                pid: 0,
                tid: 0,
                uid: self.uid,
                gid: 0,
                start_ns: 0,
                exe: self.exe.clone().map(Arc::new),
                cgroup: None,
                sha256: None,
                parents: Vec::new(),
            },
            now_ns,
            approval: self.approval.as_ref().map(|a| Approval {
                id: "example".into(),
                approver: a.approver.clone(),
                group: a.group.clone(),
                at_ns: now_ns,
                approvers: [a.approver.clone()].into(),
                groups: [a.group.clone()].into(),
                scope: ApprovalScope::Once,
            }),
        })
    }

    fn http(&self, url: &str) -> Result<Operation, QuestionError> {
        let uri: hyper::Uri = url.parse().map_err(|e| wrong("url", format!("{url}: {e}")))?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(wrong(
                "url",
                format!("{url}: write it in full, as https://host/path"),
            ));
        };
        let host: Arc<str> = host.to_ascii_lowercase().into();
        let port = uri.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
        let mut record = BTreeMap::from([
            ("method", self.method.as_str().into()),
            ("scheme", scheme.into()),
            ("host", host.clone().into()),
            ("port", i64::from(port).into()),
            ("path", uri.path().into()),
            ("host_verified", self.host_verified.into()),
        ]);
        record.extend(uri.query().map(|q| ("query", q.into())));
        record.extend(
            self.content_type
                .as_ref()
                .map(|c| ("content_type", c.as_str().into())),
        );
        Ok(Operation {
            id: OperationId::new(),
            protocol: "http",
            action: "http:request",
            resource: Resource {
                kind: "HttpEndpoint",
                id: format!("{host}{}", uri.path()).into(),
                attributes: Vec::new(),
                parents: vec![("HttpHost", host.clone())],
            },
            destination: Destination {
                address: Ipv4Addr::new(192, 0, 2, 1).into(),
                port,
                name: Some(host),
                name_verified: self.host_verified,
            },
            context: ("http", Value::Record(record)),
            recorded_context: None,
            recorded_resource: None,
            credential: None,
        })
    }

    fn any(&self, schema: &'static Schema, action: &str) -> Result<Operation, QuestionError> {
        let (name, known) = schema.actions.get_key_value(action).ok_or_else(|| {
            let all: Vec<_> = schema.actions.keys().map(|k| &**k).collect();
            wrong(
                "action",
                format!("there is no '{action}'; there are {}", all.join(", ")),
            )
        })?;
        let resource = self
            .resource
            .as_ref()
            .ok_or_else(|| wrong("resource", "give its type and id"))?;
        let mut members = self.context.iter();
        let context = match (members.next(), members.next()) {
            (Some((protocol, json)), None) => {
                let protocol = member(&known.context, "context", protocol)?;
                (protocol.0, value(protocol.0, json, protocol.1)?)
            }
            _ => return Err(wrong("context", "give one record, under the protocol's name")),
        };
        Ok(Operation {
            id: OperationId::new(),
            protocol: context.0,
            action: name,
            resource: Resource {
                kind: kind(schema, &resource.kind)?,
                id: resource.id.clone(),
                attributes: Vec::new(),
                parents: resource
                    .within
                    .iter()
                    .map(|e| Ok((kind(schema, &e.kind)?, e.id.clone())))
                    .collect::<Result<_, QuestionError>>()?,
            },
            destination: Destination {
                address: Ipv4Addr::new(192, 0, 2, 1).into(),
                port: 443,
                name: None,
                name_verified: false,
            },
            context,
            recorded_context: None,
            recorded_resource: None,
            credential: None,
        })
    }
}

fn connect(to: SocketAddr) -> Operation {
    Operation {
        id: OperationId::new(),
        protocol: "tcp",
        action: "tcp:connect",
        resource: Resource {
            kind: "TcpEndpoint",
            id: to.to_string().into(),
            attributes: Vec::new(),
            parents: Vec::new(),
        },
        destination: Destination {
            address: to.ip(),
            port: to.port(),
            name: None,
            name_verified: false,
        },
        context: ("tcp", Value::record([])),
        recorded_context: None,
        recorded_resource: None,
        credential: None,
    }
}

fn kind(schema: &'static Schema, name: &str) -> Result<&'static str, QuestionError> {
    schema
        .types
        .get_key_value(name)
        .map(|(name, _)| &**name)
        .ok_or_else(|| {
            let all: Vec<_> = schema.types.keys().map(|k| &**k).collect();
            wrong(
                "type",
                format!("there is no '{name}'; there are {}", all.join(", ")),
            )
        })
}

fn member(
    members: &'static Members,
    of: &str,
    name: &str,
) -> Result<(&'static str, &'static Shape), QuestionError> {
    members
        .get_key_value(name)
        .map(|(name, member)| (&**name, &member.shape))
        .ok_or_else(|| {
            let all: Vec<_> = members.keys().map(|k| &**k).collect();
            wrong(of, format!("it has no '{name}'; it has {}", all.join(", ")))
        })
}

fn value(name: &str, json: &serde_json::Value, shape: &'static Shape) -> Result<Value, QuestionError> {
    use serde_json::Value as Json;
    match (shape, json) {
        (Shape::Bool, Json::Bool(v)) => Ok((*v).into()),
        (Shape::Long, Json::Number(v)) if v.is_i64() => Ok(v.as_i64().unwrap_or_default().into()),
        (Shape::String, Json::String(v)) => Ok(v.as_str().into()),
        (Shape::Ip, Json::String(v)) => v
            .parse()
            .map(Value::Ip)
            .map_err(|_| wrong(name, format!("'{v}' is no address"))),
        (Shape::Time, Json::String(v)) => nanoseconds(name, v).map(Value::Time),
        (Shape::Set(of), Json::Array(items)) => Ok(Value::Set(
            items
                .iter()
                .map(|i| value(name, i, of))
                .collect::<Result<_, _>>()?,
        )),
        (Shape::Record(members), Json::Object(record)) => Ok(Value::Record(
            record
                .iter()
                .map(|(key, v)| {
                    let (key, shape) = member(members, name, key)?;
                    Ok((key, value(key, v, shape)?))
                })
                .collect::<Result<_, QuestionError>>()?,
        )),
        (shape, json) => Err(wrong(name, format!("{json} does not fit {shape:?}"))),
    }
}

fn nanoseconds(key: &str, text: &str) -> Result<i64, QuestionError> {
    let parsed: Result<jiff::Timestamp, _> = text.parse();
    parsed
        .ok()
        .and_then(|t| i64::try_from(t.as_nanosecond()).ok())
        .ok_or_else(|| {
            wrong(
                key,
                format!("'{text}' is no time; write it as 2026-11-21T07:00:00Z"),
            )
        })
}
