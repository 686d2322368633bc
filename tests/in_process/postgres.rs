//! Real PostgreSQL behind the whole agent, without the kernel side.

mod adversarial;
mod faults;
mod hold;
mod login;
mod stream;
mod wire;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{pki::Authority, postgres::Postgres, shop};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::rig::Rig;
use wire::Wire;

/// What is masked, beside the built-in classes.
pub const MASK: &str = r#"
[[mask.field]]
class = "us_ssn"
column = ["customers.ssn"]

[[mask.field]]
class = "note"
column = ["customers.note_secret"]
"#;

/// A password in the file that [`private`] writes, as `[[credential]]`.
pub const PASSWORD: &str = "[[credential]]\nname = \"secret\"\nfile = \"{dir}/secret\"\n";

/// A file that only its owner can read, as a credential's should be.
pub fn private(dir: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join("secret");
    std::fs::write(&path, text)?;
    Ok(std::fs::set_permissions(
        path,
        std::fs::Permissions::from_mode(0o600),
    )?)
}

/// A real server, everything that reaches it on record, and the agent in front.
pub struct Shop {
    pub rig: Rig,
    pub tap: Tap,
    pub postgres: Postgres,
}

impl Shop {
    /// Under the policy that lets all but deletes of orders pass; `login` goes into the `[[upstream]]`, `more` after it.
    pub async fn new(login: &str, more: &str) -> Result<Self> {
        Self::under(shop::POLICY, login, more).await
    }

    /// The same under another policy.
    pub async fn under(policy: &str, login: &str, more: &str) -> Result<Self> {
        Self::prepared(policy, login, more, |_, _| Ok(())).await
    }

    /// The same with files of `write`'s in the rig's directory, which `{dir}` in the configuration names.
    pub async fn prepared(
        policy: &str,
        login: &str,
        more: &str,
        write: impl FnOnce(&Authority, &Path) -> Result<()>,
    ) -> Result<Self> {
        let authority = Authority::new("Example Corp Internal CA")?;
        let postgres = Postgres::local(&authority)?;
        let tap = Tap::start(postgres.address()).await?;
        let port = tap.address.port();
        let rig = Rig::with(policy, |dir| {
            std::fs::write(dir.join("roots.pem"), authority.pem())?;
            write(&authority, dir)?;
            Ok(format!(
                "[tls]\nextra_roots_file = \"{{dir}}/roots.pem\"\n{MASK}\n\
                 [[upstream]]\nname = \"shop-db\"\nprotocol = \"postgres\"\nhost = \"127.0.0.1\"\n\
                 port = {port}\n{login}\n{more}"
            ))
        })
        .await?;
        Ok(Self { rig, tap, postgres })
    }

    /// The workload's connection, in the clear.
    pub async fn connect(&self) -> Wire {
        Wire::new(self.rig.connect(self.tap.address).await)
    }

    /// The workload's connection, over TLS.
    pub async fn connect_tls(&self) -> Result<Wire> {
        let roots = std::fs::read(self.rig.dir.path().join("data/ca.pem"))?;
        Wire::tls(self.rig.connect(self.tap.address).await, &roots, "localhost").await
    }

    /// A connection past the agent.
    pub async fn direct(&self) -> Result<Wire> {
        let stream = TcpStream::connect(self.postgres.address()).await?;
        stream.set_nodelay(true)?;
        Ok(Wire::new(stream))
    }

    /// Text that is in no file of the agent's and was never on the way to the server in the clear.
    pub fn nowhere(&self, secret: &str) -> Result<()> {
        let seen = self.tap.seen();
        let heard = seen.windows(secret.len()).any(|w| w == secret.as_bytes());
        ensure!(!heard, "{secret} went over the wire in the clear");
        self.not_stored(secret)
    }

    /// Text that is in no file of the agent's.
    pub fn not_stored(&self, secret: &str) -> Result<()> {
        let mut left = vec![self.rig.dir.path().join("data"), self.rig.dir.path().join("run")];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    left.push(entry?.path());
                }
            } else if path.is_file() {
                let bytes = std::fs::read(&path)?;
                let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
                ensure!(!found, "{secret} is in {}", path.display());
            }
        }
        Ok(())
    }
}

/// Passes bytes on to the server, and keeps those that the server is sent.
pub struct Tap {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    task: tokio::task::AbortHandle,
}

impl Tap {
    async fn start(to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let keep = Arc::clone(&keep);
                tokio::spawn(async move {
                    let far = TcpStream::connect(to).await.context("the server")?;
                    pass(near, far, &keep).await
                });
            }
        });
        Ok(Self {
            address,
            seen,
            task: task.abort_handle(),
        })
    }

    /// Everything that the server was sent, of all connections.
    pub fn seen(&self) -> Vec<u8> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what the server was sent until now.
    pub fn forget(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether the server was sent this text.
    pub fn saw(&self, text: &str) -> bool {
        self.seen().windows(text.len()).any(|w| w == text.as_bytes())
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(near: TcpStream, far: TcpStream, keep: &Mutex<Vec<u8>>) -> Result<()> {
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_far.read(&mut buffer).await {
            if to_near.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
        // Half-closed, as the server did it.
        let _gone = to_near.shutdown().await;
    };
    let forth = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_near.read(&mut buffer).await {
            keep.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&buffer[..n]);
            if to_far.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
        let _gone = to_far.shutdown().await;
    };
    tokio::join!(back, forth);
    Ok(())
}
