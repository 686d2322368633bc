//! The agent's resolver sockets in one network namespace: datagrams become connections, one for each workload socket and
//! resolver that it asks.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use portcullis_abi as abi;
use serde::{Deserialize, Serialize};
use tokio::{
    net::UdpSocket,
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{self, error::TrySendError},
    },
    time::Instant,
};

use super::{
    datagram::{self, Datagram, Tokens},
    flow::{self, Query},
    origin, original_dst,
};
use crate::{model::Transport, redirect::Redirected};

/// Flows at once of one workload: each is a connection of the agent's.
const FLOWS: usize = 256;
/// Beyond this many, the one that has been quiet the longest is told that there will be no more queries, so that a
/// workload that has a new socket for each query, as most have, does not wait for old ones to time out.
const MANY: usize = 192;
/// Flows at once over all workloads.
const ALL_FLOWS: usize = 2048;
/// Queries that may wait for the protocol; more are dropped.
const WAITING: usize = 32;
/// Bytes that wait between the flow and the protocol, each way.
const PIPE: usize = 64 * 1024;

/// A workload's socket, and the resolver that it asks.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    socket: u64,
    addr: [u32; 4],
    port: u16,
}

struct Flow {
    queries: mpsc::Sender<Query>,
    tagged: u64,
    used: Instant,
}

/// What was not answered, and why.
#[derive(Default)]
pub(super) struct Dropped {
    refused: AtomicU64,
    overloaded: AtomicU64,
    unread: AtomicU64,
}

/// Datagrams to the agent's resolver, in all network namespaces, that were not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unanswered {
    /// No workload had sent it to a resolver, or it cannot be a query.
    pub refused: u64,
    /// A query beyond the bounds.
    pub overloaded: u64,
    /// The agent's socket had no room for it, since that was made; known from when the next one is read.
    pub unread: u64,
}

impl Dropped {
    pub(super) fn so_far(&self) -> Unanswered {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Unanswered {
            refused: count(&self.refused),
            overloaded: count(&self.overloaded),
            unread: count(&self.unread),
        }
    }
}

/// One of the sockets, and how many datagrams it had no room for so far.
struct Reading {
    socket: Arc<UdpSocket>,
    unread: u32,
}

impl Reading {
    fn new(socket: UdpSocket) -> Self {
        Self {
            socket: Arc::new(socket),
            unread: 0,
        }
    }

    /// The next datagram that is to be answered, if the next one is. Cancel-safe.
    async fn next(&mut self, tokens: &Tokens, dropped: &Dropped) -> io::Result<Option<Datagram>> {
        let arrived = datagram::receive(&self.socket, tokens).await?;
        let more = arrived.unread.wrapping_sub(self.unread);
        // A datagram that had to wait may tell of less than the one before it.
        if arrived.unread != 0 && more < u32::MAX / 2 {
            self.unread = arrived.unread;
            dropped.unread.fetch_add(more.into(), Ordering::Relaxed);
        }
        if arrived.datagram.is_none() {
            dropped.refused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(arrived.datagram)
    }
}

pub(super) struct Resolver {
    v4: Reading,
    v6: Option<Reading>,
    tokens: Tokens,
    flows: HashMap<Key, Flow>,
    /// By tagged cgroup.
    rooms: HashMap<u64, Arc<Semaphore>>,
    room: Arc<Semaphore>,
    dropped: Arc<Dropped>,
}

impl Resolver {
    /// What the service manager is asked to keep.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let v6 = self.v6.as_ref().map(|v6| v6.socket.as_fd());
        [self.v4.socket.as_fd()].into_iter().chain(v6)
    }

    /// The same, to be kept apart from this.
    pub(super) fn shared(&self) -> Vec<Arc<UdpSocket>> {
        [Some(&self.v4), self.v6.as_ref()]
            .into_iter()
            .flatten()
            .map(|reading| Arc::clone(&reading.socket))
            .collect()
    }

    pub(super) fn new(v4: UdpSocket, v6: Option<UdpSocket>, tokens: Tokens, dropped: Arc<Dropped>) -> Self {
        Self {
            v4: Reading::new(v4),
            v6: v6.map(Reading::new),
            tokens,
            flows: HashMap::new(),
            rooms: HashMap::new(),
            room: Arc::new(Semaphore::new(ALL_FLOWS)),
            dropped,
        }
    }

    /// The next flow. Cancel-safe.
    pub(super) async fn next(&mut self) -> io::Result<Redirected> {
        loop {
            let (tokens, dropped) = (&self.tokens, &*self.dropped);
            let (received, from) = match &mut self.v6 {
                Some(v6) => tokio::select! {
                    received = self.v4.next(tokens, dropped) => (received?, &self.v4),
                    received = v6.next(tokens, dropped) => (received?, &*v6),
                },
                None => (self.v4.next(tokens, dropped).await?, &self.v4),
            };
            let socket = Arc::clone(&from.socket);
            if let Some(datagram) = received
                && let Some(redirected) = self.put(datagram, &socket)
            {
                return Ok(redirected);
            }
        }
    }

    /// Gives a datagram to its flow: the connection, where that is a new one.
    fn put(&mut self, datagram: Datagram, socket: &Arc<UdpSocket>) -> Option<Redirected> {
        let Datagram {
            message,
            from,
            record,
        } = datagram;
        let key = Key {
            socket: record.socket,
            addr: record.addr,
            port: record.port,
        };
        let mut query = Query { message, from };
        if let Some(flow) = self.flows.get_mut(&key) {
            flow.used = Instant::now();
            match flow.queries.try_send(query) {
                Ok(()) => return None,
                Err(TrySendError::Full(_)) => {
                    self.dropped.overloaded.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
                Err(TrySendError::Closed(unsent)) => query = unsent,
            }
        }
        self.flows.retain(|_, flow| !flow.queries.is_closed());
        let Some(room) = self.room_for(record.tagged) else {
            self.dropped.overloaded.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let (stream, ours) = tokio::io::duplex(PIPE);
        let (queries, waiting) = mpsc::channel(WAITING);
        // There is room for the first.
        let _sent = queries.try_send(query);
        tokio::spawn(flow::carry(ours, waiting, from, Arc::downgrade(socket), room));
        self.flows.insert(
            key,
            Flow {
                queries,
                tagged: record.tagged,
                used: Instant::now(),
            },
        );
        Some(Redirected {
            unix: None,
            stream: Box::new(stream),
            origin: origin(&record),
            original_dst: original_dst(&record),
            transport: Transport::Udp,
            namespace: None,
        })
    }

    /// Room for one more flow of a workload; where there is little left, it is made for the next one.
    fn room_for(&mut self, tagged: u64) -> Option<Vec<OwnedSemaphorePermit>> {
        let of_workload = self.flows.iter().filter(|(_, flow)| flow.tagged == tagged);
        if of_workload.clone().count() >= MANY {
            let quietest = of_workload.min_by_key(|(_, flow)| flow.used).map(|(key, _)| *key);
            // Without a sender, the flow ends when it has answered.
            quietest.and_then(|key| self.flows.remove(&key));
        }
        self.rooms
            .retain(|id, room| *id == tagged || room.available_permits() < FLOWS);
        let own = self
            .rooms
            .entry(tagged)
            .or_insert_with(|| Arc::new(Semaphore::new(FLOWS)));
        let own = Arc::clone(own).try_acquire_owned().ok()?;
        let shared = Arc::clone(&self.room).try_acquire_owned().ok()?;
        Some(vec![own, shared])
    }
}

/// What the programs are told of where the agent listens.
pub(super) fn ports(port: u16) -> abi::Ports {
    abi::Ports {
        tcp: port,
        dns: port,
        reserved: 0,
    }
}
