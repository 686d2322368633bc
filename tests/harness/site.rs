//! A whole site: upstream, issuer, daemon and one workload, `deploy-bot`, that may read.

use std::{fs, io::IsTerminal as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    backend::Backend,
    cgroup::{Cgroup, Pins},
    daemon::Daemon,
    issuer::Issuer,
    nginx::Nginx,
    workload::Workload,
    world::World,
};

/// The workload.
pub const WORKLOAD: &str = "deploy-bot";
/// Its subject at the issuer.
pub const SUBJECT: &str = "agent:deploy-bot";
/// The audience of its tokens.
pub const AUDIENCE: &str = "portcullis";
/// What the workload may do: read what api.internal offers, write there, delete nothing, see no personal data.
pub const POLICY: &str = include_str!("../demo/policy.cedar");

/// Beside it, in the demo: a new customer is approved by a human.
const APPROVED: &str = include_str!("../demo/policy-approvals.cedar");
/// The API's key in the demo: the workload uses it below /whoami, and never has it.
pub const KEY: &str = "pk-live-7Qm2vX9dTz4LrB8s";

/// How a site is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// `power` or `process`.
    pub durability: &'static str,
    /// The policy, Cedar.
    pub policy: String,
    /// How long the workload's token lives.
    pub token: Duration,
    /// What is done with the workload's programs: `off`, `audit` or `enforce`. Off, so that a test's ledger has only what
    /// it is about.
    pub exec: &'static str,
    /// More configuration, TOML.
    pub config: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: "power",
            policy: POLICY.into(),
            token: Duration::from_secs(3600),
            exec: "off",
            config: String::new(),
        }
    }
}

impl Options {
    /// The demo's, and the tour's: new customers are approved, and requests for /whoami carry the API's key.
    ///
    /// # Errors
    /// When the key cannot be written.
    pub fn demo(world: &World) -> Result<Self> {
        let key = world.path("api.key");
        secret(&key, KEY)?;
        Ok(Self {
            policy: format!("{POLICY}{APPROVED}"),
            config: format!(
                r#"
[approvals]
issuer = "corp"
client_id = "approvers"

[[credential]]
name = "api-key"
file = "{key}"

[[upstream]]
name = "api"
protocol = "http"
host = "api.internal"
port = 443
path_prefix = "/whoami"
inject = {{ bearer = "api-key" }}
"#,
                key = key.display()
            ),
            ..Self::default()
        })
    }
}

/// Everything, running; ends in the order of the fields.
pub struct Site<'w> {
    /// The daemon.
    pub daemon: Daemon<'w>,
    /// The real web server.
    pub nginx: Nginx,
    /// The API behind it.
    pub backend: Backend,
    /// The workload's issuer.
    pub issuer: Issuer,
    /// The world it is in.
    pub world: &'w World,
    /// Pins and cgroups go when the daemon has ended.
    _pins: Pins,
    cgroup: Cgroup,
    tagged: PathBuf,
    policies: PathBuf,
}

impl<'w> Site<'w> {
    /// Starts everything.
    ///
    /// # Errors
    /// When anything does not start; with its log.
    pub fn start(world: &'w World, name: &str, options: &Options) -> Result<Self> {
        let backend = Backend::start(world)?;
        let nginx = Nginx::upstream(world, backend.socket())?;
        let issuer = world
            .runtime()
            .block_on(Issuer::start(([127, 0, 0, 1], 0).into()))?;
        let token = issuer.mint(
            SUBJECT,
            AUDIENCE,
            &["agents"],
            options.token,
            &serde_json::json!({}),
        )?;
        secret(&world.path("token"), &token)?;
        fs::write(world.path("roots.pem"), world.authority().pem())?;
        let policies = world.path("policies");
        fs::create_dir_all(&policies)?;
        fs::write(policies.join("site.cedar"), &options.policy)?;

        let (pins, cgroup) = (Pins::new(name), Cgroup::new(name)?);
        let tagged = cgroup.below(&format!("w/{WORKLOAD}"))?;
        let at = world.dir().display();
        let config = format!(
            r#"[redirect]
port = 15001
pin_dir = "{pins}"
agent_cgroup = "{own}/agent"

[[issuer]]
name = "corp"
url = "{url}"
audience = "{AUDIENCE}"
groups_claim = "groups"

[[workload]]
name = "{WORKLOAD}"
cgroup = "{own}/w/{WORKLOAD}"
issuer = "corp"
token_file = "{at}/token"
exec = "{exec}"

[policy]
dirs = ["{at}/policies"]

[tls]
extra_roots_file = "{at}/roots.pem"

[ledger]
durability = "{durability}"

{more}"#,
            exec = options.exec,
            pins = pins.path().display(),
            own = cgroup.name(),
            url = issuer.url(),
            durability = options.durability,
            more = options.config,
        );
        let daemon = Daemon::start(world, &config)?;
        Ok(Self {
            daemon,
            nginx,
            backend,
            issuer,
            world,
            _pins: pins,
            cgroup,
            tagged,
            policies,
        })
    }

    /// Commands run by the workload.
    #[must_use]
    pub fn workload(&self) -> Workload<'_> {
        Workload {
            world: self.world,
            daemon: &self.daemon,
            cgroup: &self.tagged,
            parent: format!("{}/run", self.cgroup.name()),
        }
    }

    /// bash on the host, with `portcullis` in its PATH and its configuration known; ends at the first command that
    /// fails, unless it is a terminal's.
    ///
    /// # Errors
    /// When the program's directory cannot be told.
    pub fn shell(&self, portcullis: &std::path::Path) -> Result<std::process::Command> {
        let dir = portcullis.parent().context("portcullis is in no directory")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.world.host("bash");
        if !std::io::stdin().is_terminal() {
            command.args(["-euo", "pipefail"]);
        }
        command.env("PATH", format!("{}:{path}", dir.display()));
        command.env("PORTCULLIS_CONFIG", self.daemon.config());
        command.env("DATA", self.daemon.data_dir());
        command.env("PS1", "site $ ").current_dir(self.world.dir());
        Ok(command)
    }

    /// The directory of the tagged cgroup.
    #[must_use]
    pub fn tagged(&self) -> &std::path::Path {
        &self.tagged
    }

    /// The test's own cgroup, above the tagged one and the daemon's.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Replaces the policy file; takes effect with [`Daemon::reload`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_policy(&self, text: &str) -> Result<()> {
        Ok(fs::write(self.policies.join("site.cedar"), text)?)
    }

    /// Restarts the daemon with another durability; `power` or `process`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn set_durability(&mut self, durability: &str) -> Result<()> {
        let text = fs::read_to_string(self.daemon.config())?;
        let is = |line: &str| line.starts_with("durability = ");
        let wanted = format!("durability = \"{durability}\"");
        let lines: Vec<&str> = text
            .lines()
            .map(|l| if is(l) { wanted.as_str() } else { l })
            .collect();
        fs::write(self.daemon.config(), lines.join("\n"))?;
        self.daemon.stop()?;
        self.daemon.launch()
    }

    /// Gives the workload a new token.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn write_token(&self, lives: Duration) -> Result<()> {
        let token = self
            .issuer
            .mint(SUBJECT, AUDIENCE, &["agents"], lives, &serde_json::json!({}))?;
        // In one step, as a well-behaved keeper of tokens does.
        let fresh = self.world.path("token.new");
        secret(&fresh, &token)?;
        Ok(fs::rename(fresh, self.world.path("token"))?)
    }
}

/// A file that only root can read, as a token's should be.
fn secret(path: &std::path::Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}
