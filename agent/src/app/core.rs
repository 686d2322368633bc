//! The agent without the kernel side: what in-process tests run whole, behind a dummy redirector.

use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use anyhow::Context as _;
use arc_swap::ArcSwap;

use super::Truth;
use crate::{
    approval::{self, Approvals},
    clock::Clock,
    config::Config,
    connection::{Front, Shares, Tally, Workloads},
    console::{self, Desk},
    credential::{CredentialEvent, Credentials},
    drain::Drain,
    gate::{Names, Rooms, Shared, Upstreams},
    identity::{self, Approvers, Identities, LifecycleEvent},
    ledger::{self, Ledger},
    mask::{self, MaskRules, Secrets},
    policy::PolicyStore,
    protocol::Registry,
    telemetry::Metrics,
    tls::{Acceptor, Connector, HostCa},
};

/// Everything that serves connections, however they arrive.
pub struct Core {
    /// What serves them.
    pub front: Arc<Front>,
    /// The host CA.
    pub ca: Arc<HostCa>,
    /// Where approvers answer.
    pub desk: Desk,
    /// Who vouches for the ledger.
    pub truth: Truth,
}

impl Core {
    /// Opens, loads and starts everything that the configuration names.
    ///
    /// # Errors
    /// When any part cannot be had; the message names it.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        let dir = &config.host.data_dir;
        private_dir(dir).with_context(|| format!("[host] data_dir {}", dir.display()))?;
        let clock = Clock::System;
        let host = host_name();
        let options = ledger::Options {
            segment_bytes: config.ledger.segment_bytes,
            segment_age: config.ledger.segment_age,
            ..ledger::Options::new(&host, config.ledger.durability)
        };
        let ledger = Ledger::open(dir, options).context("the ledger cannot be opened")?;
        let policy = PolicyStore::load(&config.policy).context("the policy cannot be loaded")?;
        let mask = mask_rules(config)?;
        let ca = Arc::new(HostCa::open_or_create(dir).context("the host CA cannot be had")?);
        let connector =
            Connector::new(&config.tls).context("[tls]: upstream certificates could not be verified")?;
        let secrets = Secrets::default();
        let approvals = approvals(config, &clock, &host, &ledger, &policy, &secrets)?;
        let recorder = ledger.clone();
        let asked = approvals.clone();
        let credentials = credentials(config, &clock, &ledger, &secrets);
        let had = credentials.clone();
        // Called from tasks that must not block; without room the ledger counts the loss and records a gap.
        let events = Arc::new(move |event: LifecycleEvent| {
            if let identity::Event::Revoked | identity::Event::Removed | identity::Event::Expired =
                event.event
            {
                had.end_workload(&event.workload);
            }
            match (event.event, &event.identity) {
                (identity::Event::Revoked, _) => asked.end_workload(&event.workload, "identity_revoked"),
                (identity::Event::Removed, _) => asked.end_workload(&event.workload, "workload_removed"),
                (identity::Event::Bound, Some(identity)) => asked.rebind(&event.workload, identity),
                _ => {}
            }
            recorder.enqueue_now(event.entry());
        });
        let identities =
            Identities::start(config, clock.clone(), events).context("identities cannot be had")?;
        let approvers = Approvers::start(config, clock.clone(), identity::Timing::default())
            .context("[approvals] issuer cannot be used")?;
        credentials.tokens(identities.tokens());
        let front = Front {
            shared: Shared {
                clock,
                host,
                policy,
                ledger,
                metrics: Metrics::default(),
                names: names(config),
                drain: Drain::default(),
                credentials,
                secrets,
                approvals,
                rooms: Rooms::default(),
            },
            processes: std::sync::OnceLock::new(),
            workloads: Workloads::default(),
            tally: Tally::default(),
            shares: Shares::default(),
            identities,
            mask: ArcSwap::new(mask),
            limits: ArcSwap::from_pointee(config.limits.clone()),
            acceptor: Acceptor::new(Arc::clone(&ca), Clock::System)
                .context("TLS with workloads cannot be set up")?,
            connector: ArcSwap::from_pointee(connector),
            upstreams: ArcSwap::from_pointee(Upstreams::new(&config.upstream)),
            protocols: Registry::default(),
            own_port: config.redirect.port,
            console: config.console.listen,
        };
        let desk = desk(config, &front.shared, approvers);
        let truth = Truth::start(&front.shared.ledger, config).context("[ledger]")?;
        Ok(Self {
            front: Arc::new(front),
            ca,
            desk,
            truth,
        })
    }
}

/// Credentials, whose life is on record.
fn credentials(config: &Config, clock: &Clock, ledger: &Ledger, secrets: &Secrets) -> Credentials {
    let recorder = ledger.clone();
    // As above.
    let events = Arc::new(move |event: CredentialEvent| recorder.enqueue_now(event.entry()));
    Credentials::start(
        &config.credential,
        clock.clone(),
        Arc::new(secrets.clone()),
        events,
    )
}

fn names(config: &Config) -> Names {
    let names = Names::default();
    names.configure(&config.dns);
    names
}

fn approvals(
    config: &Config,
    clock: &Clock,
    host: &Arc<str>,
    ledger: &Ledger,
    policy: &PolicyStore,
    secrets: &Secrets,
) -> anyhow::Result<Approvals> {
    let key = host_key(&config.host.data_dir.join("mask.key")).context("the key for digests")?;
    let mask = words_mask(mask_rules(config)?, secrets);
    let approvals = Approvals::new(approval::Parts {
        config: config.approvals.clone(),
        clock: clock.clone(),
        host: Arc::clone(host),
        ledger: ledger.clone(),
        policy: policy.clone(),
        key: approval::digest_key(&key),
        mask,
    });
    approvals.page_is_at(config.console.url.as_deref());
    approvals.run();
    Ok(approvals)
}

/// Masks what approvers write and read in words.
pub(super) fn words_mask(rules: Arc<MaskRules>, secrets: &Secrets) -> approval::Mask {
    let secrets = secrets.clone();
    Arc::new(move |text: &str| {
        let mut counts = mask::Counts::default();
        let masked = rules.mask_text(rules.all(), text, &mut counts).into_owned();
        secrets.mask_text(&masked).unwrap_or(masked)
    })
}

fn desk(config: &Config, shared: &Shared, approvers: Approvers) -> Desk {
    let parts = console::Parts {
        approvals: shared.approvals.clone(),
        approvers,
        policy: shared.policy.clone(),
        ledger: shared.ledger.clone(),
        ledger_file: config.host.data_dir.clone(),
        credentials: shared.credentials.clone(),
        clock: shared.clock.clone(),
        host: Arc::clone(&shared.host),
    };
    Desk::new(parts, &config.approvals)
}

/// Masking rules from the configuration, with this host's key for keyed hashes.
pub(super) fn mask_rules(config: &Config) -> anyhow::Result<Arc<MaskRules>> {
    let key = host_key(&config.host.data_dir.join("mask.key")).context("the key for masked hashes")?;
    Ok(Arc::new(MaskRules::new(&config.mask, &key).context("[mask]")?))
}

/// 32 random bytes in a file that only root can read, made on first use.
fn host_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    use std::io::{Read as _, Write as _};
    match std::fs::File::open(path) {
        Ok(mut file) => {
            if file.metadata()?.permissions().mode() & 0o077 != 0 {
                anyhow::bail!("{} can be read by others: chmod 0600 it", path.display());
            }
            let mut key = [0; 32];
            file.read_exact(&mut key)
                .with_context(|| format!("{} is not 32 bytes long", path.display()))?;
            Ok(key)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key: [u8; 32] = rand::random();
            let mut options = std::fs::OpenOptions::new();
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let mut file = options.write(true).create_new(true).open(path)?;
            file.write_all(&key)?;
            file.sync_all()?;
            Ok(key)
        }
        Err(e) => Err(e).with_context(|| path.display().to_string()),
    }
}

/// A directory for root alone.
fn private_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

fn host_name() -> Arc<str> {
    nix::unistd::gethostname().map_or_else(|_| "unknown".into(), |n| n.to_string_lossy().into())
}
