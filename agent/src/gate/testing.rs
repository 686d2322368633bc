//! A whole gate for tests: real policy, masking and ledger, and an identity that is simply held.

use std::{path::PathBuf, sync::Arc};

use super::{Connection, Gate, Names, Shared, TlsFacts, Upstreams};
use crate::{
    approval::{self, Approvals},
    clock::Clock,
    config::{Durability, Limits, Mask, Upstream},
    credential::Credentials,
    drain::Drain,
    identity::testing::Held,
    ledger::{Ledger, Options},
    mask::{MaskRules, Secrets},
    model::{OriginalDst, Process, SessionId, Transport, WorkloadName},
    policy::PolicyStore,
    telemetry::Metrics,
};

/// A directory that goes with its guard.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty directory.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("portcullis-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir_all(&dir).expect("a scratch directory");
        Self(dir)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a test's gates share.
pub struct Rig {
    /// As in the agent.
    pub shared: Shared,
    /// The identity of the one workload, `bot`, subject `agent-7`, group `agents`.
    pub identity: Held,
    /// Masking rules.
    pub mask: Arc<MaskRules>,
    /// Bounds.
    pub limits: Limits,
    /// What every connection comes by.
    pub transport: Transport,
    /// The destination that is known by name; every connection is to it.
    pub upstream: Option<Arc<Upstream>>,
    /// Where the ledger is: `ledger.db` in it.
    pub dir: Scratch,
}

impl Rig {
    /// A rig under the policy given as Cedar text.
    ///
    /// # Panics
    /// When any part cannot be had.
    #[must_use]
    #[allow(clippy::expect_used)]
    pub fn new(policy: &str) -> Self {
        let dir = Scratch::new();
        let policies = dir.path().join("policies");
        std::fs::create_dir_all(&policies).expect("a policy directory");
        std::fs::write(policies.join("test.cedar"), policy).expect("a policy file");
        let config = crate::config::Policy { dirs: vec![policies] };
        let ledger = Ledger::open(dir.path(), Options::new("test", Durability::Process)).expect("a ledger");
        let mask = MaskRules::new(&Mask::default(), &[7; 32]).expect("masking rules");
        let policy = PolicyStore::load(&config).expect("a policy that is valid");
        let approvals = Approvals::new(approval::Parts {
            config: crate::config::Approvals {
                issuer: Some("people".into()),
                break_glass_group: Some("breakers".into()),
                ..Default::default()
            },
            clock: Clock::System,
            host: "test".into(),
            ledger: ledger.clone(),
            policy: policy.clone(),
            key: [3; 32],
            mask: Arc::new(str::to_owned),
        });
        let shared = Shared {
            clock: Clock::System,
            host: "test".into(),
            policy,
            approvals,
            rooms: super::Rooms::default(),
            ledger,
            metrics: Metrics::default(),
            names: Names::default(),
            drain: Drain::default(),
            credentials: Credentials::default(),
            secrets: Secrets::default(),
        };
        Self {
            shared,
            identity: Held::new(&workload(), "agent-7", &["agents"]),
            mask: Arc::new(mask),
            limits: Limits::default(),
            transport: Transport::Tcp,
            upstream: None,
            dir,
        }
    }

    /// A gate for one connection to `to`, over TLS for the server name where there is one.
    #[must_use]
    pub fn gate(&self, to: std::net::SocketAddr, server_name: Option<&str>) -> Gate {
        let process = Process {
            pid: std::process::id(),
            tid: 1,
            uid: 1000,
            gid: 1000,
            start_ns: 1,
            exe: Some(Arc::new("/usr/bin/agent".into())),
            cgroup: Some("/test".into()),
            sha256: None,
            parents: Vec::new(),
        };
        let connection = Connection {
            session: SessionId::new(),
            workload: workload(),
            identity: self.identity.handle(),
            process,
            original_dst: OriginalDst(to),
            transport: self.transport,
            upstream: self.upstream.clone(),
            upstreams: Upstreams::new(self.upstream.as_deref().map_or(&[], std::slice::from_ref)),
            tls: server_name.map(|n| TlsFacts {
                server_name: Some(n.into()),
                alpn: None,
            }),
            mask: Arc::clone(&self.mask),
            limits: self.limits.clone(),
        };
        Gate::new(self.shared.clone(), connection)
    }
}

#[allow(clippy::expect_used)]
fn workload() -> WorkloadName {
    WorkloadName::new("bot").expect("a name")
}
