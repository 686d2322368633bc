//! A whole agent in this process: everything real but the kernel side, which a dummy stands in for.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result};
use e2e::issuer::Issuer;
use portcullis::{
    app::Core,
    config::{self, Config},
    connection::Tag,
    model::{CgroupId, Origin, OriginalDst, WorkloadName},
    redirect::{Dummy, DummyHandle},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    net::TcpListener,
};

/// The cgroup id that is tagged as workload `bot`.
pub const TAGGED: CgroupId = CgroupId(7001);

/// The agent, an issuer and scratch space.
pub struct Rig {
    pub core: Core,
    pub issuer: Issuer,
    pub config: Config,
    pub dir: tempfile::TempDir,
    handle: DummyHandle,
    accepting: tokio::task::AbortHandle,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Rig {
    /// Under the policy given; `more` is added to the configuration, with the scratch directory's path for `{dir}`.
    pub async fn new(policy: &str, more: &str) -> Result<Self> {
        Self::with(policy, |_| Ok(more.to_owned())).await
    }

    /// The same with what `more` returns, which may put files in the scratch directory.
    pub async fn with(policy: &str, more: impl FnOnce(&Path) -> Result<String>) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let more = more(dir.path())?;
        let issuer = Issuer::start("127.0.0.1:0".parse()?).await?;
        let policies = dir.path().join("policies");
        std::fs::create_dir_all(&policies)?;
        std::fs::write(policies.join("test.cedar"), policy)?;
        let token = issuer.mint(
            "agent-7",
            "portcullis",
            &["agents"],
            Duration::from_secs(600),
            &serde_json::json!({}),
        )?;
        std::fs::write(dir.path().join("token"), token)?;
        let text = format!(
            r#"
[host]
data_dir = "{dir}/data"
run_dir = "{dir}/run"
[[issuer]]
name = "test"
url = "{url}"
audience = "portcullis"
[[workload]]
name = "bot"
issuer = "test"
token_file = "{dir}/token"
[policy]
dirs = ["{dir}/policies"]
[ledger]
durability = "process"
{more}
"#,
            dir = dir.path().display(),
            url = issuer.url(),
            more = more.replace("{dir}", &dir.path().display().to_string()),
        );
        let config: Config = config::parse(&dir.path().join("portcullis.toml"), &text)?;
        let core = Core::start(&config)?;
        core.front.identities.settled().await;
        let workload = WorkloadName::new("bot")?;
        core.front.workloads.add(
            TAGGED,
            Tag {
                workload,
                cgroup: "/test".into(),
                source: "config",
            },
        );
        let (handle, dummy) = Dummy::new();
        let accepting = tokio::spawn(Arc::clone(&core.front).accept(Box::new(dummy))).abort_handle();
        Ok(Self {
            core,
            issuer,
            config,
            dir,
            handle,
            accepting,
        })
    }

    /// A workload's connection to `to`.
    pub async fn connect(&self, to: SocketAddr) -> DuplexStream {
        self.connect_from(TAGGED, to).await
    }

    /// A connection from another cgroup.
    pub async fn connect_from(&self, tagged: CgroupId, to: SocketAddr) -> DuplexStream {
        let origin = Origin {
            tagged,
            cgroup: tagged,
            pid: std::process::id(),
            tid: std::process::id(),
            uid: 1000,
            gid: 1000,
            start_ns: 0,
            netns: 1,
            socket: 1,
        };
        self.handle.connect(origin, OriginalDst(to)).await
    }

    /// The ledger's rows, once everything that was accepted has been written.
    pub fn rows(&self, sql: &str) -> Result<Vec<String>> {
        let path: PathBuf = self.dir.path().join("data/ledger.db");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let db = rusqlite::Connection::open_with_flags(path, flags)?;
        let mut statement = db.prepare(sql)?;
        let rows = statement.query_map([], |row| {
            let value: rusqlite::types::Value = row.get(0)?;
            Ok(match value {
                rusqlite::types::Value::Text(text) => text,
                rusqlite::types::Value::Integer(n) => n.to_string(),
                other => format!("{other:?}"),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Waits until the query gives rows.
    pub async fn await_rows(&self, sql: &str) -> Result<Vec<String>> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let rows = self.rows(sql)?;
            if !rows.is_empty() {
                return Ok(rows);
            }
            anyhow::ensure!(
                tokio::time::Instant::now() < deadline,
                "no rows in ten seconds: {sql}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// An upstream that answers each connection's requests with the given bytes, and keeps what it was sent.
pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<VecDeque<Vec<u8>>>>,
    task: tokio::task::AbortHandle,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    /// Answers every request head with `response`.
    pub async fn start(response: &'static [u8]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(VecDeque::new()));
        let record = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let record = Arc::clone(&record);
                tokio::spawn(async move {
                    let mut buffer = Vec::new();
                    loop {
                        match stream.read_buf(&mut buffer).await {
                            Ok(0) | Err(_) => return,
                            Ok(_) => {}
                        }
                        if let Some(end) = memfind(&buffer, b"\r\n\r\n") {
                            let rest = buffer.split_off(end + 4);
                            record
                                .lock()
                                .unwrap()
                                .push_back(std::mem::replace(&mut buffer, rest));
                            if stream.write_all(response).await.is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Ok(Self {
            address,
            seen,
            task: task.abort_handle(),
        })
    }

    /// The request heads seen so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|b| String::from_utf8_lossy(b).into_owned())
            .collect()
    }
}

pub fn memfind(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

/// Sends a request and reads one response with a Content-Length.
pub async fn exchange(stream: &mut DuplexStream, request: &str) -> Result<String> {
    stream.write_all(request.as_bytes()).await?;
    response(stream).await
}

/// Reads one response with a Content-Length.
pub async fn response(stream: &mut DuplexStream) -> Result<String> {
    let mut buffer = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Some(end) = memfind(&buffer, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
                let length: usize = head
                    .lines()
                    .find_map(|l| l.strip_prefix("content-length:"))
                    .map_or(Ok(0), |v| v.trim().parse())?;
                if buffer.len() >= end + 4 + length {
                    return Ok(String::from_utf8_lossy(&buffer).into_owned());
                }
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                anyhow::bail!("closed after {:?}", String::from_utf8_lossy(&buffer));
            }
        }
    })
    .await
    .context("no whole response in ten seconds")?
}

/// Resolves when the other side has closed the stream.
pub async fn closed(stream: &mut DuplexStream) -> Result<()> {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest))
        .await
        .context("still open")??;
    Ok(())
}
