//! A made-up resolver on loopback, and a workload that talks to the protocol.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use hickory_resolver::proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SOA, TXT},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UdpSocket,
};

use crate::{
    config,
    gate::testing::Rig,
    protocol::{
        Protocol as _, ProtocolError,
        conformance::Upstream,
        dns::{Dns, frame},
    },
};

/// Whom workloads ask.
pub const ASKED: &str = "192.0.2.53:53";

/// Answers from a table, and counts what it is asked.
pub struct Resolver {
    pub asked: Arc<AtomicUsize>,
    at: SocketAddr,
    task: tokio::task::AbortHandle,
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn data(text: &str) -> RData {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => RData::A(A(v4)),
        Ok(IpAddr::V6(v6)) => RData::AAAA(AAAA(v6)),
        Err(_) if text.starts_with("txt:") => RData::TXT(TXT::new(vec![text[4..].to_owned()])),
        Err(_) => RData::CNAME(CNAME(name(text))),
    }
}

impl Resolver {
    /// Answers what is in the table of (name, TTL, address, `txt:` text or other name), NXDOMAIN for other names, and nothing at
    /// all for names that begin with `silent`.
    pub async fn start(table: &'static [(&'static str, u32, &'static str)]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_vec(&buffer[..n]).unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = answer(&query, table) {
                    let _ = socket.send_to(&answer.to_vec().unwrap(), from).await;
                }
            }
        });
        Self {
            asked,
            at,
            task: task.abort_handle(),
        }
    }

    /// `[dns]` with this one only.
    pub fn settings(&self) -> config::Dns {
        config::Dns {
            servers: vec![self.at.to_string()],
            timeout: Duration::from_millis(600),
            ..config::Dns::default()
        }
    }

    /// A rig that asks it.
    pub fn rig(&self, policy: &str) -> Rig {
        let rig = Rig::new(policy);
        rig.shared.names.configure(&self.settings());
        rig
    }

    pub fn count(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn answer(query: &Message, table: &[(&str, u32, &str)]) -> Option<Message> {
    let question = query.queries.first()?;
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.add_query(question.clone());
    let mut at = question.name().to_lowercase();
    if at.to_ascii().starts_with("silent") {
        return None;
    }
    let mut known = false;
    for _ in 0..8 {
        let here: Vec<_> = table.iter().filter(|(n, ..)| name(n) == at).collect();
        known |= !here.is_empty();
        let mut next = None;
        for (_, ttl, to) in here {
            let data = data(to);
            if data.record_type() == question.query_type() || matches!(data, RData::CNAME(_)) {
                if let RData::CNAME(to) = &data {
                    next = Some(to.0.clone());
                }
                answer.add_answer(Record::from_rdata(at.clone(), *ttl, data));
            }
        }
        match next {
            Some(next) => at = next,
            None => break,
        }
    }
    if answer.answers.is_empty() {
        let soa = SOA::new(name("ns.example."), name("root.example."), 1, 2, 3, 4, 30);
        answer.add_authority(Record::from_rdata(name("example."), 300, RData::SOA(soa)));
        if !known {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
    }
    Some(answer)
}

/// A query with EDNS.
pub fn query(id: u16, text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1232).set_version(0);
    message.set_edns(edns);
    message
}

/// How an exchange went.
#[derive(Debug)]
pub struct Went {
    pub answers: Vec<Vec<u8>>,
    pub result: Result<(), ProtocolError>,
    pub operations: u64,
}

impl Went {
    pub fn message(&self, at: usize) -> Message {
        Message::from_vec(&self.answers[at]).unwrap()
    }

    pub fn only(&self) -> Message {
        assert_eq!(self.answers.len(), 1, "{self:?}");
        self.message(0)
    }
}

/// A connection on which these bytes are sent, in these pieces, until it ends.
pub async fn send(rig: &Rig, dns: &Dns, pieces: &[&[u8]]) -> Went {
    let gate = rig.gate(ASKED.parse().unwrap(), None);
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let upstream = Upstream::default();
    let workload = async {
        for piece in pieces {
            if far.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = far.shutdown().await;
        let mut down = BytesMut::new();
        while far.read_buf(&mut down).await.is_ok_and(|n| n > 0) {}
        let mut answers = Vec::new();
        while let Some(answer) = frame::take(&mut down) {
            answers.push(answer.to_vec());
        }
        assert!(down.is_empty(), "half a frame");
        answers
    };
    let served = dns.serve(Box::new(near), &upstream, &gate);
    let (answers, result) = tokio::join!(workload, served);
    assert_eq!(upstream.dials.load(Ordering::Relaxed), 0, "it connects to nobody");
    Went {
        answers,
        result,
        operations: gate.operations(),
    }
}

/// How many bytes are taken of a message that is sent again and again while nothing is answered.
pub async fn flood(rig: &Rig, dns: &Dns, message: &[u8]) -> usize {
    let gate = rig.gate(ASKED.parse().unwrap(), None);
    let (near, mut far) = tokio::io::duplex(1024);
    let upstream = Upstream::default();
    let served = dns.serve(Box::new(near), &upstream, &gate);
    let flood = async {
        let all = message.repeat((4 << 20) / message.len());
        let mut taken = 0;
        while taken < all.len() {
            match tokio::time::timeout(Duration::from_millis(300), far.write(&all[taken..])).await {
                Ok(Ok(n)) => taken += n,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        taken
    };
    tokio::select! {
        taken = flood => taken,
        ended = served => panic!("{ended:?}"),
    }
}

/// The same with messages.
pub async fn ask(rig: &Rig, dns: &Dns, messages: &[Message]) -> Went {
    let bytes = framed(messages);
    send(rig, dns, &[&bytes]).await
}

pub fn framed(messages: &[Message]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    for message in messages {
        frame::put(&message.to_vec().unwrap(), &mut bytes);
    }
    bytes.to_vec()
}

/// The text of the extended error, with its code before it.
pub fn extended(message: &Message) -> String {
    use hickory_resolver::proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    let edns = message.edns.as_ref().expect("EDNS");
    match edns.option(EdnsCode::from(15)) {
        Some(EdnsOption::Unknown(_, data)) => {
            let code = u16::from_be_bytes([data[0], data[1]]);
            format!("{code} {}", String::from_utf8_lossy(&data[2..]))
        }
        _ => String::new(),
    }
}

/// The ledger's entries of a kind, once the one that is waited for is there.
pub async fn entries(rig: &Rig, sql: &str, n: usize) -> Vec<serde_json::Value> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let db = rusqlite::Connection::open(rig.dir.path().join("ledger.db")).unwrap();
        let mut statement = db
            .prepare(&format!("SELECT body FROM entry WHERE {sql} ORDER BY seq"))
            .unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let rows: Vec<_> = rows.map(|r| serde_json::from_str(&r.unwrap()).unwrap()).collect();
        if rows.len() >= n {
            return rows;
        }
        assert!(tokio::time::Instant::now() < deadline, "{sql}: {rows:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
