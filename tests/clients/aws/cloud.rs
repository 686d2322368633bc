//! A site with AWS upstream: moto under AWS's own names, which takes requests that are signed with the real keys and no
//! others; the workload has placeholders.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    child::{Process, Said},
    site::{Options, Site},
    wait::{DEADLINE, wait_until},
    world::{NAME, UPSTREAM, World},
};

use super::install;

/// Where it is; the web server of the site has the other address.
const ADDRESS: &str = "192.0.2.3";
/// The bucket that the pack's grants name.
pub const BUCKET: &str = "agents-scratch";
/// What it is called by.
const NAMES: [&str; 12] = [
    "s3.us-east-1.amazonaws.com",
    "s3.amazonaws.com",
    "agents-scratch.s3.us-east-1.amazonaws.com",
    "agents-scratch.s3.amazonaws.com",
    "payroll.s3.us-east-1.amazonaws.com",
    "payroll.s3.amazonaws.com",
    "ec2.us-east-1.amazonaws.com",
    "dynamodb.us-east-1.amazonaws.com",
    "sts.us-east-1.amazonaws.com",
    "lambda.us-east-1.amazonaws.com",
    "iam.amazonaws.com",
    "secretsmanager.us-east-1.amazonaws.com",
];

/// What the workload may see as it is: parts of an object can be had then, where nothing has to be found in them.
const REVEALED: &str = r#"
permit (principal, action == Action::"reveal", resource in AwsResource::"s3/agents-scratch");
"#;

/// Everything, running.
pub struct Cloud<'w> {
    pub site: Site<'w>,
    server: Process,
    seen: PathBuf,
    keys: PathBuf,
    programs: PathBuf,
}

impl<'w> Cloud<'w> {
    /// Starts everything, with the pack `policies/aws` as it is shipped.
    pub fn start(world: &'w World, name: &str, programs: &Path) -> Result<Self> {
        let (keys, seen) = (world.path("aws.keys"), world.path("aws.seen"));
        let server = serve(world, programs, &keys, &seen)?;
        let pack = e2e::paths::repository().join("policies/aws");
        let policy = ["00-guards.cedar", "grants.cedar"]
            .iter()
            .map(|file| fs::read_to_string(pack.join(file)))
            .collect::<Result<Vec<_>, _>>()?
            .concat()
            + REVEALED;
        let options = Options {
            policy,
            config: format!(
                r#"
[[credential]]
name = "aws"
aws_keys_file = "{keys}"

[[upstream]]
name = "aws"
protocol = "http"
host = "*.amazonaws.com"
port = 443
inject = {{ aws-sigv4 = "aws" }}
"#,
                keys = keys.display()
            ),
            ..Options::default()
        };
        let site = Site::start(world, name, &options)?;
        let cloud = Self {
            site,
            server,
            seen,
            keys,
            programs: programs.to_owned(),
        };
        cloud.host("setup.py")?;
        Ok(cloud)
    }

    /// A script on the host itself, with the real keys, past the agent.
    pub fn host(&self, script: &str) -> Result<String> {
        let mut python = self.site.world.host(self.programs.join("python"));
        python
            .arg(install::source().join(script))
            .env("AWS_SHARED_CREDENTIALS_FILE", &self.keys)
            .env("AWS_CA_BUNDLE", self.site.world.path("roots.pem"));
        region(&mut python);
        Said::by(&mut python)?
            .ok()
            .with_context(|| format!("{script}; the server said:\n{}", self.server.log()))
    }

    /// A command of the workload's, which has placeholders for keys.
    pub fn workload(&self, program: &str, words: &[&str]) -> Result<Said> {
        let program = self.programs.join(program).display().to_string();
        let words: Vec<&str> = std::iter::once(program.as_str())
            .chain(words.iter().copied())
            .collect();
        let mut command = self.site.workload().command(&words)?;
        command
            .env("AWS_ACCESS_KEY_ID", "PLACEHOLDERKEYID")
            .env("AWS_SECRET_ACCESS_KEY", "placeholder")
            .env("AWS_SESSION_TOKEN", "placeholder-token")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("HOME", self.site.world.dir());
        region(&mut command);
        Said::by(&mut command)
    }

    /// The AWS CLI, as the workload.
    pub fn aws(&self, words: &[&str]) -> Result<Said> {
        self.workload("aws", words)
    }

    /// What the server was asked, one JSON object a line.
    pub fn seen(&self) -> Result<Vec<serde_json::Value>> {
        let text = fs::read_to_string(&self.seen)?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }

    /// Nothing that the workload has, or must not have, is where it should not be.
    pub fn clean(&self) -> Result<()> {
        for entry in self.seen()? {
            ensure!(entry.get("refused").is_none(), "refused upstream: {entry}");
        }
        let keys = fs::read_to_string(&self.keys)?;
        let secret = keys
            .lines()
            .find_map(|l| l.strip_prefix("aws_secret_access_key = "));
        let mut grep = self.site.world.host("grep");
        grep.args(["-rlaF", "-e", secret.context("no secret key")?]);
        let said = Said::by(grep.arg(self.site.daemon.data_dir()))?;
        ensure!(
            said.code == 1 && said.out.is_empty(),
            "the secret key is in {}",
            said.out
        );
        ensure!(
            !self.site.daemon.log().contains(secret.unwrap_or_default()),
            "it is in the log"
        );
        Ok(())
    }
}

fn region(command: &mut Command) {
    command
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_PAGER", "");
}

fn serve(world: &World, programs: &Path, keys: &Path, seen: &Path) -> Result<Process> {
    let leaf = world.authority().leaf(&NAMES)?;
    let (chain, key) = (world.path("aws.pem"), world.path("aws.key"));
    fs::write(&chain, &leaf.chain)?;
    fs::write(&key, &leaf.key)?;
    // The file that stands in for the host's own is this one.
    let hosts = format!(
        "127.0.0.1 localhost\n::1 localhost\n{UPSTREAM} {NAME}\n{ADDRESS} {}\n",
        NAMES.join(" ")
    );
    fs::write(world.path("etc_hosts"), hosts)?;
    let address = format!("{ADDRESS}/24");
    Said::by(
        world
            .upstream("ip")
            .args(["addr", "add", &address, "dev", "host0"]),
    )?
    .ok()?;
    let mut python = world.upstream(programs.join("python"));
    python
        .arg(install::source().join("server.py"))
        .args([ADDRESS, "443"]);
    python.arg(chain).arg(key).arg(keys).arg(seen);
    let server = Process::start("aws", world.dir(), &mut python)?;
    let to = ([192, 0, 2, 3], 443).into();
    wait_until("moto to listen", DEADLINE * 3, || {
        TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok()
    })
    .with_context(|| server.log())?;
    Ok(server)
}
