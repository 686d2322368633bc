//! The load generator: a process of its own, so that it can be in a tagged cgroup or outside.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::client::Client;

/// What to send, where, and for how long.
#[derive(Clone, clap::Args)]
pub struct Load {
    #[arg(long)]
    pub address: SocketAddr,
    #[arg(long)]
    pub path: String,
    #[arg(long)]
    pub connections: usize,
    #[arg(long)]
    pub seconds: f64,
    /// TLS, with these roots.
    #[arg(long)]
    pub roots: Option<PathBuf>,
    /// A new connection for each request.
    #[arg(long)]
    pub fresh: bool,
    /// Opens the connections, sends one request on each, says so, and holds them.
    #[arg(long)]
    pub hold: bool,
}

/// What came of it, as the one line of output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Result_ {
    pub requests: u64,
    pub bytes: u64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Of connections, where each request had its own.
    pub errors: u64,
}

const NAME: &str = e2e::world::NAME;

pub fn load(load: &Load) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if load.hold {
            hold(load).await
        } else {
            measure(load).await
        }
    })
}

async fn hold(load: &Load) -> Result<()> {
    let door = Door::new(load)?;
    let mut held = Vec::new();
    for _ in 0..load.connections {
        let mut client = door.open().await?;
        client.ask(&door.request).await?;
        held.push(client);
    }
    println!("held");
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(held);
    Ok(())
}

async fn measure(load: &Load) -> Result<()> {
    let door = Arc::new(Door::new(load)?);
    let mut clients = Vec::new();
    for _ in 0..load.connections {
        let mut client = door.open().await?;
        // The first request of a connection costs more: look-ups, policy, memory. Set-up is a case of its own.
        client.ask(&door.request).await?;
        clients.push(client);
    }
    let began = Instant::now();
    let end = began + Duration::from_secs_f64(load.seconds);
    let fresh = load.fresh;
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|c| tokio::spawn(one(Arc::clone(&door), c, end, fresh)))
        .collect();
    let mut all = Vec::new();
    let (mut bytes, mut errors) = (0, 0);
    for task in tasks {
        let done = task.await??;
        all.extend(done.0);
        bytes += done.1;
        errors += done.2;
    }
    let seconds = began.elapsed().as_secs_f64();
    all.sort_unstable();
    let at = |q: f64| {
        let i = ((all.len() as f64 * q) as usize).min(all.len().saturating_sub(1));
        all.get(i).map_or(0.0, |ns| *ns as f64 / 1000.0)
    };
    let result = Result_ {
        requests: all.len() as u64,
        bytes,
        seconds,
        p50_us: at(0.5),
        p99_us: at(0.99),
        errors,
    };
    println!("{}", serde_json::to_string(&result)?);
    Ok(())
}

/// Latencies in nanoseconds, bytes, errors.
async fn one(door: Arc<Door>, mut client: Client, end: Instant, fresh: bool) -> Result<(Vec<u64>, u64, u64)> {
    let (mut took, mut bytes, mut errors) = (Vec::with_capacity(1 << 16), 0, 0);
    while Instant::now() < end {
        let began = Instant::now();
        if fresh {
            match door.open().await {
                Ok(opened) => client = opened,
                Err(error) if errors < 100 => {
                    errors += 1;
                    eprintln!("{error:#}");
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        bytes += client.ask(&door.request).await?;
        took.push(u64::try_from(began.elapsed().as_nanos())?);
    }
    Ok((took, bytes, errors))
}

/// How to open a connection, and what to ask on it.
struct Door {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    request: Vec<u8>,
}

impl Door {
    fn new(load: &Load) -> Result<Self> {
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {NAME}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n",
            load.path
        );
        let tls = match &load.roots {
            None => None,
            Some(file) => {
                let mut roots = rustls::RootCertStore::empty();
                for certificate in CertificateDer::pem_file_iter(file).context("roots")? {
                    roots.add(certificate?)?;
                }
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let mut config = rustls::ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(roots)
                    .with_no_client_auth();
                config.alpn_protocols = vec![b"http/1.1".to_vec()];
                // A new connection is to be a new one.
                config.resumption = rustls::client::Resumption::disabled();
                Some(TlsConnector::from(Arc::new(config)))
            }
        };
        Ok(Self {
            address: load.address,
            tls,
            request: request.into(),
        })
    }

    async fn open(&self) -> Result<Client> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Client::new(Box::new(stream)),
            Some(tls) => Client::new(Box::new(tls.connect(ServerName::try_from(NAME)?, stream).await?)),
        })
    }
}
