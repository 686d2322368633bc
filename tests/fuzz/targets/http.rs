//! HTTP through the whole agent, with a dummy in the kernel's place: whatever a workload or an upstream sends, the
//! agent answers or closes; and what reaches the upstream can be read in one way only, and is on record.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::timeout,
};

use super::{Target, cut};
use crate::rig::Rig;

const PATIENCE: Duration = Duration::from_secs(10);
const PERMIT: &str = r#"permit (principal, action == Action::"http:request", resource);"#;

/// Panics in tasks of the agent do not reach the caller; they are counted here.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The agent, and an upstream that answers each connection with `answer` and keeps what it is sent.
pub struct Agent {
    runtime: tokio::runtime::Runtime,
    rig: Rig,
    address: std::net::SocketAddr,
    answer: Arc<Mutex<Vec<u8>>>,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Agent {
    pub fn new() -> Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(info);
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let (answer, seen) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (rig, address) = runtime.block_on(async {
            let rig = Rig::new(
                PERMIT,
                "[limits]\nhead_bytes = 8192\nhandshake_timeout = \"2s\"\n",
            )
            .await?;
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            tokio::spawn(upstream(listener, Arc::clone(&answer), Arc::clone(&seen)));
            anyhow::Ok((rig, address))
        })?;
        Ok(Self {
            runtime,
            rig,
            address,
            answer,
            seen,
        })
    }

    /// Lets a workload send bytes, in two pieces, and read until the agent closes; what it got, and what the upstream
    /// got.
    fn exchange(&self, request: &[u8], answer: &[u8], random: u64) -> Result<(Vec<u8>, Vec<u8>)> {
        *lock(&self.answer) = answer.to_vec();
        lock(&self.seen).clear();
        let panics = PANICS.load(Ordering::SeqCst);
        let got = self.runtime.block_on(async {
            let stream = self.rig.connect(self.address).await;
            let (mut read, mut write) = tokio::io::split(stream);
            let (one, two) = cut(request, random);
            let sending = async {
                // The agent may close first.
                let _refused = write.write_all(one).await;
                tokio::task::yield_now().await;
                let _refused = write.write_all(two).await;
                let _refused = write.shutdown().await;
            };
            let mut got = Vec::new();
            let reading = async { read.read_to_end(&mut got).await };
            timeout(PATIENCE, async { tokio::join!(sending, reading) })
                .await
                .context("the agent neither answers nor closes")?
                .1
                .ok();
            anyhow::Ok(got)
        })?;
        ensure!(PANICS.load(Ordering::SeqCst) == panics, "a task panicked");
        let seen = lock(&self.seen).clone();
        Ok((got, seen))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn upstream(listener: TcpListener, answer: Arc<Mutex<Vec<u8>>>, seen: Arc<Mutex<Vec<u8>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
        tokio::spawn(async move {
            let mut buffer = [0; 16 * 1024];
            let mut answered = false;
            while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                lock(&seen).extend_from_slice(&buffer[..n]);
                if !answered {
                    answered = true;
                    let bytes = lock(&answer).clone();
                    if stream.write_all(&bytes).await.is_err() || stream.shutdown().await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Seeds as bytes.
pub fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|s| s.as_bytes().to_vec()).collect()
}

/// What a workload may say.
pub const REQUESTS: [&str; 6] = [
    "GET /customers?a=b HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nConnection: close\r\n\r\n",
    "POST /customers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 15\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{\"name\":\"Joan\"}",
    "POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "GET http://127.0.0.1/a/./b/../c;d HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nDELETE /x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    "PUT /x HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc",
];

/// Requests of a hostile workload.
pub struct Requests(pub Agent);

impl Target for Requests {
    fn name(&self) -> &'static str {
        "http-up"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        seeds(&REQUESTS)
    }

    fn check(&mut self, input: &[u8], random: u64) -> Result<()> {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        let (_, seen) = self.0.exchange(input, answer, random)?;
        if seen.is_empty() {
            return Ok(());
        }
        // The first head, as a strict reader sees it; a bare CR or LF, a fold or a second length is another request
        // to somebody.
        let end = seen
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .context("half a head went upstream")?;
        // Values may have bytes above 127 (RFC 9110 section 5.5).
        let head = String::from_utf8_lossy(&seen[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let first: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        ensure!(
            first.len() == 3 && first[2].starts_with("HTTP/1."),
            "upstream: {head:?}"
        );
        let path = first[1].split('?').next().unwrap_or_default();
        ensure!(
            !path.contains("/../") && !path.contains("/./"),
            "upstream: {head:?}"
        );
        let names: Vec<String> = lines
            .map(|line| {
                line.split_once(':')
                    .map(|(n, _)| n.to_ascii_lowercase())
                    .context(format!("no header: {line:?}"))
            })
            .collect::<Result<_>>()?;
        let count = |name: &str| names.iter().filter(|n| *n == name).count();
        ensure!(
            !head.contains(['\n', '\0']) || !head.replace("\r\n", "").contains(['\r', '\n', '\0']),
            "{head:?}"
        );
        ensure!(
            count("host") == 1 || (count("host") == 0 && first[2] == "HTTP/1.0"),
            "Host is there {} times: {head:?}",
            count("host")
        );
        ensure!(
            count("content-length") + count("transfer-encoding") <= 1,
            "two lengths: {head:?}"
        );
        Ok(())
    }
}

/// What an upstream may say.
pub const RESPONSES: [&str; 6] = [
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"email\":\"ada@example.com\"}",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/plain\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\nuntil the end: ada@example.com",
    "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x08\x08",
];

/// Responses of a hostile upstream.
pub struct Responses(pub Agent);

impl Target for Responses {
    fn name(&self) -> &'static str {
        "http-down"
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        seeds(&RESPONSES)
    }

    fn check(&mut self, input: &[u8], random: u64) -> Result<()> {
        let request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
        let (got, _) = self.0.exchange(request, input, random)?;
        ensure!(
            got.is_empty() || got.starts_with(b"HTTP/1."),
            "down: {:?}",
            String::from_utf8_lossy(&got)
        );
        let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n") else {
            return Ok(());
        };
        let head = String::from_utf8_lossy(&got[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
        if let Some(length) = length.filter(|_| !head.starts_with("http/1.1 1")) {
            let length: usize = length.trim().parse().context("the length is no number")?;
            let body = got.len() - end - 4;
            ensure!(body <= length, "{body} bytes of body, {length} announced");
        }
        Ok(())
    }
}
