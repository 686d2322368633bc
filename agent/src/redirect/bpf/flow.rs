//! One workload socket's datagrams to one resolver, as a stream: each message is preceded by its length (RFC 1035 4.2.2).

use std::{
    io,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    net::UdpSocket,
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};

/// How long a flow stays when every query has been answered.
const IDLE: Duration = Duration::from_secs(10);
/// How long it stays for an answer that does not come: longer than any stub resolver waits.
const PATIENCE: Duration = Duration::from_secs(60);

/// A query on its way to the protocol.
pub(super) struct Query {
    pub(super) message: Vec<u8>,
    pub(super) from: SocketAddr,
}

/// What both directions know.
struct Seen {
    /// Where the socket is.
    from: SocketAddr,
    /// Queries without an answer.
    open: u64,
    last: Instant,
}

impl Seen {
    /// When the flow has been quiet for long enough.
    fn end(&self) -> Instant {
        self.last + if self.open == 0 { IDLE } else { PATIENCE }
    }
}

/// Carries queries to the protocol, on the other end of `stream`, and its answers to the workload's socket, until the
/// protocol ends, or nothing happens any more. Ends the stream when there will be no more queries: the protocol then
/// answers what it has.
///
/// `socket` is weak so that the redirector alone decides how long its port is taken.
pub(super) async fn carry(
    stream: DuplexStream,
    queries: mpsc::Receiver<Query>,
    from: SocketAddr,
    socket: Weak<UdpSocket>,
    room: Vec<OwnedSemaphorePermit>,
) {
    let seen = Mutex::new(Seen {
        from,
        open: 0,
        last: Instant::now(),
    });
    let (read, write) = tokio::io::split(stream);
    let asking = async {
        // The protocol has gone: the other direction says so.
        let _gone = ask(write, queries, &seen).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = asking => {}
        // As above, and this ends the flow.
        _gone = answer(read, &socket, &seen) => {}
        () = quiet(&seen) => {}
    }
    drop(room);
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(
    mut write: impl AsyncWrite + Unpin,
    mut queries: mpsc::Receiver<Query>,
    seen: &Mutex<Seen>,
) -> io::Result<()> {
    while let Some(query) = queries.recv().await {
        {
            let mut seen = lock(seen);
            seen.from = query.from;
            seen.open += 1;
            seen.last = Instant::now();
        }
        let Ok(length) = u16::try_from(query.message.len()) else {
            continue;
        };
        // In one piece: a reader that gives up between the two would be out of step.
        let mut framed = Vec::with_capacity(query.message.len() + 2);
        framed.extend(length.to_be_bytes());
        framed.extend(query.message);
        write.write_all(&framed).await?;
    }
    write.shutdown().await
}

async fn answer(
    mut read: impl AsyncRead + Unpin,
    socket: &Weak<UdpSocket>,
    seen: &Mutex<Seen>,
) -> io::Result<()> {
    loop {
        let length = read.read_u16().await?;
        let mut message = vec![0; length.into()];
        read.read_exact(&mut message).await?;
        let from = {
            let mut seen = lock(seen);
            seen.open = seen.open.saturating_sub(1);
            seen.last = Instant::now();
            seen.from
        };
        let Some(socket) = socket.upgrade() else {
            return Ok(());
        };
        // What does not fit the workload's buffer, or this socket's, is lost: as datagrams are.
        let _lost = socket.try_send_to(&message, from);
    }
}

async fn quiet(seen: &Mutex<Seen>) {
    loop {
        let end = lock(seen).end();
        if end <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(end).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn start(
        socket: &Arc<UdpSocket>,
        from: SocketAddr,
    ) -> (DuplexStream, mpsc::Sender<Query>, tokio::task::JoinHandle<()>) {
        let (protocol, ours) = tokio::io::duplex(1024);
        let (send, receive) = mpsc::channel(4);
        let weak = Arc::downgrade(socket);
        let task = tokio::spawn(carry(ours, receive, from, weak, Vec::new()));
        (protocol, send, task)
    }

    #[tokio::test]
    async fn queries_and_answers_are_framed_and_the_end_is_told() {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let workload = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let from = workload.local_addr().unwrap();
        let (mut protocol, send, task) = start(&socket, from).await;
        for message in [b"one".to_vec(), b"three".to_vec()] {
            assert!(send.send(Query { message, from }).await.is_ok());
        }
        let mut heard = [0; 12];
        protocol.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"\0\x03one\0\x05three");
        protocol.write_all(b"\0\x02hi").await.unwrap();
        let mut buffer = [0; 16];
        let (length, source) = workload.recv_from(&mut buffer).await.unwrap();
        assert_eq!(
            (&buffer[..length], source),
            (&b"hi"[..], socket.local_addr().unwrap())
        );
        // No more queries: the protocol is told, and still answers.
        drop(send);
        assert_eq!(protocol.read(&mut buffer).await.unwrap(), 0);
        protocol.write_all(b"\0\x04late").await.unwrap();
        let (length, _) = workload.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"late");
        drop(protocol);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_flow_ends_when_it_is_quiet_and_waits_for_answers() {
        let last = Instant::now() - IDLE;
        let mut seen = Seen {
            from: "127.0.0.1:9".parse().unwrap(),
            open: 1,
            last,
        };
        assert!(seen.end() > Instant::now(), "an answer may still come");
        seen.open = 0;
        assert!(seen.end() <= Instant::now());
        tokio::time::timeout(IDLE, quiet(&Mutex::new(seen)))
            .await
            .unwrap();
    }
}
