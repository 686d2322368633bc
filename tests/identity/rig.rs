//! An issuer, a configuration with one workload, and what happened.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, atomic::AtomicI64, atomic::Ordering},
    time::{Duration, Instant},
};

use e2e::issuer::Issuer;
use portcullis::{
    clock::Clock,
    config::{self, Config},
    identity::{Actor, EventSink, Identities, IdentityHandle, LifecycleEvent, Timing},
    model::{Reason, WorkloadName},
};
use serde_json::json;
use tempfile::TempDir;

/// What tokens are for.
pub const AUDIENCE: &str = "https://portcullis.example/agents";

/// Who revokes in these tests.
pub const ADMIN: Actor = Actor { pid: 42, uid: 0 };

/// Everything that a test needs.
pub struct Rig {
    pub issuer: Issuer,
    pub dir: TempDir,
    pub identities: Identities,
    pub handle: IdentityHandle,
    pub config: Config,
    events: Arc<Mutex<Vec<LifecycleEvent>>>,
}

/// Waits for a condition, with a deadline.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The host's time in a clock that stands still.
pub fn stopped_clock() -> (Clock, Arc<AtomicI64>) {
    let at = Arc::new(AtomicI64::new(Clock::System.now_ns()));
    (Clock::Manual(Arc::clone(&at)), at)
}

/// Moves a stopped clock.
pub fn advance(clock: &AtomicI64, seconds: i64) {
    clock.fetch_add(seconds * 1_000_000_000, Ordering::AcqRel);
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub fn name() -> WorkloadName {
    WorkloadName::new("w").unwrap()
}

/// Everything quick, but for the refresh of keys, which tests cause.
pub fn timing() -> Timing {
    Timing {
        file_poll: Duration::from_millis(5),
        jwks_refresh: Duration::from_secs(3600),
        refetch_min: Duration::from_millis(50),
        http_timeout: Duration::from_secs(10),
        retry_min: Duration::from_millis(10),
        retry_max: Duration::from_millis(50),
    }
}

/// A configuration with one issuer `i` and one workload `w`.
pub fn config(dir: &TempDir, url: &str, issuer: &str, workload: &str) -> Config {
    let mut text = String::new();
    write!(
        text,
        "[host]\ndata_dir = \"{}/data\"\n[[issuer]]\nname = \"i\"\nurl = \"{url}\"\naudience = \"{AUDIENCE}\"\n{issuer}\n\
         [[workload]]\nname = \"w\"\nissuer = \"i\"\n{workload}\n",
        dir.path().display()
    )
    .unwrap();
    config::parse("test.toml".as_ref(), &text).unwrap()
}

/// Sends events into a list.
pub fn sink() -> (EventSink, Arc<Mutex<Vec<LifecycleEvent>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&events);
    (Arc::new(move |event| list.lock().unwrap().push(event)), events)
}

impl Rig {
    /// A workload with a token file, not written yet, on the host's clock.
    pub async fn new() -> Self {
        Self::with(
            Issuer::start(loopback()).await.unwrap(),
            Clock::System,
            "",
            timing(),
        )
        .await
    }

    /// The same with a clock, lines for `[[issuer]]` and timing.
    pub async fn with(issuer: Issuer, clock: Clock, lines: &str, timing: Timing) -> Self {
        let dir = TempDir::new().unwrap();
        let file = format!("token_file = \"{}\"", dir.path().join("token").display());
        Self::of(issuer, dir, clock, lines, &file, timing).await
    }

    /// The same with lines for `[[workload]]`.
    #[allow(clippy::unused_async)] // Has to run in the runtime.
    pub async fn of(
        issuer: Issuer,
        dir: TempDir,
        clock: Clock,
        lines: &str,
        workload: &str,
        timing: Timing,
    ) -> Self {
        let config = config(&dir, issuer.url(), lines, workload);
        let (sink, events) = sink();
        let identities = Identities::start_with(&config, clock, sink, timing).unwrap();
        let handle = identities.handle(&name()).unwrap();
        Self {
            issuer,
            dir,
            identities,
            handle,
            config,
            events,
        }
    }

    pub fn token_file(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    /// Puts a token into the file as a careful writer does: aside, then renamed over.
    pub fn put(&self, token: &str) {
        let aside = self.dir.path().join("token.new");
        std::fs::write(&aside, format!("{token}\n")).unwrap();
        std::fs::rename(aside, self.token_file()).unwrap();
    }

    /// A good token for `sub`, for an hour.
    pub fn good(&self, sub: &str) -> String {
        self.minted(sub, 3600, &json!({}))
    }

    /// A token with claims laid over the usual ones.
    pub fn minted(&self, sub: &str, ttl: u64, extra: &serde_json::Value) -> String {
        self.issuer
            .mint(sub, AUDIENCE, &["agents"], Duration::from_secs(ttl), extra)
            .unwrap()
    }

    /// Waits for a subject.
    pub async fn bound(&self, sub: &str) {
        let start = Instant::now();
        while !self
            .handle
            .check()
            .is_ok_and(|identity| &*identity.subject == sub)
        {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "never {sub}: {:?}",
                self.identities.status()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits for a reason.
    pub async fn denied(&self, reason: Reason) {
        let start = Instant::now();
        while self.handle.check().err() != Some(reason) {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "never {reason}: {:?}",
                self.identities.status()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The events so far: word and reason, but for the token file not being there yet at the start.
    pub fn events(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .filter(|event| event.reason != Some(Reason::IdentityMissing))
            .map(|event| match event.reason {
                Some(reason) => format!("{}:{reason}", event.event.as_str()),
                None => event.event.as_str().to_owned(),
            })
            .collect()
    }

    /// All that was ever said about this workload, for a search for secrets.
    pub fn said(&self) -> String {
        let events = self.events.lock().unwrap();
        let entries: Vec<_> = events.iter().map(|event| event.entry().body).collect();
        format!("{entries:?}\n{:?}\n{:?}", *events, self.identities.status())
    }
}
