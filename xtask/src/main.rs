//! What cargo alone cannot do for this repository. `cargo xtask --help` lists it.
//!
//! This crate depends neither on the agent nor on the eBPF toolchain: it is what installs that toolchain.

mod bench;
mod check;
mod demo;
mod dist;
mod kernels;
mod setup;
mod step;
mod test;
mod verify_bpf;

use clap::{Parser, Subcommand};

/// Everything this repository does beyond plain cargo.
///
/// On a fresh Debian 12 machine, as root, `cargo xtask demo` is all that is needed to see Portcullis at work:
/// it installs what is missing, builds, and shows the whole path with every claim checked.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs what building and testing need, and says what and why.
    ///
    /// Changes nothing that is already right, never asks a question, and ends with a list of what is missing
    /// where it could not help. Needs root and Debian's archives for what is missing; nothing otherwise.
    Setup,
    /// Shows the whole path: redirected, identified, decided, masked, recorded, verified.
    ///
    /// Runs `setup`, builds, then starts nginx with TLS and a JSON API in a network namespace of its own, an
    /// issuer and the daemon, and lets a plain `curl` in a tagged cgroup talk to them. Every step checks what it
    /// claims; the exit status is non-zero if any claim is false. Leaves nothing behind. Needs root.
    Demo {
        /// Starts the same site, and a shell in it instead of the steps: the tour of README.md is typed into it.
        #[arg(long)]
        shell: bool,
    },
    /// Runs all tests: unit, in_process, redirect (real eBPF), clients, crash.
    ///
    /// Runs `setup` first. Uses cargo-nextest where it is installed, plain `cargo test` otherwise. Tests that need
    /// root fail without it, they are never skipped.
    Test {
        /// Runs only tests whose name contains this.
        filter: Option<String>,
    },
    /// Checks form and rules: fmt, clippy, rows, sizes, licences, policy examples, fuzz smoke runs.
    ///
    /// Every check runs, even after one has failed; the table at the end says which failed.
    Check {
        /// Only the named checks (fmt, rows, sizes, licences, clippy, policies, fuzz), comma-separated.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Measures side by side, in one run: direct, nginx as a reverse proxy, and through the agent.
    Bench(bench::Bench),
    /// Tries the programs in other kernels: Debian's 6.1 and 6.12, and the newest of its backports.
    ///
    /// Downloads the kernels, makes a Debian root once (all below target/kernels), and starts them in emulated
    /// machines, which takes no hardware virtualization, but time. In each: every program is loaded (verify),
    /// `portcullis doctor` is right (doctor), the redirect tests pass (redirect), and the package is installed
    /// under systemd, a unit tagged and its traffic masked, upgraded without a dropped connection, started again
    /// with the machine, and removed without a trace (service). Exit status 1 when anything failed. Needs root,
    /// and Debian's archive the first time.
    Kernels(kernels::Kernels),
    /// Loads every eBPF program into this kernel and prints a table with instruction counts. Needs root.
    VerifyBpf,
    /// Makes what is installed on hosts: .deb, .rpm, tarball, bill of materials, SHA256SUMS, in target/package/out.
    ///
    /// The same commit is to make the same bytes, wherever and whenever: `--twice` compares. Installs the packers first.
    Dist(dist::Dist),
}

fn main() -> std::process::ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    // Paths in this crate are relative to the workspace.
    std::env::set_current_dir(step::root())?;
    match command {
        Command::Setup => setup::setup(),
        Command::Demo { shell } => demo::demo(shell),
        Command::Test { filter } => test::test(filter.as_deref()),
        Command::Check { only } => check::check(&only),
        Command::Bench(bench) => bench::bench(&bench),
        Command::Kernels(kernels) => kernels::kernels(&kernels),
        Command::VerifyBpf => verify_bpf::verify_bpf(),
        Command::Dist(dist) => dist::dist(&dist),
    }
}
