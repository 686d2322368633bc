//! A whole session against a made-up server: whatever a workload sends, it ends, and nothing denied reaches the server,
//! by whatever name it was given before.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{
    super::{
        frame::{self, HEADER},
        login::Established,
        session::{self, Understanding},
    },
    script::{Step, TEXTS, steps},
    server::Server,
};
use crate::{
    gate::testing::Rig,
    protocol::{
        conformance::DESTINATION,
        wire::{Leg, Wire},
    },
};

/// LISTEN is denied, and so is running DELETE, but preparing it is not: so a name can stand for something denied.
const POLICY: &str = r#"
@id("all") permit (principal, action in [Action::"sql:connect", Action::"sql:statement"], resource);
@id("no-listen") forbid (principal, action == Action::"sql:statement", resource)
when { context.sql.verbs.contains("listen") };
@id("no-delete") forbid (principal, action == Action::"sql:statement", resource)
when { context.sql.verbs.contains("delete") && context.sql.phase != "prepare" };
"#;

/// How long a session may take to end once its workload has.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a workload waits for answers.
const PAUSE: Duration = Duration::from_millis(2);
/// A ledger is begun anew after so many sessions.
const SESSIONS: u64 = 4096;

/// What sessions need.
pub struct Sessions {
    runtime: tokio::runtime::Runtime,
    rig: Rig,
    understanding: Understanding,
    count: u64,
}

impl Sessions {
    /// A gate and all behind it.
    ///
    /// # Errors
    /// When there is no runtime to be had.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            rig: Rig::new(POLICY),
            understanding: Understanding::default(),
            count: 0,
        })
    }

    /// One session. `random` says how what is sent is cut, and how it ends.
    ///
    /// # Errors
    /// What did not hold.
    pub fn check(&mut self, data: &[u8], random: u64) -> Result<(), String> {
        self.count += 1;
        if self.count.is_multiple_of(SESSIONS) {
            self.rig = Rig::new(POLICY);
        }
        let steps = steps(data);
        let (down, violations) = self
            .runtime
            .block_on(exchange(&self.rig, &self.understanding, &steps, random))
            .ok_or_else(|| format!("it does not end: {steps:?}"))?;
        if !violations.is_empty() {
            return Err(format!("{violations:?} of {steps:?}"));
        }
        let mut rest = &down[..];
        while let Ok(Some(message)) = frame::message(rest, usize::MAX) {
            rest = &rest[message.len()..];
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(format!("half a message: {} of {steps:?}", rest.escape_ascii()))
        }
    }
}

/// What the workload received, and what reached the server that should not have; `None` when it does not end.
async fn exchange(
    rig: &Rig,
    understanding: &Understanding,
    steps: &[Step],
    random: u64,
) -> Option<(Vec<u8>, Vec<String>)> {
    let gate = rig.gate(DESTINATION, None);
    let (up, server) = tokio::io::duplex(64 * 1024);
    let (down, workload) = tokio::io::duplex(64 * 1024);
    let established = Established::for_tests(&gate).await;
    let served = async {
        let mut wire = Wire::new(Box::new(down));
        wire.up = Some(Leg::new(Box::new(up)));
        let _ended = session::serve(established, &mut wire, &gate, understanding).await;
        wire.close(Duration::from_secs(2)).await;
    };
    let all = async { tokio::join!(served, serve(server), work(workload, steps, random)) };
    let ((), violations, down) = tokio::time::timeout(PATIENCE, Box::pin(all)).await.ok()?;
    Some((down, violations))
}

async fn serve(mut stream: DuplexStream) -> Vec<String> {
    let mut server = Server::default();
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    while !server.over && stream.read_buf(&mut input).await.unwrap_or(0) > 0 {
        while let Ok(Some(message)) = frame::message(&input, usize::MAX) {
            let (tag, length) = (message.tag, message.len());
            let message = input.split_to(length);
            if server.message(tag, &message[HEADER..], &mut out) {
                // The agent may be gone; what it sent counts all the same.
                let _gone = stream.write_all(&out.split()).await;
            }
            if server.over {
                break;
            }
        }
    }
    server.violations
}

/// Sends, waits where it is told to, and ends: with a word, or without one.
async fn work(stream: DuplexStream, steps: &[Step], random: u64) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(stream);
    let mut down = Vec::new();
    let mut together = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Send(bytes) => together.extend_from_slice(bytes),
            Step::Wait => {}
        }
        // Some messages come together, some alone.
        if matches!(step, Step::Wait) || random >> (at % 64) & 1 == 0 {
            let _refused = to.write_all(&together).await;
            together.clear();
            tokio::task::yield_now().await;
        }
        if matches!(step, Step::Wait) {
            hear(&mut from, &mut down).await;
        }
    }
    if random & 1 == 0 {
        together.extend_from_slice(b"X\0\0\0\x04");
    }
    let sending = async {
        let _refused = to.write_all(&together).await;
        let _refused = to.shutdown().await;
    };
    let hearing = async { while from.read_buf(&mut down).await.unwrap_or(0) > 0 {} };
    tokio::join!(sending, hearing);
    down
}

/// Reads until nothing comes for a moment.
async fn hear(from: &mut (impl AsyncRead + Unpin), down: &mut Vec<u8>) {
    while let Ok(Ok(1..)) = tokio::time::timeout(PAUSE, from.read_buf(down)).await {}
}

/// Sessions that make sense, to start from.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let text = |what: &str| {
        let at = TEXTS.iter().position(|t| *t == what);
        at.and_then(|at| u8::try_from(at).ok()).unwrap_or(0)
    };
    let (delete, begin) = (text("DELETE FROM t"), text("BEGIN"));
    let mut seeds = vec![
        // A name for something denied, and then for something else.
        vec![
            1, 1, delete, 6, 11, 2, 0, 1, 3, 0, 6, 11, 5, 2, 1, 1, 0, 2, 0, 1, 3, 0, 6,
        ],
        // A definition that the server refuses, with another one before it.
        vec![
            1,
            1,
            delete,
            6,
            1,
            1,
            text("SELECT no_parse"),
            6,
            2,
            0,
            1,
            3,
            0,
            6,
        ],
        vec![1, 1, delete, 6, 1, 1, 0, 6, 2, 0, 1, 3, 0, 6, 11],
        // By way of SQL.
        vec![
            1,
            1,
            delete,
            6,
            11,
            0,
            text("EXECUTE a"),
            0,
            text("DEALLOCATE a"),
            0,
            text("EXECUTE a"),
        ],
        vec![
            0,
            begin,
            1,
            1,
            delete,
            2,
            1,
            1,
            7,
            0,
            text("FETCH a"),
            0,
            text("COMMIT"),
        ],
        // In a transaction that fails, and at its end.
        vec![
            0,
            begin,
            0,
            text("LISTEN evil"),
            0,
            0,
            0,
            text("ROLLBACK"),
            0,
            0,
            11,
        ],
        vec![
            0,
            begin,
            14,
            text("SELECT no_run"),
            6,
            0,
            text("ROLLBACK"),
            14,
            delete,
            6,
        ],
        // COPY.
        vec![0, text("COPY t FROM STDIN"), 11, 8, 8, 9, 0, 0],
        vec![14, text("COPY t FROM STDIN"), 6, 11, 8, 10, 6, 0, 0],
        // Settings that change how text is read.
        vec![
            0,
            text("SET standard_conforming_strings = off"),
            0,
            text(r"SELECT '\'; LISTEN evil; --'"),
            11,
            0,
            text(r"SELECT E'\''"),
        ],
    ];
    seeds.extend((0..TEXTS.len()).filter_map(|at| {
        let at = u8::try_from(at).ok()?;
        Some(vec![0, at, 14, at, 6, 1, 1, at, 2, 1, 1, 3, 1, 6, 11, 0, 0])
    }));
    seeds
}
