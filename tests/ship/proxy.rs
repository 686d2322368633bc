//! A way to a receiver that does not always lead there.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// What it does with connections, those that are open as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Everything passes.
    Open,
    /// Nothing passes, and nothing is said.
    Stuck,
    /// Connections end after so many bytes to the receiver.
    Cut(u64),
    /// So many bytes in a second pass to the receiver.
    Slow(u64),
}

pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<State>,
    task: AbortHandle,
}

struct State {
    way: Mutex<Way>,
    /// Where to; may change.
    to: Mutex<SocketAddr>,
    /// Bytes that passed to the receiver.
    passed: AtomicU64,
}

impl State {
    fn way(&self) -> Way {
        *self.way.lock().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub async fn start(to: SocketAddr, way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            way: Mutex::new(way),
            to: Mutex::new(to),
            passed: AtomicU64::new(0),
        });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(stream, Arc::clone(&serving)));
            }
        });
        Self {
            address,
            state,
            task: task.abort_handle(),
        }
    }

    pub fn set(&self, way: Way) {
        *self.state.way.lock().unwrap() = way;
    }

    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Acquire)
    }
}

async fn carry(down: TcpStream, state: Arc<State>) {
    let to = *state.to.lock().unwrap();
    let Ok(up) = TcpStream::connect(to).await else {
        return;
    };
    let (down_read, down_write) = down.into_split();
    let (up_read, up_write) = up.into_split();
    // Either end ends both.
    tokio::select! {
        () = copy(down_read, up_write, &state, true) => {}
        () = copy(up_read, down_write, &state, false) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &State,
    upwards: bool,
) {
    let mut buffer = vec![0; 16 << 10];
    let mut sent = 0;
    loop {
        let Ok(n @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        loop {
            match state.way() {
                Way::Stuck => tokio::time::sleep(Duration::from_millis(5)).await,
                Way::Cut(most) if upwards && sent + n as u64 > most => return,
                Way::Slow(rate) if upwards => {
                    tokio::time::sleep(Duration::from_secs_f64(n as f64 / rate as f64)).await;
                    break;
                }
                _ => break,
            }
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
        sent += n as u64;
        if upwards {
            state.passed.fetch_add(n as u64, Ordering::AcqRel);
        }
    }
}
