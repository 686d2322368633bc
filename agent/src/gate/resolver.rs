//! Asking the host's resolvers on behalf of a workload: what a workload asks is answered by them, whichever resolver it
//! asked.
//!
//! Each workload has a cache and a limit of its own, so that none sees, slows down or changes what another is told. An
//! answer is never used past its TTL: it says where connections go, and an old one says it wrongly.

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{
        ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
        ServerOrderingStrategy,
    },
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{Name, Record, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use tokio::sync::Semaphore;

use crate::{
    config::Dns,
    model::{Reason, WorkloadName},
};

/// How often the resolver configuration is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Answers kept of one workload.
const CACHED: u64 = 256;
/// Questions of one workload that are on their way at once.
const AT_ONCE: usize = 64;
/// The longest time that an answer is kept, whatever its TTL; RFC 2308 section 5 wants less for a negative one.
const LONGEST: Duration = Duration::from_secs(86_400);
const LONGEST_NEGATIVE: Duration = Duration::from_secs(3600);
/// What fits into a datagram everywhere (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

/// Why a question has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LookUpError {
    /// The host's resolver configuration names nobody to ask.
    #[error("there is no resolver to ask: {0}")]
    NoResolver(Arc<str>),
    /// None answered in time.
    #[error("no resolver answered in time")]
    Timeout,
    /// They could not be asked, or what they said is no answer.
    #[error("the host's resolvers: {0}")]
    Failed(String),
}

impl LookUpError {
    /// The reason, for the outcome.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoResolver(_) | Self::Failed(_) => Reason::UpstreamUnreachable,
            Self::Timeout => Reason::Timeout,
        }
    }
}

/// What the host's resolvers said.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Their response code.
    pub code: ResponseCode,
    /// The answer, with the chain that leads to it; TTLs as they are now.
    pub answers: Vec<Record>,
    /// For a negative answer, the SOA that says for how long (RFC 2308).
    pub authority: Vec<Record>,
}

/// The host's resolvers.
#[derive(Default)]
pub(super) struct Resolvers(Mutex<State>);

#[derive(Default)]
struct State {
    settings: Arc<Dns>,
    found: Option<Found>,
    workloads: HashMap<WorkloadName, Own>,
}

/// Whom to ask, by the configuration as it was then.
struct Found {
    looked: Instant,
    stamp: Option<Stamp>,
    config: Result<(ResolverConfig, ResolverOpts), Arc<str>>,
}

/// What tells one state of a file from another: inode, size, and when it changed last.
type Stamp = (u64, u64, i64, i64);

/// A workload's own.
#[derive(Clone)]
struct Own {
    resolver: TokioResolver,
    room: Arc<Semaphore>,
}

impl Resolvers {
    /// Asks others from now on, if they are others.
    pub(super) fn configure(&self, settings: Arc<Dns>) {
        let mut state = self.lock();
        if state.settings != settings {
            *state = State {
                settings,
                ..State::default()
            };
        }
    }

    /// The settings in force.
    pub(super) fn settings(&self) -> Arc<Dns> {
        Arc::clone(&self.lock().settings)
    }

    /// Asks; `name` is complete, no search list is used.
    pub(super) async fn look_up(
        &self,
        workload: &WorkloadName,
        name: &Name,
        kind: RecordType,
    ) -> Result<Answered, LookUpError> {
        let (own, patience) = self.of(workload)?;
        let asked = async {
            let _room = own.room.acquire().await;
            own.resolver.lookup(name.clone(), kind).await
        };
        match tokio::time::timeout(patience, asked).await {
            Ok(answer) => understood(answer),
            Err(_) => Err(LookUpError::Timeout),
        }
    }

    fn of(&self, workload: &WorkloadName) -> Result<(Own, Duration), LookUpError> {
        let mut state = self.lock();
        state.refresh();
        let patience = state.settings.timeout;
        if let Some(own) = state.workloads.get(workload) {
            return Ok((own.clone(), patience));
        }
        let config = state.found.as_ref().map(|f| f.config.clone());
        let (config, options) = match config {
            Some(Ok(found)) => found,
            Some(Err(why)) => return Err(LookUpError::NoResolver(why)),
            None => return Err(LookUpError::NoResolver("it has not been read".into())),
        };
        let builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder
            .with_options(tuned(options, patience))
            .build()
            .map_err(|e| LookUpError::Failed(e.to_string()))?;
        let own = Own {
            resolver,
            room: Arc::new(Semaphore::new(AT_ONCE)),
        };
        state.workloads.insert(workload.clone(), own.clone());
        Ok((own, patience))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Reads the configuration when it has changed. What was learnt of others is forgotten then.
    fn refresh(&mut self) {
        if self.found.as_ref().is_some_and(|f| f.looked.elapsed() < LOOK) {
            return;
        }
        let path = &self.settings.resolv_conf;
        let stamp = stamp(path);
        if let Some(found) = &mut self.found
            && found.stamp == stamp
            && (stamp.is_some() || !self.settings.servers.is_empty())
        {
            found.looked = Instant::now();
            return;
        }
        let config = whom(&self.settings).map_err(Arc::from);
        match &config {
            Ok((config, _)) => {
                let servers: Vec<_> = config.name_servers.iter().map(|s| s.ip).collect();
                tracing::info!(?servers, "names are asked of these resolvers");
            }
            Err(why) => tracing::warn!("names cannot be looked up for workloads: {why}"),
        }
        self.workloads.clear();
        self.found = Some(Found {
            looked: Instant::now(),
            stamp,
            config,
        });
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
}

fn whom(settings: &Dns) -> Result<(ResolverConfig, ResolverOpts), String> {
    let servers = settings.addresses()?;
    if !servers.is_empty() {
        let servers = servers.into_iter().map(server).collect();
        return Ok((
            ResolverConfig::from_name_servers(servers),
            ResolverOpts::default(),
        ));
    }
    let path = settings.resolv_conf.display();
    let text = std::fs::read(&settings.resolv_conf).map_err(|e| format!("{path}: {e}"))?;
    parse_resolv_conf(text).map_err(|e| format!("{path}: {e}"))
}

fn server(at: SocketAddr) -> NameServerConfig {
    let by = |mut connection: ConnectionConfig| {
        connection.port = at.port();
        connection
    };
    let connections = vec![by(ConnectionConfig::udp()), by(ConnectionConfig::tcp())];
    NameServerConfig::new(at.ip(), true, connections)
}

fn tuned(mut options: ResolverOpts, patience: Duration) -> ResolverOpts {
    // A second attempt, and a second server, have to fit into the time that a program waits.
    options.timeout = options.timeout.min(patience / 2);
    options.attempts = options.attempts.clamp(1, 2);
    options.cache_size = CACHED;
    options.positive_max_ttl = Some(LONGEST);
    options.negative_max_ttl = Some(LONGEST_NEGATIVE);
    options.preserve_intermediates = true;
    options.edns0 = true;
    options.edns_payload_len = PAYLOAD;
    options.max_active_requests = AT_ONCE;
    options.use_hosts_file = ResolveHosts::Never;
    // As the host's own programs ask them: in order (resolv.conf(5)).
    options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
    options.num_concurrent_reqs = 1;
    options
}

fn understood(answer: Result<hickory_resolver::lookup::Lookup, NetError>) -> Result<Answered, LookUpError> {
    match answer {
        Ok(lookup) => Ok(Answered {
            code: lookup.message().metadata.response_code,
            answers: lookup.answers().to_vec(),
            authority: Vec::new(),
        }),
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => Ok(Answered {
            code: none.response_code,
            answers: Vec::new(),
            authority: none
                .soa
                .map(|soa| soa.into_record_of_rdata())
                .into_iter()
                .collect(),
        }),
        Err(NetError::Dns(DnsError::ResponseCode(code))) => {
            Err(LookUpError::Failed(format!("they answered {code}")))
        }
        Err(NetError::Timeout) => Err(LookUpError::Timeout),
        Err(other) => Err(LookUpError::Failed(other.to_string())),
    }
}
