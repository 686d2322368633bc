//! Listeners and resolvers in other network namespaces: made before a workload can need them, removed with the
//! namespace.
//!
//! A namespace is prepared when it is mounted somewhere (`ip netns`, container runtimes: before they run anything in it),
//! when a process of a workload is found in it, when one is started or executes a program there (`ebpf/src/entered.rs`
//! says so), and at the latest when a socket is made there (`ebpf/src/netns.rs`). Until it is, connects there are denied. Preparing it keeps it alive: so one that nothing but the agent
//! holds is let go.
//!
//! What is prepared is given to the service manager before the kernel is told of it, and taken back before it is closed:
//! a connect is sent to a listener only while somebody holds it, whenever the agent ends. The namespaces of an agent
//! before are taken over from their sockets alone, wherever they were mounted. One that does not fit into the manager's
//! store is served all the same, and refuses connects while no agent runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aya::maps::{HashMap, MapData, MapError, RingBuf};
use portcullis_abi as abi;
use tokio::{
    io::unix::AsyncFd,
    net::UdpSocket,
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
};

use super::{
    Records, control,
    datagram::Tokens,
    elsewhere::Elsewhere,
    listen::{self, Listeners, Loopback},
    resolver::{self, Dropped, Resolver},
    share::{self, Refused, SHARE},
};
use crate::model::CgroupId;
use crate::redirect::{
    Kept, RedirectError, Redirected, Store,
    kept::{self, OF_NAMESPACE},
    netns::{self, Namespace},
    sys,
};

/// Network namespaces prepared at once. Each costs a thread and four sockets; who may make namespaces could ask for many:
/// one workload has [`SHARE`] of them.
/// `FileDescriptorStoreMax=` of portcullis.service has room for them all.
pub const MAX: usize = 256;
/// How often namespaces that nobody needs are looked for.
const SWEEP: Duration = Duration::from_secs(2);
/// Flows of the resolvers that may wait to be taken.
const WAITING: usize = 128;
/// Requests that may wait to be done.
const REQUESTS: usize = 64;
/// Events of the kernel that are taken at once: others wait their turn.
const EVENTS: usize = 64;

/// A request to prepare the namespaces of these cgroups' processes; answered when that is done.
pub(super) struct Prepare(pub(super) Vec<PathBuf>, pub(super) oneshot::Sender<()>);

/// How the manager is told what to do.
pub(super) struct Manage {
    /// What to prepare now.
    pub(super) prepare: mpsc::Sender<Prepare>,
    /// The directories of the tagged cgroups.
    pub(super) tagged: watch::Sender<Vec<PathBuf>>,
    /// Cookies of the namespaces that are prepared.
    pub(super) prepared: watch::Receiver<Vec<u64>>,
    /// Whose share is used up.
    pub(super) refused: watch::Receiver<Refused>,
}

/// What the manager needs of the redirector.
pub(super) struct Parts {
    pub(super) ports: HashMap<MapData, u64, abi::Ports>,
    pub(super) events: RingBuf<MapData>,
    pub(super) port: u16,
    pub(super) tokens: Tokens,
    pub(super) dropped: Arc<Dropped>,
    pub(super) records: Records,
    /// The agent's own namespace.
    pub(super) own: u64,
    /// The cgroup that the agent's program is on.
    pub(super) agent: CgroupId,
    /// Where cgroup2 is mounted.
    pub(super) mount: PathBuf,
    /// What an agent before had prepared, by the namespace's cookie.
    pub(super) kept: BTreeMap<u64, Kept>,
    pub(super) store: Arc<dyn Store>,
}

/// What the redirector keeps: the manager ends with it.
pub(super) struct Namespaces {
    connections: Arc<Elsewhere>,
    flows: mpsc::Receiver<Redirected>,
    manager: AbortHandle,
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.manager.abort();
    }
}

impl Namespaces {
    /// The next connection from another namespace. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Redirected, RedirectError> {
        tokio::select! {
            accepted = std::future::poll_fn(|context| self.connections.poll_next(context)) => accepted,
            flow = self.flows.recv() => flow.ok_or(RedirectError::Stopped),
        }
    }

    /// Starts the manager, on the runtime of the caller.
    pub(super) fn start(mut parts: Parts) -> Result<(Self, Manage), RedirectError> {
        // What another agent had prepared and nobody kept is not there any more.
        let former: Vec<u64> = parts.ports.keys().filter_map(Result::ok).collect();
        let kept = |cookie: &u64| parts.kept.get(cookie).is_some_and(Kept::listens);
        for cookie in former {
            if cookie != parts.own && !kept(&cookie) {
                parts
                    .ports
                    .remove(&cookie)
                    .map_err(control::map_failed("NETNS"))?;
            }
        }
        let (send, flows) = mpsc::channel(WAITING);
        let connections = Arc::new(Elsewhere::new(parts.records));
        let (prepare, requests) = mpsc::channel(REQUESTS);
        let (tagged, tags) = watch::channel(Vec::new());
        let (told, prepared) = watch::channel(Vec::new());
        let (refused_told, refused) = watch::channel(Refused::new());
        let events = parts.events;
        let own_inode = netns::inode(Path::new("/proc/thread-self/ns/net")).map_err(RedirectError::Netns)?;
        let manager = Manager {
            ports: parts.ports,
            port: parts.port,
            tokens: parts.tokens,
            dropped: parts.dropped,
            connections: Arc::clone(&connections),
            agent: parts.agent,
            store: parts.store,
            own_inode,
            send,
            tagged: tags,
            told,
            mount: parts.mount,
            known: BTreeMap::new(),
            in_vain: BTreeSet::new(),
            full: false,
            over: Refused::new(),
            refused: refused_told,
        };
        let events = sys::readable(events).map_err(RedirectError::Netns)?;
        let mounts = File::open("/proc/self/mountinfo").and_then(sys::changing);
        let mounts = mounts.map_err(RedirectError::Netns)?;
        let manager = tokio::spawn(manager.run(parts.kept, events, mounts, requests)).abort_handle();
        Ok((
            Self {
                connections,
                flows,
                manager,
            },
            Manage {
                prepare,
                tagged,
                prepared,
                refused,
            },
        ))
    }
}

struct Known {
    namespace: Arc<Namespace>,
    /// The tagged cgroup whose share it is of; `None` where it is mounted, as only who is privileged over the host does it.
    owner: Option<PathBuf>,
    resolver: Vec<Arc<UdpSocket>>,
    serving: JoinSet<()>,
    /// Its sockets were given to the service manager.
    kept: bool,
    /// Nobody was seen to need it.
    unused: bool,
}

struct Manager {
    ports: HashMap<MapData, u64, abi::Ports>,
    port: u16,
    tokens: Tokens,
    dropped: Arc<Dropped>,
    connections: Arc<Elsewhere>,
    agent: CgroupId,
    store: Arc<dyn Store>,
    own_inode: u64,
    send: mpsc::Sender<Redirected>,
    /// The tagged cgroups.
    tagged: watch::Receiver<Vec<PathBuf>>,
    told: watch::Sender<Vec<u64>>,
    /// Where cgroup2 is mounted.
    mount: PathBuf,
    /// By inode, which is no other namespace's while this one is held.
    known: BTreeMap<u64, Known>,
    /// Since the last look around: cookies of namespaces that could not be prepared, and whether there were too many.
    in_vain: BTreeSet<u64>,
    full: bool,
    /// And how many more each tagged cgroup wanted than its share; and the same, told.
    over: Refused,
    refused: watch::Sender<Refused>,
}

impl Manager {
    async fn run(
        mut self,
        kept: BTreeMap<u64, Kept>,
        mut events: AsyncFd<RingBuf<MapData>>,
        mounts: AsyncFd<File>,
        mut requests: mpsc::Receiver<Prepare>,
    ) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for (cookie, kept) in kept {
            self.take_over(cookie, kept).await;
        }
        self.prepare_all(netns::mounted(), None).await;
        loop {
            tokio::select! {
                ready = events.readable_mut() => match ready {
                    Ok(mut ready) => {
                        let (asked, more) = strange(ready.get_inner_mut());
                        if !more {
                            ready.clear_ready();
                        }
                        for event in asked {
                            self.prepare_for(event).await;
                        }
                    }
                    Err(error) => return tracing::error!(%error, "network namespaces are no longer followed"),
                },
                changed = mounts.ready(tokio::io::Interest::PRIORITY) => match changed {
                    Ok(mut changed) => {
                        changed.clear_ready();
                        self.prepare_all(netns::mounted(), None).await;
                    }
                    Err(error) => return tracing::error!(%error, "network namespaces are no longer followed"),
                },
                Some(Prepare(cgroups, done)) = requests.recv() => {
                    // What is mounted is nobody's share.
                    self.prepare_all(netns::mounted(), None).await;
                    for cgroup in &cgroups {
                        self.prepare_all(netns::of_cgroup(cgroup), Some(cgroup)).await;
                    }
                    // Who waited for it has gone.
                    let _gone = done.send(());
                }
                _ = sweep.tick() => self.sweep().await,
            }
            let over = &self.over;
            self.refused.send_if_modified(|told| {
                let changed = *told != *over;
                if changed {
                    told.clone_from(over);
                }
                changed
            });
        }
    }

    /// Goes on with what an agent before listened on, or gives it up.
    async fn take_over(&mut self, cookie: u64, kept: Kept) {
        let taken = match kept.namespace().map_err(RedirectError::Netns) {
            Ok(file) if self.known.len() < MAX => self.open(file, Some(cookie), None, kept).await,
            Ok(_) => Err(RedirectError::Netns(std::io::ErrorKind::QuotaExceeded.into())),
            Err(error) => Err(error),
        };
        if let Err(error) = &taken {
            tracing::error!(
                cookie,
                "what was kept of a network namespace is of no use: {error}"
            );
        }
        if !self.knows(cookie) {
            self.deny(cookie);
            self.store.let_go(&kept::name_in(self.port, self.agent, cookie));
        }
    }

    async fn prepare_all(&mut self, found: Vec<(u64, String)>, owner: Option<&Path>) {
        for (inode, path) in found {
            if inode != self.own_inode && !self.known.contains_key(&inode) {
                self.prepare(Path::new(&path), None, owner).await;
            }
        }
    }

    fn knows(&self, cookie: u64) -> bool {
        self.known
            .values()
            .any(|known| known.namespace.cookie() == cookie)
    }

    /// A thread is where nobody listens yet.
    async fn prepare_for(&mut self, event: abi::Strange) {
        if self.knows(event.netns) || self.in_vain.contains(&event.netns) {
            return;
        }
        let path = format!("/proc/{}/ns/net", event.tid);
        let owner = share::of_thread(event.tid, &self.mount, &self.tagged.borrow());
        let done = self
            .prepare(Path::new(&path), Some(event.netns), Some(&owner))
            .await;
        if !done && self.in_vain.len() < MAX {
            self.in_vain.insert(event.netns);
        }
    }

    /// Listens in the namespace of this file; not if it is not the one that was `meant`. False where that cannot be done:
    /// to be tried again at the next look around, not at every event that a workload may cause.
    async fn prepare(&mut self, path: &Path, meant: Option<u64>, owner: Option<&Path>) -> bool {
        if let Some(owner) = owner
            && self.has(owner) >= SHARE
        {
            self.refuse(owner);
            return false;
        }
        if self.known.len() >= MAX {
            if !self.full {
                tracing::error!("more than {MAX} network namespaces: connects in others are denied");
            }
            self.full = true;
            return false;
        }
        let opened = match File::open(path) {
            Ok(file) => self.open(file, meant, owner, Kept::default()).await,
            Err(error) => Err(RedirectError::Netns(error)),
        };
        match opened {
            Ok(()) => true,
            // It went just now.
            Err(RedirectError::Netns(error)) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(error) => {
                tracing::error!(path = %path.display(), "connects in a network namespace are denied: {error}");
                false
            }
        }
    }

    /// How many a tagged cgroup has.
    fn has(&self, owner: &Path) -> usize {
        let own = self
            .known
            .values()
            .filter(|known| known.owner.as_deref() == Some(owner));
        own.count()
    }

    fn refuse(&mut self, owner: &Path) {
        if !self.over.contains_key(owner) && !self.refused.borrow().contains_key(owner) {
            tracing::error!(
                cgroup = %owner.display(),
                "it has {SHARE} network namespaces, as many as one workload may: connects in its others are denied"
            );
        }
        *self.over.entry(owner.to_path_buf()).or_default() += 1;
    }

    async fn open(
        &mut self,
        file: File,
        meant: Option<u64>,
        owner: Option<&Path>,
        mut kept: Kept,
    ) -> Result<(), RedirectError> {
        let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().map_err(RedirectError::Netns)?);
        if inode == self.own_inode || self.known.contains_key(&inode) {
            return Ok(());
        }
        let (port, runtime) = (self.port, tokio::runtime::Handle::current());
        // Without what was meant nothing was kept that the name could find.
        let name = kept::name_in(port, self.agent, meant.unwrap_or_default());
        let entered = Namespace::enter(file, move || {
            let _here = runtime.enter();
            let made = Listeners::bind(port, Loopback::Later, &name, &mut kept).and_then(|listeners| {
                let cookie = sys::netns_cookie(listeners.v4()).map_err(RedirectError::Netns)?;
                let resolver = listen::resolver(port, Loopback::Later, &name, &mut kept)?;
                Ok((cookie, (listeners, resolver)))
            });
            made.map_err(std::io::Error::other)
        });
        let (namespace, (listeners, (v4, v6))) = entered.await.map_err(RedirectError::Netns)?;
        let cookie = namespace.cookie();
        if meant.is_some_and(|meant| meant != cookie) {
            return Ok(());
        }
        let namespace = Arc::new(namespace);
        let resolver = Resolver::new(v4, v6, self.tokens.clone(), Arc::clone(&self.dropped));
        let mut known = Known {
            namespace: Arc::clone(&namespace),
            owner: owner.map(Path::to_path_buf),
            resolver: resolver.shared(),
            serving: JoinSet::new(),
            kept: false,
            unused: false,
        };
        self.connections.add(listeners, Arc::clone(&namespace));
        known
            .serving
            .spawn(serve_dns(resolver, namespace, self.send.clone()));
        self.keep(&mut known);
        if !known.kept && self.store.room() > 0 {
            tracing::warn!(
                cookie,
                "no room to keep the listeners of a network namespace: connects there are refused while the daemon is restarted"
            );
        }
        // Only now: before, a connect would be refused by nobody's port.
        if let Err(error) = self.ports.insert(cookie, resolver::ports(port), 0) {
            self.close(known).await;
            return Err(control::map_failed("NETNS")(error));
        }
        tracing::info!(cookie, inode, "listening in a network namespace");
        self.known.insert(inode, known);
        self.tell();
        Ok(())
    }

    /// Gives its sockets to the service manager, if they fit beside those of this host's own namespace.
    fn keep(&self, known: &mut Known) {
        let kept = 1 + self.known.values().filter(|known| known.kept).count();
        if known.kept || self.store.room() < (kept + 1) * OF_NAMESPACE {
            return;
        }
        let cookie = known.namespace.cookie();
        let name = kept::name_in(self.port, self.agent, cookie);
        let given = self.connections.with(cookie, |sockets| {
            let mut all = Vec::from_iter(sockets.iter().map(BorrowedFd::as_fd));
            all.extend(known.resolver.iter().map(AsFd::as_fd));
            self.store.keep(&name, &all);
        });
        known.kept = given.is_some();
    }

    /// Connects in this namespace are denied from now on.
    fn deny(&mut self, cookie: u64) {
        match self.ports.remove(&cookie) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => tracing::error!(cookie, %error, "a network namespace stays in the map"),
        }
    }

    /// Denied first, then nobody listens.
    async fn close(&mut self, mut known: Known) {
        let cookie = known.namespace.cookie();
        self.deny(cookie);
        self.connections.remove(cookie);
        known.serving.shutdown().await;
        if known.kept {
            self.store.let_go(&kept::name_in(self.port, self.agent, cookie));
        }
        tracing::info!(cookie, "no longer listening in a network namespace");
    }

    fn tell(&self) {
        let cookies = self.known.values().map(|known| known.namespace.cookie());
        self.told.send_replace(cookies.collect());
    }

    /// Prepares what appeared unnoticed, and lets go what two looks in a row found nobody in.
    async fn sweep(&mut self) {
        self.in_vain.clear();
        self.full = false;
        let tagged = share::nearest_first(self.tagged.borrow().clone());
        let mounted = netns::mounted();
        let mut used: BTreeSet<u64> = mounted.iter().map(|(inode, _)| *inode).collect();
        self.prepare_all(mounted, None).await;
        // Whom an agent before had prepared it for is not known until now.
        let mut owners = BTreeMap::new();
        self.over.clear();
        for cgroup in &tagged {
            let mut found = netns::of_cgroup(cgroup);
            found.retain(|(inode, _)| used.insert(*inode));
            owners.extend(found.iter().map(|(inode, _)| (*inode, cgroup)));
            self.prepare_all(found, Some(cgroup)).await;
        }
        let mut over = Vec::new();
        for (inode, known) in &mut self.known {
            let unused = !used.contains(inode);
            // One that nobody uses any more counts until it is let go.
            if !unused {
                known.owner = owners.get(inode).map(|owner| owner.to_path_buf());
            }
            if unused && known.unused {
                over.push(*inode);
            }
            known.unused = unused;
        }
        for inode in over {
            if let Some(known) = self.known.remove(&inode) {
                self.close(known).await;
                self.tell();
            }
        }
        self.keep_more();
    }

    /// Gives what did not fit before to the service manager, where there is room now.
    fn keep_more(&mut self) {
        let left: Vec<u64> = self
            .known
            .iter()
            .filter(|(_, known)| !known.kept)
            .map(|(inode, _)| *inode)
            .collect();
        for inode in left {
            if let Some(mut known) = self.known.remove(&inode) {
                self.keep(&mut known);
                self.known.insert(inode, known);
            }
        }
    }
}

/// The events that wait, and whether there are more.
fn strange(events: &mut RingBuf<MapData>) -> (Vec<abi::Strange>, bool) {
    let mut found: Vec<abi::Strange> = Vec::new();
    for _ in 0..EVENTS {
        let Some(item) = events.next() else {
            return (found, false);
        };
        let Some(event) = abi::Strange::from_bytes(&item) else {
            continue;
        };
        if !found.iter().any(|known| known.netns == event.netns) {
            found.push(event);
        }
    }
    (found, true)
}

async fn serve_dns(mut resolver: Resolver, namespace: Arc<Namespace>, send: mpsc::Sender<Redirected>) {
    loop {
        match resolver.next().await {
            Ok(redirected) => {
                let redirected = Redirected {
                    namespace: Some(Arc::clone(&namespace)),
                    ..redirected
                };
                if send.send(redirected).await.is_err() {
                    return;
                }
            }
            Err(error) => pause(&RedirectError::Accept(error)).await,
        }
    }
}

/// Out of descriptors or memory, most likely: the queue holds while some end.
async fn pause(error: &RedirectError) {
    tracing::warn!("{error}");
    tokio::time::sleep(Duration::from_millis(50)).await;
}
