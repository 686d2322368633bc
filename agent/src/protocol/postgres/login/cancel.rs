//! Cancel requests: a connection of its own that names another one by process and key.
//!
//! The workload is given a key made here in place of the server's, so that it can cancel only what it began through
//! here, and nothing that another workload began. The process id stays: notifications carry it, and libraries compare.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::{BufMut as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{super::frame::write_untagged, route::Route, target::Target};
use crate::{
    gate::{Dial, DialError, Gate, Permit},
    model::{Direction, Reason, WorkloadName},
    protocol::ProtocolError,
};

/// CancelRequest.
const CODE: u32 = 80_877_102;
/// Bytes of a key made here where the version lets it be longer than four.
const LONG_KEY: usize = 32;

/// Where a connection is: its server, and the process there.
type Place = (SocketAddr, u32);

/// The connections that can be cancelled, over all workloads.
#[derive(Debug, Default)]
pub struct Cancels(Mutex<HashMap<Place, Vec<Arc<Entry>>>>);

/// One of them.
#[derive(Debug)]
struct Entry {
    workload: WorkloadName,
    /// The key that the workload has.
    ours: Box<[u8]>,
    /// The key that the server has.
    real: Box<[u8]>,
    route: Route,
    target: Target,
    /// Told of each cancel request that passed: what is held here the server does not know of.
    cancelled: Notify,
}

/// A connection's place among them, for as long as it lasts.
#[derive(Debug)]
pub struct Registered {
    cancels: Arc<Cancels>,
    at: Place,
    entry: Arc<Entry>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut all = self.cancels.lock();
        if let Some(here) = all.get_mut(&self.at) {
            here.retain(|e| !Arc::ptr_eq(e, &self.entry));
            if here.is_empty() {
                all.remove(&self.at);
            }
        }
    }
}

impl Registered {
    /// The key to give to the workload.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.entry.ours
    }

    /// Resolves when the workload asks to cancel what runs on this connection.
    pub async fn cancelled(&self) {
        self.entry.cancelled.notified().await;
    }
}

impl Cancels {
    /// Puts a connection there: its server's process and key, and how to get to it.
    #[must_use]
    pub fn register(
        self: &Arc<Self>,
        gate: &Gate,
        (process, real): (u32, &[u8]),
        (route, target): (&Route, &Target),
        long: bool,
    ) -> Registered {
        let ours: [u8; LONG_KEY] = rand::random();
        let entry = Arc::new(Entry {
            workload: gate.workload().clone(),
            ours: ours[..if long { LONG_KEY } else { 4 }].into(),
            real: real.into(),
            route: route.clone(),
            target: target.clone(),
            cancelled: Notify::new(),
        });
        let at = (gate.original_dst().0, process);
        self.lock().entry(at).or_default().push(Arc::clone(&entry));
        Registered {
            cancels: Arc::clone(self),
            at,
            entry,
        }
    }

    /// The one that a request names, if it is the workload's own.
    fn find(&self, workload: &WorkloadName, at: Place, key: &[u8]) -> Option<Arc<Entry>> {
        let all = self.lock();
        let mut found = None;
        for entry in all.get(&at)? {
            // Each is compared, and in constant time: how long it takes says nothing about a key.
            let same = verify_slices_are_equal(&entry.ours, key).is_ok();
            if same && entry.workload == *workload {
                found = Some(Arc::clone(entry));
            }
        }
        found
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Vec<Arc<Entry>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a cancel request. It has no answer: what came of it is seen on the other connection, and the requester
    /// waits for the close.
    ///
    /// # Errors
    /// When it may not pass, or the server cannot be reached.
    pub async fn serve(
        &self,
        (process, key): (u32, &[u8]),
        unknown: &Target,
        dial: &dyn Dial,
        gate: &Gate,
        until: Instant,
    ) -> Result<(), ProtocolError> {
        let at = (gate.original_dst().0, process);
        let Some(entry) = self.find(gate.workload(), at, key) else {
            let denied = gate.refuse(unknown.cancel(gate), Reason::TargetUnknown).await;
            return Err(ProtocolError::Refused(denied.reason));
        };
        let mut permit = match gate.authorize(entry.target.cancel(gate)).await {
            Ok(permit) => permit,
            Err(denied) => return Err(ProtocolError::Refused(denied.reason)),
        };
        // Whoever waits now, and nobody who begins to wait later.
        entry.cancelled.notify_waiters();
        match entry.send(process, dial, &mut permit, until).await {
            Ok(()) => {
                permit.finish(Reason::Completed, "").await?;
                Ok(())
            }
            Err(error) => {
                permit.finish(error.reason, "").await?;
                Err(ProtocolError::Cut(error.reason))
            }
        }
    }
}

impl Entry {
    async fn send(
        &self,
        process: u32,
        dial: &dyn Dial,
        permit: &mut Permit,
        until: Instant,
    ) -> Result<(), DialError> {
        let mut request = BytesMut::with_capacity(16);
        write_untagged(&mut request, |out| {
            out.put_u32(CODE);
            out.put_u32(process);
            out.put_slice(&self.real);
        });
        let mut stream = self.route.open(dial, permit, until).await?.stream;
        let sent = async {
            stream.write_all(&request).await?;
            stream.flush().await?;
            // The server closes once it has passed the signal on.
            let mut rest = [0; 64];
            while stream.read(&mut rest).await? > 0 {}
            std::io::Result::Ok(())
        };
        let sent = timeout_at(until, sent).await;
        permit.add_bytes(Direction::Up, request.len() as u64);
        match sent {
            Ok(Ok(())) => Ok(()),
            // A close without a close_notify, or a reset: it has read what it wanted.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(DialError {
                reason: Reason::Timeout,
                detail: "the server did not take the cancel request in time".into(),
            }),
        }
    }
}

#[cfg(test)]
impl Cancels {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().values().map(Vec::len).sum()
    }

    /// Whether a workload's request finds one.
    pub fn finds(&self, workload: &WorkloadName, to: SocketAddr, process: u32, key: &[u8]) -> bool {
        self.find(workload, (to, process), key).is_some()
    }
}
