//! The real redirector: eBPF programs on tagged cgroups, and the listeners they send connections to.

mod attach;
mod control;
mod datagram;
mod elsewhere;
mod exempt;
mod flow;
mod listen;
mod load;
mod namespaces;
mod older;
mod pin;
mod resolver;
mod settle;
mod share;

use std::{
    collections::BTreeMap,
    io,
    net::Ipv6Addr,
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, MapError, PerCpuHashMap, SkStorage},
};
use futures_util::future::BoxFuture;
use portcullis_abi as abi;
use tokio::net::TcpStream;

pub(super) use attach::open as open_link;
pub(super) use control::map_failed;
pub use control::{AttachedProgram, Control};
pub use load::{ProgramInfo, Tried, try_each, verify};
pub use namespaces::MAX as MAX_NAMESPACES;
pub use pin::{can_pin, remove};
pub use portcullis_abi::Exempt;
pub use portcullis_abi::{Counters, Outcome, Site};
pub use resolver::Unanswered;
pub use settle::Counted;
pub use share::{SHARE as MAX_NAMESPACES_EACH, Watched};

use self::{
    control::State,
    datagram::Tokens,
    exempt::Exemptions,
    listen::{Listeners, Loopback},
    load::Logging,
    namespaces::{Namespaces, Parts},
    pin::Pins,
    resolver::{Dropped, Resolver},
};
use super::{
    Kept, Nobody, Processes, RedirectError, Redirected, Redirector, Store, cgroup, exec,
    guard::{self, Guard},
    kept, sys,
};
use crate::model::{CgroupId, Origin, OriginalDst, Transport};

/// What [`BpfRedirector::start`] needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// bpffs directory for links and maps; agents beside each other need one each.
    pub pin_dir: PathBuf,
    /// TCP port of the listeners, and UDP port of the resolver, on 127.0.0.1 and `::1`.
    pub port: u16,
    /// Where cgroup2 is mounted ([`cgroup::find_mount`]).
    pub cgroup_mount: PathBuf,
    /// The agent's own cgroup below the mount; empty for the present one.
    pub agent_cgroup: String,
}

/// Listeners, and the programs that send workloads' connections to them.
pub struct BpfRedirector {
    listeners: Listeners,
    resolver: Resolver,
    /// Under which name both are kept.
    name: String,
    records: Records,
    elsewhere: Namespaces,
    control: Control,
}

impl BpfRedirector {
    /// Joins the agent's cgroup, listens, loads the programs, and takes over what an earlier agent left: from here on
    /// its tags are this agent's. Then call [`Control::tag`] for each wanted cgroup and [`Control::keep_only`].
    ///
    /// Moves the whole process to the agent's cgroup; listens in the network namespace of the calling thread; must be
    /// called within a tokio runtime. Blocks for some 100 ms.
    ///
    /// # Errors
    /// When the port is used, or the kernel lacks or refuses something; the error names it.
    pub fn start(options: &Options) -> Result<Self, RedirectError> {
        Self::start_with(options, &mut Kept::default(), Arc::new(Nobody))
    }

    /// As [`Self::start`], with the listeners that the service manager kept, if they are there; those of other network
    /// namespaces are given to it as they are made. [`Self::to_keep`] is left to the caller.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(
        options: &Options,
        kept: &mut Kept,
        store: Arc<dyn Store>,
    ) -> Result<Self, RedirectError> {
        // Before the listeners: a socket keeps the cgroup of its making, and accepted ones have the listener's.
        let directory = cgroup::join(&options.cgroup_mount, &options.agent_cgroup)?;
        let agent = (cgroup::id(&directory)?, directory);
        // Before the programs: two agents on one pin_dir would fight over its links.
        let name = kept::name(options.port, agent.0);
        let listeners = Listeners::bind(options.port, Loopback::Up, &name, kept)?;
        let (dns4, dns6) = listen::resolver(options.port, Loopback::Up, &name, kept)?;
        let netns = sys::netns_cookie(listeners.v4()).map_err(RedirectError::Netns)?;
        let pins = Pins::make(&options.pin_dir)?;
        let logging = if tracing::enabled!(tracing::Level::DEBUG) {
            Logging::On
        } else {
            Logging::Off
        };
        let mut ebpf = load::load(Some(&pins), logging)?;
        if logging == Logging::On {
            forward_log(&mut ebpf);
        }
        let optional = guard::load(&ebpf, load::OBJECT)?;
        let mut namespaces: HashMap<_, u64, abi::Ports> = take(&mut ebpf, "NETNS")?;
        namespaces
            .insert(netns, resolver::ports(options.port), 0)
            .map_err(control::map_failed("NETNS"))?;
        let tokens = Tokens::new(take(&mut ebpf, "DATAGRAMS")?);
        let dropped = Arc::<Dropped>::default();
        let records = Records {
            accepted: Arc::new(take(&mut ebpf, "ACCEPTED")?),
            refused: Arc::default(),
        };
        let parts = Parts {
            ports: namespaces,
            events: take(&mut ebpf, "STRANGE")?,
            port: options.port,
            tokens: tokens.clone(),
            dropped: Arc::clone(&dropped),
            records: records.clone(),
            own: netns,
            agent: agent.0,
            mount: options.cgroup_mount.clone(),
            kept: kept.elsewhere(options.port, agent.0),
            store,
        };
        let (elsewhere, manage) = Namespaces::start(parts)?;
        let processes = Processes::new(exec::Maps {
            ring: take(&mut ebpf, "EVENTS")?,
            verdicts: take::<HashMap<_, _, _>>(&mut ebpf, "VERDICTS")?,
            held: take::<HashMap<_, _, _>>(&mut ebpf, "HELD_PROCS")?,
            generation: take(&mut ebpf, "GENERATION")?,
        })?;
        let mut state = State {
            tagged: take::<HashMap<_, _, _>>(&mut ebpf, "TAGGED")?,
            counters: take::<PerCpuHashMap<_, _, _>>(&mut ebpf, "COUNTERS")?,
            errors: take(&mut ebpf, "ERRORS")?,
            dropped: Arc::clone(&dropped),
            guard: Guard::new(&mut ebpf, optional)?,
            mount: options.cgroup_mount.clone(),
            port: options.port,
            agent,
            exempt: Exemptions {
                rules: take(&mut ebpf, "EXEMPT")?,
                used: take(&mut ebpf, "EXEMPT_USED")?,
                of: take(&mut ebpf, "EXEMPT_OF")?,
            },
            manage,
            tags: BTreeMap::new(),
            pins,
            processes,
            ebpf,
        };
        let (id, directory) = &state.agent;
        let pin = state.pins.agent_link();
        attach::ensure(&mut state.ebpf, load::AGENT, (*id, directory), &pin)?;
        state.begin()?;
        Ok(Self {
            listeners,
            resolver: Resolver::new(dns4, dns6, tokens, Arc::clone(&dropped)),
            name,
            records,
            elsewhere,
            control: Control::new(state),
        })
    }

    /// The kernel side, to be kept apart from the accept loop.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The listeners and the resolver's sockets, for the service manager to keep while no agent runs, and the name to keep them under.
    #[must_use]
    pub fn to_keep(&self) -> (&str, Vec<BorrowedFd<'_>>) {
        let all = self.listeners.sockets().chain(self.resolver.sockets());
        (&self.name, all.collect())
    }

    /// Connections closed because they were not redirected: someone outside of every workload, at the agent's port.
    #[must_use]
    pub fn refused(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.records.refused)
    }
}

/// What reads the records of accepted connections. Clones share it.
#[derive(Clone)]
struct Records {
    accepted: Arc<SkStorage<MapData, abi::Record>>,
    refused: Arc<AtomicU64>,
}

impl Records {
    /// `None`: not redirected by our programs.
    fn redirected(&self, stream: TcpStream) -> Option<Redirected> {
        let record = match self.accepted.get(&stream, 0) {
            Ok(record) => record,
            Err(error) => {
                if !matches!(error, MapError::KeyNotFound) {
                    tracing::warn!(%error, "cannot read the record of an accepted connection");
                }
                self.refused.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        // Small messages back and forth are the rule; a failure costs latency only.
        let _slower = stream.set_nodelay(true);
        Some(Redirected {
            stream: Box::new(stream),
            origin: origin(&record),
            original_dst: original_dst(&record),
            transport: Transport::Tcp,
            namespace: None,
            unix: None,
        })
    }
}

impl Redirector for BpfRedirector {
    fn next_connection(&mut self) -> BoxFuture<'_, Result<Redirected, RedirectError>> {
        Box::pin(async {
            tokio::select! {
                redirected = accept(&self.listeners, &self.records) => redirected,
                redirected = self.resolver.next() => redirected.map_err(RedirectError::Accept),
                redirected = self.elsewhere.next() => redirected,
            }
        })
    }
}

/// What is attached where a cgroup is tagged and nowhere else, in the order in which it is: on the host, then on the cgroup.
#[must_use]
pub fn programs() -> &'static [&'static str] {
    static ALL: LazyLock<Vec<&str>> = LazyLock::new(|| [&[guard::CALLS.0], load::WORKLOAD].concat());
    &ALL
}

async fn accept(listeners: &Listeners, records: &Records) -> Result<Redirected, RedirectError> {
    loop {
        match listeners.accept().await {
            Ok(stream) => {
                if let Some(redirected) = records.redirected(stream) {
                    return Ok(redirected);
                }
            }
            // The connection's own failure (accept(2)): the next one is not concerned.
            Err(error) if is_of_connection(&error) => {}
            Err(error) => return Err(RedirectError::Accept(error)),
        }
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

pub(in crate::redirect) fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, RedirectError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = ebpf.take_map(name).ok_or(RedirectError::Missing(name))?;
    T::try_from(map).map_err(control::map_failed(name))
}

fn origin(record: &abi::Record) -> Origin {
    Origin {
        tagged: CgroupId(record.tagged),
        cgroup: CgroupId(record.cgroup),
        pid: record.pid,
        tid: record.tid,
        uid: record.uid,
        gid: record.gid,
        start_ns: record.start_ns,
        netns: record.netns,
        socket: record.socket,
    }
}

/// IPv4 is kept as v4-mapped IPv6, words in network order.
fn original_dst(record: &abi::Record) -> OriginalDst {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(record.addr) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    let address = Ipv6Addr::from(octets).to_canonical();
    OriginalDst((address, record.port).into())
}

/// The programs' debug lines, as records of the `log` crate, which tracing-subscriber takes in.
fn forward_log(ebpf: &mut Ebpf) {
    let logger = aya_log::EbpfLogger::init(ebpf)
        .map_err(|error| error.to_string())
        .and_then(|logger| sys::readable(logger).map_err(|error| error.to_string()));
    match logger {
        Ok(mut logger) => {
            tokio::spawn(async move {
                while let Ok(mut ready) = logger.readable_mut().await {
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
            });
        }
        Err(error) => tracing::warn!(%error, "the eBPF programs' log is not available"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v4_mapped_addresses_are_given_as_ipv4() {
        let mut record = abi::Record {
            addr: [0, 0, 0xffff_u32.to_be(), u32::from_ne_bytes([127, 5, 6, 7])],
            port: 443,
            ..abi::Record::default()
        };
        assert_eq!(original_dst(&record).0.to_string(), "127.5.6.7:443");
        record.addr = [0x2001_0db8_u32.to_be(), 0, 0, 1_u32.to_be()];
        assert_eq!(original_dst(&record).0.to_string(), "[2001:db8::1]:443");
    }
}
