//! A host that ships: a ledger, its segments, and sinks, as the daemon runs them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::mount::{MsFlags, mount, umount};
use portcullis::{
    clock::Clock,
    config::{self, Durability},
    credential::Credentials,
    ledger::{self, Ledger, LedgerError, Options, Tail, segment_path},
    model::{EntryKind, Seq},
    ship::{Context, Shipping, SinkStatus, Times},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A file system of so many bytes.
pub struct Disk(pub PathBuf);

impl Disk {
    pub fn new(path: PathBuf, size: &str) -> Self {
        fs::create_dir(&path).unwrap();
        let disk = Self(path);
        disk.mount(size, MsFlags::empty());
        disk
    }

    fn mount(&self, size: &str, flags: MsFlags) {
        let options = format!("size={size}");
        mount(
            Some("tmpfs"),
            &self.0,
            Some("tmpfs"),
            flags,
            Some(options.as_str()),
        )
        .unwrap();
    }

    pub fn grow(&self, size: &str) {
        self.mount(size, MsFlags::MS_REMOUNT);
    }
}

impl Disk {
    /// Nothing can be written there.
    pub fn read_only(&self) {
        self.mount("128m", MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount(&self.0).unwrap();
    }
}

/// A host.
pub struct Host {
    pub dir: TempDir,
    pub ledger: Ledger,
    shipping: Option<Shipping>,
}

/// A segment as it is to be found at the receiver.
pub struct Expected {
    pub name: String,
    pub path: PathBuf,
}

impl Host {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), Options::new("h", Durability::Process)).unwrap();
        Self {
            dir,
            ledger,
            shipping: None,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Seals a segment of about so many bytes, which do not compress.
    pub async fn seal(&self, bytes: usize) -> Expected {
        let mut left = bytes;
        loop {
            let size = left.min(400_000);
            let noise: Vec<u8> = (0..size / 2).map(|_| rand::random()).collect();
            let detail = json!({ "noise": hex::encode(noise) });
            let body = json!({ "event": "test", "detail": detail });
            let entry = ledger::entry(EntryKind::Agent, Clock::System.now_ns(), body);
            self.ledger.append(entry).await.unwrap();
            left -= size;
            if left == 0 {
                break;
            }
        }
        let sealed = self.ledger.seal().await.unwrap().unwrap();
        let path = segment_path(self.dir.path(), sealed.number);
        let sha256 = hash(&fs::read(&path).unwrap());
        let (number, first, end) = (sealed.number, sealed.first, sealed.end);
        let name = format!("h/segment-{number:010}-{first}-{end}-{}.db", &sha256[..16]);
        Expected { name, path }
    }

    /// Starts sinks.
    pub fn ship(&mut self, config: &str) {
        let config = config::parse("test".as_ref(), config).unwrap();
        let context = Context {
            host: "h".into(),
            credentials: Credentials::new(&config.credential),
            clock: Clock::System,
        };
        let times = Times {
            poll: Duration::from_millis(20),
            retry: Duration::from_millis(50),
            save: Duration::from_millis(100),
            gap: Duration::ZERO,
        };
        let shipping =
            Shipping::start_with(self.dir.path(), &self.ledger, context, &config.ship, times).unwrap();
        self.shipping = Some(shipping);
    }

    pub fn shipping(&self) -> &Shipping {
        self.shipping.as_ref().unwrap()
    }

    pub fn status(&self) -> SinkStatus {
        self.shipping().status().remove(0)
    }

    pub async fn stop(&mut self) {
        if let Some(shipping) = self.shipping.take() {
            shipping.close().await;
        }
    }

    /// The details of what the ledger says of shipping.
    pub fn said(&self, event: &str) -> Vec<Value> {
        let mut tail = Tail::new(self.dir.path(), Seq(0));
        let mut found = Vec::new();
        loop {
            match tail.read(self.ledger.size(), usize::MAX, usize::MAX) {
                Ok(more) if more.is_empty() => break,
                Ok(more) => found.extend(more),
                Err(LedgerError::Purged { to, .. }) => tail = Tail::new(self.dir.path(), Seq(to)),
                Err(e) => panic!("{e}"),
            }
        }
        let bodies = found
            .iter()
            .filter_map(|r| serde_json::from_str::<Value>(&r.body).ok());
        bodies
            .filter(|b| b["kind"] == "ledger" && b["event"] == event)
            .map(|b| b["detail"].clone())
            .collect()
    }

    /// Waits until so many segments are on record as shipped.
    pub async fn shipped(&self, count: usize) {
        self.until("segments on record as shipped", || {
            self.said("shipped").len() >= count
        })
        .await;
    }

    /// Waits until the sink fails in a certain way, on record.
    pub async fn fails(&self, class: &str) {
        self.until(&format!("a failure of class {class}"), || {
            let now = self.status().error.is_some_and(|e| e.class == class);
            now && !self.said("ship_failing").is_empty()
        })
        .await;
    }

    pub async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            let status = self.shipping.as_ref().map(Shipping::status);
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "waited for {what}: {status:#?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

pub fn hash(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}

/// A file with AWS keys that only its owner reads.
pub fn write_keys(path: &Path, id: &str, secret: &str) {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    // Another file in its place, not other content: what is read is one or the other.
    let fresh = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&fresh).unwrap();
    write!(
        file,
        "[default]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"
    )
    .unwrap();
    fs::rename(fresh, path).unwrap();
}
