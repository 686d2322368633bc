//! A redirector whose connections a test makes.

use futures_util::future::BoxFuture;
use tokio::{io::DuplexStream, sync::mpsc};

use super::{RedirectError, Redirected, Redirector};
use crate::model::{Origin, OriginalDst, Transport};

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
            unix: None,
            stream: Box::new(agent),
            origin,
            original_dst: dst,
            transport: Transport::Tcp,
            namespace: None,
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::model::CgroupId;

    #[tokio::test]
    async fn connects_until_the_handle_is_gone_and_refuses_after() {
        let origin = Origin {
            tagged: CgroupId(1),
            cgroup: CgroupId(1),
            pid: 1,
            tid: 1,
            uid: 0,
            gid: 0,
            start_ns: 1,
            netns: 1,
            socket: 1,
        };
        let dst = OriginalDst("203.0.113.9:80".parse().unwrap());
        let (handle, mut dummy) = Dummy::new();
        let mut workload = handle.connect(origin.clone(), dst).await;
        let mut redirected = dummy.next_connection().await.unwrap();
        assert_eq!(
            (redirected.origin, redirected.original_dst),
            (origin.clone(), dst)
        );
        workload.write_all(b"hi").await.unwrap();
        drop(workload);
        let mut heard = String::new();
        redirected.stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "hi");

        let other = handle.clone();
        drop(handle);
        drop(dummy);
        let mut refused = other.connect(origin, dst).await;
        assert_eq!(refused.read(&mut [0]).await.unwrap(), 0);

        let (handle, mut dummy) = Dummy::new();
        drop(handle);
        assert!(matches!(
            dummy.next_connection().await,
            Err(RedirectError::Stopped)
        ));
    }
}
