//! `cargo xtask bench`.

use std::path::PathBuf;

use crate::{
    setup,
    step::{cargo, run, say},
};

/// What to measure.
#[derive(clap::Args)]
pub struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The masker alone, per core, on JSON and on text.
    Scan,
    /// The ledger alone: entries a second by size and durability beside raw SQLite and append + fdatasync on the same disk,
    /// the time until one is durable at half of that, and sealing, exporting and verifying a million entries.
    Ledger {
        #[command(flatten)]
        rounds: Rounds,
        /// Entries of the ledger that is sealed, exported and verified.
        #[arg(long, default_value = "1000000")]
        entries: String,
        /// A directory on the disk to measure; a temporary directory otherwise.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Programs of workloads: short processes one after another, compilations, and connect(2), in a tagged cgroup with
    /// `exec` off, audit and enforce (with remembered verdicts), outside of it, and without an agent. Needs root and cc.
    Exec(Rounds),
    /// HTTP/1.1, plain and TLS: 1 KB at 2 and 32 connections, 8 KB JSON, 1 MB bodies, connection set-up, memory.
    ///
    /// Policy, masking and recording are on, in both durability modes. Rounds are interleaved and the table shows
    /// medians and the ratio to direct in the same run: machines differ, ratios less so. Needs root.
    Http(Rounds),
    /// PostgreSQL: pgbench's select at 1, 8 and 32 clients in all three protocol modes, TPC-B, 50 rows, a million rows by
    /// SELECT and by COPY.
    ///
    /// Beside direct and the agent it measures haproxy as a plain TCP relay. The table and what is on are as for http;
    /// seconds are rounded up for pgbench, which takes whole ones. Needs root.
    Postgres(Rounds),
}

#[derive(clap::Args)]
struct Rounds {
    /// Seconds per case and round.
    #[arg(long, default_value = "2")]
    seconds: String,
    /// Rounds; the table shows medians over them.
    #[arg(long, default_value = "3")]
    rounds: String,
    /// Also writes the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only cases whose name contains this.
    #[arg(long)]
    case: Option<String>,
}

impl Rounds {
    fn tell(&self, command: &mut std::process::Command, what: &str) {
        command.args([what, "--seconds", &self.seconds, "--rounds", &self.rounds]);
        if let Some(json) = &self.json {
            command.arg("--json").arg(json);
        }
        if let Some(case) = &self.case {
            command.args(["--case", case]);
        }
    }
}

pub fn bench(bench: &Bench) -> anyhow::Result<()> {
    setup::setup()?;
    say(
        "build",
        "in release mode, as it would be installed; a cold build takes some minutes",
    );
    let profile = ["--release", "--package", "e2e"];
    run(cargo().args(["build", "--release", "--package", "portcullis", "--bins"]))?;
    run(cargo().arg("build").args(profile).args(["--bin", "bench"]))?;
    let mut command = cargo();
    command
        .args(["run", "--quiet"])
        .args(profile)
        .args(["--bin", "bench", "--"]);
    match &bench.what {
        What::Scan => {
            command.arg("scan");
        }
        What::Ledger { rounds, entries, dir } => {
            rounds.tell(&mut command, "ledger");
            command.args(["--entries", entries]);
            if let Some(dir) = dir {
                command.arg("--dir").arg(dir);
            }
        }
        What::Exec(rounds) => rounds.tell(&mut command, "exec"),
        What::Http(rounds) => rounds.tell(&mut command, "http"),
        What::Postgres(rounds) => rounds.tell(&mut command, "postgres"),
    }
    run(&mut command)?;
    Ok(())
}
