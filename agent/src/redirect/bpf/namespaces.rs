//! Listeners and resolvers in other network namespaces: made before a workload can need them, removed with the
//! namespace.
//!
//! A namespace is prepared when it is mounted somewhere (`ip netns`, container runtimes: before they run anything in it),
//! when a process of a workload is found in it, and at the latest when a socket is made there (`ebpf/src/netns.rs`
//! says so). Until it is, connects there are denied. Preparing it keeps it alive: so one that nothing but the agent
//! holds is let go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aya::maps::{HashMap, MapData, RingBuf};
use portcullis_abi as abi;
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
};

use super::{
    Records, accept, control,
    datagram::Tokens,
    listen::{self, Listeners, Loopback},
    resolver::{self, Dropped, Resolver},
};
use crate::model::CgroupId;
use crate::redirect::{
    Kept, RedirectError, Redirected,
    netns::{self, Namespace},
    sys,
};

/// Namespaces prepared at once. Each costs a thread and four sockets; who may make namespaces could ask for many.
const MAX: usize = 256;
/// How often namespaces that nobody needs are looked for.
const SWEEP: Duration = Duration::from_secs(2);
/// Connections that may wait to be taken.
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
}

/// What the redirector keeps: the manager ends with it.
pub(super) struct Namespaces {
    connections: mpsc::Receiver<Redirected>,
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
        self.connections.recv().await.ok_or(RedirectError::Stopped)
    }

    /// Starts the manager, on the runtime of the caller.
    pub(super) fn start(mut parts: Parts) -> Result<(Self, Manage), RedirectError> {
        // What another agent had prepared is not there any more.
        let former: Vec<u64> = parts.ports.keys().filter_map(Result::ok).collect();
        for cookie in former.into_iter().filter(|cookie| *cookie != parts.own) {
            parts
                .ports
                .remove(&cookie)
                .map_err(control::map_failed("NETNS"))?;
        }
        let (send, connections) = mpsc::channel(WAITING);
        let (prepare, requests) = mpsc::channel(REQUESTS);
        let (tagged, tags) = watch::channel(Vec::new());
        let (told, prepared) = watch::channel(Vec::new());
        let events = parts.events;
        let own_inode = netns::inode(Path::new("/proc/thread-self/ns/net")).map_err(RedirectError::Netns)?;
        let manager = Manager {
            ports: parts.ports,
            port: parts.port,
            tokens: parts.tokens,
            dropped: parts.dropped,
            records: parts.records,
            own_inode,
            send,
            tagged: tags,
            told,
            known: BTreeMap::new(),
        };
        let events = sys::readable(events).map_err(RedirectError::Netns)?;
        let mounts = File::open("/proc/self/mountinfo").and_then(sys::changing);
        let mounts = mounts.map_err(RedirectError::Netns)?;
        let manager = tokio::spawn(manager.run(events, mounts, requests)).abort_handle();
        Ok((
            Self { connections, manager },
            Manage {
                prepare,
                tagged,
                prepared,
            },
        ))
    }
}

struct Known {
    namespace: Arc<Namespace>,
    serving: JoinSet<()>,
    /// Nobody was seen to need it.
    unused: bool,
}

struct Manager {
    ports: HashMap<MapData, u64, abi::Ports>,
    port: u16,
    tokens: Tokens,
    dropped: Arc<Dropped>,
    records: Records,
    own_inode: u64,
    send: mpsc::Sender<Redirected>,
    /// The tagged cgroups.
    tagged: watch::Receiver<Vec<PathBuf>>,
    told: watch::Sender<Vec<u64>>,
    /// By inode, which is no other namespace's while this one is held.
    known: BTreeMap<u64, Known>,
}

impl Manager {
    async fn run(
        mut self,
        mut events: AsyncFd<RingBuf<MapData>>,
        mounts: AsyncFd<File>,
        mut requests: mpsc::Receiver<Prepare>,
    ) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.prepare_all(netns::mounted()).await;
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
                        self.prepare_all(netns::mounted()).await;
                    }
                    Err(error) => return tracing::error!(%error, "network namespaces are no longer followed"),
                },
                Some(Prepare(cgroups, done)) = requests.recv() => {
                    self.prepare_all(netns::of_cgroups(cgroups.iter().map(PathBuf::as_path))).await;
                    self.prepare_all(netns::mounted()).await;
                    // Who waited for it has gone.
                    let _gone = done.send(());
                }
                _ = sweep.tick() => self.sweep().await,
            }
        }
    }

    async fn prepare_all(&mut self, found: Vec<(u64, String)>) {
        for (inode, path) in found {
            if inode != self.own_inode && !self.known.contains_key(&inode) {
                self.prepare(Path::new(&path), None).await;
            }
        }
    }

    /// A thread made a socket where nobody listens yet.
    async fn prepare_for(&mut self, event: abi::Strange) {
        if self
            .known
            .values()
            .any(|known| known.namespace.cookie() == event.netns)
        {
            return;
        }
        self.prepare(
            Path::new(&format!("/proc/{}/ns/net", event.tid)),
            Some(event.netns),
        )
        .await;
    }

    /// Listens in the namespace of this file; not if it is not the one that was `meant`.
    async fn prepare(&mut self, path: &Path, meant: Option<u64>) {
        if self.known.len() >= MAX {
            tracing::error!("more than {MAX} network namespaces: connects in others are denied");
            return;
        }
        match self.open(path, meant).await {
            Ok(()) => {}
            // It went just now.
            Err(RedirectError::Netns(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(path = %path.display(), "connects in a network namespace are denied: {error}");
            }
        }
    }

    async fn open(&mut self, path: &Path, meant: Option<u64>) -> Result<(), RedirectError> {
        let file = File::open(path).map_err(RedirectError::Netns)?;
        let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().map_err(RedirectError::Netns)?);
        if inode == self.own_inode || self.known.contains_key(&inode) {
            return Ok(());
        }
        let (port, runtime) = (self.port, tokio::runtime::Handle::current());
        let entered = Namespace::enter(file, move || {
            let _here = runtime.enter();
            // A service manager keeps sockets of its own namespace only.
            let (agent, mut kept) = (CgroupId(0), Kept::default());
            let made = Listeners::bind(port, Loopback::Later, agent, &mut kept).and_then(|listeners| {
                let cookie = sys::netns_cookie(listeners.v4()).map_err(RedirectError::Netns)?;
                Ok((
                    cookie,
                    (
                        listeners,
                        listen::resolver(port, Loopback::Later, agent, &mut kept)?,
                    ),
                ))
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
        let mut serving = JoinSet::new();
        serving.spawn(serve_tcp(
            listeners,
            self.records.clone(),
            Arc::clone(&namespace),
            self.send.clone(),
        ));
        serving.spawn(serve_dns(resolver, Arc::clone(&namespace), self.send.clone()));
        // Only now: before, a connect would be refused by nobody's port.
        self.ports
            .insert(cookie, resolver::ports(port), 0)
            .map_err(control::map_failed("NETNS"))?;
        tracing::info!(cookie, path = %path.display(), "listening in a network namespace");
        self.known.insert(
            inode,
            Known {
                namespace,
                serving,
                unused: false,
            },
        );
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let cookies = self.known.values().map(|known| known.namespace.cookie());
        self.told.send_replace(cookies.collect());
    }

    /// Prepares what appeared unnoticed, and lets go what two looks in a row found nobody in.
    async fn sweep(&mut self) {
        let tagged = self.tagged.borrow().clone();
        let mut found = netns::of_cgroups(tagged.iter().map(PathBuf::as_path));
        found.extend(netns::mounted());
        let used: BTreeSet<u64> = found.iter().map(|(inode, _)| *inode).collect();
        self.prepare_all(found).await;
        let mut over = Vec::new();
        for (inode, known) in &mut self.known {
            let unused = !used.contains(inode);
            if unused && known.unused {
                over.push(*inode);
            }
            known.unused = unused;
        }
        for inode in over {
            let Some(mut known) = self.known.remove(&inode) else {
                continue;
            };
            let cookie = known.namespace.cookie();
            // Denied first, then nobody listens.
            if let Err(error) = self.ports.remove(&cookie) {
                tracing::error!(cookie, %error, "a network namespace stays in the map");
            }
            known.serving.shutdown().await;
            self.tell();
            tracing::info!(cookie, "no longer listening in a network namespace");
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

async fn serve_tcp(
    listeners: Listeners,
    records: Records,
    namespace: Arc<Namespace>,
    send: mpsc::Sender<Redirected>,
) {
    loop {
        match accept(&listeners, &records).await {
            Ok(redirected) => {
                let redirected = inside(redirected, &namespace);
                if send.send(redirected).await.is_err() {
                    return;
                }
            }
            Err(error) => pause(&error).await,
        }
    }
}

async fn serve_dns(mut resolver: Resolver, namespace: Arc<Namespace>, send: mpsc::Sender<Redirected>) {
    loop {
        match resolver.next().await {
            Ok(redirected) => {
                let redirected = inside(redirected, &namespace);
                if send.send(redirected).await.is_err() {
                    return;
                }
            }
            Err(error) => pause(&RedirectError::Accept(error)).await,
        }
    }
}

fn inside(redirected: Redirected, namespace: &Arc<Namespace>) -> Redirected {
    Redirected {
        namespace: Some(Arc::clone(namespace)),
        ..redirected
    }
}

/// Out of descriptors or memory, most likely: the queue holds while some end.
async fn pause(error: &RedirectError) {
    tracing::warn!("{error}");
    tokio::time::sleep(Duration::from_millis(50)).await;
}
