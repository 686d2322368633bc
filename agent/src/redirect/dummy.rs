//! A redirector whose connections a test makes.

use futures_util::future::BoxFuture;
use tokio::{io::DuplexStream, sync::mpsc};

use super::{RedirectError, Redirected, Redirector};
use crate::model::{Origin, OriginalDst};

/// Bytes that a connection's pipe holds each way before the writer waits.
const PIPE_BYTES: usize = 64 * 1024;
/// Connections that may wait for [`Redirector::next_connection`].
const WAITING: usize = 128;

/// Yields what its handle connects; ends when every handle is gone.
pub struct Dummy(mpsc::Receiver<Redirected>);

/// Makes connections.
#[derive(Clone)]
pub struct DummyHandle(mpsc::Sender<Redirected>);

impl Dummy {
    /// A pair.
    #[allow(clippy::new_ret_no_self)]
    #[must_use]
    pub fn new() -> (DummyHandle, Self) {
        let (send, receive) = mpsc::channel(WAITING);
        (DummyHandle(send), Self(receive))
    }
}

impl DummyHandle {
    /// Connects as `origin` to `dst`, and returns the workload's end. When the redirector is gone, that end reads as
    /// closed: what a refused connection comes to.
    pub async fn connect(&self, origin: Origin, dst: OriginalDst) -> DuplexStream {
        let (workload, agent) = tokio::io::duplex(PIPE_BYTES);
        let redirected = Redirected {
            stream: Box::new(agent),
            origin,
            original_dst: dst,
        };
        // A failed send drops the agent's end.
        let _refused = self.0.send(redirected).await;
        workload
    }
}

impl Redirector for Dummy {
    fn next_connection(&mut self) -> BoxFuture<'_, Result<Redirected, RedirectError>> {
        Box::pin(async { self.0.recv().await.ok_or(RedirectError::Stopped) })
    }
}
