//! Arguments, and one file per command.

mod approvals;
mod bar;
mod cgroup;
mod credentials;
mod daemon;
mod disclose;
mod doctor;
mod enter;
mod evidence;
mod export;
mod ledger;
mod manual;
mod reconcile;
mod retention;
mod selftest;
mod sessions;
mod ship;
mod signals;
mod status;
mod tag;
mod time;
mod unit;
mod unload;
mod verify;
mod verify_bpf;
mod workload;

pub mod control;
mod policy;
mod run;
mod seccomp;
mod trust;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{CommandFactory as _, Parser, Subcommand};

use self::control::block_on;
use crate::config::{self, Config};

/// A gate in front of everything that an AI agent's processes do on this host.
///
/// A host admin tags a cgroup. From then on every socket that its processes open is redirected to the daemon, which
/// knows the cgroup's verified identity, decides each request by policy, masks what comes back, and records both
/// directions. Nothing in the workload is configured or trusted.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    max_term_width = 110,
    arg_required_else_help = true
)]
struct Cli {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PORTCULLIS_CONFIG",
        default_value = "/etc/portcullis/portcullis.toml"
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent in the foreground (what the systemd service runs).
    Daemon,
    /// Say what is enforced on this host right now; exit 1 when something is not.
    Status(status::Args),
    /// Tag a cgroup, or a systemd service, as a workload: its sockets are redirected.
    Tag(tag::TagArgs),
    /// Take a tag off again.
    Untag(tag::UntagArgs),
    /// Start a command inside a fresh tagged cgroup, and pass on its exit status and signals.
    Run(run::Args),
    Credentials(credentials::Args),
    /// List workloads; revoke or restore one's identity.
    #[command(subcommand)]
    Workload(workload::Command),
    /// Look at what waits for approval, and answer it.
    ///
    /// Looking at this host's own queue takes the control socket, and so root. An answer always takes a sign-in at the
    /// approvers' issuer (`login`): being root approves nothing. With --url the commands speak to a page ([console] url)
    /// over the network instead, and looking takes the sign-in, too.
    ///
    /// Exit status: 0 done; 1 it could not be asked or done; 2 wrong arguments; 3 the answer does not count (not in the
    /// group, one's own request, answered already, over); 4 not signed in, or too long ago.
    Approvals(approvals::Args),
    /// Check, test and explain policy.
    Policy(policy::Args),
    /// List and show recorded sessions.
    #[command(subcommand)]
    Sessions(sessions::Command),
    /// Write a self-describing SQLite file for an auditor.
    Export(export::Args),
    Evidence(evidence::Args),
    /// Write one entry into a file that proves by itself that it was recorded, and holds nothing else.
    ///
    /// `portcullis verify FILE --key ledger.pub` checks it.
    Disclose(disclose::Args),
    /// Verify exports, segments or a ledger: exit 0, or name the first bad entry and exit 1.
    Verify(verify::Args),
    /// What is kept how long, what is held, what was purged, and the disk budget.
    #[command(subcommand)]
    Retention(retention::Command),
    /// Look after this host's ledger.
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// Look at where the ledger is sent to ([[ship]]), and steer it.
    #[command(subcommand)]
    Ship(ship::Command),
    Doctor(doctor::Args),
    /// Hold what the kernel counted of each workload against the ledger, now; exit 1 when something differs.
    Reconcile(reconcile::Args),
    /// Really try every way out of a workload on this host, and record what came of it; exit 1 when one is open that
    /// should be closed.
    ///
    /// In a throw-away workload, against a network namespace and processes of its own; needs root, the running daemon
    /// and ip(8). It adds a device `pcst0` with addresses of RFC 5737 to this host while it runs.
    Selftest(selftest::Args),
    /// One attempt of a self-test, in a process of its own.
    #[command(hide = true)]
    SelftestAttempt,
    /// Load every eBPF program without attaching it, and print what the kernel's verifier counted.
    VerifyBpf(verify_bpf::Args),
    /// Take all programs off this host: no workload is redirected or guarded any more.
    ///
    /// For the end of this host's life with Portcullis; removing the package does it. Programs outlive the daemon, so
    /// stopping that is not enough. It refuses while the daemon runs. Ledger and keys stay.
    Unload,
    /// Write the manual pages into a directory (the packages' are made by this).
    #[command(hide = true)]
    Man(manual::ManArgs),
    /// Print what completes these commands in a shell.
    #[command(hide = true)]
    Completions(manual::CompletionArgs),
    /// The second half of `run`, inside the fresh cgroup.
    #[command(hide = true)]
    Enter(enter::Args),
}

/// Parses arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("portcullis: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let path = cli.config;
    let config = || -> anyhow::Result<Config> { Ok(config::load(&path)?) };
    match cli.command {
        Command::Daemon => daemon::run(&path),
        Command::Status(args) => status::run(&args, &config()?),
        Command::Tag(args) => tag::tag(&args, &path, config()),
        Command::Untag(args) => tag::untag(&args, &config()?),
        Command::Run(args) => Ok(run::run(&args, config())),
        Command::Enter(args) => Ok(enter::enter(&args)),
        Command::Credentials(args) => credentials::run(&args, &config()?),
        Command::Workload(command) => workload::run(&command, &config()?),
        Command::Approvals(args) => approvals::run(&args, config),
        Command::Policy(args) => policy::run(&args, &policy_config(&path)?),
        Command::Sessions(command) => sessions::run(&command, &config()?),
        Command::Export(args) => export::run(&args, &config()?),
        Command::Verify(args) => verify::run(&args, config),
        Command::Retention(command) => retention::run(&command, &config()?),
        Command::Ledger(command) => ledger::run(&command, &config()?),
        Command::Ship(command) => ship::run(&command, &config()?),
        Command::Disclose(args) => disclose::run(&args, config),
        Command::Evidence(args) => evidence::run(&args, &evidence_config(&path, &args)?),
        Command::Doctor(args) => doctor::run(&args, &policy_config(&path)?),
        Command::Reconcile(args) => reconcile::run(&args, &config()?),
        Command::Selftest(args) => selftest::run(&args, &config()?),
        Command::SelftestAttempt => selftest::attempt(),
        Command::VerifyBpf(args) => verify_bpf::run(&args),
        Command::Unload => unload::run(&config()?),
        Command::Man(args) => manual::man(&args, Cli::command()),
        Command::Completions(args) => Ok(manual::completions(&args, &mut Cli::command())),
    }
}

/// Policy can be checked on a machine that has no agent: without a file the defaults do.
fn policy_config(path: &Path) -> anyhow::Result<Config> {
    if path.exists() {
        Ok(config::load(path)?)
    } else {
        Ok(Config::default())
    }
}

/// An export can be reported on by a machine that has no agent.
fn evidence_config(path: &Path, args: &evidence::Args) -> anyhow::Result<Config> {
    if args.is_elsewhere() && !path.exists() {
        Ok(Config::default())
    } else {
        Ok(config::load(path)?)
    }
}
