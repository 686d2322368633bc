//! The gate: all that a protocol sees of identity, policy, masking and ledger.
//!
//! [`Gate::authorize`] asks them in that order, and a [`Permit`] exists only when the operation's entry is durable.

mod answers;
mod asked;
mod batch;
mod body;
mod credential;
mod dial;
mod ending;
mod exec;
mod hide;
mod hold;
mod names;
mod permit;
mod record;
mod resolver;
mod room;
mod standing;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod upstream;

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use serde_json::value::RawValue;

use self::ending::Ending;
pub use self::{
    body::{Closing, SessionParts, TlsBody, process as process_body, session as session_entry},
    dial::{Dial, DialError, Secured, StartTls},
    hold::{Asked, Held, Verdict, Verdicts, Waiting},
    names::Names,
    permit::Permit,
    resolver::{Answered, LookUpError},
    room::{Room, Rooms},
    upstream::{Requested, Upstreams},
};
use crate::{
    approval::{Approvals, Payload},
    clock::Clock,
    config::{Limits, Upstream},
    credential::Credentials,
    drain::{Drain, Raised},
    identity::IdentityHandle,
    ledger::Ledger,
    mask::{MaskRules, Secrets},
    model::{
        Decision, Effect, Identity, Operation, OperationId, OriginalDst, Process, Reason, SessionId,
        Transport, WorkloadName,
    },
    policy::{Approval, DecisionCache, PolicyStore, Principal},
    telemetry::Metrics,
};

/// What every gate of this agent shares.
#[derive(Clone)]
pub struct Shared {
    /// Time.
    pub clock: Clock,
    /// This host's name, in every entry.
    pub host: Arc<str>,
    /// The policy in force.
    pub policy: PolicyStore,
    /// The record.
    pub ledger: Ledger,
    /// Metrics.
    pub metrics: Metrics,
    /// Look-ups that prove names.
    pub names: Names,
    /// Stopping in order.
    pub drain: Drain,
    /// What the agent logs in with.
    pub credentials: Credentials,
    /// The secrets that it gave out, wherever they turn up.
    pub secrets: Secrets,
    /// The humans who are asked.
    pub approvals: Approvals,
    /// Memory of workloads.
    pub rooms: Rooms,
}

/// TLS facts that a protocol needs of the downstream leg.
#[derive(Clone, Debug)]
pub struct TlsFacts {
    /// The name asked for (SNI), if any.
    pub server_name: Option<Arc<str>>,
    /// The application protocol agreed on (ALPN), if any.
    pub alpn: Option<Arc<str>>,
}

/// One connection's own facts.
pub struct Connection {
    /// Its session.
    pub session: SessionId,
    /// Whose it is.
    pub workload: WorkloadName,
    /// Who that is.
    pub identity: IdentityHandle,
    /// The process that opened it.
    pub process: Process,
    /// Where it wanted to go.
    pub original_dst: OriginalDst,
    /// What it came by.
    pub transport: Transport,
    /// The destination that is known by name, where it is one.
    pub upstream: Option<Arc<Upstream>>,
    /// All that are known by name.
    pub upstreams: Upstreams,
    /// TLS with the workload, if any.
    pub tls: Option<TlsFacts>,
    /// Masking rules in force when it was accepted.
    pub mask: Arc<MaskRules>,
    /// Bounds.
    pub limits: Limits,
}

/// What a gate and its permits share.
pub(crate) struct Inner {
    shared: Shared,
    workload: WorkloadName,
    mask: Arc<MaskRules>,
    /// Why the connection is being ended from outside, for permits that are dropped by it.
    ending: Ending,
    /// Bytes of allowed operations.
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
}

/// One connection's gate.
pub struct Gate {
    inner: Arc<Inner>,
    connection: Connection,
    process: Arc<RawValue>,
    /// TLS with the workload that began in band.
    started_tls: OnceLock<TlsFacts>,
    memory: Mutex<Memory>,
    operations: AtomicU64,
    permitted: AtomicBool,
}

/// What is kept between the operations of one connection.
#[derive(Default)]
struct Memory {
    cache: DecisionCache,
    known: Option<Known>,
}

/// An identity in the forms that policy and ledger want, made once per identity.
#[derive(Clone)]
struct Known {
    identity: Arc<Identity>,
    principal: Arc<Principal>,
    body: Arc<RawValue>,
}

/// An operation that may not go, and what to tell the workload.
#[derive(Clone, Debug)]
pub struct Denied {
    /// Why.
    pub reason: Reason,
    /// The operation's id; its entry's too, where the ledger could take it.
    pub entry: OperationId,
    /// The policies that determined it.
    pub policies: Arc<[Arc<str>]>,
    /// Their author's words.
    pub message: Option<Arc<str>>,
    /// Groups that could approve it.
    pub approval: Arc<[Arc<str>]>,
    /// The request that it was held under, where it was.
    pub request: Option<Asked>,
}

impl Gate {
    /// A gate for one connection.
    #[must_use]
    pub fn new(shared: Shared, connection: Connection) -> Self {
        let inner = Arc::new(Inner {
            shared,
            workload: connection.workload.clone(),
            mask: Arc::clone(&connection.mask),
            ending: Ending::default(),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
        });
        let process = body::process(&connection.process);
        Self {
            inner,
            connection,
            process,
            started_tls: OnceLock::new(),
            memory: Mutex::default(),
            operations: AtomicU64::new(0),
            permitted: AtomicBool::new(false),
        }
    }

    /// Whose connection it is.
    #[must_use]
    pub fn workload(&self) -> &WorkloadName {
        &self.connection.workload
    }

    /// Where it wanted to go.
    #[must_use]
    pub fn original_dst(&self) -> OriginalDst {
        self.connection.original_dst
    }

    /// What the connection came by.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.connection.transport
    }

    /// The time, nanoseconds since 1970 UTC.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        self.inner.shared.clock.now_ns()
    }

    /// The bounds that hostile input meets.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.connection.limits
    }

    /// The masking rules.
    #[must_use]
    pub fn mask(&self) -> &Arc<MaskRules> {
        &self.connection.mask
    }

    /// TLS with the workload, if any.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.connection.tls.as_ref().or_else(|| self.started_tls.get())
    }

    /// Says that TLS with the workload has begun in band.
    pub fn tls_started(&self, facts: TlsFacts) {
        // A protocol begins it once.
        let _ = self.started_tls.set(facts);
    }

    /// The destination that is known by name, where it is one.
    #[must_use]
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.connection.upstream.as_ref()
    }

    /// Whether a destination of the configuration is called so.
    #[must_use]
    pub fn is_upstream_name(&self, name: &str) -> bool {
        self.connection.upstreams.has_name(name)
    }

    /// The destination of the configuration that a request is for, by its name; `wire` is the path as it goes upstream.
    /// `verified` is what [`Gate::name_verified`] said of the host.
    #[must_use]
    pub fn http_upstream(&self, host: &str, verified: bool, path: &str, wire: &str) -> Option<Arc<Upstream>> {
        let request = Requested {
            host,
            port: self.original_dst().0.port(),
            path,
            wire,
            tls: self.tls().is_some(),
        };
        let upstreams = &self.connection.upstreams;
        verified
            .then(|| upstreams.find_http(&request, self.workload()))
            .flatten()
    }

    /// Who the workload is now.
    ///
    /// # Errors
    /// When its identity is not valid.
    pub fn identity(&self) -> Result<Arc<Identity>, Reason> {
        self.connection.identity.check()
    }

    /// How many operations were decided.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// Bytes that ended operations carried: up, down.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (
            self.inner.bytes_up.load(Ordering::Relaxed),
            self.inner.bytes_down.load(Ordering::Relaxed),
        )
    }

    /// Resolves when the agent is stopping: a protocol ends its connection before the next operation.
    #[must_use]
    pub fn stopping(&self) -> Raised {
        self.inner.shared.drain.stopping()
    }

    /// Whether any operation was allowed.
    #[must_use]
    pub fn has_permitted(&self) -> bool {
        self.permitted.load(Ordering::Acquire)
    }

    /// Says why the connection is about to be ended, so that permits dropped by it can record that.
    pub fn ending(&self, reason: Reason) {
        self.inner.ending.store(reason);
    }

    /// Whether `host` is proved for this connection: over TLS it must be the server name, whose certificate the
    /// upstream leg verifies; over plain TCP the original destination must be what this workload was told for it, or
    /// in the hosts file, or in the host's own look-up of a name that the workload may look up.
    pub async fn name_verified(&self, host: &str) -> bool {
        match self.tls().map(|t| t.server_name.as_deref()) {
            Some(Some(name)) => name.eq_ignore_ascii_case(host),
            // Without a server name the upstream certificate is verified against the address.
            Some(None) | None => {
                if self.tls().is_some() {
                    is_literal(host, self.original_dst().0.ip())
                } else {
                    self.is_here(host).await
                }
            }
        }
    }

    /// Decides an operation and records the decision; the permit exists once the record is durable. One that is held
    /// waits here.
    ///
    /// # Errors
    /// When identity, policy, approvers or ledger do not let it pass.
    pub async fn authorize(&self, operation: Operation) -> Result<Permit, Denied> {
        match self.ask(operation).await {
            Verdict::Permit(permit) => Ok(permit),
            Verdict::Denied(denied) => Err(denied),
            Verdict::Held(held) => {
                let waiting = self.request(held, Payload::default()).await?;
                waiting.permit(self).await
            }
        }
    }

    /// As [`Gate::authorize`], for a protocol that has something to do or to say while an operation is held.
    pub async fn ask(&self, mut operation: Operation) -> Verdict {
        hide::hide(self.secrets(), &mut operation);
        self.operations.fetch_add(1, Ordering::Relaxed);
        let set = self.inner.shared.policy.current();
        let known = match self.identified(&set, &operation).await {
            Ok(known) => known,
            Err(denied) => return Verdict::Denied(denied),
        };
        let decision = self.decide(&set, &known, &operation, None);
        match decision.effect {
            Effect::Deny => Verdict::Denied(self.deny(&operation, Some(&known), decision, None).await),
            Effect::Hold => Verdict::Held(Held {
                known,
                operations: vec![(operation, decision)],
            }),
            Effect::Allow => match self.admit(&operation, &known, decision, None).await {
                Ok(permit) => Verdict::Permit(permit),
                Err(denied) => Verdict::Denied(denied),
            },
        }
    }

    /// Records what is allowed; the permit exists once the record is durable.
    async fn admit(
        &self,
        operation: &Operation,
        known: &Known,
        decision: Arc<Decision>,
        approval: Option<&Approval>,
    ) -> Result<Permit, Denied> {
        let seq = match self
            .write(operation, Some(known), &decision, approval.map(Into::into))
            .await
        {
            Ok(seq) => seq,
            Err(_) => {
                self.count(operation, Effect::Deny, Reason::LedgerUnavailable);
                return Err(Denied::of(operation, &decision, Reason::LedgerUnavailable));
            }
        };
        let permit = Permit::new(Arc::clone(&self.inner), operation.id, seq, Arc::clone(&decision));
        // The wait for the disk is long enough for a revocation to come in between.
        if let Err(reason) = self.connection.identity.check() {
            self.count(operation, Effect::Deny, reason);
            let _ = permit.finish(reason, "").await;
            return Err(Denied::of(operation, &decision, reason));
        }
        self.permitted.store(true, Ordering::Release);
        self.count(operation, Effect::Allow, decision.reason);
        Ok(permit)
    }

    /// Decides again what was allowed beside something that was held.
    async fn admit_again(&self, operation: &Operation) -> Result<Permit, Denied> {
        let set = self.inner.shared.policy.current();
        let known = self.identified(&set, operation).await?;
        let decision = self.decide(&set, &known, operation, None);
        if decision.effect == Effect::Allow {
            return self.admit(operation, &known, decision, None).await;
        }
        let decision = Decision {
            effect: Effect::Deny,
            ..(*decision).clone()
        };
        Err(self.deny(operation, Some(&known), Arc::new(decision), None).await)
    }

    /// Records a denial that the protocol itself decided: ambiguous, malformed, too large.
    pub async fn refuse(&self, mut operation: Operation, reason: Reason) -> Denied {
        hide::hide(self.secrets(), &mut operation);
        self.operations.fetch_add(1, Ordering::Relaxed);
        let set = self.inner.shared.policy.current();
        let known = self.who().ok();
        self.deny(&operation, known.as_ref(), self.denial(&set, reason), None)
            .await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_literal(host: &str, address: std::net::IpAddr) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    bare.parse::<std::net::IpAddr>()
        .is_ok_and(|ip| ip.to_canonical() == address.to_canonical())
}
