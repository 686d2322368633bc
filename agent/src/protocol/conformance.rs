//! What every protocol must keep, as checks over a protocol and a sample of its traffic.
//!
//! Every split of the bytes gives the same exchange; what is allowed and unmasked passes byte for byte; a denial puts
//! nothing upstream; garbage, truncation and oversize end in an error, never in a panic or a pass; memory is bounded;
//! every operation has exactly one entry.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{Protocol, ProtocolError};
use crate::{
    gate::{Dial, DialError, Permit, testing::Rig},
    io::BoxStream,
};

/// Allows everything and reveals everything.
pub const ALLOW: &str = r#"
@id("allow") permit (principal, action, resource);
"#;
/// Allows every operation and reveals nothing.
pub const MASK: &str = r#"
@id("allow-http") permit (principal, action == Action::"http:request", resource);
@id("allow-tcp") permit (principal, action == Action::"tcp:connect", resource);
"#;
/// Allows nothing.
pub const DENY: &str = r#"
@id("deny") @reason("not here") forbid (principal, action, resource);
"#;

/// One turn of a made-up destination: it waits until what it has received since its last turn has these bytes in it (none
/// are waited for when it is empty), then sends. What came after them counts for the next turn.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// What ends the workload's message.
    pub until: Vec<u8>,
    /// What the destination answers, in pieces with a pause between.
    pub say: Vec<Vec<u8>>,
    /// Whether it closes the connection after that.
    pub close: bool,
}

impl Turn {
    /// Waits for the end of a message and answers in one piece.
    #[must_use]
    pub fn new(until: &[u8], say: &[u8]) -> Self {
        Self {
            until: until.to_vec(),
            say: vec![say.to_vec()],
            close: false,
        }
    }

    /// The same, and closes.
    #[must_use]
    pub fn closing(until: &[u8], say: &[u8]) -> Self {
        Self {
            close: true,
            ..Self::new(until, say)
        }
    }
}

/// A made-up destination.
#[derive(Clone, Default)]
pub struct Upstream {
    turns: Arc<Mutex<std::collections::VecDeque<Turn>>>,
    /// All that it received, over all connections.
    pub received: Arc<Mutex<Vec<u8>>>,
    /// How often it was connected to.
    pub dials: Arc<AtomicUsize>,
}

impl Upstream {
    /// A destination that takes these turns, over as many connections as it takes.
    #[must_use]
    pub fn new(turns: &[Turn]) -> Self {
        Self {
            turns: Arc::new(Mutex::new(turns.iter().cloned().collect())),
            ..Self::default()
        }
    }

    async fn play(self, mut stream: DuplexStream) {
        let mut since = Vec::new();
        loop {
            let turn = self
                .turns
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some(turn) = turn else { break };
            let heard = loop {
                let at = memchr::memmem::find(&since, &turn.until);
                if let Some(at) = at {
                    break at + turn.until.len();
                }
                if self.read(&mut stream, &mut since).await == 0 {
                    self.turns
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push_front(turn);
                    return;
                }
            };
            since.drain(..heard);
            for piece in &turn.say {
                if stream.write_all(piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
            if turn.close {
                let _ = stream.shutdown().await;
                while self.read(&mut stream, &mut since).await > 0 {}
                return;
            }
        }
        while self.read(&mut stream, &mut since).await > 0 {}
    }

    async fn read(&self, stream: &mut DuplexStream, since: &mut Vec<u8>) -> usize {
        let mut buffer = vec![0; 16 * 1024];
        let n = stream.read(&mut buffer).await.unwrap_or(0);
        since.extend_from_slice(&buffer[..n]);
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(&buffer[..n]);
        n
    }
}

impl Dial for Upstream {
    fn connect<'a>(&'a self, _: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        self.dials.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(self.clone().play(far));
        Box::pin(std::future::ready(Ok(Box::new(near) as BoxStream)))
    }

    fn connect_plain<'a>(&'a self, permit: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>> {
        self.connect(permit)
    }
}

/// How an exchange went.
#[derive(Debug)]
pub struct Went {
    /// What the workload received.
    pub down: Vec<u8>,
    /// What the destination received.
    pub up: Vec<u8>,
    /// How many operations were decided.
    pub operations: u64,
    /// How often the destination was connected to.
    pub dials: usize,
    /// How the protocol ended; `None` when it had to be cut off.
    pub result: Option<Result<(), ProtocolError>>,
}

impl Went {
    /// What the workload received, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.down).into_owned()
    }
}

/// A workload that has heard nothing for so long closes its half.
const QUIET: Duration = Duration::from_millis(250);

/// The original destination of every exchange.
pub const DESTINATION: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)), 80);

/// Lets a workload send `pieces` over a connection and read until it closes, or until nothing comes any more.
pub async fn exchange(
    rig: &Rig,
    protocol: &dyn Protocol,
    server_name: Option<&str>,
    upstream: &Upstream,
    pieces: &[&[u8]],
) -> Went {
    let gate = rig.gate(DESTINATION, server_name);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut from, mut to) = tokio::io::split(far);
    let workload = async move {
        let mut down = Vec::new();
        for piece in pieces {
            if to.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut buffer = vec![0; 16 * 1024];
        // What is still to be answered is answered before the close.
        while let Ok(Ok(n)) = tokio::time::timeout(QUIET, from.read(&mut buffer)).await {
            if n == 0 {
                return down;
            }
            down.extend_from_slice(&buffer[..n]);
        }
        let _ = to.shutdown().await;
        while let Ok(n) = from.read(&mut buffer).await {
            if n == 0 {
                break;
            }
            down.extend_from_slice(&buffer[..n]);
        }
        down
    };
    let served = async {
        let result = tokio::time::timeout(
            Duration::from_secs(20),
            protocol.serve(Box::new(near), upstream, &gate),
        );
        result.await.ok()
    };
    let (down, result) = tokio::join!(workload, served);
    let up = upstream
        .received
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    Went {
        down,
        up,
        operations: gate.operations(),
        dials: upstream.dials.load(Ordering::Relaxed),
        result,
    }
}

/// A protocol, and a sample of its traffic.
pub struct Sample<'a> {
    /// The protocol.
    pub protocol: &'a dyn Protocol,
    /// What the workload sends.
    pub sent: &'a [u8],
    /// How the destination answers.
    pub turns: &'a [Turn],
    /// How many operations that is.
    pub operations: u64,
    /// Bytes that are not the protocol's; empty where there are none such.
    pub garbage: &'a [&'a [u8]],
    /// What the protocol may say of its own to a destination that it leaves in the middle, each once and in this order.
    pub farewell: &'a [&'a [u8]],
}

impl Sample<'_> {
    fn answers(&self) -> Vec<u8> {
        self.turns.iter().flat_map(|t| t.say.concat()).collect()
    }

    /// Allowed and unmasked, whole and in every split: byte for byte both ways, one entry per operation.
    ///
    /// # Panics
    /// When the protocol does not keep it.
    pub async fn passes_unchanged(&self, rig: &Rig, every: usize) {
        let name = self.protocol.name();
        for at in (0..self.sent.len()).step_by(every.max(1)) {
            let (head, tail) = self.sent.split_at(at);
            let upstream = Upstream::new(self.turns);
            let went = exchange(rig, self.protocol, None, &upstream, &[head, tail]).await;
            assert_eq!(
                went.up.escape_ascii().to_string(),
                self.sent.escape_ascii().to_string(),
                "{name} up, split at {at}"
            );
            assert_eq!(
                went.down.escape_ascii().to_string(),
                self.answers().escape_ascii().to_string(),
                "{name} down, split at {at}"
            );
            assert_eq!(
                went.operations, self.operations,
                "{name} operations, split at {at}"
            );
        }
    }

    /// Denied: nothing upstream, not even a connection, and one entry per operation.
    ///
    /// # Panics
    /// When the protocol does not keep it.
    pub async fn denied_stays_here(&self, rig: &Rig) {
        let upstream = Upstream::new(self.turns);
        let went = exchange(rig, self.protocol, None, &upstream, &[self.sent]).await;
        let name = self.protocol.name();
        assert!(went.up.is_empty() && went.dials == 0, "{name}: {went:?}");
        assert!(
            (1..=self.operations).contains(&went.operations),
            "{name}: {went:?}"
        );
        assert!(went.result.is_some(), "{name} ends");
    }

    /// Garbage and truncation: an end, never a panic; garbage puts nothing upstream.
    ///
    /// # Panics
    /// When the protocol does not keep it.
    pub async fn bad_input_ends(&self, rig: &Rig, every: usize) {
        let name = self.protocol.name();
        for garbage in self.garbage {
            let upstream = Upstream::new(self.turns);
            let went = exchange(rig, self.protocol, None, &upstream, &[garbage]).await;
            assert!(went.result.is_some(), "{name} ends on {}", garbage.escape_ascii());
            assert!(went.up.is_empty(), "{name} passed on {}", garbage.escape_ascii());
            assert!(went.operations <= 1, "{name} {went:?}");
        }
        for end in (0..self.sent.len()).step_by(every.max(1)) {
            let upstream = Upstream::new(self.turns);
            let went = exchange(rig, self.protocol, None, &upstream, &[&self.sent[..end]]).await;
            assert!(went.result.is_some(), "{name} ends, cut at {end}");
            let up = (self.farewell.iter().rev())
                .fold(&went.up[..], |up, said| up.strip_suffix(*said).unwrap_or(up));
            assert!(
                self.sent.starts_with(up),
                "{name} made something up, cut at {end}"
            );
        }
    }
}

/// How many bytes a protocol takes from a workload while the destination reads nothing.
///
/// # Panics
/// Never; the bound is the caller's to assert.
pub async fn taken_while_blocked(rig: &Rig, protocol: &dyn Protocol, head: &[u8], most: usize) -> usize {
    struct Deaf(Mutex<Vec<DuplexStream>>);
    impl Dial for Deaf {
        fn connect<'a>(&'a self, _: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>> {
            let (near, far) = tokio::io::duplex(1024);
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(far);
            Box::pin(std::future::ready(Ok(Box::new(near) as BoxStream)))
        }

        fn connect_plain<'a>(&'a self, permit: &'a Permit) -> BoxFuture<'a, Result<BoxStream, DialError>> {
            self.connect(permit)
        }
    }
    let gate = rig.gate(DESTINATION, None);
    let (near, mut far) = tokio::io::duplex(1024);
    let upstream = Deaf(Mutex::default());
    let served = protocol.serve(Box::new(near), &upstream, &gate);
    let flood = async {
        let mut taken = 0;
        if far.write_all(head).await.is_err() {
            return taken;
        }
        let piece = [b'x'; 1024];
        while taken < most {
            match tokio::time::timeout(Duration::from_millis(300), far.write(&piece)).await {
                Ok(Ok(n)) => taken += n,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        taken
    };
    tokio::select! {
        taken = flood => taken,
        _ = served => 0,
    }
}
