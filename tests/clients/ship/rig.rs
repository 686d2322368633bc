//! A real ledger with real entries, the real workers of sinks, and receivers as processes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{
    child::Process,
    pki::{Authority, Leaf},
    wait::{DEADLINE, wait_for},
};
use portcullis::{
    clock::Clock,
    config::{Credential, Durability, Ship},
    credential::Credentials,
    ledger::{self, Ledger, Options, Recorded, Tail},
    model::{EntryKind, Seq},
    ship::{Context, Shipping, SinkStatus, Times, ocsf::ocsf, samples::samples, view::HostFacts},
};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::install;

/// What receivers know the agent by.
pub const TOKEN: &str = "c0ffee-token";

/// See the top of the file.
pub struct Rig {
    dir: TempDir,
    runtime: Runtime,
    ledger: Ledger,
    ship: Vec<Ship>,
    credentials: Credentials,
    shipping: Option<Shipping>,
}

#[derive(serde::Deserialize)]
struct Parts {
    ship: Vec<Ship>,
    #[serde(default)]
    credential: Vec<Credential>,
}

/// What a receiver got of one event.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct Got {
    pub seq: u64,
    pub id: String,
    pub body: Value,
}

impl Rig {
    /// A ledger; `[[ship]]` and `[[credential]]` as they stand in a configuration. The sinks do not run yet.
    pub fn new(dir: TempDir, config: &str) -> Result<Self> {
        let parts: Parts = toml::from_str(config)?;
        let data = dir.path().join("data");
        fs::create_dir(&data)?;
        let ledger = Ledger::open(&data, Options::new("host-1", Durability::Process))?;
        Ok(Self {
            runtime: Runtime::new()?,
            ledger,
            ship: parts.ship,
            credentials: Credentials::new(&parts.credential),
            shipping: None,
            dir,
        })
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts the sinks.
    pub fn start(&mut self) -> Result<()> {
        let context = Context {
            host: Arc::from("host-1"),
            credentials: self.credentials.clone(),
            clock: Clock::System,
        };
        let times = Times {
            poll: Duration::from_millis(10),
            retry: Duration::from_millis(50),
            save: Duration::from_millis(20),
            ..Times::default()
        };
        let shipping = Shipping::start_with(&self.data(), &self.ledger, context, &self.ship, times)?;
        self.shipping = Some(shipping);
        Ok(())
    }

    /// Stops them; what they know is only what is on disk.
    pub fn stop(&mut self) {
        if let Some(shipping) = self.shipping.take() {
            self.runtime.block_on(shipping.close());
        }
    }

    /// Records one of every kind of entry, `times` times.
    pub fn record(&self, times: usize) -> Result<()> {
        for _ in 0..times {
            for sample in samples() {
                let mut members: Map<String, Value> = serde_json::from_str(&sample.body)?;
                let kind: EntryKind = serde_json::from_value(members["kind"].clone())?;
                for member in ["at", "id", "kind", "v"] {
                    members.remove(member);
                }
                // What shipping itself records is not counted, see `expected`.
                let about_shipping = members
                    .get("event")
                    .and_then(Value::as_str)
                    .is_some_and(|e| e.starts_with("ship"));
                if kind == EntryKind::Ledger && about_shipping {
                    continue;
                }
                let entry = ledger::entry(kind, Clock::System.now_ns(), Value::Object(members));
                self.runtime.block_on(self.ledger.append(entry))?;
            }
        }
        Ok(())
    }

    /// Every entry, but what shipping records of itself.
    pub fn expected(&self) -> Result<Vec<Recorded>> {
        let mut tail = Tail::new(&self.data(), Seq(0));
        let mut all = Vec::new();
        loop {
            let found = tail.read(self.ledger.size(), 1000, 16 << 20)?;
            if found.is_empty() {
                break;
            }
            all.extend(found);
        }
        all.retain(|entry| {
            let body: Value = serde_json::from_str(&entry.body).unwrap_or_default();
            let event = body["event"].as_str().unwrap_or_default();
            !(body["kind"] == "ledger" && (event == "shipped" || event.starts_with("ship_")))
        });
        Ok(all)
    }

    /// How the one sink is.
    pub fn status(&self) -> Result<SinkStatus> {
        let shipping = self.shipping.as_ref().context("it does not run")?;
        shipping.status().into_iter().next().context("there is no sink")
    }

    /// Waits until the sink fails with that class; what it says.
    pub fn fails(&self, class: &str) -> Result<String> {
        let mut last = None;
        let found = wait_for(&format!("failing with {class}"), DEADLINE, || {
            let error = self.status().ok()?.error?;
            last = Some(error.clone());
            (error.class == class).then_some(error.why)
        });
        found.with_context(|| format!("the last error: {last:?}"))
    }

    /// The same, with entries that come all the while.
    pub fn fails_while_recording(&self, class: &str) -> Result<()> {
        wait_for(&format!("failing with {class}"), DEADLINE, || {
            let error = self.status().ok()?.error;
            if error.is_none() {
                self.record(1).ok()?;
            }
            (error?.class == class).then_some(())
        })
    }

    /// Waits until the sink fails, for whatever reason.
    pub fn fails_somehow(&self) -> Result<String> {
        wait_for("failing", DEADLINE, || Some(self.status().ok()?.error?.why))
    }

    /// Changes the sink's configuration, before it is started.
    pub fn reconfigure(&mut self, change: impl FnOnce(&mut Ship)) {
        if let Some(ship) = self.ship.first_mut() {
            change(ship);
        }
    }

    /// Waits until everything is taken that is not a record of shipping itself.
    pub fn all_taken(&self) -> Result<()> {
        let end = self.expected()?.last().map_or(0, |entry| entry.seq.0 + 1);
        let done = wait_for("everything to be taken", DEADLINE * 2, || {
            let status = self.status().ok()?;
            (status.next >= end && status.error.is_none()).then_some(())
        });
        done.with_context(|| format!("{:?}", self.status()))
    }

    /// Dead letters: their places.
    pub fn dead(&self) -> Result<Vec<u64>> {
        let shipping = self.shipping.as_ref().context("it does not run")?;
        Ok(shipping
            .dead_letters(&self.ship[0].name, 1000)?
            .iter()
            .map(|letter| letter.place)
            .collect())
    }

    /// Whether what was received is what was recorded: everything (but `but`), in order, the same each time it came.
    pub fn holds(&self, got: &[Got], but: &[u64], body: impl Fn(&Recorded) -> Value) -> Result<()> {
        let expected = self.expected()?;
        let mut latest = None;
        let mut seen: std::collections::BTreeMap<u64, &Got> = std::collections::BTreeMap::new();
        for one in got {
            if let Some(before) = seen.get(&one.seq) {
                ensure!(*before == one, "entry {} came twice, and not the same", one.seq);
                continue;
            }
            ensure!(latest < Some(one.seq), "entry {} came after {latest:?}", one.seq);
            latest = Some(one.seq);
            seen.insert(one.seq, one);
        }
        for entry in &expected {
            let Some(one) = seen.get(&entry.seq.0) else {
                ensure!(but.contains(&entry.seq.0), "entry {} is missing", entry.seq.0);
                continue;
            };
            let wanted = body(entry);
            ensure!(
                one.body == wanted,
                "entry {}: {} is not {wanted}",
                entry.seq.0,
                one.body
            );
            ensure!(
                entry.body.contains(&one.id),
                "entry {} has another id",
                entry.seq.0
            );
        }
        Ok(())
    }
}

/// An entry as the OCSF event that a receiver should have got.
pub fn event(entry: &Recorded) -> Value {
    serde_json::from_str(&ocsf(entry, &HostFacts::new("host-1"))).unwrap_or_default()
}

/// Keys and certificates of a test, as files.
pub struct Files {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    /// The agent's.
    pub client_cert: PathBuf,
    pub client_key: PathBuf,
    /// Another authority, and a certificate of it for the receiver.
    pub other_cert: PathBuf,
    pub other_key: PathBuf,
}

/// Makes them in a directory.
pub fn certificates(dir: &Path) -> Result<Files> {
    let file = |name: &str, text: &str| -> Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = dir.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    };
    let authority = Authority::new("receivers")?;
    let other = Authority::new("somebody else")?;
    let names = ["localhost", "127.0.0.1"];
    let Leaf { chain, key } = authority.leaf(&names)?;
    let client = authority.leaf(&["agent.internal"])?;
    let wrong = other.leaf(&names)?;
    Ok(Files {
        ca: file("ca.pem", authority.pem())?,
        cert: file("receiver.pem", &chain)?,
        key: file("receiver.key", &key)?,
        client_cert: file("agent.pem", &client.chain)?,
        client_key: file("agent.key", &client.key)?,
        other_cert: file("other.pem", &wrong.chain)?,
        other_key: file("other.key", &wrong.key)?,
    })
}

/// A port that nobody listens on now.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// `receiver.py`, on a port that stays the same.
pub struct Receiver {
    dir: PathBuf,
    protocol: &'static str,
    more: Vec<String>,
    pub port: u16,
    process: Option<Process>,
}

impl Receiver {
    pub fn new(dir: &Path, protocol: &'static str, more: &[&str]) -> Result<Self> {
        let receiver = Self {
            dir: dir.into(),
            protocol,
            more: more.iter().map(|t| (*t).to_owned()).collect(),
            port: free_port()?,
            process: None,
        };
        receiver.mode("ok")?;
        Ok(receiver)
    }

    pub fn mode(&self, word: &str) -> Result<()> {
        let ready = self.dir.join("mode.new");
        fs::write(&ready, word)?;
        Ok(fs::rename(ready, self.dir.join("mode"))?)
    }

    /// Other arguments from its next start on.
    pub fn with(&mut self, more: &[&str]) {
        self.more = more.iter().map(|t| (*t).to_owned()).collect();
    }

    pub fn start(&mut self) -> Result<()> {
        let port_file = self.dir.join("port");
        let _none_yet = fs::remove_file(&port_file);
        let mut command = install::python("receiver.py")?;
        command
            .arg(self.protocol)
            .arg("--out")
            .arg(self.dir.join("got.jsonl"))
            .arg("--mode")
            .arg(self.dir.join("mode"))
            .arg("--port-file")
            .arg(&port_file)
            .args(["--port", &self.port.to_string()])
            .args(&self.more);
        let mut process = Process::start("receiver", &self.dir, &mut command)?;
        let up = wait_for("the receiver", DEADLINE, || {
            (port_file.exists() || process.ended().is_some()).then_some(())
        });
        up?;
        if process.ended().is_some() {
            bail!("the receiver ended:\n{}", process.log());
        }
        self.process = Some(process);
        Ok(())
    }

    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
        }
    }

    /// What it got, whole lines only.
    pub fn got(&self) -> Result<Vec<Got>> {
        let text = fs::read_to_string(self.dir.join("got.jsonl")).unwrap_or_default();
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// What it said itself.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::log).unwrap_or_default()
    }
}
