//! The configuration file: `/etc/portcullis/portcullis.toml`, TOML, every key checked.

mod approvals;
mod console_check;
mod credential;
mod dns;
mod evidence;
mod exec;
mod exempt;
mod guard;
mod http_upstream;
mod ledger;
mod load;
mod retention;
pub mod ship;
mod upstream;

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

pub use approvals::{Approvals, Console, Notify, NotifyKind};
pub use credential::{AppRole, AwsRole, Credential, Gives, Grant, JwtLogin, OAuth, SubjectToken, Vault};
pub use dns::Dns;
pub use evidence::Evidence;
pub use exec::{ExecLoss, ExecMode};
pub use exempt::{Exempt, ExemptProtocol};
pub use guard::{Brought, Door, Guard, Mount, Moved, Unix};
pub use http_upstream::Inject;
pub use ledger::{Durability, Ledger, Timestamp, Witness};
pub use load::{ConfigError, load, parse};
pub use retention::{AtLimit, Keep, Retention, RetentionRule};
pub use ship::{Rate, Ship, ShipTo};
pub use upstream::{Login, RoleRule, TlsNegotiation, Upstream, UpstreamProtocol, UpstreamTlsMode};

use crate::model::WorkloadName;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[host]`
    pub host: Host,
    /// `[redirect]`
    pub redirect: Redirect,
    /// `[[issuer]]`
    pub issuer: Vec<Issuer>,
    /// `[[workload]]`
    pub workload: Vec<Workload>,
    /// `[[credential]]`
    pub credential: Vec<Credential>,
    /// `[[upstream]]`
    pub upstream: Vec<Upstream>,
    /// `[approvals]`
    pub approvals: Approvals,
    /// `[console]`
    pub console: Console,
    /// `[[notify]]`
    pub notify: Vec<Notify>,
    /// `[[ship]]`
    pub ship: Vec<Ship>,
    /// `[policy]`
    pub policy: Policy,
    /// `[mask]`
    pub mask: Mask,
    /// `[tls]`
    pub tls: Tls,
    /// `[ledger]`
    pub ledger: Ledger,
    /// `[retention]`
    pub retention: Retention,
    /// `[evidence]`
    pub evidence: Evidence,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: Log,
    /// `[[exempt]]`
    pub exempt: Vec<Exempt>,
    /// `[dns]`
    pub dns: Dns,
    /// `[[unix]]`
    pub unix: Vec<Unix>,
}

/// `[host]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// Ledger, keys and host CA; mode 0700, made when missing.
    pub data_dir: PathBuf,
    /// Directory of the control socket; made when missing.
    pub run_dir: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/portcullis".into(),
            run_dir: "/run/portcullis".into(),
        }
    }
}

/// `[redirect]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redirect {
    /// TCP port of the listeners on 127.0.0.1 and ::1 to which sockets are redirected.
    pub port: u16,
    /// bpffs directory where links and maps are pinned.
    pub pin_dir: PathBuf,
    /// The agent's own cgroup below the cgroup2 mount; the one it is in already when empty and that is not the root
    /// (`portcullis.slice` rather than a service in it, as the slice outlives the service).
    pub agent_cgroup: String,
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            port: 15_001,
            pin_dir: "/sys/fs/bpf/portcullis".into(),
            agent_cgroup: String::new(),
        }
    }
}

/// `[[issuer]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// How `[[workload]]` refers to it.
    pub name: String,
    /// Issuer URL, exactly as `iss`; discovery is at `URL/.well-known/openid-configuration`.
    pub url: String,
    /// The audience that tokens must carry.
    pub audience: String,
    /// The claim that lists groups; `a.b` names a nested one.
    #[serde(default = "default_groups_claim")]
    pub groups_claim: String,
    /// PEM roots for the issuer's own TLS, beside the host's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Signature algorithms accepted, asymmetric only.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// Claims that must be present with exactly these values.
    #[serde(default)]
    pub required_claims: std::collections::BTreeMap<String, String>,
    /// Clock skew allowed on exp, nbf and iat; at most 5 minutes.
    #[serde(default = "default_skew", deserialize_with = "load::duration")]
    pub skew: Duration,
}

fn default_groups_claim() -> String {
    "groups".into()
}
fn default_algorithms() -> Vec<String> {
    ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
        .map(String::from)
        .into()
}
fn default_skew() -> Duration {
    Duration::from_secs(30)
}

/// `[[workload]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Its name.
    pub name: WorkloadName,
    /// cgroup path or glob below the cgroup2 mount; empty when it is tagged by command only.
    #[serde(default)]
    pub cgroup: String,
    /// The `[[issuer]]` by name.
    pub issuer: String,
    /// A token that someone keeps fresh.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// OAuth 2.0 client, for the client credentials grant.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Its secret, in a file.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// Its private key (PEM), for `private_key_jwt` (RFC 7523).
    #[serde(default)]
    pub private_key_file: Option<PathBuf>,
    /// The private key's `kid`.
    #[serde(default)]
    pub private_key_id: Option<String>,
    /// Scopes to ask for.
    #[serde(default)]
    pub scope: Option<String>,
    /// Doors that are opened for it.
    #[serde(default)]
    pub guard: Guard,
    /// What is done with the programs that it runs.
    #[serde(default)]
    pub exec: ExecMode,
    /// What becomes of a process of which the agent could not be told.
    #[serde(default)]
    pub exec_loss: ExecLoss,
}

/// `[policy]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Directories whose `*.cedar` files make up the policy set, in the order of their names.
    pub dirs: Vec<PathBuf>,
}

/// `[mask]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mask {
    /// Built-in data classes switched off.
    pub disable: Vec<String>,
    /// Built-in data classes switched on that are off by default (`ipv4`, `ipv6`).
    pub enable: Vec<String>,
    /// The strategy where a class has none of its own.
    pub strategy: Strategy,
    /// How many characters `partial` keeps at the end.
    pub keep_last: usize,
    /// A strategy per class.
    pub strategies: std::collections::BTreeMap<String, Strategy>,
    /// Classes by name: JSON keys (`ssn`), JSON paths (`customer.ssn`), headers, form fields, database
    /// columns.
    pub field: Vec<MaskField>,
    /// The operator's own classes by pattern.
    pub class: Vec<MaskClass>,
}

impl Default for Mask {
    fn default() -> Self {
        Self {
            disable: Vec::new(),
            enable: Vec::new(),
            strategy: Strategy::Redact,
            keep_last: 4,
            strategies: std::collections::BTreeMap::new(),
            field: Vec::new(),
            class: Vec::new(),
        }
    }
}

/// How a value is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// `[masked:CLASS]`
    Redact,
    /// All but the last characters.
    Partial,
    /// A keyed hash: the same value gives the same token on this host.
    Hash,
    /// JSON `null`; elsewhere the empty string.
    Null,
}

/// `[[mask.field]]`: a value masked by where it stands, whatever it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskField {
    /// The data class it counts as; made when it does not exist.
    pub class: String,
    /// JSON key or dotted path, with `*` for any key or index.
    #[serde(default)]
    pub json: Vec<String>,
    /// Header names.
    #[serde(default)]
    pub header: Vec<String>,
    /// Form field and query parameter names.
    #[serde(default)]
    pub form: Vec<String>,
    /// Database columns: `schema.table.column`, `table.column` or `column`, with `*` for any schema, table or column.
    #[serde(default)]
    pub column: Vec<String>,
}

/// `[[mask.class]]`: an operator's own class.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskClass {
    /// Its name.
    pub name: String,
    /// A regular expression (Rust `regex` syntax, bytes) with a bounded match length of at most 256 bytes.
    pub pattern: String,
    /// Strategy, if not the default.
    #[serde(default)]
    pub strategy: Option<Strategy>,
}

/// `[tls]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM roots trusted for upstreams, beside the host's.
    pub extra_roots_file: Option<PathBuf>,
}

/// `[limits]`: every bound that hostile input meets.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at once, over all workloads.
    pub connections: usize,
    /// Of these, those of one tagged cgroup at most, so that it cannot keep others out.
    pub workload_connections: usize,
    /// Bytes of one HTTP head.
    pub head_bytes: usize,
    /// Bytes of a response held back to keep its Content-Length.
    pub hold_bytes: usize,
    /// Bytes of one SQL query string.
    pub statement_bytes: usize,
    /// Bytes of one other message of a database protocol: the parameters of a statement, a row.
    pub message_bytes: usize,
    /// Time for a TLS handshake, a request head, or a connect upstream.
    #[serde(deserialize_with = "load::duration")]
    pub handshake_timeout: Duration,
    /// Time a connection may idle between operations.
    #[serde(deserialize_with = "load::duration")]
    pub idle_timeout: Duration,
    /// Time a database connection may idle between statements.
    #[serde(deserialize_with = "load::duration")]
    pub session_timeout: Duration,
    /// Time that a stopping daemon gives live connections.
    #[serde(deserialize_with = "load::duration")]
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            workload_connections: 4096,
            head_bytes: 64 * 1024,
            hold_bytes: 64 * 1024,
            statement_bytes: 1024 * 1024,
            message_bytes: 64 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            session_timeout: Duration::from_secs(8 * 3600),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `tracing` filter, e.g. `info` or `portcullis=debug`.
    pub filter: String,
    /// Where log lines go.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".into(),
            format: LogFormat::Auto,
        }
    }
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// journald where standard error is the journal, text on standard error otherwise.
    #[default]
    Auto,
    /// The journal.
    Journald,
    /// Text on standard error.
    Text,
    /// One JSON object a line on standard error.
    Json,
}
