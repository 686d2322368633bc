//! What approvers are asked: a held operation, and the digest that an answer is bound to.

use std::{borrow::Cow, io, sync::Arc};

use aws_lc_rs::hmac;
use serde::Serialize;

use crate::model::{Decision, Identity, Operation, Process, SessionId, Value, WorkloadName};

/// A held operation.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who asks.
    pub workload: WorkloadName,
    /// As whom.
    pub identity: Arc<Identity>,
    /// On which connection.
    pub session: SessionId,
    /// From which process.
    pub process: Process,
    /// For what.
    pub operation: Arc<Operation>,
    /// What policy said.
    pub decision: Arc<Decision>,
    /// What would be sent.
    pub payload: Payload,
}

/// What would be sent: its digest for the answer to be bound to, and what approvers see of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// SHA-256 over everything in it that has an effect.
    pub digest: [u8; 32],
    /// Bytes in all; what is kept in memory while it is held.
    pub bytes: u64,
    /// Masked, and cut to a few kilobytes.
    pub shown: Arc<str>,
    /// Whether `shown` is not all of it.
    pub truncated: bool,
}

/// The member of a record that counts what came before.
const RECENT: &str = "recent";

/// What two requests must have in common to be the same.
#[derive(Serialize)]
struct Subject<'a> {
    action: &'a str,
    context: (&'a str, &'a Value),
    /// The same request with another credential is another one.
    credential: Option<&'a str>,
    issuer: &'a str,
    on_behalf_of: Option<&'a str>,
    port: u16,
    protocol: &'a str,
    /// What it takes: who answers for one policy does not answer for another one that holds the same.
    requirements: Vec<(&'a str, &'a [Arc<str>], u8)>,
    resource: (&'a str, &'a str),
    subject: &'a str,
    /// The name that is proved, or the address: behind a proved name it may change from one attempt to the next.
    to: String,
    workload: &'a WorkloadName,
}

impl Ask {
    /// Bytes that the request keeps in memory for as long as it is open, about.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        let operation = &self.operation;
        let recorded = operation.recorded_context.as_ref().map_or(0, size);
        let bytes =
            size(&operation.context.1) + recorded + operation.resource.id.len() + self.payload.shown.len();
        bytes as u64
    }

    /// The keyed digest (HMAC-SHA256) of the operation, whose it is, and what it sends. It is keyed because it is
    /// kept: a plain hash of a short secret can be found by trying.
    #[must_use]
    pub fn digest(&self, key: &hmac::Key) -> [u8; 32] {
        let operation = &self.operation;
        let to = &operation.destination;
        let named = to.name.as_ref().filter(|_| to.name_verified);
        let context = lasting(&operation.context.1);
        let subject = Subject {
            action: operation.action,
            context: (operation.context.0, &context),
            credential: operation.credential.as_deref(),
            issuer: &self.identity.issuer,
            on_behalf_of: self.identity.on_behalf_of.as_deref(),
            port: to.port,
            protocol: operation.protocol,
            requirements: self
                .decision
                .hold
                .iter()
                .flat_map(|h| &h.requirements)
                .map(|r| (&*r.policy, &*r.groups, r.quorum))
                .collect(),
            resource: (operation.resource.kind, &operation.resource.id),
            subject: &self.identity.subject,
            to: named.map_or_else(|| to.address.to_string(), ToString::to_string),
            workload: &self.workload,
        };
        let mut signing = Signing(hmac::Context::with_key(key));
        // Neither the values nor the writer can fail.
        let _ = serde_json::to_writer(&mut signing, &subject);
        signing.0.update(&self.payload.digest);
        let mut digest = [0; 32];
        digest.copy_from_slice(signing.0.sign().as_ref());
        digest
    }
}

/// A protocol's record without `recent`: how much was asked before is another number at each attempt, and nothing of
/// what is asked.
fn lasting(record: &Value) -> Cow<'_, Value> {
    match record {
        Value::Record(members) if members.contains_key(RECENT) => {
            let mut members = members.clone();
            members.remove(RECENT);
            Cow::Owned(Value::Record(members))
        }
        other => Cow::Borrowed(other),
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 16,
        Value::Set(items) => items.iter().map(size).sum(),
        Value::Record(members) => members.values().map(|v| size(v) + 16).sum(),
        Value::Bool(_) | Value::Long(_) | Value::Ip(_) | Value::Time(_) => 16,
    }
}

struct Signing(hmac::Context);

impl io::Write for Signing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
