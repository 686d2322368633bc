//! The bodies of entries: canonical JSON (RFC 8785 with integers only), so fields stand in the order of their names.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::credential::Used;
use crate::{
    model::{
        Decision, Destination, Effect, Entry, EntryKind, Identity, OperationId, OriginalDst, Process, Reason,
        Rfc3339, Seq, SessionId, Transport, Value, WorkloadName,
    },
    policy::Approval,
};

/// Serialises a body. Serialising these structs cannot fail: keys are text, and no map has other keys.
fn entry<T: Serialize>(id: Uuid, kind: EntryKind, body: &T) -> Entry {
    let mut bytes = Vec::with_capacity(1024);
    let text = match serde_json::to_writer(&mut bytes, body) {
        Ok(()) => String::from_utf8(bytes).unwrap_or_default(),
        Err(_) => String::new(),
    };
    Entry { id, kind, body: text }
}

/// A part of a body that stays the same for a whole connection, serialised once.
pub(crate) fn fragment<T: Serialize>(part: &T) -> Arc<RawValue> {
    serde_json::value::to_raw_value(part).map_or_else(|_| Arc::from(RawValue::NULL.to_owned()), Arc::from)
}

#[derive(Serialize)]
struct ProcessBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<std::borrow::Cow<'a, str>>,
    gid: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parents: Vec<AncestorBody<'a>>,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    start_ns: u64,
    tid: u32,
    uid: u32,
}

#[derive(Serialize)]
struct AncestorBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<std::borrow::Cow<'a, str>>,
    pid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    start_ns: u64,
}

impl<'a> From<&'a crate::model::Ancestor> for AncestorBody<'a> {
    fn from(ancestor: &'a crate::model::Ancestor) -> Self {
        Self {
            exe: ancestor.exe.as_ref().map(|p| p.to_string_lossy()),
            pid: ancestor.pid,
            sha256: ancestor.sha256.as_deref(),
            start_ns: ancestor.start_ns,
        }
    }
}

/// A process as entries have it.
#[must_use]
pub fn process(process: &Process) -> Arc<RawValue> {
    fragment(&ProcessBody {
        cgroup: process.cgroup.as_deref(),
        exe: process.exe.as_ref().map(|p| p.to_string_lossy()),
        gid: process.gid,
        parents: process.parents.iter().map(Into::into).collect(),
        pid: process.pid,
        sha256: process.sha256.as_deref(),
        start_ns: process.start_ns,
        tid: process.tid,
        uid: process.uid,
    })
}

#[derive(Serialize)]
struct IdentityBody<'a> {
    expires_at: Rfc3339,
    groups: &'a [Arc<str>],
    issuer: &'a str,
    key_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<&'a str>,
    subject: &'a str,
    token_id: &'a str,
}

pub(crate) fn identity(identity: &Identity) -> Arc<RawValue> {
    fragment(&IdentityBody {
        expires_at: Rfc3339(identity.expires_at.saturating_mul(1_000_000_000)),
        groups: &identity.groups,
        issuer: &identity.issuer,
        key_id: &identity.key_id,
        on_behalf_of: identity.on_behalf_of.as_deref(),
        subject: &identity.subject,
        token_id: &identity.token_id,
    })
}

#[derive(Serialize)]
struct DestinationBody<'a> {
    address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    name_verified: bool,
    port: u16,
}

impl<'a> From<&'a Destination> for DestinationBody<'a> {
    fn from(d: &'a Destination) -> Self {
        Self {
            address: d.address,
            name: d.name.as_deref(),
            name_verified: d.name_verified,
            port: d.port,
        }
    }
}

#[derive(Serialize)]
struct ResourceBody<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
}

/// The approval that an operation passed with, or the request that it was held under.
#[derive(Serialize)]
pub(super) struct ApprovalBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    approver: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    approvers: &'a [Arc<str>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [Arc<str>],
    id: std::borrow::Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'static str>,
}

impl ApprovalBody<'_> {
    pub(super) fn request(id: Uuid) -> Self {
        Self {
            approver: None,
            approvers: &[],
            groups: &[],
            id: id.to_string().into(),
            scope: None,
        }
    }
}

impl<'a> From<&'a Approval> for ApprovalBody<'a> {
    fn from(approval: &'a Approval) -> Self {
        Self {
            approver: Some(&approval.approver),
            approvers: &approval.approvers,
            groups: &approval.groups,
            id: (&*approval.id).into(),
            scope: Some(approval.scope.as_str()),
        }
    }
}

#[derive(Serialize)]
struct OperationBody<'a> {
    action: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<ApprovalBody<'a>>,
    at: Rfc3339,
    context: BTreeMap<&'a str, &'a Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    controls: &'a [Arc<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    credential: Option<&'a str>,
    decision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<DestinationBody<'a>>,
    host: &'a str,
    id: OperationId,
    identity: Option<&'a RawValue>,
    kind: EntryKind,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mask: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    policies: &'a [Arc<str>],
    policy_set: &'a str,
    process: &'a RawValue,
    protocol: &'a str,
    reason: Reason,
    resource: ResourceBody<'a>,
    session: SessionId,
    v: u8,
    workload: &'a WorkloadName,
}

/// What an operation's entry is made of.
pub(super) struct OperationParts<'a> {
    pub at: i64,
    pub host: &'a str,
    pub session: SessionId,
    pub workload: &'a WorkloadName,
    pub process: &'a RawValue,
    pub identity: Option<&'a RawValue>,
    pub operation: &'a crate::model::Operation,
    pub decision: &'a Decision,
    pub approval: Option<ApprovalBody<'a>>,
    pub mask: Vec<&'a str>,
}

pub(super) fn operation(p: OperationParts<'_>) -> Entry {
    let (name, seen) = &p.operation.context;
    let context = p.operation.recorded_context.as_ref().unwrap_or(seen);
    let resource = p
        .operation
        .recorded_resource
        .as_ref()
        .unwrap_or(&p.operation.resource.id);
    let body = OperationBody {
        action: p.operation.action,
        approval: p.approval,
        at: Rfc3339(p.at),
        context: BTreeMap::from([(*name, context)]),
        controls: &p.decision.controls,
        credential: p.operation.credential.as_deref(),
        // A hold that nobody can answer is a denial; `reason` says which.
        decision: if p.decision.effect == Effect::Allow {
            "allow"
        } else {
            "deny"
        },
        // A program goes nowhere.
        destination: (p.operation.protocol != "exec").then(|| (&p.operation.destination).into()),
        host: p.host,
        id: p.operation.id,
        identity: p.identity,
        kind: EntryKind::Operation,
        mask: p.mask,
        message: p.decision.message.as_deref(),
        policies: &p.decision.policies,
        policy_set: &p.decision.policy_set,
        process: p.process,
        protocol: p.operation.protocol,
        reason: p.decision.reason,
        resource: ResourceBody {
            id: resource,
            kind: p.operation.resource.kind,
        },
        session: p.session,
        v: 1,
        workload: p.workload,
    };
    entry(p.operation.id.0, EntryKind::Operation, &body)
}

/// One direction of an operation's payload.
#[derive(Serialize)]
pub(crate) struct PayloadBody {
    /// Bytes over all frames, as masked.
    pub bytes: u64,
    /// How many frames there are.
    pub frames: u32,
    /// SHA-256 over the frames' SHA-256, hex.
    pub sha256: String,
}

#[derive(Serialize)]
struct Payloads<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    down: Option<&'a PayloadBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<&'a PayloadBody>,
}

#[derive(Serialize)]
struct OutcomeBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a Value>,
    at: Rfc3339,
    bytes_down: u64,
    bytes_up: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    credentials: &'a [Used],
    duration_us: u64,
    id: Uuid,
    kind: EntryKind,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    masked: &'a BTreeMap<&'a str, u64>,
    operation: OperationId,
    operation_seq: Seq,
    payload: Payloads<'a>,
    reason: Reason,
    #[serde(skip_serializing_if = "str::is_empty")]
    status: &'a str,
    #[serde(skip_serializing_if = "Unrecorded::is_nothing")]
    unrecorded: Unrecorded,
    v: u8,
    workload: &'a WorkloadName,
}

/// Masked bytes of the payload that are not recorded, because the room for the ledger is used up.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Unrecorded {
    #[serde(skip_serializing_if = "is_zero")]
    pub down: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub up: u64,
}

impl Unrecorded {
    fn is_nothing(&self) -> bool {
        self.down == 0 && self.up == 0
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde calls it.
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What an outcome's entry is made of.
pub(crate) struct OutcomeParts<'a> {
    /// The protocol's facts about the answer.
    pub answer: Option<&'a Value>,
    pub at: i64,
    pub operation: OperationId,
    pub operation_seq: Seq,
    pub workload: &'a WorkloadName,
    pub bytes_up: u64,
    pub bytes_down: u64,
    pub credentials: &'a [Used],
    pub duration_us: u64,
    pub masked: &'a BTreeMap<&'a str, u64>,
    pub up: Option<&'a PayloadBody>,
    pub down: Option<&'a PayloadBody>,
    pub unrecorded: Unrecorded,
    pub reason: Reason,
    pub status: &'a str,
}

pub(crate) fn outcome(p: &OutcomeParts<'_>) -> Entry {
    let id = Uuid::now_v7();
    let body = OutcomeBody {
        answer: p.answer,
        at: Rfc3339(p.at),
        bytes_down: p.bytes_down,
        bytes_up: p.bytes_up,
        credentials: p.credentials,
        duration_us: p.duration_us,
        id,
        kind: EntryKind::Outcome,
        masked: p.masked,
        operation: p.operation,
        operation_seq: p.operation_seq,
        payload: Payloads {
            down: p.down,
            up: p.up,
        },
        reason: p.reason,
        status: p.status,
        unrecorded: p.unrecorded,
        v: 1,
        workload: p.workload,
    };
    entry(id, EntryKind::Outcome, &body)
}

/// TLS facts of one leg, for the session's entry.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TlsBody {
    /// The application protocol agreed on (RFC 7301).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// SHA-256 of the certificate chain that was verified, hex; upstream only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain_sha256: Option<String>,
    /// Cipher suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// The server name asked for (RFC 6066).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<Arc<str>>,
    /// Protocol version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

#[derive(Serialize)]
struct TlsBodies<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    downstream: Option<&'a TlsBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a TlsBody>,
}

#[derive(Serialize)]
struct OriginalBody<'a> {
    address: IpAddr,
    port: u16,
    /// The path of a UNIX socket, which has no address.
    #[serde(skip_serializing_if = "Option::is_none")]
    unix: Option<&'a str>,
}

#[derive(Serialize)]
struct SessionBody<'a> {
    at: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_down: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_up: Option<u64>,
    cgroup_id: u64,
    destination: OriginalBody<'a>,
    event: &'a str,
    host: &'a str,
    id: Uuid,
    kind: EntryKind,
    netns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    operations: Option<u64>,
    process: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    session: SessionId,
    tls: TlsBodies<'a>,
    /// Left out for TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    transport: Option<&'a str>,
    v: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a WorkloadName>,
}

/// How a connection ended, for its closing entry.
pub struct Closing<'a> {
    /// Operations decided on it.
    pub operations: u64,
    /// Bytes that allowed operations sent to the destination.
    pub bytes_up: u64,
    /// Bytes that they sent to the workload.
    pub bytes_down: u64,
    /// The protocol that was served, if any was recognised.
    pub protocol: Option<&'a str>,
    /// Why it ended.
    pub reason: Reason,
    /// TLS with the workload.
    pub downstream: Option<&'a TlsBody>,
    /// TLS with the destination.
    pub upstream: Option<&'a TlsBody>,
}

/// What both of a session's entries are made of.
pub struct SessionParts<'a> {
    /// Nanoseconds since 1970 UTC.
    pub at: i64,
    /// This host.
    pub host: &'a str,
    /// The session.
    pub session: SessionId,
    /// The workload, where the cgroup is one's.
    pub workload: Option<&'a WorkloadName>,
    /// The process, serialised.
    pub process: &'a RawValue,
    /// The tagged cgroup.
    pub cgroup_id: u64,
    /// The network namespace's cookie.
    pub netns: u64,
    /// Where it wanted to go.
    pub destination: OriginalDst,
    /// What it came by.
    pub transport: Transport,
    /// The path, where it was a UNIX socket.
    pub unix: Option<&'a str>,
    /// Set for the closing entry.
    pub closing: Option<Closing<'a>>,
}

/// A session's opening or closing entry.
#[must_use]
pub fn session(p: &SessionParts<'_>) -> Entry {
    let id = Uuid::now_v7();
    let closing = p.closing.as_ref();
    let body = SessionBody {
        at: Rfc3339(p.at),
        bytes_down: closing.map(|c| c.bytes_down),
        bytes_up: closing.map(|c| c.bytes_up),
        cgroup_id: p.cgroup_id,
        destination: OriginalBody {
            address: p.destination.0.ip(),
            port: p.destination.0.port(),
            unix: p.unix,
        },
        event: if closing.is_some() { "close" } else { "open" },
        host: p.host,
        id,
        kind: EntryKind::Session,
        netns: p.netns,
        operations: closing.map(|c| c.operations),
        process: p.process,
        protocol: closing.and_then(|c| c.protocol),
        reason: closing.map(|c| c.reason),
        session: p.session,
        tls: TlsBodies {
            downstream: closing.and_then(|c| c.downstream),
            upstream: closing.and_then(|c| c.upstream),
        },
        transport: match p.transport {
            Transport::Tcp => None,
            Transport::Udp => Some("udp"),
            Transport::Unix => Some("unix"),
        },
        v: 1,
        workload: p.workload,
    };
    entry(id, EntryKind::Session, &body)
}
