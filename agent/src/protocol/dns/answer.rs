//! One message from a workload, from its bytes to the bytes of its answer.

use std::time::Instant;

use hickory_resolver::proto::{
    op::{Query, ResponseCode},
    rr::{Name, RData},
    serialize::binary::BinEncodable as _,
};

use super::{
    operation,
    query::{Asked, Fault},
    rate::Rates,
    reply::{Extended, Reply},
};
use crate::{
    approval::Payload,
    gate::{Answered, Denied, Gate, Held, LookUpError, Permit, Verdict},
    ledger::LedgerError,
    model::{Direction, Reason, Transport, Value},
    policy::{Recent, kind, written},
};

/// How many addresses and names of an answer are recorded.
const RECORDED: usize = 32;

/// A message, as far as it could be read.
pub type Read = Result<Asked, (Asked, Fault)>;

/// What a held query waits for.
#[allow(clippy::large_enum_variant)] // mostly a permit, as in the gate's verdict
enum Waited {
    Permit(Permit),
    Denied(Denied),
    /// Nobody has answered yet; the request, where there is one.
    Still(Option<uuid::Uuid>),
}

/// Answers one message of `up` bytes; `None` where there is no answer.
pub async fn answer(
    gate: &Gate,
    rates: &Rates,
    read: Read,
    up: usize,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let datagram = gate.transport() == Transport::Udp;
    let asked = match read {
        Ok(asked) => asked,
        Err((asked, fault)) => return Ok(refuse(gate, &asked, fault, datagram).await),
    };
    let name = asked
        .question
        .as_ref()
        .map_or_else(Name::root, |q| q.name().clone());
    let recent = rates.count(gate.workload(), &name, Instant::now());
    let operation = operation::of(&asked, recent, true, gate);
    let reply = if leaks(gate, &name) {
        Reply::denied(&asked, &gate.refuse(operation, Reason::SecretLeak).await)
    } else {
        let waited = match gate.ask(operation).await {
            Verdict::Permit(permit) => Waited::Permit(permit),
            Verdict::Denied(denied) => Waited::Denied(denied),
            Verdict::Held(held) => wait(gate, held).await,
        };
        match waited {
            Waited::Permit(permit) => {
                return look_up(gate, &asked, &name, permit, up, datagram).await.map(Some);
            }
            Waited::Denied(denied) => Reply::denied(&asked, &denied),
            Waited::Still(request) => still_held(&asked, request),
        }
    };
    Ok(Some(reply.bytes(datagram)))
}

/// What is no query that can be answered is on record, too.
async fn refuse(gate: &Gate, asked: &Asked, fault: Fault, datagram: bool) -> Option<Vec<u8>> {
    let operation = operation::of(asked, Recent::default(), false, gate);
    let denied = gate.refuse(operation, fault.reason()).await;
    let words = format!("{fault}; denied by Portcullis: entry={}", denied.entry);
    let reply = Reply::code(asked, fault.code()?).with(Extended::NotSupported, words);
    Some(reply.bytes(datagram))
}

/// Whether a name carries a credential of the agent's: as it is written, or cut into labels.
fn leaks(gate: &Gate, name: &Name) -> bool {
    let secrets = gate.secrets();
    if !secrets.is_active() {
        return false;
    }
    let labels: Vec<&[u8]> = name.iter().collect();
    secrets.holds(&labels.join(&b'.')) || secrets.holds(&labels.concat())
}

/// Waits for approvers, but not for longer than the program behind the query does.
async fn wait(gate: &Gate, held: Held) -> Waited {
    let waiting = match gate.request(held, Payload::default()).await {
        Ok(waiting) => waiting,
        Err(denied) => return Waited::Denied(denied),
    };
    let request = waiting.id();
    match tokio::time::timeout(gate.dns().patience, waiting.permit(gate)).await {
        Ok(Ok(permit)) => Waited::Permit(permit),
        Ok(Err(denied)) => Waited::Denied(denied),
        Err(_) => Waited::Still(request),
    }
}

/// The request stays open: the same query, asked again, passes once it is approved.
fn still_held(asked: &Asked, request: Option<uuid::Uuid>) -> Reply<'_> {
    let id = request.map_or_else(String::new, |id| format!(" request={id}"));
    let words = format!("held by Portcullis for approval, ask again:{id}");
    Reply::code(asked, ResponseCode::ServFail).with(Extended::Prohibited, words)
}

async fn look_up(
    gate: &Gate,
    asked: &Asked,
    name: &Name,
    mut permit: Permit,
    up: usize,
    datagram: bool,
) -> Result<Vec<u8>, LedgerError> {
    let kind = asked.question.as_ref().map(Query::query_type);
    let answer = match kind {
        Some(kind) => gate.look_up(&permit, name, kind).await,
        // There always is one: it was read.
        None => Err(LookUpError::Failed("no question".into())),
    };
    permit.add_bytes(Direction::Up, up as u64);
    let (reply, reason) = match answer {
        Ok((answered, _)) if holds_secret(&permit, &answered) => {
            let words = format!("the answer holds a credential: entry={}", permit.id());
            let reply = Reply::code(asked, ResponseCode::ServFail).with(Extended::Blocked, words);
            (reply, Reason::SecretLeak)
        }
        Ok((answered, counts)) => {
            permit.answered(facts(&answered, counts));
            (Reply::answered(asked, answered), Reason::Completed)
        }
        Err(error) => {
            tracing::debug!(workload = %gate.workload(), "a name is not looked up: {error}");
            let words = format!("{error}; entry={}", permit.id());
            let reply = Reply::code(asked, ResponseCode::ServFail);
            (reply.with(Extended::NoReachableAuthority, words), error.reason())
        }
    };
    let status = word(reply.response_code());
    let bytes = reply.bytes(datagram);
    permit.add_bytes(Direction::Down, bytes.len() as u64);
    permit.finish(reason, &status).await?;
    Ok(bytes)
}

/// Whether a credential of the agent's is in an answer: whoever wrote it there, it does not go to the workload.
fn holds_secret(permit: &Permit, answered: &Answered) -> bool {
    let secrets = permit.secrets();
    secrets.is_active()
        && answered.answers.iter().any(|record| match &record.data {
            // Texts are cut into pieces of 255 bytes.
            RData::TXT(txt) => secrets.holds(&txt.txt_data.concat()),
            data => data.to_bytes().is_ok_and(|bytes| secrets.holds(&bytes)),
        })
}

/// What is recorded of an answer: addresses, the chain of names, and how much of what else there was. Texts and other
/// data are not: nobody could say what is in them.
fn facts(answered: &Answered, counts: bool) -> Value {
    let records = &answered.answers;
    let set = |all: &mut dyn Iterator<Item = String>| {
        let mut all: Vec<String> = all.take(RECORDED).collect();
        all.sort_unstable();
        all.dedup();
        Value::Set(all.into_iter().map(Value::from).collect())
    };
    let addresses = set(&mut records
        .iter()
        .filter_map(|r| r.data.ip_addr())
        .map(|a| a.to_string()));
    let chain: Vec<Value> = (records.iter())
        .filter_map(|r| match &r.data {
            RData::CNAME(to) => Some(Value::String(written(&to.0))),
            _ => None,
        })
        .take(RECORDED)
        .collect();
    let types = set(&mut records.iter().map(|r| kind(r.record_type())));
    let ttl = records.iter().chain(&answered.authority).map(|r| r.ttl).min();
    Value::record([
        ("addresses", addresses),
        // Whether the name counts for connections to the addresses.
        ("counts", counts.into()),
        ("names", Value::Set(chain.into())),
        (
            "records",
            Value::Long(i64::try_from(records.len()).unwrap_or(i64::MAX)),
        ),
        ("ttl", Value::Long(ttl.unwrap_or(0).into())),
        ("types", types),
    ])
}

/// A response code's name, as IANA lists it.
fn word(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".into(),
        ResponseCode::NXDomain => "NXDOMAIN".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        other => format!("RCODE{}", u16::from(other)),
    }
}
