//! The spine: one connection from accept to close.
//!
//! accept -> original destination and origin -> workload -> identity -> detect -> TLS -> protocol; the protocol asks
//! the gate for each operation, and the gate alone lets anything go upstream.

mod dial;
mod share;
mod tally;
mod workloads;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use self::{
    dial::{Legs, UpstreamDial},
    share::Place,
};
pub use self::{
    share::Shares,
    tally::{Tallied, Tally},
    workloads::{Tag, Workloads},
};
use crate::{
    config::{Limits, Upstream, UpstreamProtocol},
    detect::{self, Known, Sniffed},
    gate::{
        Closing, Connection, Gate, SessionParts, Shared, TlsBody, TlsFacts, Upstreams, process_body,
        session_entry,
    },
    identity::{Identities, IdentityHandle},
    io::BoxStream,
    mask::MaskRules,
    model::{CgroupId, Origin, OriginalDst, Process, Reason, SessionId, Transport, WorkloadName},
    protocol::{Registry, dns},
    redirect::{Namespace, Processes, RedirectError, Redirected, Redirector, UnixDestination},
    tls::{ALPN_ANY, ALPN_DOT, ALPN_POSTGRES, Acceptor, Connector},
};

/// How often a connection that began without a valid identity looks whether there is one now.
const IDENTITY_LOOK: Duration = Duration::from_secs(1);

/// How long accepting pauses when the host has nothing left to accept with.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Everything a connection needs, shared by all of them.
pub struct Front {
    /// Clock, policy, ledger, metrics.
    pub shared: Shared,
    /// What is known of their processes.
    pub processes: std::sync::OnceLock<Processes>,
    /// Which tagged cgroup is which workload.
    pub workloads: Workloads,
    /// What became of their connections, for the reconciliation with the kernel's counters.
    pub tally: Tally,
    /// How many they have at once.
    pub shares: Shares,
    /// Who the workloads are.
    pub identities: Identities,
    /// Masking rules in force.
    pub mask: ArcSwap<MaskRules>,
    /// Bounds in force.
    pub limits: ArcSwap<Limits>,
    /// TLS with workloads.
    pub acceptor: Acceptor,
    /// TLS with destinations.
    pub connector: ArcSwap<Connector>,
    /// Destinations that are known by name.
    pub upstreams: ArcSwap<Upstreams>,
    /// The protocols.
    pub protocols: Registry,
    /// The port of the agent's own listeners.
    pub own_port: u16,
    /// Where the approvers' page listens, which no workload may reach.
    pub console: Option<std::net::SocketAddr>,
}

/// What is known of a connection once it has been accepted.
struct Accepted {
    session: SessionId,
    origin: Origin,
    process: Process,
    original_dst: OriginalDst,
    transport: Transport,
    /// Where that is not the agent's own.
    namespace: Option<Arc<Namespace>>,
    unix: Option<Arc<UnixDestination>>,
    workload: Option<WorkloadName>,
}

/// What is said of it when it ends.
#[derive(Default)]
struct Ended {
    operations: u64,
    bytes: (u64, u64),
    protocol: Option<&'static str>,
    downstream: Option<TlsBody>,
    upstream: Option<TlsBody>,
}

impl Front {
    /// Accepts connections until the redirector fails or the task is ended.
    pub async fn accept(self: Arc<Self>, mut redirector: Box<dyn Redirector>) {
        loop {
            let redirected = match redirector.next_connection().await {
                Ok(redirected) => redirected,
                Err(e @ RedirectError::Stopped) => {
                    tracing::error!("no more connections can be accepted: {e}");
                    return;
                }
                Err(e) => {
                    // Out of file descriptors, most likely: the listener's queue holds while some end.
                    tracing::warn!("accept: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (tagged, transport) = (redirected.origin.tagged, redirected.transport);
            self.tally.taken(tagged, transport);
            let Some(place) = self.place(tagged) else {
                self.shared.metrics.turned_away();
                self.tally.turned_away(tagged, transport);
                continue;
            };
            let front = Arc::clone(&self);
            self.shared.drain.spawn(async move {
                front.serve(redirected).await;
                drop(place);
            });
        }
    }

    /// A place for one more connection: none while the agent stops, or at a limit.
    fn place(&self, tagged: CgroupId) -> Option<Place> {
        let (drain, limits) = (&self.shared.drain, self.limits.load());
        if drain.is_stopping() || drain.live() >= limits.connections {
            return None;
        }
        self.shares.enter(tagged, limits.workload_connections)
    }

    /// Serves one connection to its end.
    pub async fn serve(&self, redirected: Redirected) {
        let Redirected {
            stream,
            origin,
            original_dst,
            transport,
            namespace,
            unix,
        } = redirected;
        self.shared.metrics.opened();
        let accepted = Accepted {
            session: SessionId::new(),
            process: self
                .processes
                .get()
                .cloned()
                .unwrap_or_default()
                .resolve(&origin)
                .await,
            workload: self.workloads.get(origin.tagged),
            origin,
            original_dst,
            transport,
            namespace,
            unix,
        };
        let mut ended = Ended::default();
        // A ledger that is down counts the loss and records it as a gap. It does not close the connection: the gate
        // denies each operation on it, in a form that the workload's program understands.
        let opened = self.record(&accepted, None).await;
        self.tally
            .opened(accepted.origin.tagged, accepted.transport, opened.is_ok());
        let reason = match &accepted.workload {
            None => Reason::WorkloadUnknown,
            Some(workload) => match self.identities.handle(workload) {
                None => Reason::IdentityMissing,
                Some(identity) => {
                    self.carry(stream, &accepted, workload, identity, &mut ended)
                        .await
                }
            },
        };
        self.shared.metrics.closed(reason);
        let closing = Closing {
            operations: ended.operations,
            bytes_up: ended.bytes.0,
            bytes_down: ended.bytes.1,
            protocol: ended.protocol,
            reason,
            downstream: ended.downstream.as_ref(),
            upstream: ended.upstream.as_ref(),
        };
        // Where the ledger is down, it counts the loss and records it as a gap.
        let _ = self.record(&accepted, Some(closing)).await;
    }

    /// From the first bytes to the last.
    async fn carry(
        &self,
        stream: BoxStream,
        accepted: &Accepted,
        workload: &WorkloadName,
        identity: IdentityHandle,
        ended: &mut Ended,
    ) -> Reason {
        let limits = Limits::clone(&self.limits.load());
        let upstreams = Upstreams::clone(&self.upstreams.load());
        let upstream = match &accepted.unix {
            Some(unix) => upstreams.named(&unix.upstream, workload),
            None => {
                upstreams
                    .find(&self.shared.names, accepted.original_dst, workload)
                    .await
            }
        };
        // Not for this workload: there is nothing that it could be carried as.
        if accepted.unix.is_some() && upstream.is_none() {
            return Reason::UpstreamUnreachable;
        }
        let (stream, tls) = match self
            .open_tls(stream, accepted, upstream.as_deref(), &limits)
            .await
        {
            Ok(opened) => opened,
            Err(reason) => return reason,
        };
        if let Some(name) = tls.as_ref().and_then(|t| t.sni.as_deref())
            && self.shared.secrets.holds(name.as_bytes())
        {
            // Upstream it would be the first thing to be said.
            return Reason::SecretLeak;
        }
        ended.downstream.clone_from(&tls);
        let facts = tls.as_ref().map(|t| TlsFacts {
            server_name: t.sni.clone(),
            alpn: t.alpn.as_deref().map(Into::into),
        });
        let known = Known {
            original_dst: accepted.original_dst,
            tls: facts.as_ref(),
            declared: upstream.as_ref().map(|u| u.protocol.as_str()),
        };
        let (protocol, stream) = match detect::protocol(&self.protocols, stream, known, &limits).await {
            Ok(found) => found,
            Err(reason) => return reason,
        };
        ended.protocol = Some(protocol.name());
        let gate = Gate::new(
            self.shared.clone(),
            Connection {
                session: accepted.session,
                workload: workload.clone(),
                identity: identity.clone(),
                process: accepted.process.clone(),
                original_dst: accepted.original_dst,
                transport: accepted.transport,
                upstream,
                upstreams,
                tls: facts.clone(),
                mask: self.mask.load_full(),
                limits: limits.clone(),
            },
        );
        let connector = self.connector.load_full();
        let dial = UpstreamDial {
            original_dst: accepted.original_dst,
            namespace: accepted.namespace.as_deref(),
            unix: accepted.unix.as_ref().map(|unix| unix.path.as_path()),
            tls: facts,
            acceptor: &self.acceptor,
            connector: &connector,
            credentials: &self.shared.credentials,
            secrets: &self.shared.secrets,
            limits: &limits,
            own_port: self.own_port,
            console: self.console,
            legs: Legs::new(tls),
        };
        // The reason is stored before the protocol's future is dropped: permits dropped with it record it.
        let reason = tokio::select! {
            biased;
            reason = async { let r = identity_ends(&identity, &gate).await; gate.ending(r); r } => reason,
            () = async { self.shared.drain.over().await; gate.ending(Reason::Draining) } => Reason::Draining,
            served = protocol.serve(stream, &dial, &gate) => match served {
                Ok(()) => Reason::Completed,
                Err(e) => {
                    tracing::debug!(session = %accepted.session, workload = %workload, "{}: {e}", protocol.name());
                    e.reason()
                }
            },
        };
        ended.operations = gate.operations();
        ended.bytes = gate.bytes();
        (ended.downstream, ended.upstream) = dial.legs.take();
        reason
    }

    /// Ends the workload's TLS here, where it speaks TLS.
    async fn open_tls(
        &self,
        stream: BoxStream,
        accepted: &Accepted,
        upstream: Option<&Upstream>,
        limits: &Limits,
    ) -> Result<(BoxStream, Option<TlsBody>), Reason> {
        let stream = match detect::sniff_tls(stream, limits).await? {
            Sniffed::Plain(stream) => return Ok((stream, None)),
            Sniffed::Tls(stream) => stream,
        };
        let fallback = accepted.original_dst.0.ip();
        let alpn = match upstream.map(|u| u.protocol) {
            Some(UpstreamProtocol::Postgres) => ALPN_POSTGRES,
            None if accepted.original_dst.0.port() == dns::PORT_TLS => ALPN_DOT,
            Some(UpstreamProtocol::Http) | None => ALPN_ANY,
        };
        let (stream, tls) = self
            .acceptor
            .accept(stream, fallback, alpn, limits.handshake_timeout)
            .await
            .map_err(|e| {
                tracing::debug!(session = %accepted.session, "TLS with the workload: {e}");
                e.reason()
            })?;
        Ok((stream, Some(dial::accepted_body(&tls))))
    }

    /// The session's opening or closing entry.
    async fn record(&self, accepted: &Accepted, closing: Option<Closing<'_>>) -> Result<(), Reason> {
        let entry = session_entry(&SessionParts {
            at: self.shared.clock.now_ns(),
            host: &self.shared.host,
            session: accepted.session,
            workload: accepted.workload.as_ref(),
            process: &process_body(&accepted.process),
            cgroup_id: accepted.origin.tagged.0,
            netns: accepted.origin.netns,
            destination: accepted.original_dst,
            transport: accepted.transport,
            unix: accepted.unix.as_ref().and_then(|unix| unix.path.to_str()),
            closing,
        });
        self.shared.ledger.enqueue(entry).await.map_err(|e| e.reason())
    }
}

/// Resolves when the identity under which operations were allowed on this connection is no longer valid.
async fn identity_ends(identity: &IdentityHandle, gate: &Gate) -> Reason {
    loop {
        match identity.bind() {
            Ok((_, ended)) => return ended.await,
            Err(reason) if gate.has_permitted() => return reason,
            // The protocol tells the workload why each of its operations is denied.
            Err(_) => tokio::time::sleep(IDENTITY_LOOK).await,
        }
    }
}
